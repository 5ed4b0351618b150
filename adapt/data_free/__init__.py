"""Distillation without data: a small student from a trained teacher alone."""
