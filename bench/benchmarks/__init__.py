"""One module a benchmark: `./dev bench NAME` runs bench/benchmarks/NAME.py."""
