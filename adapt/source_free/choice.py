"""Which of several adaptations to take, without labels."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from adapt.source_free.scores import agreement, information


def support(predictions: Mapping[str, Tensor], among: Mapping[str, Tensor]) -> dict[str, float]:
    """How well each is supported: mutual information of samples and classes, times agreement with others.

    Information alone prefers what is most sure, right or wrong. Methods that go wrong do so in ways of their
    own, so that what others also say is more often right. Either alone chose worse, and the density of soft
    neighbourhoods (SND) far worse, than their product: see docs/adapt.

    Args:
        predictions: (n, C) of each candidate.
        among:       (n, C) of those whose agreement counts.
    """
    found = {}
    for name, p in predictions.items():
        others = [agreement(p, q) for other, q in among.items() if other != name]
        found[name] = information(p) * (float(np.mean(others)) if others else 1.0)
    return found


def choice(predictions: Mapping[str, Tensor], without: tuple[str, ...] = ("adabn",)) -> str:
    """Name of the best supported.

    Args:
        predictions: (n, C) of each candidate.
        without:     those that were hardly adapted, whose agreement says little.
    """
    among = {name: p for name, p in predictions.items() if name not in without}
    supported = support(predictions, among)
    return max(supported, key=lambda name: supported[name])
