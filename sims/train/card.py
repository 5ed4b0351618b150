"""Cards: what weights were trained on, for how long, and how good they are on windows held out."""

from typing import Any

from tracking.mt3.model import Task

SAID = ("scans", "dt", "clutter", "p_detect", "objects", "measurements")  # of a task
CARD = """# {scenario}, {preset} {size}

Weights of `tracking.mt3`, trained by `python -m sims.train.mt3`; MIT licence as the toolkit.

- Data: simulated windows of `{scenario}`, {scans} scans of {dt:g} s, {clutter:g} clutter points a scan,
  p_D = {p_detect:g}, at most about {objects} objects at the end and {measurements} measurements; drawn as
  needed, none twice. A tenth of them was cut to fewer scans.
- Training: {steps} steps, {windows} windows, {minutes:.1f} minutes on {device},
  {windows_per_s:.1f} windows/s; seed {seed}, {date}.
- Threshold {threshold:.2f}, merging radius {radius:g} m and calibration (log odds {gain:.3f} log p -
  {gain_high:.3f} log(1 - p) {offset:+.3f}): chosen on {tested_on} windows of another seed.
- On {tested_on} further windows with {mean_objects:.3f} objects on average: GOSPA {gospa:.3f} (standard error
  {gospa_se:.3f}), localisation {localisation:.3f}, missed {missed:.3f}, false {false:.3f}.
  Negative log likelihood {nll:.3f}, with {missed_rate:g} missed objects expected beside the answers.
- Existence: expected calibration error {ece:.4f}; {expected:.3f} objects expected.

| answers | said | true |
|---|---|---|
{table}

Not for other step lengths, fields of view or sensors. What other clutter, detection probabilities and speeds
do to it: `python -m sims.studies.mt3 --shifts`.
"""


def card(result: dict[str, Any], task: Task) -> str:
    """A card, Markdown.

    Args:
        result: what `python -m sims.train.mt3` prints.
        task:   what was trained for.
    """
    found = result["calibration"]
    table = "\n".join(f"| {n} | {said:.3f} | {true:.3f} |" for n, said, true in found["bins"])
    about = {name: getattr(task, name) for name in SAID}
    return CARD.format(**result, **about, ece=found["ece"], expected=found["expected"], table=table)
