"""Builds and starts programs, waits until they serve, and ends them whatever happens."""
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from .progress import Progress

ROOT = pathlib.Path(__file__).resolve().parents[2]


class ProgramFailed(Exception):
    pass


class Program:
    """A running program whose standard output is watched for the line that tells where it listens."""

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
        """Resident now, in MiB; the most it ever was: line="VmHWM"."""
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
        self._names = {}
        self._started = []
        if not keep_logs:
            self.callback(shutil.rmtree, self.folder, ignore_errors=True)

    def fresh_name(self, name):
        """`name`, then name-2, name-3 ...: programs of one run share a folder."""
        self._names[name] = self._names.get(name, 0) + 1
        return name if self._names[name] == 1 else f"{name}-{self._names[name]}"

    def start(self, argv, name, prefix=(), env=None):
        program = Program(argv, name, self.folder, prefix, env)
        self.callback(program.stop)
        self._started.append(program)
        return program

    def kill(self):
        """Ends all of them at once, in the middle of what they do."""
        for program in self._started:
            program.kill()


def built(name, preset="release", folder=""):
    """Where CMake puts a program of ours; those of bench/cpp: folder="bench"."""
    return ROOT / "build" / preset / folder / name


def celslm(preset="release"):
    path = built("celslm", preset)
    if not path.exists():
        sys.exit(f"{path} does not exist: run ./dev build {preset}")
    return path


def build(*targets, preset="release"):
    """Builds these targets only; quiet unless that fails."""
    log = ROOT / "build" / "bench-build.log"
    log.parent.mkdir(exist_ok=True)
    with Progress(f"building {', '.join(targets)} ({preset})"), open(log, "w", encoding="utf-8") as out:
        code = subprocess.run([ROOT / "dev", "build", preset, *targets], stdout=out, stderr=out, check=False).returncode
    if code != 0:
        print("\n".join(log.read_text(errors="replace").splitlines()[-60:]), file=sys.stderr)
        sys.exit(f"the build failed; {log} has all of its output")


def output_of(*argv, with_errors=False):
    """What a program writes to standard output; with_errors: then what it wrote to standard error. A failure shows that."""
    argv = list(map(str, argv))
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        end = "\n".join(done.stderr.splitlines()[-15:])
        raise ProgramFailed(f"{' '.join(argv)} ended with code {done.returncode}:\n{end}")
    return done.stdout + (done.stderr if with_errors else "")


def json_lines_of(*argv):
    """The same for a program that writes JSON, a value a line."""
    return [json.loads(line) for line in output_of(*argv).splitlines()]


def lines_from(*argv):
    """What a program writes to standard output, line by line as it comes; ends it if the caller stops reading. Its threads
    sleep while they wait for each other: for programs that take long and are not timed, beside other work."""
    argv = list(map(str, argv))
    env = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, text=True, env=env) as process:
            ended = False
            try:
                yield from process.stdout
                ended = True
            finally:
                if not ended:
                    process.terminate()
        if process.returncode != 0:
            log.seek(0)
            end = "\n".join(log.read().splitlines()[-15:])
            raise ProgramFailed(f"{' '.join(argv)} ended with code {process.returncode}:\n{end}")


def wait_until(condition, what, timeout_s=60, poll_s=0.05):
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise ProgramFailed(f"waited {timeout_s} s for {what}")
        time.sleep(poll_s)
