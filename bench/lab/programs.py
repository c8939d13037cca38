"""Starts programs, waits until they serve, and ends them whatever happens."""
import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


class ProgramFailed(Exception):
    pass


class Program:
    """A running program whose standard output is watched for the line that says where it listens."""

    def __init__(self, argv, name, log_dir, prefix=(), env=None):
        self.name = name
        self.log_path = pathlib.Path(log_dir) / f"{name}.log"
        self.url = None
        self._listening = threading.Event()
        self._log = open(self.log_path, "w", encoding="utf-8")
        self.process = subprocess.Popen([*prefix, *map(str, argv)], stdout=subprocess.PIPE, stderr=self._log, text=True,
                                        env={**os.environ, **(env or {})}, start_new_session=True)
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def _watch(self):
        for line in self.process.stdout:
            self._log.write(line)
            self._log.flush()
            if found := re.match(r"listening on (\S+)", line):
                self.url = found[1]
                self._listening.set()
        self._listening.set()

    def _close(self):
        self._watcher.join()
        self.process.stdout.close()
        self._log.close()

    def wait_listening(self, timeout_s=120):
        if not self._listening.wait(timeout_s) or self.url is None:
            raise ProgramFailed(f"{self.name} did not start; its log ends:\n{self.log_tail()}")
        return self.url

    def log_tail(self, lines=15):
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def memory_mb(self, line="VmRSS"):
        """Resident; the most it ever was: line="VmHWM"."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(line + r":\s+(\d+)", status)[1]) / 1024

    def peak_memory_mb(self):
        return self.memory_mb("VmHWM")

    def stop(self, grace_s=10):
        """Asks the program to end; returns its exit code."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(grace_s)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self._close()
        return self.process.returncode

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._close()


class Programs(contextlib.ExitStack):
    """Programs of one run, and a folder for their data and logs; all gone at the end."""

    def __init__(self, keep_logs=False):
        super().__init__()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="celslm-"))
        if not keep_logs:
            self.callback(subprocess.run, ["rm", "-rf", str(self.folder)], check=False)

    def start(self, argv, name, prefix=(), env=None):
        program = Program(argv, name, self.folder, prefix, env)
        self.callback(program.stop)
        return program


def celslm(preset="release"):
    path = ROOT / "build" / preset / "celslm"
    if not path.exists():
        sys.exit(f"{path} does not exist: run ./dev build {preset}")
    return path


def wait_until(condition, what, timeout_s=60, poll_s=0.05):
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise ProgramFailed(f"waited {timeout_s} s for {what}")
        time.sleep(poll_s)
