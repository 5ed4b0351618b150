"""Data association, one algorithm a file."""
