"""Checks that llama.cpp, given the GGUF, answers held-out questions like the checkpoint (llama-server, greedy decoding)."""
import json
import math
import os
import socket
import subprocess
import tempfile
import time
import urllib.request

import torch
import torch.nn.functional as F

import evaluate
import tokenizer
import worlds


def ask(port, path, **body):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.load(reply)


def start(gguf):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    server = subprocess.Popen(["llama-server", "-m", gguf, "--port", str(port), "-c", "2048", "-np", "1", "-t", "1",
                               "-ngl", "0"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as reply:
                if reply.status == 200:
                    return server, port
        except OSError:
            time.sleep(0.1)
    server.kill()
    raise SystemExit(f"llama-server did not start with {gguf}")


WINDOW = 512


def joined_text(documents=40):
    return "\n\n".join(evaluate.test_text(n) for n in range(documents))


def llama_perplexity(gguf, attempts=3):
    """None if it was never printed: on a loaded machine llama-perplexity sometimes ends without its last line."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as f:
        f.write(joined_text())
        f.flush()
        for _ in range(attempts):
            run = subprocess.run(["llama-perplexity", "-m", gguf, "-f", f.name, "-c", str(WINDOW), "-t", "1"],
                                 capture_output=True, text=True)
            line = next((x for x in (run.stdout + run.stderr).splitlines() if "Final estimate" in x), None)
            if line:
                return float(line.split("PPL =")[1].split()[0])
    return None


@torch.no_grad()
def our_perplexity(model):
    """Computed like llama-perplexity's: windows of 512 tokens, of which the second half counts."""
    ids, losses = torch.tensor(tokenizer.encode(joined_text())), []
    for begin in range(0, len(ids) - WINDOW + 1, WINDOW):
        window = ids[begin:begin + WINDOW]
        logits = model(window[None], mask=torch.full((1, WINDOW, WINDOW), -1e9).triu(1))[0]
        losses.append(F.cross_entropy(logits[WINDOW // 2:-1], window[WINDOW // 2 + 1:]).item())
    return round(math.exp(sum(losses) / len(losses)), 4)


def compare(model, name, gguf, count, json_path=None):
    """Prints exact match by steps, of llama.cpp and of the checkpoint on the same questions."""
    cases = evaluate.askings(count, 7)
    ours = evaluate.exact_match(model, cases)
    server, port = start(gguf)
    theirs, named, tokens_agree = [], [], 0
    try:
        for world, q in [(world, q) for world, questions in cases for q in questions]:
            prompt = "".join(p.text for p in worlds.chat(world.pieces(), [q])).rsplit(q.answer, 1)[0]
            tokens = ask(port, "/tokenize", content=prompt, parse_special=True)["tokens"]
            tokens_agree += tokens == tokenizer.encode(prompt)
            reply = ask(port, "/completion", prompt=prompt, n_predict=16, temperature=0, cache_prompt=True)["content"]
            theirs.append((q.steps, reply.strip() == q.answer))
            named.append((q.steps, q.path[-1] in reply))
    finally:
        server.kill()
        server.wait()
    figures = {"model": name, "questions": len(theirs), "prompts_tokenized_alike": tokens_agree,
               "answers_judged_alike": sum(a == b for a, b in zip(ours, theirs)),
               "checkpoint": {n: evaluate.share([r for r in ours if r[0] == n]) for n in (1, 2, 3)},
               "llama.cpp": {n: evaluate.share([r for r in theirs if r[0] == n]) for n in (1, 2, 3)},
               "llama.cpp, right name in the reply": {n: evaluate.share([r for r in named if r[0] == n]) for n in (1, 2, 3)},
               "perplexity": {"checkpoint": our_perplexity(model), "llama.cpp": llama_perplexity(gguf)}}
    print(json.dumps(figures, indent=1))
    if json_path:
        known = []
        if os.path.exists(json_path):
            with open(json_path) as f:
                known = [k for k in json.load(f) if k["model"] != name]
        with open(json_path, "w") as f:
            json.dump(known + [figures], f, indent=1)
            f.write("\n")
