"""Data-free distillation: terms are alive, memories remember, a killed run goes on, bad input is refused."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import small_teachers
import torch
from torch import nn

from adapt.data_free import distiller, networks, presets, terms
from adapt.data_free.context import Context, undisturbed
from adapt.data_free.distiller import Config, Distiller
from adapt.data_free.lra import lra
from adapt.data_free.memory import NoMemory, RingBuffer, VAEReplay
from adapt.data_free.sources import InversionSource, Moment, Pool, TensorSource
from adapt.data_free.stability import stability
from adapt.data_free.updates import MetaRetain, Plain, Replay, Step

SHAPE = (1, 8, 8)
TINY = Config(epochs=2, rounds=2, steps=3, batch=16)
SETTINGS = replace(presets.SMALL, config=TINY, width=8, nz=8, start=0, inversion=4)
METHODS = {
    "dafl": presets.dafl,
    "dfad": presets.dfad,
    "dfq": presets.dfq,
    "cmi": presets.cmi,
    "mb": presets.mb_dfkd,
    "pre": presets.pre_dfkd,
    "lra": lra,
    "lra first order": lambda *parts: lra(*parts, second_order=False),
    "lra vae": lambda *parts: lra(*parts, replay="vae"),
}
KINDS = {
    "image": ("cnn-4", (1, 8, 8), False),
    "odd image": ("resnet-2", (3, 9, 7), False),
    "sequence": ("cnn-4", (2, 20), False),
    "vector": ("mlp-16", (6,), False),
    "points": ("points-8", (12, 3), True),
}


def network(seed, name="cnn-4", shape=SHAPE, classes=4):
    return small_teachers.network(seed, name, shape, classes)


@pytest.fixture
def teacher():
    return network(0)


@pytest.fixture
def student():
    return network(1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def step_of(teacher, student, x, memory=None):
    return Step(x, teacher, student, memory or NoMemory(), TensorSource(x), generator())


class Fixed(NoMemory):
    """A memory of one batch."""

    def __init__(self, x):
        self.x = x

    def sample(self, teacher, generator):
        return self.x


def gradient(loss, network):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.parameters()))])


# the meta step


def smooth(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def square_loss(s, t):
    return (s - t).square().mean()


def meta_case():
    x, old = (torch.randn(n, 3, generator=generator(n), dtype=torch.float64) for n in (8, 4))
    return step_of(smooth(0), smooth(1), x, Fixed(old)), old


def test_second_order_gradient_agrees_with_finite_differences():
    step, old = meta_case()
    update = MetaRetain(square_loss, inner_rate=0.3)
    found = gradient(update.retain(step, old), step.student)
    flat = nn.utils.parameters_to_vector(step.student.parameters()).detach()

    def value(vector):
        nn.utils.vector_to_parameters(vector, step.student.parameters())
        return float(update.retain(step, old).detach())

    eps = 1e-6
    expected = [
        (value(flat + eps * e) - value(flat - eps * e)) / (2 * eps) for e in torch.eye(len(flat)).double()
    ]
    nn.utils.vector_to_parameters(flat, step.student.parameters())
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)
    first = gradient(MetaRetain(square_loss, 0.3, second_order=False).retain(step, old), step.student)
    assert (first - found).norm() > 0.05 * found.norm()


def test_on_a_quadratic_second_order_multiplies_by_one_minus_alpha_times_the_hessian():
    torch.manual_seed(0)
    teacher, student = (nn.Linear(3, 1, bias=False).double() for _ in range(2))
    x, old = torch.randn(8, 3).double(), torch.randn(4, 3).double()
    step, alpha = step_of(teacher, student, x, Fixed(old)), 0.2
    hessian, other = 2 * x.T @ x / 8, 2 * old.T @ old / 4
    gap = (student.weight - teacher.weight).detach()[0]
    slope = other @ (gap - alpha * hessian @ gap)  # at the moved weights
    second = gradient(MetaRetain(square_loss, alpha).retain(step, old), student)
    first = gradient(MetaRetain(square_loss, alpha, second_order=False).retain(step, old), student)
    torch.testing.assert_close(second, (torch.eye(3) - alpha * hessian) @ slope)
    torch.testing.assert_close(first, slope)


def test_the_meta_test_gradient_reaches_the_student_and_needs_the_virtual_step(teacher, student):
    x, old = (torch.randn(n, *SHAPE, generator=generator(n)) for n in (16, 4))
    step = step_of(teacher, student.train(), x, Fixed(old))
    found = [gradient(MetaRetain(inner_rate=a).retain(step, old), student) for a in (0.0, 0.1)]
    assert all(g.norm() > 1e-3 for g in found)
    assert (found[0] - found[1]).norm() > 1e-2 * found[0].norm()
    plain = gradient(terms.l1(undisturbed(student, old), teacher(old)), student)
    torch.testing.assert_close(found[0], plain)


@pytest.mark.parametrize("update", [Plain(), Replay(), MetaRetain(inner_rate=0.1)])
def test_running_statistics_change_once_a_step_and_by_all_inputs(teacher, student, update):
    x, old = (torch.randn(n, *SHAPE, generator=generator(n)) for n in (16, 4))
    other = networks.build("cnn-4", SHAPE, 4)
    other.load_state_dict(student.state_dict())
    sum(update(step_of(teacher, student.train(), x, Fixed(old))).values()).backward()
    other.train()(x if type(update) is Plain else torch.cat((x, old)))
    for (name, a), b in zip(student.named_buffers(), other.buffers()):
        torch.testing.assert_close(a, b, msg=name)


def test_networks_without_batch_norm_are_retained_too():
    teacher, student = (
        nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3)) for _ in "ab"
    )
    x = torch.randn(8, 4)
    parts = MetaRetain(inner_rate=0.1)(step_of(teacher, student, x, Fixed(x[:2])))
    assert set(parts) == {"distill", "retain"}


# memories


def test_the_ring_keeps_the_first_inputs_of_last_batches_and_drops_the_oldest(teacher):
    ring = RingBuffer(capacity=2, every=2, start=1)
    assert ring.sample(teacher, generator()) is None
    for epoch in range(8):
        for last in (False, True):
            ring.remember(
                torch.full((20, 1), 10.0 * epoch + last), teacher, Moment(epoch, 0, last, 0), generator()
            )
    assert sorted(float(k[0]) for k in ring.kept) == [51.0, 71.0]  # epochs 1, 3, 5, 7
    assert all(k.shape == (2, 1) for k in ring.kept)  # an eighth of 20
    assert len(ring.sample(teacher, generator())) == 2
    small = RingBuffer(every=1)
    small.remember(torch.ones(3, 1), teacher, Moment(0, 0, True, 0), generator())
    assert len(small.sample(teacher, generator())) == 2  # an eighth of 3; batch norm wants two


def test_an_empty_memory_leaves_a_plain_step(teacher, student):
    x = torch.randn(16, *SHAPE)
    student.train()
    plain = gradient(Plain()(step_of(teacher, student, x))["distill"], student)
    for update in (Replay(), MetaRetain()):
        parts = update(step_of(teacher, student, x))
        assert set(parts) == {"distill"}
        torch.testing.assert_close(gradient(parts["distill"], student), plain)


def test_the_autoencoder_learns_what_it_saw_and_leaves_the_teacher_alone(teacher):
    torch.manual_seed(0)
    vae = VAEReplay(networks.Encoder(SHAPE, 8, 8), networks.generator(SHAPE, 8, 8), 8, rate=1e-2)
    assert vae.sample(teacher, generator()) is None
    teacher.requires_grad_(False)
    x = networks.generator(SHAPE, 8, 8)(torch.randn(16, 8)).detach()
    gaps = []
    for _ in range(40):
        vae.remember(x, teacher, Moment(0, 0, False, 0), generator())
        mean, _ = vae.encoder(x)
        gaps.append(float((vae.decoder(mean) - x).abs().mean().detach()))
    assert gaps[-1] < 0.8 * gaps[0]
    assert vae.sample(teacher, generator()).shape == (2, *SHAPE)
    before = [p.clone() for p in vae.decoder.parameters()]
    vae.remember(x, teacher, Moment(0, 4, False, 0), generator())  # after the fourth step of a round it rests
    assert all(torch.equal(a, b) for a, b in zip(before, vae.decoder.parameters()))


# terms


def context(teacher, student, x=None, **more):
    x = 2 * torch.randn(16, *SHAPE, generator=generator()) if x is None else x
    return Context(x.requires_grad_(), teacher, student, generator=generator(), **more)


def bank(n, generator):
    return torch.randn(n, *SHAPE, generator=generator)


ALL_TERMS = {
    "one hot": terms.one_hot(),
    "balance": terms.class_balance(),
    "activation": terms.activation(),
    "bn": terms.bn_statistics(),
    "tv": terms.total_variation(),
    "magnitude": terms.magnitude(),
    "contrastive": terms.contrastive(bank),
} | {kind: terms.adversarial(kind) for kind in terms.DISCREPANCIES}


@pytest.mark.parametrize("name", ALL_TERMS)
def test_every_term_moves_the_inputs_and_nothing_else(teacher, student, name):
    before = {n: b.clone() for net in (teacher, student) for n, b in net.state_dict().items()}
    student.train()
    if name == "masked_kl":  # where both agree
        student.load_state_dict(
            {k: 0.9 * v for k, v in teacher.state_dict().items() if "num" not in k}, strict=False
        )
        before = {n: b.clone() for net in (teacher, student) for n, b in net.state_dict().items()}
    c = context(teacher, student)
    (slope,) = torch.autograd.grad(ALL_TERMS[name](c), c.x)
    assert slope.isfinite().all()
    assert slope.norm() > 1e-7
    after = {n: b for net in (teacher, student) for n, b in net.state_dict().items()}
    assert all(torch.equal(value, after[n]) for n, value in before.items())


def test_terms_are_what_their_equations_say(teacher, student):
    c = context(teacher, student)
    p = c.t.softmax(1).mean(0).detach().numpy().astype(float)
    assert float(terms.class_balance()(c).detach()) == pytest.approx((p * np.log10(p)).sum(), rel=1e-4)
    even = terms.class_balance(np.e)(_Given(torch.zeros(4, 5)))
    assert float(even) == pytest.approx(-np.log(5), rel=1e-5)
    assert float(terms.adversarial("js")(_Given(c.t, c.t)).detach()) == pytest.approx(1.0, abs=1e-5)
    assert terms.class_balance()(_Given(1e4 * torch.eye(4)[:1])).isfinite()  # classes without any image


class _Given:
    def __init__(self, t, s=None):
        self.t, self.s = t, s


def test_the_batch_norm_term_is_zero_where_statistics_agree():
    layer = nn.BatchNorm2d(2, momentum=1.0)
    teacher = nn.Sequential(layer, nn.Flatten(), nn.Linear(32, 3))
    x = torch.randn(64, 2, 4, 4, generator=generator())
    teacher.train()(x)
    teacher.eval()
    layer.running_var *= (x.numel() / 2 - 1) / (x.numel() / 2)  # of n instead of n - 1
    assert float(terms.bn_statistics()(Context(x, teacher)).detach()) == pytest.approx(0, abs=1e-5)
    moved = Context(x + 3, teacher)
    assert float(terms.bn_statistics()(moved).detach()) == pytest.approx(3 * 2**0.5, rel=1e-4)


def test_turning_a_term_off_changes_the_generator(teacher, student):
    def after(**changed):
        d = presets.made(teacher, network(1), SHAPE, replace(SETTINGS, **changed), presets.wanted(), Plain())
        d.source.refresh(teacher, student, Moment(0, 0, False, 0), generator())
        return d.source.network.first.weight

    assert not torch.equal(after(), after(bn=0.0))


# sources


def test_inversion_lowers_its_loss_and_fills_a_bounded_pool(teacher, student):
    losses = {"one hot": (1.0, terms.one_hot()), "bn": (0.01, terms.bn_statistics())}
    pool = Pool(24)
    source = InversionSource(SHAPE, 4, losses, batch=16, steps=60, pool=pool)
    for _ in range(2):
        parts = source.refresh(teacher, student, Moment(0, 0, False, 0), generator())
    assert len(pool.x) == 24
    assert float(parts["one hot"]) < 0.7 * np.log(4)
    assert source.sample(5, generator()).shape == (5, *SHAPE)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_input_is_generated_and_distilled(kind):
    name, shape, points = KINDS[kind]
    teacher, student = network(0, name, shape), network(1, name, shape)
    settings = replace(SETTINGS, points=points)
    for method in (lra, lambda *parts: lra(*parts, replay="vae")):
        d = method(teacher, student, shape, settings)
        assert d.source.sample(5, generator()).shape == (5, *shape)
        history = d.fit()
        assert np.isfinite(list(history[-1].values())).all()
    x = d.source.sample(64, generator())
    assert float(x.mean()) == pytest.approx(0, abs=0.1)
    assert float(x.std()) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_are_as_the_teacher_takes_them(kind):
    name, shape, points = KINDS[kind]
    last = points or len(shape) == 1  # where channels are
    channels = shape[-1] if last else shape[0]
    mean, deviation = tuple(3.0 * k for k in range(channels)), 0.2
    settings = replace(SETTINGS, points=points, mean=mean, deviation=deviation)
    d = lra(network(0, name, shape), network(1, name, shape), shape, settings)
    x = d.source.sample(256, generator())
    by_channel = (x if last else x.movedim(1, -1)).reshape(-1, channels)
    torch.testing.assert_close(by_channel.mean(0), torch.tensor(mean), atol=0.02, rtol=0)
    torch.testing.assert_close(by_channel.std(0), torch.full((channels,), deviation), atol=0.02, rtol=0)
    with pytest.raises(ValueError, match="one for each of"):
        lra(
            network(0, name, shape),
            network(1, name, shape),
            shape,
            replace(settings, mean=(0.0,) * (channels + 1)),
        )


# the loop


@pytest.mark.parametrize("name", METHODS)
def test_a_killed_run_goes_on_to_the_same_result(tmp_path, teacher, name):
    whole = METHODS[name](teacher, network(1), SHAPE, SETTINGS)
    whole.fit()
    part = METHODS[name](teacher, network(1), SHAPE, SETTINGS)
    for _ in range(7):  # within a round of the second epoch
        part._take()
    part.save(tmp_path / "run")
    rest = METHODS[name](teacher, network(9), SHAPE, SETTINGS)
    rest.resume(tmp_path / "run")
    rest.fit()
    assert rest.history == whole.history
    assert len(whole.history) == TINY.epochs
    for (key, a), b in zip(whole.student.state_dict().items(), rest.student.state_dict().values()):
        assert torch.equal(a, b), key


def test_dropout_of_a_student_is_part_of_what_is_saved(tmp_path, teacher, monkeypatch):
    def made(seed):
        torch.manual_seed(seed)
        student = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Dropout(0.5), nn.Linear(16, 4))
        return Distiller(teacher, student, TensorSource(torch.ones(8, *SHAPE)), Plain(), config=TINY)

    whole, part, rest = made(0), made(0), made(3)
    whole.fit()
    part.fit(seconds=0.0)
    assert part.step == 0
    clock = itertools.count()
    monkeypatch.setattr(distiller, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    part.fit(seconds=5)  # it is asked for the time once a step
    assert part.step == 4
    monkeypatch.undo()
    part.save(tmp_path / "run")
    torch.rand(7)  # what others draw
    rest.resume(tmp_path / "run")
    rest.fit()
    assert all(torch.equal(a, b) for a, b in zip(whole.student.parameters(), rest.student.parameters()))


def test_a_file_of_another_run_is_refused_and_changes_nothing(tmp_path, teacher):
    path = tmp_path / "run"
    presets.mb_dfkd(teacher, network(1), SHAPE, SETTINGS).save(path)
    d = presets.dafl(teacher, network(2), SHAPE, SETTINGS)
    before = [p.clone() for p in d.student.parameters()]
    with pytest.raises(ValueError, match="not a run of this distiller"):
        d.resume(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a saved run"):
        d.resume(path)
    assert all(torch.equal(a, b) for a, b in zip(before, d.student.parameters()))


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (lambda: lra(network(7), network(1), SHAPE, SETTINGS), "teacher"),
        (lambda: lra(network(0), network(1), SHAPE, replace(SETTINGS, bn=0.5)), "terms"),
        (lambda: lra(network(0), network(1), SHAPE, SETTINGS, second_order=False), "second_order"),
        (lambda: lra(network(0), network(1), SHAPE, SETTINGS, inner_rate=0.5), "inner_rate"),
        (lambda: lra(network(0), network(1), SHAPE, replace(SETTINGS, every=2)), "every"),
        (lambda: lra(network(0), network(1), SHAPE, replace(SETTINGS, eps=0.5)), "eps"),
    ],
)
def test_a_run_does_not_go_on_with_another_teacher_or_other_settings(tmp_path, other, word):
    path = tmp_path / "run"
    d = lra(network(0), network(1), SHAPE, SETTINGS)
    d.fit(save=path)
    lra(network(0), network(2), SHAPE, SETTINGS).resume(path)
    with pytest.raises(ValueError, match=rf"not a run of this distiller.*{word}"):
        other().resume(path)


def test_a_short_run_has_its_last_phase_all_the_same(teacher):
    config = replace(TINY, epochs=1, rounds=1, steps=2)
    phase = distiller.Phase(update=MetaRetain(inner_rate=0.1), start=0.8)
    source = TensorSource(torch.randn(16, *SHAPE))
    memory = Fixed(torch.randn(4, *SHAPE))
    d = Distiller(teacher, network(1), source, Plain(), memory, config, phase)
    assert "retain" in d.fit()[-1]


def test_the_teacher_is_never_changed_and_its_flags_are_kept(teacher):
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    flags = [p.requires_grad for p in teacher.parameters()]
    lra(teacher, network(1), SHAPE, SETTINGS).fit()
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert [p.requires_grad for p in teacher.parameters()] == flags
    assert all(p.grad is None for p in teacher.parameters())
    assert not teacher.training


def test_a_teacher_that_writes_to_itself_is_an_error(teacher):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = teacher
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.inside(x)

    counting = Counting().eval()
    d = Distiller(counting, network(1), TensorSource(torch.randn(8, *SHAPE)), Plain(), config=TINY)
    with pytest.raises(ValueError, match="calls"):
        d.fit()
    assert int(counting.calls) == d.step == 0

    class Late(Counting):
        def forward(self, x):
            self.calls += len(x) == TINY.batch
            return self.inside(x)

    d = Distiller(Late().eval(), network(1), TensorSource(torch.randn(8, *SHAPE)), Plain(), config=TINY)
    with pytest.raises(RuntimeError, match="calls"):
        d.fit()


def test_where_a_run_cannot_be_saved_is_found_out_before_it_begins(teacher, tmp_path):
    d = Distiller(teacher, network(1), TensorSource(torch.randn(8, *SHAPE)), Plain(), config=TINY)
    for place in (tmp_path / "none" / "run.pt", tmp_path):
        with pytest.raises(OSError, match=r"cannot be written|not an ordinary file"):
            d.fit(save=place)
        assert d.step == 0


def test_a_student_is_asked_as_it_will_be(teacher):
    class Auxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = network(1)

        def forward(self, x):
            return (self.inside(x), x) if self.training else self.inside(x)

    student = Auxiliary().eval()
    with pytest.raises(ValueError, match="the student answers tuple"):
        Distiller(teacher, student, TensorSource(torch.randn(8, *SHAPE)), Plain(), config=TINY).fit()
    assert not student.inside.training


def test_short_runs_have_a_memory_too(teacher):
    settings = replace(SETTINGS, config=replace(TINY, epochs=2), start=2)
    history = lra(teacher, network(1), SHAPE, settings).fit()
    assert "retain" not in history[0]
    assert history[1]["retain"] > 0


def test_a_run_goes_on_with_the_same_settings_alone(teacher, tmp_path):
    x = torch.randn(8, *SHAPE)

    def stored(x=x, loss=terms.l1):
        return Distiller(teacher, network(1), TensorSource(x), Plain(loss), config=TINY)

    def made(kind):
        adversarial = {"adversarial": (1.0, terms.adversarial(kind))}
        return presets.made(teacher, network(1), SHAPE, SETTINGS, adversarial, Plain())

    for first, others in (
        (stored(), [stored(0 * x), stored(loss=terms.kl()), stored(loss=terms.kl(4.0))]),
        (stored(loss=terms.kl()), [stored(loss=terms.kl(4.0))]),
        (made("l1"), [made("kl")]),
    ):
        first.save(tmp_path / "run")
        first.resume(tmp_path / "run")
        for other in others:
            with pytest.raises(ValueError, match="its settings"):
                other.resume(tmp_path / "run")


def test_distillation_of_stored_inputs_brings_the_student_to_the_teacher(teacher):
    g = generator()
    x = torch.randn(256, *SHAPE, generator=g) + 2 * torch.randn(256, 1, 1, 1, generator=g)  # dark and bright
    config = Config(epochs=10, rounds=4, steps=5, batch=64, rate=0.02)
    student = network(1)
    gap = terms.l1(student(x), teacher(x))
    d = Distiller(teacher, student, TensorSource(x), Plain(), config=config, evaluate=lambda s: {"a": 1.0})
    history = d.fit()
    assert terms.l1(d.student(x), teacher(x)) < 0.5 * gap
    assert history[-1]["distill"] < 0.5 * history[0]["distill"]
    assert [row["a"] for row in history] == [1.0] * 10


def test_stability_is_that_of_the_part_after_the_start():
    s = stability([0, 90, 50, 60, 58, 70], skip=1 / 3)
    assert (s.mean, s.largest_drop, s.best, s.final) == (59.5, 2.0, 70.0, 70.0)
    assert s.mean_drop == pytest.approx(2 / 3)
    assert stability([1.0, 2.0], skip=0).variance == pytest.approx(0, abs=1e-12)
    assert stability([1, 2, 3, 4, 5, 6]).variance == pytest.approx(0, abs=1e-12)  # a trend is not unsteady
    with pytest.raises(ValueError, match="finite"):
        stability([1.0, float("nan")], skip=0)


# bad input


class Answers(nn.Module):
    """What a function makes of a teacher's logits."""

    def __init__(self, inside, change):
        super().__init__()
        self.inside, self.change = inside, change

    def forward(self, x):
        return self.change(self.inside(x))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda t: t.softmax(1), "probabilities"),
        (lambda t: t.log_softmax(1), "log probabilities"),
        (lambda t: t.sigmoid(), "of a sigmoid"),
        (lambda t: t * float("nan"), "not finite"),
        (lambda t: t[:, 0], "logits"),
        (lambda t: (t, t), "logits"),
        (lambda t: t + torch.rand(()), "other answers"),
    ],
)
def test_teachers_that_do_not_answer_logits_are_refused(teacher, change, word):
    with pytest.raises(ValueError, match=word):
        lra(Answers(teacher, change).eval(), network(1), SHAPE, SETTINGS)


def test_teachers_and_students_that_do_not_go_together_are_refused(teacher, student):
    with pytest.raises(ValueError, match=r"training mode.*eval\(\)"):
        lra(network(0).train(), student, SHAPE, SETTINGS)
    with pytest.raises(ValueError, match="does not take"):
        lra(teacher, student, (3, 8, 8), SETTINGS)
    with pytest.raises(ValueError, match="same classes"):
        lra(teacher, network(1, classes=5), SHAPE, SETTINGS).fit()
    with pytest.raises(ValueError, match="share weights"):
        lra(teacher, teacher, SHAPE, SETTINGS).fit()
    narrow = nn.Sequential(nn.BatchNorm1d(3), nn.Flatten(), nn.Linear(64, 4))
    with pytest.raises(ValueError, match="student does not take"):
        lra(teacher, narrow, SHAPE, SETTINGS).fit()
    frozen = network(1).requires_grad_(False)
    with pytest.raises(ValueError, match="can be trained"):
        lra(teacher, frozen, SHAPE, SETTINGS)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).eval()
    with pytest.raises(ValueError, match="bn=0"):
        lra(plain, student, SHAPE, SETTINGS).fit()
    lra(plain, student, SHAPE, replace(SETTINGS, bn=0.0)).fit()
    running = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), plain).eval()
    with pytest.raises(ValueError, match="statistics of the batch"):
        lra(running, student, SHAPE, SETTINGS)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_teacher_without_gradient_is_refused_where_a_generator_learns(teacher, student, mode):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = teacher

        def forward(self, x):
            with mode():
                return self.inner(x).clone()

    silent = Wrapped().eval()
    with pytest.raises(ValueError, match="no gradient comes back"):
        presets.dfq(silent, student, SHAPE, replace(SETTINGS, bn=0.0)).fit()
    x = torch.randn(20, *SHAPE, generator=generator())
    Distiller(silent, student, TensorSource(x), Plain(), config=SETTINGS.config).fit()


def test_the_smallest_memory_does_for_batch_norm(teacher, student):
    config = replace(SETTINGS.config, batch=4, epochs=4)
    d = lra(teacher, student, SHAPE, replace(SETTINGS, config=config, start=0))
    assert "retain" in d.fit()[-1]
    assert isinstance(d.memory, RingBuffer)
    assert {len(x) for x in d.memory.kept} == {2}


def test_a_loss_that_is_not_finite_is_named(teacher):
    class Breaks(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = teacher

        def forward(self, x):
            return self.inside(x) / (len(x) == 8)  # as many as the check asks

    x = torch.randn(8, *SHAPE)
    with pytest.raises(RuntimeError, match="distill is not finite"):
        Distiller(Breaks().eval(), network(1), TensorSource(x), Plain(), config=TINY).fit()


def test_being_out_of_memory_says_what_to_do(teacher, student):
    class Full(Plain):
        def __call__(self, step):
            raise torch.OutOfMemoryError("CUDA out of memory")

    d = Distiller(teacher, student, TensorSource(torch.randn(8, *SHAPE)), Full(), config=TINY)
    with pytest.raises(RuntimeError, match="smaller batch"):
        d.fit()

    class Large(nn.Module):
        def forward(self, x):
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(RuntimeError, match="too many for the teacher"):
        lra(Large().eval(), student, SHAPE, SETTINGS)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Config(epochs=0),
        lambda: Config(batch=1),
        lambda: Config(epochs=1.5),
        lambda: Config(rate=float("inf")),
        lambda: Config(clip=0.0),
        lambda: Config(decay=float("nan")),
        lambda: Config(final=float("nan")),
        lambda: Config(seed=10**20),
        lambda: presets.Settings(nz=0),
        lambda: presets.Settings(deviation=0.0),
        lambda: presets.Settings(mean=(0.0, float("inf"))),
        lambda: presets.Settings(inversion=0),
        lambda: presets.Settings(bn=-1.0),
        lambda: presets.Settings(rate=float("nan")),
        lambda: stability([1.0, 2.0], skip=-0.5),
        lambda: stability([[1.0, 2.0], [3.0, 4.0]]),
        lambda: MetaRetain(inner_rate=float("nan")),
        lambda: InversionSource(SHAPE, 4, {}, steps=0),
        lambda: TensorSource(torch.tensor(1.0)),
        lambda: TensorSource(torch.zeros(5, *SHAPE, dtype=torch.uint8)),
        lambda: Distiller(network(0), network(1), TensorSource(torch.zeros(5, *SHAPE)), Plain()).fit(-1.0),
        lambda: RingBuffer(capacity=0),
        lambda: MetaRetain(inner_rate=-1.0),
        lambda: terms.adversarial("l3"),
        lambda: networks.build("cnn", SHAPE, 4),
        lambda: networks.build("cnn-99999", SHAPE, 4),
        lambda: networks.build("points-4", SHAPE, 4),
        lambda: TensorSource(torch.tensor([[float("nan")]])),
        lambda: lra(network(0), network(1), SHAPE, replay="tape"),
    ],
)
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(ValueError):
        make()


def test_students_are_written_and_read(tmp_path, student):
    networks.save(tmp_path / "a.safetensors", student, "cnn-4", SHAPE, 4)
    x = torch.randn(3, *SHAPE)
    assert torch.equal(networks.load(tmp_path / "a.safetensors")(x), student(x))
    networks.save(tmp_path / "b.safetensors", student, "cnn-5", SHAPE, 4)
    with pytest.raises(ValueError, match="does not hold a student"):
        networks.load(tmp_path / "b.safetensors")
