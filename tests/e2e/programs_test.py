#!/usr/bin/env python3
"""The programs as users meet them: start, wrong input, signals, dead clouds, and what leaves an edge."""
import http.client
import json
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from bench.lab import api, models
from bench.lab.programs import Programs, celslm, wait_until

MODEL = models.demo_model("small")
WORLD = models.demo_worlds()[0]
QUESTION = next(q for q in WORLD["questions"] if q["steps"] == 1)


def run(*arguments, timeout_s=60):
    return subprocess.run([celslm(), *map(str, arguments)], capture_output=True, text=True, timeout=timeout_s, check=False)


class ProgramTest(unittest.TestCase):
    def setUp(self):
        self.programs = self.enterContext(Programs())
        self.folder = self.programs.folder

    def cloud(self, *arguments, name="cloud"):
        cloud = self.programs.start([celslm(), "cloud", "--model", MODEL, "--port", 0, "--data", self.folder / name, *arguments], name)
        cloud.wait_listening()
        return cloud

    def edge(self, *arguments, name="edge"):
        edge = self.programs.start([celslm(), "edge", "--model", MODEL, "--port", 0, "--data", self.folder / name, *arguments], name)
        edge.wait_listening()
        return edge

    def fetching_edge(self, *arguments, name="edge"):
        """An edge that computes only what nobody gives: on models this small computing would win every race."""
        return self.edge("--prefer", "energy", *arguments, name=name)

    def put(self, cloud, edge, text=WORLD["context"]):
        path = self.folder / "context.txt"
        path.write_text(text, encoding="utf-8")
        put = run("context", "put", path, "--cloud", cloud.url)
        self.assertEqual(put.returncode, 0, put.stderr)
        handle = put.stdout.split()[0]
        wait_until(lambda: any(c["id"] == handle for c in api.request("GET", f"{edge.url}/v1/contexts")["contexts"]), "the context")
        return handle

    def ask(self, edge, question=QUESTION["question"], **fields):
        messages = [{"role": "system", "content": WORLD["context"]}, {"role": "user", "content": question}]
        return api.chat(edge.url, messages, temperature=0, max_tokens=16, logprobs=True, **fields)

    def metric(self, program, name):
        lines = api.request("GET", f"{program.url}/metrics").splitlines()
        return float(next(line for line in lines if line.startswith(name + " ")).split()[1])

    def assertRefused(self, result, *words, code=1):
        self.assertEqual(result.returncode, code, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)


class AnswersTest(ProgramTest):
    def test_says_the_same_from_the_clouds_kv_as_from_its_own(self):
        cloud = self.cloud()
        edge = self.fetching_edge("--cloud", cloud.url)
        self.put(cloud, edge)
        local = self.edge("--context", self.folder / "context.txt", name="local")
        fetched, computed = self.ask(edge), self.ask(local)
        self.assertEqual({layer["source"] for layer in fetched["x_celslm"]["layers"]}, {"cloud"})
        self.assertEqual({layer["source"] for layer in computed["x_celslm"]["layers"]}, {"compute"})
        self.assertEqual(fetched["choices"], computed["choices"])
        self.assertIn(QUESTION["answer"], fetched["choices"][0]["message"]["content"])

    def test_keeps_its_pack_over_a_restart(self):
        cloud = self.cloud()
        edge = self.fetching_edge("--cloud", cloud.url)
        self.put(cloud, edge)
        before = self.ask(edge)
        wait_until(lambda: self.metric(edge, "celslm_edge_kept_packs") == 1, "the pack to be kept")
        self.assertEqual(edge.stop(), 0)
        again = self.fetching_edge("--cloud", cloud.url)
        wait_until(lambda: api.request("GET", f"{again.url}/v1/contexts")["contexts"], "the context")
        after = self.ask(again)
        self.assertEqual({layer["source"] for layer in after["x_celslm"]["layers"]}, {"disk"})
        self.assertEqual(before["choices"], after["choices"])

    def test_answers_without_its_cloud_and_says_why(self):
        cloud = self.cloud()
        edge = self.fetching_edge("--cloud", cloud.url)
        self.put(cloud, edge)
        cloud.kill()
        answer = self.ask(edge)
        self.assertEqual({layer["source"] for layer in answer["x_celslm"]["layers"]}, {"compute"})
        self.assertIn(cloud.url, answer["x_celslm"]["note"])
        self.assertIn(QUESTION["answer"], answer["choices"][0]["message"]["content"])

    def test_never_sends_a_prompt_to_its_cloud(self):
        cloud = self.cloud()
        record = self.folder / "record"
        port = cloud.url.rsplit(":", 1)[1]
        relay = self.programs.start([ROOT / "build" / "release" / "celslm_relay", "--listen", "127.0.0.1:0", "--to", f"127.0.0.1:{port}",
                                     "--record", record], "relay")
        edge = self.fetching_edge("--cloud", relay.wait_listening())
        self.put(cloud, edge)
        answer = self.ask(edge, question="My secret is XQZJV-90210. " + QUESTION["question"])
        self.assertEqual({layer["source"] for layer in answer["x_celslm"]["layers"]}, {"cloud"})
        api.chat(edge.url, [{"role": "system", "content": "Private instruction XQZJV."}, {"role": "user", "content": "Hello 90210"}], max_tokens=4)
        edge.stop()
        relay.stop()
        sent = record.read_bytes()
        self.assertIn(b"/v1/packs/", sent)
        for word in (b"XQZJV", b"90210", b"secret", b"Private", b"Hello"):
            self.assertNotIn(word, sent)

    def test_gives_a_cloud_that_hangs_up_to_a_few_seconds(self):
        cloud = self.cloud()
        edge = self.fetching_edge("--cloud", cloud.url)
        self.put(cloud, edge)
        cloud.process.send_signal(signal.SIGSTOP)
        try:
            answer = self.ask(edge)
        finally:
            cloud.process.send_signal(signal.SIGCONT)
        self.assertEqual({layer["source"] for layer in answer["x_celslm"]["layers"]}, {"compute"})

    def test_fetches_and_computes_at_once_and_says_the_same(self):
        cloud = self.cloud()
        self.put(cloud, self.fetching_edge("--cloud", cloud.url))
        edge = self.edge("--cloud", cloud.url, name="both")
        local = self.edge("--context", self.folder / "context.txt", name="local")
        wait_until(lambda: api.request("GET", f"{edge.url}/v1/contexts")["contexts"], "the context")
        answer = self.ask(edge)
        self.assertLessEqual({layer["source"] for layer in answer["x_celslm"]["layers"]}, {"cloud", "compute"})
        self.assertEqual(answer["choices"], self.ask(local)["choices"])

    def test_reads_a_neighbours_pack_when_the_cloud_is_gone(self):
        cloud = self.cloud()
        neighbour = self.fetching_edge("--cloud", cloud.url, name="neighbour")
        edge = self.fetching_edge("--cloud", cloud.url, "--peer", neighbour.url)
        self.put(cloud, neighbour)
        wait_until(lambda: api.request("GET", f"{edge.url}/v1/contexts")["contexts"], "the context")
        expected = self.ask(neighbour)
        wait_until(lambda: self.metric(neighbour, "celslm_edge_kept_packs") == 1, "the pack to be kept")
        cloud.kill()
        answer = self.ask(edge)
        self.assertEqual({layer["source"] for layer in answer["x_celslm"]["layers"]}, {"peer"})
        self.assertEqual(answer["choices"], expected["choices"])


    def test_chooses_a_codec_that_was_measured_on_its_model(self):
        cloud = self.cloud()
        edge = self.fetching_edge("--cloud", cloud.url, "--codec-quality", ROOT / "models" / "codec-quality.json", "--refine")
        self.put(cloud, edge)
        extension = self.ask(edge)["x_celslm"]
        self.assertNotEqual(extension["codec"], "f16", extension["codec_reason"])
        self.assertIn("not measured yet", extension["codec_reason"])

        def refined():
            return self.ask(edge)["x_celslm"]["codec"] == "f16"
        wait_until(refined, "exact KV in place of the coarse one", timeout_s=60, poll_s=1)


class WrongInputTest(ProgramTest):
    def test_not_a_gguf(self):
        path = self.folder / "notes.gguf"
        path.write_text("these are notes")
        self.assertRefused(run("edge", "--model", path, "--data", self.folder), str(path), "GGUF")

    def test_a_truncated_gguf(self):
        path = self.folder / "cut.gguf"
        path.write_bytes(MODEL.read_bytes()[:200_000])
        self.assertRefused(run("edge", "--model", path, "--data", self.folder), str(path))

    def test_a_missing_model(self):
        self.assertRefused(run("edge", "--model", "/nowhere.gguf", "--data", self.folder), "/nowhere.gguf")

    def test_measurements_of_another_model(self):
        path = self.folder / "quality.json"
        path.write_text(json.dumps({"codecs": [{"name": "t4", "model_id": "0" * 64}]}), encoding="utf-8")
        self.assertRefused(run("edge", "--model", MODEL, "--port", 0, "--data", self.folder, "--codec-quality", path), "quality.json", "no codec on this model")

    def test_a_port_in_use(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            self.assertRefused(run("edge", "--model", MODEL, "--data", self.folder, "--port", port), str(port), "in use")

    def test_a_folder_that_holds_something_else(self):
        packs = self.folder / "edge" / "packs"
        packs.mkdir(parents=True)
        (packs / "thesis.doc").write_text("years of work")
        self.assertRefused(run("edge", "--model", MODEL, "--data", self.folder), str(packs))
        self.assertEqual((packs / "thesis.doc").read_text(), "years of work")

    def test_unknown_options_are_usage_errors(self):
        self.assertRefused(run("edge", "--modle", "x"), "--help", code=2)
        self.assertRefused(run(), "--help", code=2)

    def test_listening_for_others_needs_tls_or_a_word(self):
        self.assertRefused(run("edge", "--model", MODEL, "--data", self.folder, "--host", "0.0.0.0"), "--insecure", code=2)

    def test_help_shows_examples(self):
        for command in ("cloud", "edge", "context", "pack"):
            shown = run(command, "--help")
            self.assertEqual(shown.returncode, 0)
            self.assertIn(f"celslm {command}", shown.stdout)

    def test_bad_requests(self):
        edge = self.edge()
        for body, status in (('{"messages"', 400), ('{"messages": 5}', 400), ('{"model": "other", "messages": [{"role": "user", "content": "x"}]}', 404),
                             ('{"messages": [{"role": "user", "content": "' + "x" * (9 << 20) + '"}]}', 413)):
            connection = http.client.HTTPConnection(edge.url.split("//")[1], timeout=30)
            try:
                connection.request("POST", "/v1/chat/completions", body)
                answer = connection.getresponse()
                self.assertEqual(answer.status, status)
                self.assertIn("message", json.loads(answer.read())["error"])
            except BrokenPipeError:
                self.assertEqual(status, 413)  # refused before all of it was sent
            connection.close()
        self.assertEqual(api.request("GET", f"{edge.url}/health"), {"status": "ok"})


class SignalTest(ProgramTest):
    def test_sigterm_lets_a_stream_end_and_exits_cleanly(self):
        edge = self.edge()
        ended = {}

        def stream():
            ended["stream"] = api.stream_chat(edge.url, [{"role": "user", "content": "Tell me a story."}], max_tokens=200, temperature=1, seed=1)

        thread = threading.Thread(target=stream)
        thread.start()
        wait_until(lambda: self.metric(edge, "celslm_edge_running_requests") == 1 or not thread.is_alive(), "the stream")
        self.assertEqual(edge.stop(), 0)
        thread.join(30)
        self.assertFalse(thread.is_alive())
        self.assertIn(ended["stream"].finish_reason, ("stop", "length"))

    def test_an_idle_edge_and_cloud_stop_at_once(self):
        cloud = self.cloud()
        edge = self.edge("--cloud", cloud.url)
        self.assertEqual(edge.stop(grace_s=8), 0)
        self.assertEqual(cloud.stop(grace_s=8), 0)

    def test_sigint_ends_a_program_too(self):
        edge = self.edge()
        edge.process.send_signal(signal.SIGINT)
        self.assertEqual(edge.process.wait(10), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
