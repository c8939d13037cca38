"""./dev bench NAME [OPTIONS]: what there is, and each by its name."""
import importlib
import pkgutil
import sys

from . import benchmarks
from .benchmark import Benchmark


def all_names():
    return sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__))


def benchmark(name):
    module = importlib.import_module(f"{benchmarks.__name__}.{name}")
    return next(kind() for kind in vars(module).values()
                if isinstance(kind, type) and issubclass(kind, Benchmark) and kind.__module__ == module.__name__)


def usage():
    lines = ["./dev bench NAME [--json FILE] [OPTIONS]; --help after a name tells more",
             *(f"  {benchmark(name).module.__doc__.splitlines()[0]}" for name in all_names()),
             "./dev bench --smoke [NAME...]: each on tiny models, for seconds: does it run, and is its JSON as documented?"]
    return "\n".join(lines)


def main(argv):
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    if argv[0] == "--smoke":
        from . import smoke
        return smoke.run([benchmark(name) for name in argv[1:] or all_names()])
    if argv[0] not in all_names():
        print(f"bench: no benchmark '{argv[0]}'; there are: {', '.join(all_names())}", file=sys.stderr)
        return 2
    benchmark(argv[0]).run(argv[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
