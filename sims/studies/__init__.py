"""Studies of the papers that the toolkit is built on, one a module: `python -m sims.studies.NAME`."""
