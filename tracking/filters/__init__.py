"""Random-finite-set filters and a baseline."""
