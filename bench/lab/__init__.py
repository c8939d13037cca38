"""What the demo, the benchmarks and the end-to-end tests share: programs, links, an HTTP client, models."""
