"""What an endpoint may answer: probabilities, one row for each input."""

import numpy as np

TOLERANCE = 1e-3  # of a sum of probabilities, for endpoints that round


class BadAnswer(ValueError):  # noqa: N818
    """An endpoint answered with something other than probabilities of the classes that were stated."""


def checked(answer: object, number: int, classes: int) -> np.ndarray:
    """An answer as (number, classes) float64.

    Raises:
        BadAnswer: another shape, numbers that are not finite or negative, rows that do not add up to 1.
    """
    try:
        found = np.asarray(answer, np.float64)
    except (TypeError, ValueError) as error:
        raise BadAnswer(f"the answer is no table of numbers: {error}") from None
    if found.ndim != 2 or len(found) != number:
        raise BadAnswer(f"the answer has shape {found.shape}, accepted is ({number}, {classes})")
    if found.shape[1] != classes:
        raise BadAnswer(
            f"the answer is of {found.shape[1]} classes, accepted are {classes}; "
            "state how many the endpoint has with classes="
        )
    if not np.isfinite(found).all() or found.min(initial=0.0) < -TOLERANCE:
        raise BadAnswer("the answer has numbers that are negative or not finite; accepted are probabilities")
    sums = found.sum(1)
    if len(sums) and np.abs(sums - 1).max() > TOLERANCE:
        worst = int(np.abs(sums - 1).argmax())
        raise BadAnswer(
            f"the answer to input {worst} of a batch adds up to {sums[worst]:.4g}, accepted is 1; "
            "turn logits into probabilities before you hand them on"
        )
    return np.maximum(found, 0.0)
