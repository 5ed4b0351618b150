"""Metrics of multitarget estimation."""
