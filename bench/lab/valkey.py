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
    """One server on loopback, which keeps its port and loses its content when it starts again. With certificates
    (Certificates) it serves TLS, and nothing else."""

    def __init__(self, programs, certificates=None):
        self._programs = programs
        self.port = free_port()
        self._tls = certificates and certificates.context()
        self._listen = ("--port", self.port)
        if certificates:
            certificate, key = certificates.node("valkey")
            self._listen = ("--port", 0, "--tls-port", self.port, "--tls-cert-file", certificate, "--tls-key-file", key,
                            "--tls-ca-cert-file", certificates.authority, "--tls-auth-clients", "no")
        self.start()

    @property
    def url(self):
        return f"{'valkeys' if self._tls else 'valkey'}://127.0.0.1:{self.port}"

    def start(self):
        server = shutil.which("valkey-server") or shutil.which("redis-server")
        assert server, "valkey-server is not here: './dev setup fleet' installs it"
        argv = [server, "--bind", "127.0.0.1", *self._listen, "--save", "", "--appendonly", "no", "--dir",
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
        with self._connect() as s:
            encoded = [str(w).encode() for w in words]
            s.sendall(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in encoded))
            with s.makefile("rb") as reply:
                return self._read(reply)

    def _connect(self):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        return self._tls.wrap_socket(s, server_hostname="127.0.0.1") if self._tls else s

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
