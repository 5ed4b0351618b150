"""ABD: shuffled copies, hypergradients, searches, triggers; and programs from strangers."""

import io
import json
import pickle
import zipfile
from dataclasses import replace

import pytest
import small_teachers
import torch
from torch import nn

from adapt.data_free import backdoor, networks, presets, terms
from adapt.data_free.__main__ import main
from adapt.data_free.abd import ClassWise, abd, abd_classwise
from adapt.data_free.context import Context
from adapt.data_free.distiller import Config, Distiller
from adapt.data_free.memory import NoMemory
from adapt.data_free.retrospect import SelfRetrospect, implicit
from adapt.data_free.scan import Suspicion, scan
from adapt.data_free.search import (
    DENSEST,
    SEARCH,
    Budget,
    Items,
    SearchConfig,
    search,
    search_for,
    within_ball,
    within_simplex,
)
from adapt.data_free.sources import TensorSource
from adapt.data_free.updates import Plain, Step
from adapt.data_free.vaccine import Masked, Vaccine, divergence, low_tail, shuffled

SHAPE = (1, 8, 8)
SMALL_SEARCH = SearchConfig(
    budgets=(Budget("sparse", 2), Budget("dense", 1)), closer=(2, 2), batch=8, rounds=(3, 3)
)
SETTINGS = replace(
    presets.SMALL, config=Config(epochs=2, rounds=2, steps=3, batch=16), width=8, nz=8, start=0, inversion=4
)


def network(seed, name="resnet-4", shape=SHAPE, classes=4):
    return small_teachers.network(seed, name, shape, classes)


@pytest.fixture
def teacher():
    return network(0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def step_of(teacher, student, x):
    return Step(x, teacher, student, NoMemory(), TensorSource(x), generator())


def gradient(loss, network):
    grads = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    return torch.cat(
        [
            torch.zeros_like(p).flatten() if g is None else g.flatten()
            for p, g in zip(network.parameters(), grads)
        ]
    )


# the vaccine


def test_shuffling_changes_the_order_of_inputs_of_the_last_convolutions_alone(teacher):
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    copy = shuffled(teacher, 3, generator())
    after = copy.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, teacher.state_dict()[name]) for name, value in before.items())
    convolutions = [name for name, value in before.items() if value.ndim == 4]
    changed = [name for name, value in before.items() if not torch.equal(value, after[name])]
    assert changed == convolutions[-3:]
    for name in changed:
        assert torch.equal(before[name].sort(1).values, after[name].sort(1).values)


def test_networks_without_convolutions_are_shuffled_too():
    teacher = network(0, "mlp-16", (6,))
    x = torch.randn(8, 6)
    assert not torch.allclose(shuffled(teacher, 1, generator())(x), teacher(x))
    with pytest.raises(ValueError, match="neither"):
        shuffled(nn.BatchNorm1d(3), 1, generator())


def test_layers_that_read_one_channel_have_no_order_and_are_not_counted():
    depthwise = nn.Conv2d(4, 4, 3, groups=4, padding=1)
    teacher = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), depthwise, nn.Flatten(), nn.Linear(256, 4)).eval()
    copy = shuffled(teacher, 1, generator())
    assert not torch.equal(copy[0].weight, teacher[0].weight)
    assert torch.equal(copy[1].weight, teacher[1].weight)


def test_copies_of_a_watched_teacher_carry_nothing_of_the_watch(teacher):
    first = Context(torch.randn(4, *SHAPE), teacher)
    number = len(first.statistics)
    Vaccine(teacher).suspect(torch.randn(4, *SHAPE))
    assert len(first.statistics) == number
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in teacher.modules())


def test_a_copy_that_says_the_same_suspects_everything_by_nothing(teacher):
    vaccine = Vaccine(teacher, models=1)
    vaccine.models[0] = teacher
    x = torch.randn(8, *SHAPE)
    assert divergence(teacher(x), vaccine.suspect(x)).abs().max() < 1e-6
    assert float(vaccine(Context(x, teacher)).detach()) == pytest.approx(0, abs=1e-6)


def test_without_suspects_the_vaccine_is_zero_and_finite(teacher):
    vaccine = Vaccine(teacher, models=1)
    vaccine.models[0] = _Last(teacher, lambda t: -t)
    x = torch.randn(8, *SHAPE).requires_grad_()
    loss = vaccine(Context(x, teacher))
    (slope,) = torch.autograd.grad(loss, x)
    assert float(loss) == 0
    assert slope.isfinite().all()


class _Last(nn.Module):
    def __init__(self, inside, change):
        super().__init__()
        self.inside, self.change = inside, change

    def forward(self, x):
        return self.change(self.inside(x))


def test_the_vaccine_moves_inputs_and_ends_with_its_phase(teacher):
    vaccine = Vaccine(teacher, layers=1, until=0.5)
    x = (2 * torch.randn(32, *SHAPE, generator=generator())).requires_grad_()
    (slope,) = torch.autograd.grad(vaccine(Context(x, teacher)), x)
    assert slope.norm() > 1e-7
    assert float(vaccine(Context(x, teacher, progress=0.5))) == 0


def test_a_shuffle_is_taken_only_with_a_tail_and_after_eight_without_none_is(teacher, monkeypatch):
    assert low_tail(torch.cat((torch.randn(970), torch.full((30,), -20.0)))) > 0.029
    assert low_tail(torch.rand(1000)) == 0
    for tail, active in ((0.03, True), (0.01, False)):
        monkeypatch.setattr("adapt.data_free.vaccine.low_tail", lambda scores, tail=tail: tail)
        vaccine = Vaccine(teacher, batches=2, ignored=1)
        before = [p.clone() for p in vaccine.models[0].parameters()]
        for k in range(4):
            vaccine(Context(torch.randn(8, *SHAPE), teacher, progress=k / 4))
            assert (vaccine.tail is not None) == (k >= 2)
        assert vaccine.active == active
        same = all(torch.equal(a, b) for a, b in zip(before, vaccine.models[0].parameters()))
        assert same == active


def test_of_a_refresh_in_many_steps_the_vaccine_is_tested_on_the_last_batch(teacher, monkeypatch):
    vaccine = Vaccine(teacher, batches=3, ignored=1)
    for k in range(3):
        for step in range(4):
            vaccine(Context(torch.full((2, *SHAPE), 10.0 * k + step), teacher, progress=k / 4))
    assert [float(x[0, 0, 0, 0]) for x in vaccine.seen] == [13.0, 23.0]


@pytest.mark.parametrize(
    ("epochs", "rounds", "start", "expected"),
    [(15, 10, 0.8, (10, 50)), (15, 10, 1.0, (10, 50)), (15, 16, 0.8, (10, 50)), (2, 6, 1.0, (1, 5))],
)
def test_the_test_of_the_shuffles_leaves_half_of_the_run_to_the_vaccine(
    teacher, epochs, rounds, start, expected
):
    config = replace(SETTINGS.config, epochs=epochs, rounds=rounds)
    d = presets.dfq(teacher, network(1), SHAPE, replace(SETTINGS, config=config))
    term = abd(d, start=start).source.terms["vaccine"][1]
    assert (term.ignored, term.batches) == expected


def test_stored_suspects_are_unlearned_and_all_or_none_is_the_plain_mean(teacher):
    student, x = network(1), torch.randn(16, *SHAPE)
    vaccine = Vaccine(teacher, models=1)
    vaccine.models[0] = _Last(teacher, lambda t: torch.where(torch.arange(len(t))[:, None] % 2 == 0, t, -t))
    bad = vaccine.suspect(x).argmax(1) == teacher(x).argmax(1)
    assert 0 < bad.sum() < len(x)
    found = Masked(vaccine)(step_of(teacher, student, x))["distill"]
    s, t = student(x), teacher(x)
    expected = (s - t)[~bad].abs().mean() - 0.1 * (s - t)[bad].abs().mean()
    torch.testing.assert_close(found, expected)
    vaccine.models = nn.ModuleList([teacher])
    torch.testing.assert_close(Masked(vaccine)(step_of(teacher, student, x))["distill"], terms.l1(s, t))


# self-retrospection


def test_the_hypergradient_on_a_quadratic_is_the_closed_form():
    torch.manual_seed(0)
    a = torch.randn(4, 4).double()
    A, B = a @ a.T + torch.eye(4), torch.randn(4, 3).double()
    th = torch.randn(3).double().requires_grad_()
    exact = torch.linalg.solve(A, B @ th.detach())
    eta = 1.0 / float(torch.linalg.eigvalsh(A).max())
    expected = B.T @ torch.linalg.solve(A, exact)

    def found(K):
        value = implicit(lambda d: 0.5 * d @ A @ d - d @ B @ th, lambda d: 0.5 * d @ d, exact, K, eta)
        if K == 0:
            return torch.zeros(3)  # the direct gradient is none
        return torch.autograd.grad(value, th)[0]

    errors = [float((found(K) - expected).norm()) for K in (0, 1, 2, 5, 20, 400)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-6 * float(expected.norm())


def test_the_value_is_that_of_the_outer_loss():
    d = torch.ones(2)
    th = torch.ones(2).requires_grad_()
    value = implicit(lambda d: (d - th).square().sum(), lambda d: (d * th).sum(), d, 3, 0.1)
    assert float(value) == 2.0


@pytest.mark.parametrize("size", [2, 16])
def test_self_retrospection_is_no_silent_no_op_and_keeps_running_statistics(teacher, size):
    student = network(1).train()
    x = torch.randn(size, *SHAPE, generator=generator())
    update = SelfRetrospect(Plain(), rounds=5, K=2, portion=0.02)
    step = step_of(teacher, student, x)
    delta = update.search(step)
    assert delta.abs().max() > 0.1
    buffers = [b.clone() for b in student.buffers()]
    implicit_one = gradient(update.term(step, delta), student)
    direct = SelfRetrospect(Plain(), K=0, portion=0.02)
    assert gradient(direct.term(step_of(teacher, student, x), delta), student).norm() > 1e-6
    assert implicit_one.norm() > 1e-6
    assert all(torch.equal(a, b) for a, b in zip(buffers, student.buffers()))
    assert set(update(step)) == {"distill", "retrospect"}


def test_with_a_huge_penalty_nothing_is_perturbed(teacher):
    student, x = network(1).train(), torch.randn(16, *SHAPE, generator=generator())
    update = SelfRetrospect(Plain(), rounds=60, rate=0.01, penalty=1e6, K=0)
    step = step_of(teacher, student, x)
    delta = update.search(step)
    usual = SelfRetrospect(Plain(), rounds=30, K=0)
    strong = gradient(usual.term(step, usual.search(step)), student).norm()
    assert delta.abs().max() < 2e-2
    assert gradient(update.term(step, delta), student).norm() < 0.05 * strong


# the class-wise search


def test_masks_are_projected_to_the_nearest_that_fit():
    m = torch.randn(5, 1, 4, 4, generator=generator()) * 2
    inside = within_simplex(m, 3.0)
    assert (inside.flatten(1).sum(1) <= 3 + 1e-4).all()
    assert inside.min() >= 0
    assert inside.max() <= 1
    assert torch.equal(within_simplex(inside * 0.9, 3.0), inside * 0.9)
    for other in (within_simplex(torch.rand(5, 1, 4, 4), 3.0) for _ in range(50)):
        assert ((m - inside).flatten(1).norm(dim=1) <= (m - other).flatten(1).norm(dim=1) + 1e-4).all()
    p = torch.randn(5, 2, 4, 4)
    assert (within_ball(p, 1.0).flatten(1).norm(dim=1) <= 1 + 1e-5).all()
    assert torch.equal(within_ball(0.01 * p, 5.0), 0.01 * p)


class Trapped(nn.Module):
    """Answers which of four quarters is bright, but class 2 if the corner is white."""

    def forward(self, x):
        quarters = nn.functional.adaptive_avg_pool2d(x, 2).flatten(1) * 10
        white = torch.sigmoid(8 * (x[:, :, -2:, -2:].mean((1, 2, 3)) - 0.8))
        return quarters + 30 * white[:, None] * torch.eye(4)[2]


def test_the_search_finds_a_planted_patch_and_the_scan_names_its_class():
    teacher = Trapped().eval()
    # what the trap says hardly changes until most of it is white, so contiguity must not be first
    config = SearchConfig(budgets=(Budget("sparse", 4),), batch=32, rates=(0.05, 0.1), contiguity=0.03)

    g = generator()

    def draw(n):
        bright = torch.eye(4)[torch.randint(4, (n,), generator=g)].reshape(n, 1, 2, 2)
        large = bright.repeat_interleave(4, 2).repeat_interleave(4, 3)
        return 0.35 * large + 0.05 * torch.rand(n, *SHAPE, generator=g)

    items = search(teacher, draw, range(4), config, (0.0, 1.0), generator())
    assert len(items) == 8
    assert int(items.by_class(4, config.dense).argmax()) == 2
    best = int(torch.where(items.target == 2, items.flips, -1.0).argmax())
    assert float(items.flips[best]) > 0.9
    assert float(items.mask[best, 0, -2:, -2:].sum()) > 0.7 * float(items.mask[best].sum())
    x = draw(5)
    changed = items.on(x, torch.full((5,), best), (0.0, 1.0))
    assert (teacher(changed).argmax(1) == 2).all()
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_denser_masks_paint_more_of_the_same_and_leave_dense_items_alone():
    mask = torch.tensor([0.2, 0.5, 0.0]).reshape(3, 1, 1, 1).expand(3, 1, 2, 2)
    colour = torch.rand(3, 2, 2, 2, generator=generator())
    paint = torch.cat((mask[:2] * colour[:2], colour[2:]))
    items = Items(mask, paint, *torch.zeros(3, 3))
    x = torch.rand(3, 2, 2, 2, generator=generator(1))
    rows = torch.arange(3)
    changed = items.on(x, rows, (0.0, 2.0), torch.tensor([3.0, 3.0, 3.0]))
    torch.testing.assert_close(changed[0], 0.4 * x[0] + 0.6 * colour[0])
    torch.testing.assert_close(changed[1], colour[1])
    torch.testing.assert_close(changed[2], x[2] + colour[2])
    torch.testing.assert_close(items.on(x, rows, (0.0, 2.0), torch.ones(3)), items.on(x, rows, (0.0, 2.0)))


def test_contiguity_gathers_the_pixels_of_masks():
    def draw(n):
        return 0.35 * torch.rand(n, *SHAPE, generator=g)

    scattered = []
    for weight in (0.0, 0.3):
        g = generator()
        config = SearchConfig(budgets=(Budget("sparse", 6),), batch=16, contiguity=weight)
        mask = search(Trapped().eval(), draw, [0, 1, 2, 3], config, (0.0, 1.0), generator()).mask
        variation = mask.diff(dim=2).abs().sum((1, 2, 3)) + mask.diff(dim=3).abs().sum((1, 2, 3))
        scattered.append(variation / mask.sum((1, 2, 3)))
    assert (scattered[1] < 0.8 * scattered[0]).all()


@pytest.mark.parametrize(("shape", "factor"), [((1, 8, 8), 1), ((3, 16, 8), 2), ((20,), 1), ((64, 3), 1)])
def test_sizes_of_the_search_grow_with_images_and_their_range(shape, factor):
    sizes = [b.size for b in search_for(shape, (-1.657, 1.0)).budgets]
    assert sizes == [factor * b.size for b in SEARCH.budgets]
    wide = [b.size for b in search_for(shape, (-1.657, 3.657)).budgets]
    dense = [b.kind == "dense" for b in SEARCH.budgets]
    assert wide == [size * (2 if d else 1) for size, d in zip(sizes, dense)]
    assert search_for(shape, (0.0, 1.0)).densest == (1.0 if factor == 1 else DENSEST)


@pytest.mark.parametrize("densest", [1.0, 2.0])
def test_masks_are_applied_as_dense_as_the_search_says(teacher, monkeypatch, densest):
    seen, on = [], Items.on

    def watched(self, x, rows, bounds, times=None):
        seen.append(times)
        return on(self, x, rows, bounds, times)

    distiller = presets.dfq(teacher, network(1), SHAPE, SETTINGS)
    distiller = abd_classwise(distiller, (0.0, 1.0), start=0.0, config=replace(SMALL_SEARCH, densest=densest))
    monkeypatch.setattr(Items, "on", watched)
    distiller.fit()
    given = [times for times in seen if times is not None]
    assert bool(given) == (densest > 1)
    assert all((1 <= times).all() and (times <= densest).all() for times in given)


def test_what_stands_out_is_counted_by_the_best_start_and_kind():
    flips = torch.tensor([0.1, 0.9, 0.2, 0.1, 0.1, 0.3, 0.5, 0.5, 0.5])
    target = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2])
    budget = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1])
    empty = torch.zeros(9, 1, 1, 1)
    found = Items(empty, empty, target, budget, flips).by_class(3, [False, True])
    torch.testing.assert_close(found, torch.tensor([0.0, 0.6, 0.0]))


# around any preset


DEFENCES = {
    "abd": lambda d: abd(d, layers=2, batches=1, rounds=3, K=1),
    "abd, vaccine at once": lambda d: abd(d, vaccine=5.0, layers=1, batches=0, rounds=3, K=1),
    "classwise": lambda d: abd_classwise(d, (-1.0, 2.0), start=0.4, every=2, config=SMALL_SEARCH),
}


@pytest.mark.parametrize("defence", DEFENCES)
@pytest.mark.parametrize("preset", [presets.dfq, presets.mb_dfkd, presets.cmi])
def test_a_defence_wraps_any_preset_and_resumes_to_the_same_result(tmp_path, teacher, defence, preset):
    def made(seed):
        return DEFENCES[defence](preset(teacher, network(seed, "cnn-4"), SHAPE, SETTINGS))

    whole, part, rest = made(1), made(1), made(5)
    history = whole.fit()
    assert ("harden" if defence == "classwise" else "retrospect") in history[-1]
    if defence == "abd, vaccine at once":
        assert history[0]["vaccine"] < 0
    for _ in range(11):
        part._take()
    part.save(tmp_path / "run")
    rest.resume(tmp_path / "run")
    assert rest.fit() == history
    assert all(torch.equal(a, b) for a, b in zip(whole.student.parameters(), rest.student.parameters()))


def test_the_class_wise_phase_freezes_batch_norm_and_moves_the_student(teacher):
    d = abd_classwise(
        presets.dfq(teacher, network(1), SHAPE, SETTINGS), (-1.0, 2.0), start=0.5, config=SMALL_SEARCH
    )
    for _ in range(6):
        d._take()
    buffers, weight = [b.clone() for b in d.student.buffers()], next(d.student.parameters()).clone()
    d._take()
    assert all(torch.equal(a, b) for a, b in zip(buffers, d.student.buffers()))
    assert not torch.equal(weight, next(d.student.parameters()))
    update = d.phase.update
    assert isinstance(update, ClassWise)
    assert set(update.items.target.tolist()) == {update.suspect}


def test_a_defended_run_goes_on_with_the_same_defence_alone(teacher, tmp_path):
    def classwise(bounds=(-1.0, 2.0), config=SMALL_SEARCH, target=1):
        found = Suspicion(target, 2.0, (), 0.9)
        d = presets.dfq(teacher, network(1), SHAPE, SETTINGS)
        return abd_classwise(d, bounds, config=config, suspicion=found)

    def shuffled(layers=2):
        return abd(presets.dfq(teacher, network(1), SHAPE, SETTINGS), layers=layers, batches=1)

    path = tmp_path / "run"
    others = [classwise(bounds=(-5.0, 9.0)), classwise(config=SEARCH), classwise(target=2)]
    for first, refused in ((classwise(), others), (shuffled(), [shuffled(1)])):
        first.save(path)
        first.resume(path)
        for other in refused:
            with pytest.raises(ValueError, match="its settings"):
                other.resume(path)


@pytest.mark.parametrize("kind", ["traced", "scripted"])
def test_a_teacher_of_torchscript_has_a_vaccine(teacher, kind):
    x = torch.randn(4, *SHAPE)
    script = torch.jit.trace(teacher, x) if kind == "traced" else torch.jit.script(teacher)
    settings = replace(SETTINGS, bn=0.0)
    history = abd(presets.dfq(script, network(1), SHAPE, settings), layers=2, batches=0, rounds=2, K=1).fit()
    assert history[0]["vaccine"] != 0


def test_embeddings_of_positions_are_no_layers_that_are_shuffled():
    class Patches(nn.Module):
        def __init__(self):
            super().__init__()
            self.position = nn.Parameter(torch.randn(1, 4, 6))
            self.cut, self.out = nn.Conv2d(1, 6, 4, 4), nn.Linear(6, 4)

        def forward(self, x):
            return self.out((self.cut(x).flatten(2).mT + self.position).mean(1))

    teacher = Patches().eval()
    copied = shuffled(teacher, 5, generator())
    assert torch.equal(copied.position, teacher.position)
    assert not torch.equal(copied.out.weight, teacher.out.weight)


def test_batch_norm_and_features_of_decomposed_programs_are_seen(teacher):
    x = torch.randn(4, *SHAPE)
    usual, decomposed = Context(x, teacher), torch.export.export(teacher, (x,)).run_decompositions().module()
    seen = Context(x, decomposed)
    assert len(seen.statistics) == len(usual.statistics)
    for a, b in zip(seen.statistics, usual.statistics):
        for one, other in zip(a, b):
            torch.testing.assert_close(one, other)
    torch.testing.assert_close(seen.features, usual.features)


def test_features_of_a_head_that_is_a_product_are_seen():
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.weight = nn.Linear(64, 5), nn.Parameter(torch.randn(4, 5))

        def forward(self, x):
            return self.body(x.flatten(1)) @ self.weight.T

    teacher, x = Product(), torch.randn(3, *SHAPE)
    torch.testing.assert_close(Context(x, teacher).features, teacher.body(x.flatten(1)))


def test_stored_inputs_have_a_vaccine_of_their_own_and_a_run_is_wrapped_once(teacher):
    source = TensorSource(torch.randn(32, *SHAPE))
    d = Distiller(teacher, network(1), source, Plain(), config=SETTINGS.config)
    wrapped = abd(d, rounds=2, K=1)
    assert isinstance(wrapped.update, Masked)
    wrapped.fit()
    with pytest.raises(ValueError, match="once"):
        abd(wrapped)
    assert wrapped.update.vaccine.tail is not None  # the test of the shuffles was made


@pytest.mark.parametrize(
    "wrap",
    [
        lambda d: abd(d, vaccine=0.0, start=1.0),
        lambda d: abd(d, vaccine=-1.0),
        lambda d: abd(d, start=2.0),
        lambda d: abd_classwise(d, (1.0, 0.0)),
        lambda d: abd_classwise(d, (0.0, float("inf"))),
        lambda d: abd_classwise(d, (0.0, 1.0), every=0),
        lambda d: abd_classwise(d, (0.0, 1.0), weight=0.0),
        lambda d: abd_classwise(d, (0.0, 1.0), config=SearchConfig(densest=0.5)),
        lambda d: abd_classwise(d, (0.0, 1.0), config=SearchConfig(densest=float("inf"))),
        lambda d: abd_classwise(d, (0.0, 1.0), suspicion=Suspicion(0, 1.0, (), float("nan"))),
        lambda d: abd(d, weight=0.0),
        lambda d: abd(d, weight=-1.0),
        lambda d: abd(d, eta=float("nan")),
        lambda d: abd(d, rate=-1.0),
        lambda d: abd_classwise(d, (0.0, 1.0), config=SearchConfig(batch=0)),
        lambda d: scan(d.teacher, SHAPE, (1.0, 0.0)),
    ],
)
def test_a_defence_that_would_do_nothing_is_refused(teacher, wrap):
    with pytest.raises(ValueError, match=r"must be|bounds|leave nothing"):
        wrap(presets.dfq(teacher, network(1), SHAPE, SETTINGS))


# triggers


@pytest.mark.parametrize("name", backdoor.TRIGGERS)
@pytest.mark.parametrize("side", [8, 28])
def test_triggers_keep_the_range_and_their_input(name, side):
    x = torch.rand(5, 1, side, side, generator=generator())
    before = x.clone()
    out = backdoor.TRIGGERS[name](x)
    assert torch.equal(x, before)
    assert out.min() >= 0
    assert out.max() <= 1
    assert ((out - x).flatten(1).abs().amax(1) > 0.05).all()
    assert torch.allclose(backdoor.TRIGGERS[name](x[:1]), out[:1])


def test_poison_and_success_count_what_they_say():
    x, y = torch.rand(100, 1, 8, 8), torch.arange(100) % 4
    px, py = backdoor.poisoned(x, y, backdoor.patch, target=1)
    changed = (px != x).flatten(1).any(1)
    assert int(changed.sum()) == 10
    assert (y[changed] != 1).all()
    assert (py[changed] == 1).all()
    cx, cy = backdoor.poisoned(x, y, backdoor.patch, target=1, clean_label=True)
    assert torch.equal(cy, y)
    assert (y[(cx != x).flatten(1).any(1)] == 1).all()

    class Corner(nn.Module):
        def forward(self, x):
            return torch.stack((x[:, 0, -1, -1] * 0 + 0.9999, x[:, 0, -1, -1]), 1)

    assert backdoor.success_rate(Corner(), x, y, backdoor.patch, target=1) == 1.0
    assert backdoor.success_rate(Corner(), x, y, lambda x: x * 0.5, target=1) == 0.0
    with pytest.raises(ValueError, match="all images"):
        backdoor.success_rate(Corner(), x, 0 * y, backdoor.patch)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        backdoor.poisoned(x, y, backdoor.patch, share=-0.1)
    with pytest.raises(ValueError, match="no image"):
        backdoor.poisoned(x, 0 * y, backdoor.patch)
    with pytest.raises(ValueError, match="3 x 3"):
        backdoor.grid(x[..., :2])


# programs from strangers


def program(path, net, shape=SHAPE):
    dynamic = ({0: torch.export.Dim("b")},)
    torch.export.save(torch.export.export(net, (torch.randn(4, *shape),), dynamic_shapes=dynamic), path)
    return path


def test_an_exported_program_answers_is_watched_and_trains_as_its_network(tmp_path):
    net = network(0)
    read = networks.load(program(tmp_path / "a.pt2", net))
    x = torch.randn(5, *SHAPE)
    ours, theirs = Context(x, read), Context(x, net)
    torch.testing.assert_close(ours.t, theirs.t)
    torch.testing.assert_close(ours.features, theirs.features)
    for a, b in zip(ours.statistics, theirs.statistics, strict=True):
        for c, d in zip(a, b):
            torch.testing.assert_close(c, d)
    torch.testing.assert_close(read.train()(x), net.train()(x))
    statistics = [b for n, b in net.named_buffers() if "num_batches" not in n]
    for a, b in zip([b for n, b in read.named_buffers() if "num_batches" not in n], statistics, strict=True):
        torch.testing.assert_close(a, b)


def changed(path, out, edit):
    """A copy of a program whose files were edited."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, edit(name, old.read(name)))
    return out


@pytest.mark.parametrize(
    "target", ["os.system", "torch.ops.aten.from_file.default", "torch.ops.prims.add.default"]
)
def test_a_program_cannot_ask_for_more_than_arithmetic(tmp_path, teacher, target):
    path = program(tmp_path / "a.pt2", teacher)
    bad = changed(
        path,
        tmp_path / "b.pt2",
        lambda name, raw: raw.replace(b"torch.ops.aten.relu.default", target.encode()),
    )
    with pytest.raises(ValueError, match="accepted are operators of ATen"):
        networks.load(bad)


def test_pickles_and_other_files_are_refused_without_being_run(tmp_path, teacher):
    class Loud:
        def __reduce__(self):
            return (print, ("run",))

    path = program(tmp_path / "a.pt2", teacher)
    asked = []

    def pickled(name, raw):
        if name.endswith("weights_config.json"):
            document = json.loads(raw)
            next(iter(document["config"].values()))["use_pickle"] = True
            return json.dumps(document)
        if "sample_inputs" in name:
            asked.append(name)
            return pickle.dumps(Loud())
        return raw

    with pytest.raises(ValueError, match="pickled"):
        networks.load(changed(path, tmp_path / "b.pt2", pickled))
    assert asked
    torch.save(teacher, tmp_path / "c.pt")
    with pytest.raises(ValueError, match="pickle"):
        networks.load(tmp_path / "c.pt")
    for name in ("d.pt2", "d.pt", "d.safetensors", "d.bin"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(ValueError, match="is "):
            networks.load(tmp_path / name)


@pytest.mark.parametrize(("endless", "says"), [(False, "larger than its bytes"), (True, "is made of")])
def test_a_tensor_cannot_reach_beyond_its_bytes(tmp_path, teacher, endless, says):
    def longer(name, raw):
        if name.endswith("weights_config.json"):
            document = json.loads(raw)
            meta = next(iter(document["config"].values()))["tensor_meta"]
            meta["sizes"][0]["as_int"] = 10_000
            if endless:
                meta["sizes"][0]["as_int"], meta["strides"] = 10**12, [{"as_int": 0}] * len(meta["sizes"])
            return json.dumps(document)
        return raw

    path = changed(program(tmp_path / "a.pt2", teacher), tmp_path / "b.pt2", longer)
    with pytest.raises(ValueError, match=says):
        networks.load(path)


def test_torchscript_is_read_and_cannot_be_looked_into(tmp_path):
    net = network(0, "cnn-4")
    torch.jit.script(net).save(tmp_path / "a.pt")
    read = networks.load(tmp_path / "a.pt")
    x = torch.randn(3, *SHAPE)
    torch.testing.assert_close(read(x), net(x))
    with pytest.raises(ValueError, match="TorchScript"):
        _ = Context(x, read).statistics


# the command line


ARGV = ["--input-shape", "1", "8", "8", "--epochs", "1", "--rounds", "2", "--steps", "2", "--batch", "8"]


def test_the_program_is_told_how_inputs_are_and_may_stop_at_once(tmp_path, capsys, teacher):
    path, out = program(tmp_path / "a.pt2", teacher), tmp_path / "s.safetensors"
    argv = ["--teacher", str(path), "--student", "cnn-4", *ARGV, "--out", str(out)]
    assert main([*argv, "--method", "cmi", "--minutes", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 0
    assert main([*argv, "--method", "lra", "--mean", "0.3", "--deviation", "0.4"]) == 0
    assert main([*argv, "--method", "lra", "--mean", "0.3", "0.4"]) == 2
    assert "1 channels, got 2" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["lra", "dfad"])
def test_the_program_writes_a_student_that_can_be_read(tmp_path, capsys, teacher, method):
    path, out = program(tmp_path / "a.pt2", teacher), tmp_path / "s.safetensors"
    argv = ["--teacher", str(path), "--student", "cnn-4", "--method", method, *ARGV, "--out", str(out)]
    assert main([*argv, "--resume", str(tmp_path / "run")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["steps"] == said["of"] == 4
    assert 0 <= said["agreement"] <= 1
    first = networks.load(out)
    assert main([*argv, "--resume", str(tmp_path / "run")]) == 0  # nothing is left to do
    again = networks.load(out)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters()))


def test_the_program_distils_into_an_exported_student(tmp_path, capsys, teacher):
    path, student = program(tmp_path / "a.pt2", teacher), program(tmp_path / "b.pt2", network(1))
    out = tmp_path / "s.safetensors"
    assert main(["--teacher", str(path), "--student", str(student), *ARGV, "--out", str(out)]) == 0
    assert out.exists()


def test_the_program_refuses_bad_input_in_one_line(tmp_path, capsys, teacher):
    path, out = program(tmp_path / "a.pt2", teacher), tmp_path / "s.safetensors"
    good = ["--teacher", str(path), "--student", "cnn-4", *ARGV, "--out", str(out)]
    before = path.read_bytes()

    def refused(argv, word):
        try:
            status = main(argv)
        except SystemExit as error:
            status = error.code
        said = capsys.readouterr().err
        assert status == 2
        assert word in said
        assert len(said.splitlines()) == 1

    refused([*good, "--student", "vgg-3"], "such as cnn-16")
    refused([*good, "--input-shape", "3", "8", "8"], "does not take")
    refused([*good, "--defence", "classwise"], "--bounds")
    refused([*good, "--defence", "classwise", "--bounds", "2", "1"], "bounds")
    refused([*good, "--device", "tpu"], "no device")
    refused([*good, "--minutes", "nan"], "at least 0")
    refused([*good, "--bn", "-1"], "at least 0")
    refused([*good, "--seed", "9" * 20], "seed")
    networks.save(out, network(1, "cnn-4"), "cnn-4", SHAPE, 4)
    refused([*good, "--student", str(out)], "such as cnn-16")
    out.unlink()
    refused([*good, "--student", str(path)], "are one file")
    refused([*good, "--resume", str(out)], "written over")
    refused([*good, "--resume", str(tmp_path / "x" / ".." / path.name)], "written over")
    refused([*good, "--resume", str(path)], "written over")
    refused([*good, "--out", str(tmp_path / "s.txt")], ".safetensors")
    assert path.read_bytes() == before
    (tmp_path / "c.pt2").write_bytes(io.BytesIO().getvalue())
    refused([*good, "--teacher", str(tmp_path / "c.pt2")], "torch.export")
    assert not out.exists()
