"""Simulators, named scenarios and the command-line programs."""
