"""Features and head of any model: found, verified, or refused with what was tried; and batch norm."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils import weight_norm as old_weight_norm

from adapt.source_free.engine import Run, refresh
from adapt.source_free.methods import SHOT, AdaBN
from adapt.source_free.samples import Held
from adapt.source_free.split import copy_of, split_of

AUTO = ({0: torch.export.Dim.AUTO},)


class LogSoftmax(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x).log_softmax(1)


class Tuple(LogSoftmax):
    def forward(self, x):
        return self.inner(x), x.mean()


class Scaled(LogSoftmax):
    def forward(self, x):
        return 2 * self.inner(x)


class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 8, num_layers=2, dropout=0.5, batch_first=True)
        self.out = nn.Linear(8, 4)

    def forward(self, x):
        return self.out(self.rnn(x.reshape(len(x), 2, 4))[0][:, -1])


def consistent(model, x):
    """A split that says what the model says, in use and with statistics of batches."""
    split = split_of(copy_of(model), x)
    split.use(False)
    with torch.no_grad():
        said, answer = split(x), model(x)
    answer = answer[0] if isinstance(answer, tuple) else answer
    again = said.z @ said.weight.T + (0 if said.bias is None else said.bias)
    assert torch.allclose(again, said.logits, atol=1e-5)
    if (answer < 0).any():  # logits, or logarithms
        answer = answer.softmax(1)
    assert torch.allclose(said.logits.softmax(1), answer, atol=1e-5)
    return split


@pytest.mark.parametrize(
    "head",
    [
        lambda: nn.Linear(16, 4),
        lambda: nn.Linear(16, 4, bias=False),
        lambda: parametrizations.weight_norm(nn.Linear(16, 4)),
        lambda: old_weight_norm(nn.Linear(16, 4)),
        lambda: parametrizations.spectral_norm(nn.Linear(16, 4)),
        lambda: parametrizations.orthogonal(nn.Linear(16, 4)),
    ],
    ids=["plain", "no bias", "weight norm", "old weight norm", "spectral norm", "orthogonal"],
)
def test_heads_of_all_kinds_are_found_and_take_effect(make, target, head):
    model = make[0](head=head()).eval()
    split = consistent(model, target[0][:20])
    assert split.head == "5"
    assert len(split.norms) == 2
    said = split(target[0][:20])
    said.logits.sum().backward()
    assert all(p.grad is not None for p in split.head_parameters)


def test_answers_may_be_logarithms_probabilities_or_the_first_of_several(make, target):
    inner = make[0]().eval()
    for wrapped in (LogSoftmax(inner), nn.Sequential(inner, nn.Softmax(1)), Tuple(inner)):
        split = consistent(wrapped, target[0][:20])
        assert split.head.endswith("5")


def test_recurrent_and_residual_models_are_cut(target):
    torch.manual_seed(0)
    cell = Cell().eval()
    split = consistent(cell, target[0][:20])
    split.use(True)
    x = target[0][:20]
    assert torch.equal(split(x).logits, split(x).logits)  # no dropout
    assert split.released().rnn.dropout == 0.5
    assert cell.rnn.dropout == 0.5


def test_a_head_may_be_named_or_given_by_a_function(source, target):
    x = target[0][:20]
    assert split_of(copy_of(source), x, "5").head == "5"
    assert split_of(copy_of(source), x, lambda model: model[-1]).head == "5"
    for head, says in (
        ("3", "no linear layer"),
        ("9", "Linear layers are: 0, 3, 5"),
        (lambda m: source[-1], "a copy"),
    ):
        with pytest.raises(ValueError, match=says):
            split_of(copy_of(source), x, head)
    with pytest.raises(ValueError, match="must be a linear layer"):
        split_of(copy_of(source), x, "1")


@pytest.mark.parametrize(
    ("wrap", "says"),
    [
        (Scaled, "Layers:\n  inner.0: .* -> .*\n  inner.3"),
        (lambda m: nn.Sequential(m, nn.Linear(4, 1)), "one number a sample"),
        (lambda m: nn.Sequential(m, nn.Unflatten(1, (2, 2))), "logits"),
        (lambda m: nn.Sequential(nn.Flatten(), nn.Tanh()), "there is no linear layer"),
    ],
)
def test_models_that_cannot_be_cut_are_told_so(source, target, wrap, says):
    with pytest.raises(ValueError, match=says):
        split_of(copy_of(wrap(source)).eval(), target[0][:20])


def exported(model, x, **how):
    return torch.export.export(model, (x,), **how)


@pytest.mark.parametrize("kind", ["program", "training program", "one size", "trace", "script"])
def test_programs_and_scripts_are_cut_like_the_model(source, target, kind):
    x = target[0][:20]
    model = copy_of(source)
    cut = {
        "program": lambda: exported(model, x, dynamic_shapes=AUTO),
        "training program": lambda: exported(model.train(), x, dynamic_shapes=AUTO),
        "one size": lambda: exported(model, x),
        "trace": lambda: torch.jit.trace(model, x),
        "script": lambda: torch.jit.script(model),
    }[kind]()
    whole, part = split_of(copy_of(source), x), split_of(copy_of(cut), x)
    assert part.batch == (20 if kind == "one size" else None)
    for statistics in (False, True, False):
        for split in (whole, part):
            split.use(statistics, momentum=0.3)
        with torch.no_grad():
            for a, b in zip(whole(x), part(x)):
                assert torch.allclose(a, b, atol=1e-5)
    for a, b in zip(whole.norms, part.norms):
        assert torch.allclose(a.mean, b.mean, atol=1e-5)
        assert torch.allclose(a.var, b.var, atol=1e-5)
        assert len(a.affine) == len(b.affine) == 2
    assert sorted(p.shape for p in whole.head_parameters) == sorted(p.shape for p in part.head_parameters)
    with pytest.raises(ValueError, match="leave `head` out"):
        split_of(copy_of(cut), x, "5")


def test_programs_refuse_what_they_cannot_be_cut_at(source, target):
    with pytest.raises(ValueError, match=r"linear: \(20, 8\)"):
        split_of(exported(Scaled(source).eval(), target[0][:20]).module(), target[0][:20])
    with pytest.raises(ValueError, match="linear layer 0"):
        split_of(torch.jit.trace(Scaled(source).eval(), target[0][:20]), target[0][:20])


def test_batch_norm_learns_the_mean_of_the_samples(source, target):
    x = target[0]
    for model in (source, exported(source, x[:20], dynamic_shapes=AUTO), torch.jit.trace(source, x[:20])):
        split = split_of(copy_of(model), x[:20])
        refresh(split, Held(x), [torch.arange(len(x))])
        first = source[0](x)
        assert torch.allclose(split.norms[0].mean, first.mean(0), atol=1e-5)
        assert torch.allclose(split.norms[0].var, first.var(0), rtol=1e-4)
        refresh(split, Held(x), list(torch.arange(len(x)).split(70)))  # batches of unequal size count by size
        assert torch.allclose(split.norms[0].mean, first.mean(0), atol=1e-5)


def test_modes_and_flags_come_back(source, target):
    model = copy_of(source)
    model[1].momentum = None
    split = split_of(model, target[0][:20])
    run = Run(split, Held(target[0]), AdaBN().plan)
    run.go(AdaBN())
    assert split.released() is model
    assert model[1].momentum is None
    assert not any(m.training for m in model.modules())


def test_each_part_trains_at_its_own_rate_and_a_frozen_head_stays(source, target):
    split = split_of(copy_of(source), target[0][:20])
    before = {name: p.detach().clone() for name, p in split.model.named_parameters()}
    Run(split, Held(target[0]), SHOT().plan).go(SHOT())
    moved = {
        name: float((p - before[name]).norm() / before[name].norm())
        for name, p in split.model.named_parameters()
    }
    assert moved["5.weight"] == moved["5.bias"] == 0
    assert 0 < moved["0.weight"] < moved["3.weight"]
