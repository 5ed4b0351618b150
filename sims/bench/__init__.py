"""Speed beside accuracy: `python -m sims.bench --help`."""
