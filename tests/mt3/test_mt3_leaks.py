"""What ships answers from the measurements of a window, and from nothing else that it could have learnt."""

import pytest
import torch

from sims.scenarios import SCENARIOS
from sims.train.score import Metric, errors
from sims.windows import WindowSimulator
from tracking.mt3 import load, shipped
from tracking.mt3.batch import found_in
from tracking.mt3.model import as_arrays

FAST = ("mt3-task2", "radar-1")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in shipped()]
)
def test_answers_are_of_their_own_window(name):
    """Labels blanked change nothing, tokens shuffled next to nothing, answers to
    another window are no better than none."""
    model = load(name)
    scenario = SCENARIOS[model.task.name]
    windows = WindowSimulator(scenario, 4_000_000).draw(32)
    metric = Metric(scenario.gospa_c, scenario.gospa_p, scenario.metric_dims)

    def score(seen, of):
        return errors(found_in(model, seen), as_arrays(of), metric, model.reading.threshold)[:, 0].mean()

    own = score(windows, windows)
    assert score(windows.blank(), windows) == own
    shuffled = windows.tokens(torch.randperm(windows.z.shape[1], generator=torch.Generator().manual_seed(0)))
    real = shuffled.real.sum(1)  # padding is last, or `trimmed` would cut tokens off
    shuffled = shuffled.changed(**_packed(shuffled))
    assert (shuffled.real.sum(1) == real).all()
    assert score(shuffled, windows) == pytest.approx(own, rel=0.02)
    nothing = float(windows.alive.sum(1).float().mean()) * scenario.gospa_c**scenario.gospa_p / 2
    assert own < 0.75 * nothing
    others = windows.take(torch.arange(len(windows)).roll(1))  # whose objects lie elsewhere
    assert score(windows, others) > 0.95 * nothing


def _packed(windows):
    """The arrays of tokens with padding last, the order else kept."""
    order = (~windows.real).long().argsort(dim=1, stable=True)
    return {
        name: a.gather(1, order if a.ndim == 2 else order[..., None].expand_as(a))
        for name, a in windows._asdict().items()
        if name in ("z", "age", "real", "origin", "state")
    }
