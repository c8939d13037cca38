"""What benchmarks, demo and end-to-end tests share: starting clouds, edges, links and peers, and asking them."""
