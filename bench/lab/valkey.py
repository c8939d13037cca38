"""A valkey-server for tests and benchmarks, and what they write into it."""
import os
import shutil
import signal
import socket

from .programs import wait_until


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Valkey:
    """One server on loopback, which keeps its port and loses its content when it starts again."""

    def __init__(self, programs):
        self._programs = programs
        self.port = free_port()
        self.start()

    @property
    def url(self):
        return f"valkey://127.0.0.1:{self.port}"

    def start(self):
        server = shutil.which("valkey-server") or shutil.which("redis-server")
        assert server, "valkey-server is not here: './dev setup fleet' installs it"
        argv = [server, "--bind", "127.0.0.1", "--port", self.port, "--save", "", "--appendonly", "no", "--dir",
                self._programs.folder]
        self._program = self._programs.start(argv, self._programs.fresh_name("valkey"))
        wait_until(self._answers, "valkey-server to answer")

    def _answers(self):
        try:
            return self.call("PING") == "PONG"
        except OSError:
            return False

    def kill(self):
        self._program.kill()

    def pause(self):
        os.killpg(self._program.process.pid, signal.SIGSTOP)

    def go_on(self):
        os.killpg(self._program.process.pid, signal.SIGCONT)

    def call(self, *words):
        """One command; its reply as a string, number, list or None."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as s:
            encoded = [str(w).encode() for w in words]
            s.sendall(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in encoded))
            with s.makefile("rb") as reply:
                return self._read(reply)

    def _read(self, reply):
        line = reply.readline().decode().rstrip("\r\n")
        if not line:
            raise ConnectionError("the server closed the connection")
        kind, rest = line[0], line[1:]
        if kind == "-":
            raise AssertionError(rest)
        if kind == ":":
            return int(rest)
        if kind == "$":
            return None if rest == "-1" else reply.read(int(rest) + 2)[:-2].decode()
        if kind == "*":
            return [self._read(reply) for _ in range(int(rest))]
        return rest
