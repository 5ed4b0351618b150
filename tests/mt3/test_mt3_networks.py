"""What both networks must keep: order and padding of tokens, gradients, labels that cannot leak."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from small_networks import stirred  # tests/mt3/small_networks.py

from sims.train.mt3 import trajectory_loss_of as loss_of
from tracking.mt3.answers import of_age
from tracking.mt3.attention import TrajectoryAttention, TrajectoryConfig, _features
from tracking.mt3.criterion import Criterion
from tracking.mt3.network import MT3Network
from tracking.mt3.trajectory import TrajectoryNetwork


def spoken(network, windows):
    """Answers of the last layer that count, ordered by their measurements: existence and mean."""
    answer = network(windows)[0][-1]
    found = []
    for mask, logit, mean, token, z in zip(answer.mask, answer.logit, answer.mean, answer.order, windows.z):
        order = z[token[mask], 0].argsort()
        found.append((logit[mask][order].detach(), mean[mask][order].detach()))
    return found


def assert_same(a, b):
    for (p, x), (q, y) in zip(a, b, strict=True):
        torch.testing.assert_close(p, q, atol=2e-4, rtol=1e-4)
        torch.testing.assert_close(x, y, atol=2e-3, rtol=1e-3)


def test_the_order_of_tokens_does_not_matter(network, windows):
    stirred(network)
    order = torch.randperm(windows.z.shape[1], generator=torch.Generator().manual_seed(1))
    assert_same(spoken(network, windows), spoken(network, windows.tokens(order)))


def test_padding_does_not_matter(network, windows):
    stirred(network)
    more = [torch.cat((a, torch.zeros_like(a[:, :40])), 1) for a in windows[:5]]
    more[3][:, -40:] = -1
    assert_same(spoken(network, windows), spoken(network, type(windows)(*more, *windows[5:])))


def test_padding_does_not_change_the_loss(network, windows, task):
    stirred(network)
    loss = Criterion() if isinstance(network, MT3Network) else loss_of(task)
    more = windows.padded(windows.z.shape[1] + 40)
    torch.testing.assert_close(loss(network, more), loss(network, windows), rtol=1e-3, atol=1e-4)


def test_rows_of_ages_are_rows(windows):
    table = torch.randn(20, 7)
    torch.testing.assert_close(of_age(table, windows.age), table[windows.age])


def test_windows_of_a_batch_do_not_mix(network, windows):
    stirred(network)
    alone = [spoken(network, windows.take(slice(k, k + 1)).trimmed())[0] for k in range(len(windows))]
    assert_same(spoken(network, windows), alone)


def test_labels_are_never_read(network, windows):
    stirred(network)
    for (p, x), (q, y) in zip(spoken(network, windows), spoken(network, windows.blank())):
        assert torch.equal(p, q)
        assert torch.equal(x, y)


def test_every_parameter_learns(network, windows, task):
    network = stirred(network).train()
    loss = Criterion() if isinstance(network, MT3Network) else loss_of(task)
    parts = loss(network, windows)
    assert all(torch.isfinite(v) for v in parts.values())
    sum(parts.values()).backward()
    unused = ("spread.2",)  # MT3v2 trains the encoder's states without their uncertainty
    dead = [k for k, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert [k for k in dead if not k.startswith(unused)] == []


def test_every_part_of_the_loss_is_alive(network, windows, task):
    network = stirred(network).train()
    loss = Criterion() if isinstance(network, MT3Network) else loss_of(task)
    for name, value in loss(network, windows).items():
        network.zero_grad()
        value.backward(retain_graph=True)
        assert sum(p.grad.abs().sum() for p in network.parameters() if p.grad is not None) > 0, name


def test_an_untrained_network_predicts_the_selected_measurements(network, windows, task):
    network.eval()
    answer = network(windows)[0][-1]
    x = task.sight.locate(windows.z)[0]
    chosen = x.gather(1, answer.order[..., None].expand(-1, -1, 2))
    if isinstance(network, MT3Network):
        torch.testing.assert_close(answer.mean[answer.mask][:, :2], chosen[answer.mask], atol=1e-4, rtol=0)
        return
    # the trajectory network goes on with the velocity that the token states
    velocity, age = answer.mean[..., 2:], windows.age.gather(1, answer.order)
    expected = chosen + velocity * (age * task.dt)[..., None]
    torch.testing.assert_close(answer.mean[answer.mask][:, :2], expected[answer.mask], atol=1e-4, rtol=0)


def test_no_more_tokens_than_answers(network, task, windows):
    few = windows.tokens(slice(0, 3))
    stirred(network)
    assert network(few)[0][-1].logit.shape[1] <= 3


def test_the_cascade_keeps_the_tokens_most_like_objects(task, windows):
    torch.manual_seed(0)
    config = TrajectoryConfig(width=32, heads=4, hidden=48, keep=(100_000, 50, 20), refine=(8,))
    answers, stages = stirred(TrajectoryNetwork(task.sight, task.scans, task.dt, config))(windows)
    assert [stage.order.shape[1] for stage in stages] == [windows.z.shape[1], 50, 20]
    assert [answer.order.shape[1] for answer in answers] == [20, 8]
    for before, after in pairwise(stages):
        score = before.auxiliary[..., 0].masked_fill(~windows.real.gather(1, before.order), -1e9)
        kept = (before.order[:, :, None] == after.order[:, None]).any(-1)
        best = torch.where(kept, score, torch.inf).min(1).values
        assert (torch.where(kept, -torch.inf, score).max(1).values <= best).all()
        assert (after.order.diff(dim=1) > 0).all()
    assert set(answers[1].order[0].tolist()) < set(answers[0].order[0].tolist())


def explicit(attention, h, layout):
    """Weights of trajectory attention (heads, n, n) of one window, by its definition."""
    n = h.shape[1]
    q, k, _ = attention.project(h).reshape(n, 3, attention.heads, attention.dim).permute(1, 2, 0, 3)
    v = attention._velocities(h)[0]
    x, s, R = layout.x[0], layout.s[0], layout.R[0]
    logit = torch.empty(attention.heads, n, n)
    for a in range(attention.heads):
        length, tau = attention.log_length[a].exp(), attention.log_time[a].exp()
        for i in range(n):
            cov = length**2 * torch.eye(2)
            if attention.log_noise is not None:
                full = torch.stack((torch.stack((R[i, 0], R[i, 1])), torch.stack((R[i, 1], R[i, 2]))))
                cov = cov + attention.log_noise[a].exp() * full
            ds = s - s[i]
            e = x - x[i] - v[a, i] * ds[:, None]
            logit[a, i] = q[a, i] @ k[a].T / attention.dim**0.5
            logit[a, i] -= 0.5 * (e @ torch.linalg.inv(cov) * e).sum(1) + ds**2 / (2 * tau**2)
            if attention.log_rate is not None:
                logit[a, i] -= (
                    0.5 * (layout.rate[0] - layout.rate[0, i]) ** 2 / (2 * attention.log_rate[a]).exp()
                )
    return logit.softmax(-1)


def test_trajectory_attention_is_what_it_says(trajectory, windows):
    stirred(trajectory)
    few = windows.take(slice(0, 1)).tokens(slice(0, 25))
    layout = trajectory.layout(few)
    config = TrajectoryConfig(width=32, heads=4, hidden=48)
    attention = TrajectoryAttention(config, doppler=trajectory.sight.radar, first=False)
    stirred(attention)
    with torch.no_grad():
        attention.velocity.weight += 1.0
        h = torch.randn(1, 25, 32, generator=torch.Generator().manual_seed(3))
        weight = explicit(attention, h, layout)
        values = attention.project(h).reshape(25, 3, 4, 8)[:, 2].permute(1, 0, 2)
        read = attention._moments((weight @ _features(layout, trajectory.sight.radar)[0])[None], layout)
        expected = attention.out(torch.cat((weight @ values, read[0]), -1).permute(1, 0, 2).flatten(1))
        torch.testing.assert_close(attention(h, layout)[0], expected, atol=2e-3, rtol=1e-3)


def test_moments_of_a_straight_line(trajectory, windows):
    """Attention to the points of one line alone reads off its velocity."""
    few = windows.take(slice(0, 1)).tokens(slice(0, 6))
    layout = trajectory.layout(few)
    s = torch.linspace(-0.9, 0.9, 6)[None]
    v = torch.tensor([1.5, -0.5])
    layout = layout._replace(s=s, x=torch.tensor([2.0, 1.0]) + v * s[..., None])
    attention = TrajectoryAttention(TrajectoryConfig(), doppler=trajectory.sight.radar, first=False)
    weight = torch.full((1, 4, 6, 6), 1 / 6)
    read = attention._moments(weight @ _features(layout, trajectory.sight.radar)[:, None], layout)
    variance = float((s**2).mean())
    slope = v * variance / (variance + 0.02) / 2
    np.testing.assert_allclose(read[0, :, :, 7:9].detach(), slope.expand(4, 6, 2), atol=1e-4)


@pytest.mark.parametrize("part", ["bias", "straight", "moments"])
def test_parts_can_be_left_out(task, windows, part):
    torch.manual_seed(0)
    config = TrajectoryConfig(width=32, heads=4, hidden=48, keep=(100_000, 64), **{part: False})
    answers, _ = TrajectoryNetwork(task.sight, task.scans, task.dt, config)(windows)
    assert torch.isfinite(answers[-1].logit).all()


@pytest.mark.parametrize("bad", [{"width": 30}, {"keep": (0,)}, {"last_scans": 0}])
def test_impossible_sizes_are_refused(bad):
    with pytest.raises(ValueError, match="width must be a multiple of heads and all sizes at least 1"):
        TrajectoryConfig(**bad)
