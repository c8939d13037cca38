"""Lines for people: what is going on now, and tables."""
import sys
import time


class Progress:
    """One line that is rewritten on a terminal, and written once at the end elsewhere."""

    def __init__(self, what):
        self._what = what
        self._start = time.monotonic()

    def __enter__(self):
        if sys.stderr.isatty():
            print(f"  {self._what} ...", end="", flush=True, file=sys.stderr)
        return self

    def update(self, note):
        if sys.stderr.isatty():
            print(f"\r\033[K  {self._what} ... {note}", end="", flush=True, file=sys.stderr)

    def __exit__(self, kind, *_):
        end = "failed" if kind else f"{time.monotonic() - self._start:.1f} s"
        start = "\r\033[K" if sys.stderr.isatty() else ""
        print(f"{start}  {self._what}: {end}", file=sys.stderr, flush=True)


def table(rows, header):
    """Rows of strings under a header, columns as wide as they need."""
    rows = [[str(c) for c in row] for row in rows]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in [header, ["-" * w for w in widths],
                                                                                     *rows]]
    return "\n".join("  " + line for line in lines)


def machine():
    """A name for the machine that a reader can place."""
    model, cores = "unknown CPU", 0
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
            cores += line.startswith("processor")
    with open("/proc/meminfo", encoding="utf-8") as info:
        memory_kb = int(info.readline().split()[1])
    return f"{model}, {cores} cores, {memory_kb / 2**20:.0f} GiB"
