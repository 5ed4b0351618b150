"""Programs that train the shipped models, one a module."""
