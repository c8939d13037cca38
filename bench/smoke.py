"""Every benchmark for seconds on tiny models: does it run, write the JSON it documents, draw without overlapping labels?"""
import contextlib
import io
import pathlib
import tempfile
import time
import traceback

from . import chart, keys
from .lab.programs import build


def run(benchmarks):
    """The exit code."""
    build(*dict.fromkeys(target for benchmark in benchmarks for target in benchmark.targets))
    failed = [benchmark.name for benchmark in benchmarks if not passes(benchmark)]
    print(f"smoke: {len(benchmarks)} benchmarks, {len(failed)} failed{': ' if failed else ''}{', '.join(failed)}")
    return 1 if failed or not benchmarks else 0


def passes(benchmark):
    began = time.monotonic()
    documented = keys.documented(benchmark.module.__doc__)
    try:
        wrong = keys.differences(documented, [smoke_run(benchmark, arguments) for arguments in benchmark.smoke])
    except Exception:  # whatever one of them fails of, the others are looked at, too
        wrong = [traceback.format_exc()]
    print(f"smoke: {benchmark.name}: {'FAILED' if wrong else 'passed'}, {len(documented)} keys, "
          f"{time.monotonic() - began:.1f} s", flush=True)
    for line in wrong:
        print(f"  {line}", flush=True)
    return not wrong


def smoke_run(benchmark, arguments):
    """The result; what is printed of it and what is printed of the file must be the same."""
    with tempfile.TemporaryDirectory() as folder:
        stored = pathlib.Path(folder) / "result.json"
        printed, result = output_of(benchmark, [*arguments, "--json", str(stored)])
        again, _ = output_of(benchmark, ["--from", str(stored)])
        if printed != again:
            raise AssertionError(f"--from prints something else than the run did:\n{printed}\n{again}")
    for picture in benchmark.pictures():
        for fault in chart.overlaps(picture.charts(result)):
            raise AssertionError(f"{picture.shows}: {fault}")
    return result


def output_of(benchmark, arguments):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        result = benchmark.run(list(arguments), is_built=True)
    return printed.getvalue(), result
