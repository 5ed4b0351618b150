"""Bridges from other libraries; none of them is imported, an object says by its attributes what it is."""
