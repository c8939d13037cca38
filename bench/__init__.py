"""Benchmarks of celslm: `./dev bench NAME`, or `python3 -m bench NAME` inside the root."""
