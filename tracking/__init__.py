"""Multitarget tracking: random-finite-set filters, association, models, metrics and formats."""
