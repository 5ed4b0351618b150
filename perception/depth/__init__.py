"""Depth from an image and events: networks, their training without labels, measures and data sets."""
