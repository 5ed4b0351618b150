"""Adaptation with a trained model and unlabelled data of a new sensor alone: no labels, no source data."""
