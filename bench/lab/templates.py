"""Whether celslm gives a model the tokens that llama-server gives it for the same conversations."""
import json
import pathlib

from . import api
from .peer import LlamaServer
from .programs import Programs, celslm, json_lines_of

# For files that carry no template: the one that is then given to both.
TEMPLATES = {"gemma-3-270m-q4_k_m.gguf": pathlib.Path(__file__).with_name("gemma3.jinja")}

CODE = """def mean(values):
    \"\"\"Of at least one.\"\"\"
\treturn sum(values) / len(values)  # not <= 0


if __name__ == "__main__":
    print({"mean": mean([1, 2, 3.5])}, f"{3:>5}|")
"""
MANUAL = """# Pump 7B

1. Close valve `A-3` (see <figure 2>).
2. Wait 90 s; pressure must be < 1.5 bar.

| state | lamp |
|-------|------|
| idle  | off  |
"""
# Everything but control tokens: celslm takes those that a message spells as text, llama-server as control tokens.
TEXTS = [
    "Hello!",
    "",
    " leading and trailing blanks \t",
    "\n\nnewlines around\n\n",
    "What is 12345678 * 9.75?\r\nAnd 1/3?",
    "🙂👩‍👩‍👧 emoji, and a flag 🇨🇭!",
    "Grüezi, wie geht's? Ça va? Привет. こんにちは 数学 שלום",
    CODE,
    MANUAL,
    '{"a": [1, 2, {"b": null}], "c": "\\n"} {{ messages }} {% if x %} {# comment #} <b>&amp;</b>',
    "< | im_end | > </s <tool_call <<< [INST [/ >>> |> 's 'LL don't",
    "a" * 300 + " " * 40 + "\n" * 5 + "7" * 20 + "   end   of   it",
]


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def system(text):
    return {"role": "system", "content": text}


def conversations():
    """40 conversations of all shapes."""
    out = [[user(text)] for text in TEXTS]
    out += [[system(text), user(TEXTS[i - 1])] for i, text in enumerate(TEXTS)]
    out += [[user(text), assistant(TEXTS[i - 2]), user(TEXTS[i - 3])] for i, text in enumerate(TEXTS) if i % 2 == 0]
    out += [[system(TEXTS[i - 4]), user(text), assistant(TEXTS[i - 5]), user(TEXTS[i - 6])]
            for i, text in enumerate(TEXTS) if i % 2 == 1]
    out += [
        [system(MANUAL), *[turn for text in TEXTS for turn in (user(text), assistant(text[::-1]))], user("Go on.")],
        [user("Which?"), assistant(" that one\n"), user("This?"), assistant(""), user("Both?")],
        [system("You are a helpful assistant."), user("Say hi.")],
        [system("You are a helpful assistant.\n"), user("\tSay hi."), assistant("hi"), user(CODE)],
    ]
    return out


def celslm_tokens(binary, model, chats, folder):
    """What `celslm tokens --json` prints for each conversation: {"tokens", "n_context"}."""
    requests = pathlib.Path(folder) / "chats.jsonl"
    requests.write_text("\n".join(json.dumps({"messages": chat}) for chat in chats), encoding="utf-8")
    template = TEMPLATES.get(pathlib.Path(model).name)
    return json_lines_of(binary, "tokens", requests, "--model", model, "--json",
                         *(("--chat-template", template) if template else ()))


def llama_server_tokens(started, model, chats):
    """The token ids that llama-server's chat endpoint would give the model."""
    template = TEMPLATES.get(pathlib.Path(model).name)
    arguments = ["--no-warmup", *(("--chat-template-file", template) if template else ())]
    out = []
    with LlamaServer(started, model, 512, *arguments) as server:
        for chat in chats:
            prompt = api.request("POST", f"{server.url}/apply-template", {"messages": chat})["prompt"]
            body = {"content": prompt, "add_special": True, "parse_special": True}
            out.append(api.request("POST", f"{server.url}/tokenize", body)["tokens"])
    return out


def different(model, chats, binary=None):
    """Those of the conversations for which the two give different tokens."""
    with Programs() as started:
        ours = celslm_tokens(binary or celslm(), model, chats, started.folder)
        theirs = llama_server_tokens(started, model, chats)
    return [chat for chat, mine, peers in zip(chats, ours, theirs, strict=True) if mine["tokens"] != peers]


def template_agreement(model, binary=None):
    """(conversations with equal token ids, conversations)."""
    chats = conversations()
    return len(chats) - len(different(model, chats, binary)), len(chats)
