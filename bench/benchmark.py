"""The base of every benchmark: arguments, building what is measured, the result as text, JSON and picture.

A benchmark is a module of bench/benchmarks with a class that derives from Benchmark. The module's docstring begins with
one line for the list, goes on with the method, and documents the keys of --json in the form that bench/keys.py reads;
`./dev bench --smoke` runs it on tiny models and checks that its JSON has these keys, and no others.
"""
import abc
import argparse
import json
import math
import pathlib
import sys
import typing

from . import chart
from .lab import models
from .lab.programs import build
from .lab.progress import machine


class Picture(typing.NamedTuple):
    options: tuple[str, ...]  # that take its file
    shows: str
    charts: typing.Callable[[dict], list]  # of a result; [] where it has nothing to show


class Benchmark(abc.ABC):
    targets = ("celslm",)  # what CMake builds for it
    runs = None  # default of --runs; None: it has no rounds
    against_self = None  # default of --self; None: nothing is compared with a peer in rounds
    on_random_model = False  # takes --shape, --quantization and --threads
    smoke = ((),)  # command lines that together, on tiny models, give all the keys in seconds

    @property
    def module(self):
        return sys.modules[type(self).__module__]

    @property
    def name(self):
        return self.module.__name__.rpartition(".")[2]

    def add_arguments(self, parser):  # noqa: B027, most have some but none has to
        """What only this benchmark takes."""

    @abc.abstractmethod
    def measure(self, options):
        """The result: what --json holds, but for the machine."""

    @abc.abstractmethod
    def show(self, result):
        """Prints the result for people. It may come from a file: infinite times are None there."""

    def pictures(self):
        """What it can draw."""
        return []

    def read(self, options):
        """An earlier result, from --from."""
        return json.loads(options.stored.read_text(encoding="utf-8"))

    def parser(self):
        parser = argparse.ArgumentParser(prog=f"./dev bench {self.name}", description=self.module.__doc__,
                                         formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the result there, too")
        parser.add_argument("--from", dest="stored", type=pathlib.Path, metavar="FILE",
                            help="show (and draw) what --json wrote, measure nothing")
        parser.add_argument("--preset", default="release", help="which build to measure (default: release)")
        for picture in self.pictures():
            parser.add_argument(*picture.options, type=pathlib.Path, metavar="FILE", help=f"{picture.shows}, as SVG")
        if self.runs:
            parser.add_argument("--runs", type=int, default=self.runs,
                                help=f"rounds; figures are medians (default: {self.runs})")
        if self.against_self is not None:
            parser.add_argument("--self", dest="against_self", action=argparse.BooleanOptionalAction,
                                default=self.against_self,
                                help="measure ours twice in each round, as its own peer: the noise floor")
        if self.on_random_model:
            parser.add_argument("--shape", default="qwen2.5-0.5b",
                                help="a shape that tools/random_gguf.py knows (default: qwen2.5-0.5b)")
            parser.add_argument("--quantization", default="Q4_0", help="a type that llama-quantize knows (default: Q4_0)")
            parser.add_argument("--threads", type=int, default=2, help="of ours and of the peer (default: 2)")
        self.add_arguments(parser)
        return parser

    def run(self, argv, is_built=False):
        """All of it; returns the result as --json holds it. is_built: its targets need not be built first."""
        options = self.parser().parse_args(argv)
        if options.stored:
            result = self.read(options)
        else:
            if not is_built:
                build(*self.targets, preset=options.preset)
            result = {"machine": machine(), **self.measure(options)}
        result = without_infinities(result)
        self.show(result)
        if options.json:
            write_json(options.json, result)
        self.draw(result, options)
        return result

    @staticmethod
    def keep(options, so_far):
        """Writes what measure() knows so far where --json wants the result: a run that is stopped leaves that."""
        if options.json:
            write_json(options.json, without_infinities({"machine": machine(), **so_far}))

    def draw(self, result, options):
        for picture in self.pictures():
            path = getattr(options, picture.options[0].removeprefix("--"))
            charts = picture.charts(result) if path else []
            if charts:
                chart.write(path, charts, note_of(result))


def write_json(path, result):
    """Whoever reads it meanwhile finds all of an earlier result or all of this one."""
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    unfinished.rename(path)


def random_model(options):
    return models.random_model(options.shape, options.quantization)


def random_model_name(options):
    return f"{options.shape} {options.quantization}, random weights"


def note_of(result):
    return "; ".join(result[key] for key in ("model", "machine") if result.get(key))


def without_infinities(value):
    """JSON has no infinity."""
    if isinstance(value, dict):
        return {key: without_infinities(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_infinities(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def numbers(text):
    """An argument like 0.5,2,8"""
    return [float(x) if "." in text else int(x) for x in text.split(",")]


def names(text):
    return text.split(",")


def ms(value):
    """For a table."""
    return "failed" if value is None else f"{value:.0f}"


def times(value, digits=2):
    """A ratio for a table."""
    return "-" if value is None else f"{value:.{digits}f}x"
