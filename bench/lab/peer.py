"""llama-server as the peer of benchmarks."""
import contextlib
import functools
import http.server
import socket
import threading
import time
import urllib.request

from . import api
from .programs import wait_until


class LlamaServer:
    """llama-server with flash attention, f16 KV, else its defaults. A context manager: serving inside, ended after it."""

    def __init__(self, programs, model, n_context, *arguments, slots=1, threads=None):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        threads = () if threads is None else ("-t", threads)
        argv = ["llama-server", "-m", model, *threads, "-c", n_context, "-np", slots, "-fa", "on", "--port", self.port,
                "--host",
                "127.0.0.1", *arguments]
        self.program = programs.start(argv, programs.fresh_name("llama-server"))

    def __enter__(self):
        wait_until(self._healthy, f"llama-server; its log is {self.program.log_path}", timeout_s=120)
        return self

    def __exit__(self, *_):
        self.program.stop()

    def _healthy(self):
        try:
            return api.request("GET", f"{self.url}/health", timeout_s=5)["status"] == "ok"
        except (OSError, api.ApiError, KeyError, TypeError):
            return False

    def save_slot(self, slot, filename):
        """`filename` in the folder given as --slot-save-path."""
        api.request("POST", f"{self.url}/slots/{slot}?action=save", {"filename": filename})

    def restore_slot(self, slot, filename):
        api.request("POST", f"{self.url}/slots/{slot}?action=restore", {"filename": filename})


class SavedSlot:
    """A context's KV as llama-server saves it: one server computed it, others fetch the file over a link and restore it."""

    def __init__(self, lab, context, n_tokens):
        self.lab, self.context, self.n_tokens = lab, context, n_tokens
        self.name = lab.programs.fresh_name("slot") + ".bin"
        self.cold_ms = None  # to the first token where nothing was saved yet

    def _server(self):
        return self.lab.llama_server(self.n_tokens + 512, "--no-warmup", "--slot-save-path", f"{self.lab.programs.folder}/")

    def save(self):
        with self._server() as server:
            api.first_token(server.url, "warm up")
            # Another question than the one asked after restoring: that one's tokens are not to be in the saved slot.
            self.cold_ms = api.first_token(server.url, self.context.text, "Do it.").ms
            server.save_slot(0, self.name)

    def restore_ms(self, mbit, rtt_ms):
        """Download over the link, restore, first token."""
        with serving_files(self.lab.programs.folder) as files, self._server() as server:
            relay = self.lab.relay(files, mbit, rtt_ms)
            api.first_token(server.url, "warm up")
            begin = time.monotonic()
            fetched = self.lab.programs.folder / f"{self.name}.fetched"
            with urllib.request.urlopen(f"{relay.url}/{self.name}") as answer, open(fetched, "wb") as out:
                while piece := answer.read(1 << 20):
                    out.write(piece)
            server.restore_slot(0, fetched.name)
            restored_ms = (time.monotonic() - begin) * 1000
            return restored_ms + api.first_token(server.url, self.context.text).ms


@contextlib.contextmanager
def serving_files(folder):
    """An HTTP server of a folder's files on loopback; its URL."""
    handler = functools.partial(QuietFiles, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


class QuietFiles(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
