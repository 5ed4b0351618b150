"""Things in frames and events, by a small network: where the middle of each is, and how far."""
