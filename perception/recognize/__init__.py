"""What a recording shows: classifiers on event representations; `python -m perception.recognize FILE`."""

from perception.recognize.classifier import Classifier, load, recognize

__all__ = ["Classifier", "load", "recognize"]
