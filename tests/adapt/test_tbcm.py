"""TBCM: route, tangent and loss against closed forms; a student reaches the exact consistency function."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from adapt.diffusion.network import WAVES, Waves
from adapt.diffusion.route import jittered, points_of, reference, rollout
from adapt.diffusion.sampling import gaussian, jump, jumps
from adapt.diffusion.tbcm import Config, Student, consistency_loss, scm, tangent, tbcm
from adapt.diffusion.teacher import GaussianTeacher
from adapt.diffusion.trigflow import NOISE, Converted, data_of
from perception.training import Run, RunConfig


class Optimal(nn.Module):
    """The best student of data as wide as noise, for which the flow is the identity."""

    def forward(self, x, t):
        return -(t / 2).tan().reshape(-1, *[1] * (x.ndim - 1)) * x


class Small(nn.Module):
    """A velocity of single numbers."""

    def __init__(self, width=48):
        super().__init__()
        self.waves = Waves()
        self.net = nn.Sequential(
            nn.Linear(1 + 2 * WAVES, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, 1),
        )

    def forward(self, x, t):
        return 0.5 * self.net(torch.cat((x / 0.5, self.waves(t)), 1))


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small(seed=0):
    torch.manual_seed(seed)
    return Small()


def points(teacher, n=64):
    t = torch.linspace(0.05, 1.5, n)
    x = 0.5 * drawn(n, 1)
    return x, t, teacher(x, t)


# the route


@pytest.mark.parametrize("bends", [0, 1, 2])
def test_a_route_falls_from_noise_and_so_does_every_jittered_one(bends):
    route = reference(16, 2.5, bends)
    assert route.shape == (16,)
    assert route[0] == NOISE
    assert (np.diff(route) < 0).all()
    assert 0 < route[-1] < 0.01 * 2.5 ** max(bends, 1)
    for seed in range(20):
        other = jittered(route, np.random.default_rng(seed))
        assert other[0] == NOISE
        assert (np.diff(other) < 0).all()
        assert (other[1:] >= route[1:]).all()
        assert (other[1:] <= route[:-1]).all()


def test_the_route_is_that_of_the_released_code():
    low = 2.5 * 0.001 / (1 + 1.5 * 0.001)
    assert low == pytest.approx(0.0024963, abs=1e-7)
    s = np.linspace(1, low, 16)
    s = 2.5 * s / (1 + 1.5 * s)
    expected = np.arctan(s[1:] / (1 - s[1:]))
    np.testing.assert_allclose(reference(16, 2.5, 2)[1:], expected)
    with pytest.raises(ValueError, match="at least 2"):
        reference(1)


def test_a_visit_is_a_call_and_pure_noise_is_left_out():
    calls = []
    teacher = GaussianTeacher(0.1, 0.3)

    def counted(x, t):
        calls.append(float(t[0]))
        return teacher(x, t)

    route = reference(6, 2.5, 1)
    visits = rollout(counted, 0.5 * drawn(3, 1), route)
    assert calls == pytest.approx(route.tolist())
    x, t, v = points_of(visits)
    assert x.shape == v.shape == (15, 1)
    assert t.tolist() == pytest.approx(np.repeat(route[1:], 3).tolist())
    assert torch.allclose(v, teacher(x, t), atol=1e-6)
    far = rollout(teacher, 0.5 * drawn(3, 1), reference(400, 2.5, 1)).end
    assert torch.allclose(far, teacher.consistency(0.5 * drawn(3, 1), torch.tensor(NOISE)), atol=0.01)
    x, t, v = points_of(visits, lambda end: torch.tensor([True, False, True]))
    assert torch.equal(x[:2], visits.x[1, [0, 2]])
    assert len(x) == len(t) == len(v) == 10


# the tangent


@pytest.mark.parametrize("how", ["forward", "difference"])
def test_the_tangent_of_the_best_student_vanishes(how):
    point = points(GaussianTeacher(0.0, 0.5))
    assert point[2].abs().max() == 0
    best = Student(Optimal())
    assert tangent(best, point, 1.0, how).abs().max() < 2e-4
    assert tangent(best, point, 0.0, how).abs().max() > 0.1


def test_the_tangent_is_cos_t_times_the_change_of_the_consistency_function():
    teacher, student = GaussianTeacher(0.2, 0.3), Student(small())
    x, t, v = points(teacher)
    h = 1e-3
    later, earlier = (data_of(x + d * v, student(x + d * v, t + d), t + d).detach() for d in (h, -h))
    expected = t.cos()[:, None] * (later - earlier) / (2 * h)
    found = tangent(student, (x, t, v), 1.0, "forward")
    assert torch.allclose(found, expected, atol=2e-3)
    assert expected.abs().max() > 0.05


def test_without_its_unstable_part_the_tangent_leads_to_the_teacher():
    teacher, student = GaussianTeacher(0.2, 0.3), Student(small())
    x, t, v = points(teacher)
    expected = -(t.cos()[:, None] ** 2) * (student(x, t) - v)
    assert torch.allclose(tangent(student, (x, t, v), 0.0, "forward"), expected, atol=1e-6)


def test_warm_up_and_calm_down_are_those_of_the_code():
    config = Config(warm_up=4000)
    assert [config.share(step) for step in (0, 2000, 4000, 15_000, 16_000, 17_000)] == pytest.approx(
        [0, 0.5, 1, 1, 0.875, 0.75]
    )


def test_a_step_against_the_gradient_lessens_the_change_of_the_consistency_function():
    teacher, student = GaussianTeacher(0.2, 0.3), Student(small())
    point = points(teacher)
    student.step.fill_(10**4)
    x, t, _ = point
    g = tangent(student, point, 1.0, "forward")
    before = student(x, t).detach()
    loss = consistency_loss(student, point, Config(warm_up=1, calm=1.0, damping=0.1))["consistency"]
    loss.backward()
    with torch.no_grad():
        for p in student.velocity.parameters():
            p -= 1e-3 * p.grad
    weight = 1 / t.sin()[:, None] / (g.abs() + 0.1)
    assert (weight * (student(x, t) - before) * g).sum() > 0


@pytest.mark.parametrize("weight", ["sine", "tangent"])
@pytest.mark.parametrize("adaptive", [False, True])
def test_the_loss_is_its_formula_and_every_part_learns(adaptive, weight):
    teacher, student = GaussianTeacher(0.2, 0.3), Student(small())
    nn.init.constant_(student.log_loss[1].bias, 0.3)
    student.step.fill_(50)
    x, t, v = points(teacher)
    config = Config(warm_up=100, damping=0.1, weight=weight, adaptive=adaptive, derivative="forward")
    g = tangent(student, (x, t, v), 0.5, "forward")
    g = g / (g.abs() + 0.1)
    weight = 1 / (0.5 * (t.sin() if weight == "sine" else t.tan()))
    expected = (weight * g[:, 0] ** 2).mean()
    if adaptive:
        expected = expected * np.exp(-0.3) + 0.3
    loss = consistency_loss(student, (x, t, v), config)["consistency"]
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-4)
    assert int(student.step) == 51
    loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in student.velocity.parameters())
    learned = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in student.log_loss.parameters()]
    assert learned == [adaptive] * 2


def test_tangents_that_are_not_finite_are_left_out_and_counted():
    teacher, student = GaussianTeacher(0.2, 0.3), Student(small())
    x, t, v = points(teacher, 8)
    config = Config(warm_up=1)
    student.step.fill_(5)
    good = consistency_loss(student, (x[2:], t[2:], v[2:]), config)["consistency"]
    assert int(student.skipped) == 0
    v, x = v.clone(), x.clone()
    v[0], x[1] = np.inf, np.nan
    mixed = consistency_loss(student, (x, t, v), config)["consistency"]
    assert int(student.skipped) == 2
    assert float(mixed.detach()) == pytest.approx(float(good.detach()), rel=1e-5)
    assert consistency_loss(student, (x[:2], t[:2], v[:2]), config) == {}
    assert int(student.skipped) == 4


def test_a_step_without_a_point_changes_nothing_but_its_count():
    student = Student(small())
    losses = iter([lambda p: {"a": p.square().sum()}, lambda p: {}, lambda p: {"a": p.square().sum()}])
    run = Run(student, lambda network, rng: next(losses)(next(network.parameters())), RunConfig(steps=3))
    seen = []
    for _ in range(3):
        run._take()
        seen.append(copy.deepcopy(student.state_dict()))
    assert run.step == 3
    assert all(torch.equal(v, seen[1][n]) for n, v in seen[0].items())
    assert not all(torch.equal(v, seen[2][n]) for n, v in seen[0].items())


def test_weights_that_are_lost_are_an_error():
    student = Student(small())
    point = points(GaussianTeacher(0.2, 0.3), 8)
    with torch.no_grad():
        next(student.velocity.parameters()).fill_(np.nan)
    with pytest.raises(RuntimeError, match="lower rate"):
        consistency_loss(student, point, Config())


def test_students_without_a_derivative_are_refused():
    with pytest.raises(ValueError, match=r"dropout, 1"):
        Student(nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.1)))
    Student(nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.0)))
    stepped = Converted(small(), "epsilon", alphas_cumprod=torch.linspace(0.99, 0.01, 10), whole=True)
    with pytest.raises(ValueError, match="whole"):
        Student(stepped)


# learning


def gap(student, teacher):
    """Root mean square error of the one-step sample."""
    x = 0.5 * drawn(500, 1, seed=3)
    t = torch.full((500,), NOISE)
    with torch.no_grad():
        return float((data_of(x, student(x, t), t) - teacher.consistency(x, t)).square().mean().sqrt())


def learn(loss, steps=700):
    student = Student(small())
    run = Run(student, loss, RunConfig(steps=steps, rate=5e-3, average=0.95))
    run.train()
    run.use_average()
    return student


def test_a_student_reaches_the_exact_consistency_function_and_stays():
    teacher = GaussianTeacher(0.2, 0.3)
    student = learn(tbcm(teacher, (1,), Config(points=10, trajectories=16, warm_up=40)))
    naive = gap(teacher, teacher)
    assert naive > 0.25  # one step of the teacher says the mean
    assert gap(student, teacher) < 0.2 * naive
    x = gaussian(2000, (1,), 0.5, torch.Generator().manual_seed(0))
    with torch.no_grad():
        two = jump(student, x, jumps(2), torch.Generator().manual_seed(1))
    assert float(two.std()) == pytest.approx(0.3, abs=0.05)
    assert float(two.mean()) == pytest.approx(0.2, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("taught", [True, False])
def test_with_images_it_comes_closer_too(taught):
    teacher = GaussianTeacher(0.2, 0.3)
    images = 0.2 + 0.3 * drawn(4000, 1)
    config = Config(points=10, trajectories=16, warm_up=40, mean=0.0, spread=1.6)
    student = learn(scm(images, teacher if taught else None, config))
    assert gap(student, teacher) < 0.5 * gap(teacher, teacher)


def test_images_are_read_by_the_arm_with_images_alone():
    class Watched:
        device = torch.device("cpu")
        reads = 0

        def __len__(self):
            return 10

        def __getitem__(self, which):
            Watched.reads += 1
            return drawn(len(which), 1)

    teacher, student, rng = GaussianTeacher(0.2, 0.3), Student(small()), np.random.default_rng(0)
    encoded = []
    scm(Watched(), teacher, Config(points=3), encode=lambda x: encoded.append(len(x)) or x)(student, rng)
    assert Watched.reads == 1
    assert encoded == [16]
    tbcm(teacher, (1,), Config(points=3))(student, rng)
    assert Watched.reads == 1


def test_a_run_goes_on_where_it_was_with_its_warm_up(tmp_path):
    teacher, config = GaussianTeacher(0.2, 0.3), Config(points=4, trajectories=4)
    settings = RunConfig(steps=8, average=0.9)

    def made():
        return Run(Student(small()), tbcm(teacher, (1,), config), settings)

    whole = made()
    whole.train()
    first = made()
    first.train(seconds=0.0)
    while first.step < 3:
        first.parts = first._take()
    first.save(tmp_path / "run")
    second = made()
    second.resume(tmp_path / "run")
    assert int(second.network.step) == 3
    second.train()
    for a, b in zip(whole.network.state_dict().values(), second.network.state_dict().values()):
        assert torch.equal(a, b)


def test_the_teacher_is_not_changed_by_its_student():
    teacher = small()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    student = Student(teacher)
    Run(student, tbcm(teacher, (1,), Config(points=4)), RunConfig(steps=3, rate=1e-2)).train()
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert not torch.equal(before["net.0.weight"], student.velocity.state_dict()["net.0.weight"])
