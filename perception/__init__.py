"""Event-camera perception: events, reconstruction, depth."""
