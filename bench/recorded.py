"""Observations kept as JSON lines, so that a run that was interrupted goes on where it stopped."""
import json
import pathlib


class OfAnotherRun(Exception):
    pass


class Recorded:
    """The first line of the file tells what was run; it must be the same when the file is used again. Each other line is an
    observation, appended when it is there; its keys `by` tell it from others."""

    def __init__(self, path, run, by):
        """path: None keeps nothing. Raises OfAnotherRun for a file of anything else than `run`."""
        self._by = by
        self._file = None
        self._seen = {}
        if path is None:
            return
        path = pathlib.Path(path)
        lines = complete_lines(path)
        if lines:
            check_run(path, lines[0], run)
        for line in map(json.loads, lines[1:]):
            self._seen[self._key(line)] = line
        self._file = open(path, "a", encoding="utf-8")
        if not lines:
            self._write({"run": run})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._file:
            self._file.close()

    def add(self, observation):
        self._seen[self._key(observation)] = observation
        self._write(observation)

    def has(self, *key):
        return key in self._seen

    def get(self, *key):
        return self._seen[key]

    def _key(self, observation):
        return tuple(observation[name] for name in self._by)

    def _write(self, line):
        if self._file:
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()


def complete_lines(path):
    """Cuts off a last line that is no complete one: the run ended while it was written."""
    if not path.exists():
        return []
    data = path.read_bytes()
    complete = data[:data.rfind(b"\n") + 1]
    if len(complete) < len(data):
        path.write_bytes(complete)
    return complete.decode("utf-8").splitlines()


def check_run(path, first, run):
    try:
        before = json.loads(first)["run"]
    except (ValueError, KeyError, TypeError) as e:
        raise OfAnotherRun(f"{path} does not hold observations of this benchmark; name another file") from e
    other = [f"{key} ({before.get(key)} there, {run.get(key)} now)" for key in {**before, **run}
             if before.get(key) != run.get(key)]
    if other:
        raise OfAnotherRun(f"{path} holds observations of another run: {', '.join(other)}; name another file, or remove it")
