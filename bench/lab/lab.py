"""Clouds, edges, links and peers of one run, on one model.

    with Programs() as programs:
        lab = Lab(programs, models.demo_model("small"))
        cloud = lab.cloud()
        manual = lab.context("manual", text)
        lab.put(cloud, manual)
        with lab.passing_edge("edge", "--cloud", cloud.url, knows=[manual]) as edge:
            api.first_token(edge.url, manual.text)
"""
import contextlib
import dataclasses
import http.client
import pathlib
import shutil
import urllib.parse

from . import api
from .network import Loopback
from .peer import LlamaServer
from .programs import built, celslm, output_of, wait_until


@dataclasses.dataclass
class Context:
    """A text that requests share, in a file, too; `handle` once a cloud knows it."""
    text: str
    path: pathlib.Path
    handle: str | None = None


class Lab:
    """Starts what a run needs; `programs` ends it. Where no link is given, all is on loopback without a limit."""

    def __init__(self, programs, model, *, preset="release", threads=None, link=None):
        self.programs, self.model, self.preset, self.threads = programs, model, preset, threads
        self.link = link or Loopback()

    def cloud(self, name="cloud", *arguments):
        """Listening when this returns, as are the others."""
        return self._start("cloud", name, self.link.cloud_host, self.link.cloud_prefix, arguments)

    def edge(self, name, *arguments, place="edge1", knows=()):
        """Gets exact KV where no --codec is named. knows: contexts that the edge has heard of when this returns."""
        if "--codec" not in arguments:
            arguments += ("--codec", "f16")
        edge = self._start("edge", name, self.link.edge_host(place), self.link.edge_prefix(place), arguments)
        for context in knows:
            self.wait_for_context(edge, context)
        return edge

    @contextlib.contextmanager
    def passing_edge(self, name, *arguments, place="edge1", knows=()):
        """An edge that is gone, with its data, at the end of the block."""
        edge = self.edge(name, *arguments, place=place, knows=knows)
        try:
            yield edge
        finally:
            edge.stop()
            shutil.rmtree(self._data(edge.name), ignore_errors=True)

    def relay(self, url, mbit, rtt_ms=0, control=None):
        """A link of its own to the program at `url`: a rate and a delay. `control`: a pipe that takes orders."""
        argv = [built("celslm_relay", self.preset), "--to", urllib.parse.urlsplit(url).netloc, "--rate", mbit, "--delay",
                rtt_ms / 2]
        if control:
            argv += ["--control", control]
        relay = self.programs.start(argv, self.programs.fresh_name("relay"))
        relay.wait_listening()
        return relay

    def llama_server(self, n_context, *arguments, slots=1):
        """llama-server with flash attention and f16 KV; a context manager."""
        return LlamaServer(self.programs, self.model, n_context, *arguments, slots=slots, threads=self.threads)

    def context(self, name, text):
        path = self.programs.folder / f"{self.programs.fresh_name(name)}.txt"
        path.write_text(text, encoding="utf-8")
        return Context(text, path)

    def put(self, cloud, context, codecs=(), tenant=None):
        """Registers the context at the cloud; waits until its packs in these codecs are complete."""
        context.handle = output_of(celslm(self.preset), "context", "put", context.path, "--cloud", cloud.url,
                                   *(("--tenant", tenant) if tenant else ())).split()[0]
        for codec in codecs:
            model_id = api.request("GET", f"{cloud.url}/v1/models")["models"][0]["id"]
            url = f"{cloud.url}/v1/packs/{context.handle}/{model_id}/{codec}/header"
            wait_until(lambda u=url: pack_is_complete(u), f"the {codec} pack", timeout_s=600, poll_s=0.3)

    @staticmethod
    def wait_for_context(edge, context, caller=api.ANYBODY):
        def known():
            listed = api.request("GET", f"{edge.url}/v1/contexts", caller=caller)["contexts"]
            return any(c["id"] == context.handle for c in listed)
        wait_until(known, f"{edge.name} to learn of the context")

    def _start(self, kind, name, host, prefix, arguments):
        name = self.programs.fresh_name(name)
        threads = () if self.threads is None else ("--threads", self.threads)
        program = self.programs.start([celslm(self.preset), kind, "--model", self.model, "--host", host, "--port", 0,
                                       "--insecure", "--data",
                                       self._data(name), *threads, *arguments], name, prefix=prefix)
        program.wait_listening()
        return program

    def _data(self, name):
        return self.programs.folder / f"{name}.data"


def pack_is_complete(url):
    """Asking for a pack's header makes the cloud compute the pack."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        answer.read()
        return answer.getheader("x-celslm-state") == "complete"
    finally:
        connection.close()
