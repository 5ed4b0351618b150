"""Images from events: networks, their training with and without labels, and what needs no training."""
