"""Adaptation of pretrained models without labels or data."""
