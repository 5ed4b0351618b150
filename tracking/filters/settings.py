"""What every filter's settings must satisfy, by name: a name means the same in all of them."""

from dataclasses import fields

import numpy as np

POSITIVE = ("gate", "gospa_c", "per_object")
PROBABILITY = ("threshold", "min_weight", "min_existence", "recycle", "delete", "give_up", "min_alive")
NOT_NEGATIVE = ("min_poisson", "merge_poisson", "merge", "max_gap")
COUNT = {  # with the least that is accepted
    "max_hypotheses": 1,
    "max_cluster": 1,
    "keep_apart": 1,
    "max_gated": 1,
    "max_tokens": 1,
    "memory": 0,
    "threads": 1,
    "max_components": 1,
    "window": 1,
    "max_objects": 1,
    "gospa_dims": 1,
    "max_poisson": 0,
    "gibbs_sweeps": 0,
}
NUMBERS = (*POSITIVE, *PROBABILITY, *NOT_NEGATIVE, *COUNT, "gospa_p", "split")
LARGEST = 2**31 - 1


def check_settings(config, **choices) -> None:
    """Raise ValueError for the first field of a configuration that is out of range.

    Args:
        config:  dataclass of settings.
        choices: accepted values of the fields that are words.
    """
    for field in fields(config):
        name, value = field.name, getattr(config, field.name)
        if value is None and field.default is None:  # left open
            continue
        if name in choices:
            if value not in choices[name]:
                raise ValueError(f"{name} must be one of {sorted(choices[name])}, got {value!r}")
        elif name in NUMBERS and (isinstance(value, bool) or not isinstance(value, (int, float, np.number))):
            raise ValueError(f"{name} must be a number, got {value!r}")
        elif name in POSITIVE and not value > 0:  # NaN fails too
            raise ValueError(f"{name} must be > 0, got {value}")
        elif name in PROBABILITY and not 0 <= value <= 1:
            raise ValueError(f"{name} must be a probability in [0, 1], got {value}")
        elif name in NOT_NEGATIVE and not value >= 0:
            raise ValueError(f"{name} must be >= 0, got {value}")
        elif name in COUNT and not (COUNT[name] <= value <= LARGEST and int(value) == value):
            raise ValueError(f"{name} must be a whole number from {COUNT[name]} to {LARGEST}, got {value}")
        elif name == "gospa_p" and not 1 <= value < np.inf:
            raise ValueError(f"gospa_p must be finite and >= 1, got {value}")
        elif name == "split" and np.isnan(value):
            raise ValueError("split must be a number, got nan")
