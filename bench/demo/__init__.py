"""./dev demo: one cloud, edges, a slow link between them. cli.py chooses what it runs on; real.py and trained.py show it."""
