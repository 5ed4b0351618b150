"""adapt(): gains, what it must not touch or read, guards, and input that is refused with what to do."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler, TensorDataset

import adapt
from adapt.source_free import adaptation
from adapt.source_free.choice import choice, support
from adapt.source_free.engine import EVERYTHING, Plan, Run, evaluate
from adapt.source_free.guard import harm, too_one_sided, ungrouped
from adapt.source_free.methods import NRC, SHOT, AaD, centred_labels
from adapt.source_free.samples import Held, inputs_of, samples_of
from adapt.source_free.scores import (
    agreement,
    effective_classes,
    entropy,
    gap_statistic,
    information,
    soft_neighbourhood_density,
)
from adapt.source_free.sfda2 import SFDA2
from adapt.source_free.split import copy_of, split_of

NAMES = tuple(adaptation.METHODS)


def accuracy(model, data):
    x, y = data
    with torch.no_grad():
        return float((model(x).argmax(1) == y).float().mean())


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# what it is for


def test_every_method_helps_and_auto_does_too(source, target):
    before = accuracy(source, target)
    assert 0.4 < before < 0.85
    for name in (*NAMES, "auto"):
        found = adapt.adapt(source, target[0], name)
        after = accuracy(found.model, target)
        assert after > before + (0.05 if name in ("adabn", "tent", "sfda2-paper") else 0.1), name
        assert found.report.tripped is None
        assert found.report.method in NAMES
    assert set(found.report.candidates) == set(adaptation.CANDIDATES)
    said = {}
    with torch.no_grad():  # a caller's mode does not matter
        for name in adaptation.CANDIDATES:
            said[name] = adapt.adapt(source, target[0], name).model(target[0]).softmax(1)
    assert found.report.method == choice(said)


def test_a_report_says_what_happened(source, target):
    seen = []
    found = adapt.adapt(source, target[0], "sfda2", epochs=3, watch=lambda run: seen.append(run.epoch))
    report = found.report
    assert seen == [1, 2, 3]
    assert len(found.history) == 3
    assert {"neighbours", "augmentation", "disentanglement", "information", "classes"} <= found.history[
        0
    ].keys()
    with torch.no_grad():
        said = [model(target[0]).softmax(1) for model in (source, found.model)]
    for p, scores, counts in zip(said, (report.before, report.after), (report.counts_before, report.counts)):
        assert scores["information"] == pytest.approx(information(p), abs=1e-4)
        assert counts == p.argmax(1).bincount(minlength=4).tolist()
    assert report.changed == pytest.approx(1 - agreement(*said))
    assert (report.samples, report.classes, report.features, report.head) == (300, 4, 16, "5")
    text = str(report)
    assert "sfda2 on 300 samples of 4 classes" in text
    assert "changed" in text


def test_parts_of_sfda2_are_alive(source, target):
    runs = {
        name: adapt.adapt(source, target[0], method, epochs=2)
        for name, method in {
            "full": SFDA2(),
            "snc": SFDA2(ifa=0.0, fd=0.0),
            "no ifa": SFDA2(ifa=0.0),
            "no fd": SFDA2(fd=0.0),
            "alpha": SFDA2(alpha0=1.0),
            "beta": SFDA2(beta=0.0),
            "memory": SFDA2(memory=0.2),
        }.items()
    }
    weights = {name: found.model[3].weight for name, found in runs.items()}
    for name in weights.keys() - {"full"}:
        assert not torch.equal(weights["full"], weights[name]), name
    assert torch.equal(weights["snc"], adapt.adapt(source, target[0], "snc", epochs=2).model[3].weight)
    assert runs["full"].history[0]["disentanglement"] < 0 < runs["full"].history[0]["augmentation"]


# what it must not touch or read


@pytest.mark.parametrize("name", NAMES)
def test_the_model_given_is_unchanged_bit_for_bit(source, target, name):
    source.train()
    try:
        before = state(source)
        flags = [p.requires_grad for p in source.parameters()]
        found = adapt.adapt(source, target[0], name, epochs=1)
        assert same(before, state(source))
        assert source.training
        assert [p.requires_grad for p in source.parameters()] == flags
        assert all(p.grad is None for p in source.parameters())
        shared = {id(p) for p in source.parameters()} & {id(p) for p in found.model.parameters()}
        assert not shared
        assert not found.model.training
        assert not same(before, state(found.model))
    finally:
        source.eval()


def test_labels_change_no_bit(source, target):
    """Beside the inputs stand labels, permuted ones, or what cannot be read at all."""
    x, y = target
    torch.manual_seed(0)
    rows = DataLoader(TensorDataset(x, y), 50), DataLoader(TensorDataset(x, y[torch.randperm(len(y))]), 50)

    def unreadable():
        for part in x.split(50):
            yield part, Untouchable()

    class Untouchable:
        def __getattribute__(self, name):
            raise AssertionError("labels were read")

    loaders = [
        *rows,
        [(part, None) for part in x.split(50)],
        unreadable(),
        [{"x": p, "y": 1} for p in x.split(50)],
        x,
    ]
    for name in ("sfda2", "shot", "auto"):
        results = [adapt.adapt(source, given, name, epochs=2) for given in loaders[:3]]
        assert all(same(state(results[0].model), state(r.model)) for r in results[1:])
    results = [adapt.adapt(source, given, "aad", epochs=2) for given in loaders]
    assert all(same(state(results[0].model), state(r.model)) for r in results[1:])


def test_seeds_and_nothing_else_decide(source, target):
    torch.manual_seed(1)
    first = adapt.adapt(source, target[0], "sfda2", epochs=2)
    drawn = torch.rand(3)
    torch.manual_seed(2)
    again = adapt.adapt(source, target[0], "sfda2", epochs=2)
    other = adapt.adapt(source, target[0], "sfda2", epochs=2, seed=1)
    assert same(state(first.model), state(again.model))
    assert not same(state(first.model), state(other.model))
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(3))  # the global stream was left alone
    with torch.inference_mode():
        assert same(state(first.model), state(adapt.adapt(source, target[0], "sfda2", epochs=2).model))


# any model, any loader


def test_models_without_batch_norm_with_weight_norm_or_frozen(make, target):
    network, learned, _ = make
    weight_norm = nn.utils.parametrizations.weight_norm
    bare = learned(network(norm=False, head=weight_norm(nn.Linear(16, 4))))
    before = accuracy(bare, target)
    for name in ("shot", "aad", "sfda2", "auto"):
        found = adapt.adapt(bare, target[0], name)
        assert accuracy(found.model, target) > before, name
    assert not {"adabn", "tent"} & found.report.candidates.keys()
    for name in ("adabn", "tent"):
        with pytest.raises(ValueError, match=r"batch norm alone.*use shot"):
            adapt.adapt(bare, target[0], name)
    frozen = learned(network()).requires_grad_(False)
    found = adapt.adapt(frozen, target[0], "aad", epochs=1)
    assert not any(p.requires_grad for p in found.model.parameters())
    assert not same(state(frozen), state(found.model))
    partly = learned(network())
    partly[0].requires_grad_(False)
    found = adapt.adapt(partly, target[0], "aad", epochs=1)
    assert torch.equal(found.model[0].weight, partly[0].weight)
    assert not torch.equal(found.model[3].weight, partly[3].weight)


def test_programs_and_scripts_become_what_the_model_becomes(source, target):
    x = target[0]
    wanted = adapt.adapt(source, x, "sfda2", epochs=2).model
    auto = ({0: torch.export.Dim.AUTO},)
    for given in (torch.export.export(source, (x[:9],), dynamic_shapes=auto), torch.jit.trace(source, x[:9])):
        found = adapt.adapt(given, x, "sfda2", epochs=2)
        with torch.no_grad():
            assert torch.allclose(found.model(x), wanted(x), atol=1e-3)
    given = torch.export.export(source, (x[:50],))
    before = {name: value.clone() for name, value in given.state_dict.items()}
    found = adapt.adapt(given, x[:280], "aad", epochs=2)  # batches of 50 only, and 30 left over
    assert found.report.samples == 280
    assert same(before, dict(given.state_dict))
    with pytest.raises(ValueError, match="batches of 50 samples, and there are 30"):
        adapt.adapt(given, x[:30], "aad")
    with pytest.raises(ValueError, match="batches of one sample"):
        adapt.adapt(torch.export.export(source, (x[:1],)), x, "aad")


def test_loaders_of_all_kinds(source, target):
    x = target[0]

    class Stream(IterableDataset):
        def __iter__(self):
            return iter(x)

    wanted = adapt.adapt(source, x, "aad", epochs=1)
    for given in (
        x.numpy(),
        x.double(),
        DataLoader(x, 1),
        DataLoader(x, 64, shuffle=True),
        DataLoader(Stream(), 32),
        (part.numpy() for part in x.split(64)),
        [[part, "name"] for part in x.split(1)],
    ):
        found = adapt.adapt(source, given, "aad", epochs=1)
        assert same(state(found.model), state(wanted.model))
    found = adapt.adapt(
        source, ({"pixels": p} for p in x.split(50)), "aad", epochs=1, key="pixels", max_samples=120
    )
    assert found.report.samples == 120
    assert "max_samples" in found.report.warnings[0]


def test_a_loader_that_draws_some_samples_is_asked_for_these_alone(source, target):
    x = target[0]
    data = TensorDataset(x)
    wanted = adapt.adapt(source, x[:100], "aad", epochs=1)
    for given in (
        DataLoader(data, 32, sampler=SubsetRandomSampler(range(100))),
        DataLoader(data, batch_sampler=[list(range(40, 100)), list(range(60))]),
        DataLoader([x[:60], x[60:100]], batch_size=None),
    ):
        found = adapt.adapt(source, given, "aad", epochs=1)
        assert found.report.warnings == []
        assert same(state(found.model), state(wanted.model))
    endless = DataLoader(data, batch_sampler=itertools.repeat([3, 1, 2]))
    samples, warnings = samples_of(endless, most=50)
    assert samples.rows == [1, 2, 3]
    assert len(samples_of(DataLoader(data, 32, shuffle=True), most=50)[0]) == 300
    assert warnings


def test_a_loader_without_end_is_read_to_the_bound(source, target):
    def endless():
        while True:
            yield target[0][:64]

    assert len(samples_of(endless(), most=1000)[0]) == 1000


# guards


def test_one_class_alone_is_refused(source, make):
    x, y = make[2](400, 5)
    alone = x[y == 1]
    found = adapt.adapt(source, alone, "sfda2")
    assert "class 1 of" in found.report.tripped
    assert "all classes" in found.report.tripped
    assert found.report.method == "source"
    assert same(state(source), state(found.model))
    assert found.history == []
    forced = adapt.adapt(source, alone, "sfda2", guard=False, epochs=1)
    assert forced.report.tripped is None
    assert not same(state(source), state(forced.model))


def test_one_class_that_the_model_takes_for_several_is_refused(source, make):
    x, y = make[2](600, 7, shift=1.4)
    assert too_one_sided(evaluate(split_of(copy_of(source), x[:9]), Held(x[y == 0]), 64)[1]) is None
    for c in range(4):
        found = adapt.adapt(source, x[y == c], "adabn")
        assert found.report.tripped, c
        assert same(state(source), state(found.model))
    assert "gap statistic" in adapt.adapt(source, x[y == 0]).report.tripped
    forced = adapt.adapt(source, x[y == 0], "sfda2", guard=False).model
    assert accuracy(forced, (x[y == 0], y[y == 0])) < 0.5 < accuracy(source, (x[y == 0], y[y == 0]))
    assert adapt.adapt(source, x[y == 0][:19], "aad", epochs=1).report.tripped is None  # too few to tell
    assert adapt.adapt(source, x[y < 2], "aad", epochs=1).report.tripped is None


class Collapse:
    """A method that makes everything one class."""

    plan = EVERYTHING

    def begin(self, run):
        return lambda batch: {"all 0": nn.functional.cross_entropy(10 * batch.said.logits, 0 * batch.rows)}


class Explosion:
    """A method whose loss is not finite at its third step."""

    plan = Plan(rate=1e-3)

    def begin(self, run):
        return lambda batch: {"loss": batch.said.z.sum() * (math.inf if run.step == 2 else 0.0)}


def test_a_collapse_and_a_divergence_trip_the_guard(source, target):
    found = adapt.adapt(source, target[0], Collapse())
    assert "collapsed from" in found.report.tripped
    assert found.report.method == "source"
    assert same(state(source), state(found.model))
    found = adapt.adapt(source, target[0], Collapse(), guard=False)
    assert found.report.tripped is None
    assert "collapsed from" in str(found.report)  # told of all the same
    assert found.report.counts[0] == 300
    found = adapt.adapt(source, target[0], Explosion())
    assert "at step 3" in found.report.tripped
    assert same(state(source), state(found.model))
    with pytest.raises(ArithmeticError, match="lower the rate"):
        adapt.adapt(source, target[0], Explosion(), guard=False)
    found = adapt.adapt(source, target[0][:60], "aad", rate=1e30, epochs=1)  # its only step is too long
    assert "not finite after adaptation" in found.report.tripped
    assert same(state(source), state(found.model))


def test_auto_passes_over_what_is_harmful(source, target, monkeypatch):
    monkeypatch.setitem(adaptation.METHODS, "aad", Explosion())
    monkeypatch.setitem(adaptation.METHODS, "shot", Collapse())
    found = adapt.adapt(source, target[0], "auto", epochs=8)
    assert found.report.method in ("adabn", "sfda2")
    told = " ".join(found.report.warnings)
    assert "aad: the loss was" in told
    assert "shot: predictions collapsed" in told


def test_signs_of_harm():
    p = torch.eye(4).repeat(5, 1)
    assert harm(p, p) is None
    assert too_one_sided(p) is None
    one = torch.eye(4)[[2] * 20]
    assert "4.0 to 1.0" in harm(p, one)
    assert harm(one, p) is None
    assert "class 2 of 100%" in too_one_sided(one)
    assert ungrouped(torch.eye(4).repeat(5, 1), 4) is None


# bad input


def test_few_samples_are_warned_of_and_work(source, target):
    for n in (2, 3, 7):
        found = adapt.adapt(source, target[0][:n], "sfda2", guard=False, epochs=1)
        assert "50 of each class" in found.report.warnings[0]
        assert all(value.isfinite().all() for value in found.model.state_dict().values())
    assert adapt.adapt(source, target[0], "aad", epochs=1).report.warnings == []


@pytest.mark.parametrize(
    ("loader", "says"),
    [
        ([], "no samples"),
        (torch.zeros(0, 8), "n >= 1"),
        (DataLoader(TensorDataset(torch.zeros(0, 8)), sampler=[]), "no samples"),
        (torch.zeros(1, 8), "one sample"),
        (torch.full((5, 8), math.nan), "not finite, first sample 0"),
        ([torch.zeros(4, 8), torch.tensor([[0.0] * 8, [math.inf] * 8])], "not finite, first sample 5"),
        ([torch.zeros(4, 8), torch.zeros(4, 7)], "one shape"),
        (torch.zeros(6, 7), r"does not take samples of shape \(7,\)"),
        (torch.zeros(6, 8, dtype=torch.int64), "int64"),
        ([{"y": torch.zeros(4, 8)}], "key="),
        ([("a", "b")], "got str"),
        ([torch.zeros(8)], r"got shape \(8,\)"),
        (torch.zeros(8), r"got shape \(8,\)"),
    ],
)
def test_data_that_cannot_be_used_is_one_clear_error(source, loader, says):
    with pytest.raises(ValueError, match=says):
        adapt.adapt(source, loader, "aad")


def test_settings_models_and_methods_that_do_not_fit(source, target):
    x = target[0]
    for settings, says in (
        ({"classes": 5}, "tells apart 4 classes, 5 were asked for"),
        ({"batch": 1}, "batch must be at least 2"),
        ({"epochs": 0}, "epochs must be"),
        ({"rate": -1.0}, "rate must be"),
        ({"momentum": -0.1}, "momentum must be"),
        ({"backbone": math.nan}, "backbone must be"),
        ({"decay": math.inf}, "decay must be"),
        ({"device": "abacus"}, "device 'abacus' cannot be used"),
        ({"head": "0"}, "no linear layer"),
    ):
        with pytest.raises(ValueError, match=says):
            adapt.adapt(source, x, "aad", **settings)
    with pytest.raises(ValueError, match="choose of: auto, adabn"):
        adapt.adapt(source, x, "magic")
    with pytest.raises(TypeError, match="colour"):
        adapt.adapt(source, x, "aad", colour=1)
    with pytest.raises(TypeError, match=r"torch\.nn\.Module"):
        adapt.adapt(lambda x: x, x)
    with pytest.raises(TypeError, match="got int"):
        adapt.adapt(source, 3)
    with pytest.raises(ValueError, match="one number"):
        adapt.adapt(nn.Sequential(nn.Linear(8, 1)), x)
    for method in (AaD, None, 3):
        with pytest.raises(TypeError, match="a method such as"):
            adapt.adapt(source, x, method)
    with pytest.raises(ValueError, match="trains must be"):
        Plan(trains="head")
    with pytest.raises(ValueError, match="memory must be"):
        SFDA2(memory=0.0)
    with pytest.raises(ValueError, match="auto"):
        SFDA2(alpha0="automatic")
    broken = copy_of(source)
    nn.init.constant_(broken[5].bias, math.nan)
    with pytest.raises(ValueError, match="gives values that are not finite"):
        adapt.adapt(broken, x, "aad")


def test_covariances_beyond_memory_are_refused(target):
    wide = nn.Sequential(nn.Linear(8, 3000, bias=False), nn.Linear(3000, 60)).eval()
    with pytest.raises(ValueError, match="60 x 3000 x 3000"):
        adapt.adapt(wide, target[0], "sfda2", guard=False)
    assert adapt.adapt(wide, target[0][:20], "snc", epochs=1, guard=False).report.classes == 60


# parts


def test_neighbours_are_the_nearest_others(source, target):
    run = Run(split_of(copy_of(source), target[0][:9]), Held(target[0]), EVERYTHING)
    near = run.nearest(run.features[:20], torch.arange(20))
    cosine = run.features[:20] @ run.features.T
    for i in range(20):
        order = [j for j in cosine[i].argsort(descending=True).tolist() if j != i][:5]
        assert set(order) == set(near[i].tolist())


def test_batches_are_equal_and_leave_nobody_out(source, target):
    for n, batch in ((300, 64), (65, 64), (3, 2), (129, 64)):
        config = adapt.AdaptConfig(batch=batch)
        run = Run(split_of(copy_of(source), target[0][:9]), Held(target[0][:n]), EVERYTHING, config)
        order = run.order()
        assert sorted(torch.cat(order).tolist()) == list(range(n))
        assert max(map(len, order)) - min(map(len, order)) <= 1
        assert min(map(len, order)) >= 2
        assert run.batch == pytest.approx(n / len(order))


def test_pseudo_labels_are_of_the_nearest_centre(source, target):
    z, p = evaluate(split_of(copy_of(source), target[0][:9]), Held(target[0]), 64)
    unit = nn.functional.normalize(z, dim=1)
    labels = centred_labels(unit, p).numpy()
    u, share = unit.numpy(), p.numpy()
    for _ in range(2):
        centre = share.T @ u
        said = (u @ (centre / np.linalg.norm(centre, axis=1, keepdims=True)).T).argmax(1)
        share = np.eye(4)[said]
    assert (labels == said).all()
    empty = p * torch.tensor([1.0, 1.0, 1e-9, 1.0])
    assert 2 not in centred_labels(unit, empty)


def test_methods_share_the_loop_and_differ_in_losses(source, target):
    sums = {}
    for name, method in {
        "shot-im": SHOT(gamma=0.0),
        "shot": SHOT(),
        "nrc": NRC(),
        "aad": AaD(),
        "b0": AaD(beta=0.0),
    }.items():
        sums[name] = adapt.adapt(source, target[0], method, epochs=1).model[3].weight.sum().item()
    assert len(set(sums.values())) == 5


def test_the_choice_is_what_is_sure_balanced_and_agreed_upon():
    right = torch.eye(4).repeat(5, 1)
    sure = 0.9 * right + 0.025
    wrong = torch.eye(4).repeat_interleave(5, 0)  # as sure, as balanced, but alone
    said = {"adabn": 0.2 * right + 0.2, "one": sure, "two": 0.8 * right + 0.05, "odd": wrong}
    assert choice(said) == "one"
    found = support(said, {name: said[name] for name in ("one", "two", "odd")})
    assert found["odd"] == pytest.approx(math.log(4) * agreement(wrong, right), rel=1e-5)
    assert found["one"] == pytest.approx(information(sure) * (1 + agreement(wrong, right)) / 2)
    assert support({"one": sure}, {"one": sure})["one"] == pytest.approx(information(sure))
    assert choice({"adabn": sure, "one": said["two"]}, without=()) == "adabn"


def test_scores_are_what_their_formulas_say():
    p = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)).softmax(1)
    assert information(p) == pytest.approx(float(entropy(p.mean(0)[None]) - entropy(p).mean()), abs=1e-6)
    total = 0.0
    unit = p / p.norm(dim=1, keepdim=True)
    for i in range(30):
        others = torch.tensor([float(unit[i] @ unit[j]) / 0.05 for j in range(30) if j != i])
        s = others.softmax(0)
        total -= float((s * s.log()).sum()) / 30
    assert soft_neighbourhood_density(p) == pytest.approx(total, rel=1e-4)
    alike = p[:1].repeat(30, 1)  # the trap that the docstring warns of
    assert soft_neighbourhood_density(alike) == pytest.approx(math.log(29), rel=1e-4)
    assert effective_classes(alike) == 1.0
    assert effective_classes(torch.eye(4)) == pytest.approx(4.0)
    assert soft_neighbourhood_density(torch.rand(1100, 4).softmax(1)) < math.log(1099) + 1e-3


def test_groups_are_more_than_noise_of_the_same_covariance():
    g = torch.Generator().manual_seed(0)
    middles = 4 * torch.eye(3, 6)
    noise = torch.randn(300, 6, generator=g) * torch.tensor([5.0, 1, 1, 1, 1, 0.1])
    grouped = middles.repeat(100, 1) + torch.randn(300, 6, generator=g)
    assert abs(gap_statistic(noise, 3)) < 0.05
    assert gap_statistic(grouped, 3) > 0.4
    assert gap_statistic(grouped, 3) == gap_statistic(grouped, 3)
    assert gap_statistic(
        7 * grouped @ torch.linalg.qr(torch.randn(6, 6, generator=g))[0] + 3, 3
    ) == pytest.approx(gap_statistic(grouped, 3), abs=0.1)
    assert gap_statistic(torch.ones(30, 6), 3) == 0
    assert gap_statistic(middles.repeat(10, 1), 5) > 5  # fewer samples that differ than groups


def test_inputs_are_the_first_of_whatever_comes():
    x = torch.zeros(3, 2)
    for batch in (x, (x, 1), [x], {"x": x, "y": 0}, x.numpy(), (x.numpy(), None)):
        assert torch.equal(inputs_of(batch), x)


def test_importing_the_package_brings_no_torch():
    import subprocess
    import sys

    code = "import sys, adapt; print('torch' in sys.modules, adapt.adapt.__name__)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert found.stdout.split() == ["False", "adapt"]
    with pytest.raises(AttributeError, match="nothing"):
        adapt.nothing  # noqa: B018
