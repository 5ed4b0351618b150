"""Representations in torch: the same numbers as in NumPy for every stream of a batch, and gradients."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra `learn`)")

from perception.events import EventStream, represent  # noqa: E402
from perception.events import represent_torch as batched  # noqa: E402

W, H = 13, 11
LENGTHS = (40, 0, 1, 300, 25)


def stream_of(n, seed, last=1000):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, last + 1, n)) + 10**12
    return EventStream(rng.integers(0, W, n), rng.integers(0, H, n), t, rng.integers(0, 2, n), W, H)


@pytest.fixture(scope="module")
def streams():
    return [stream_of(n, seed, 0 if seed == 4 else 1000) for seed, n in enumerate(LENGTHS)]


@pytest.fixture(scope="module")
def batch(streams):
    return batched.EventBatch.of(streams)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("count_image", ()),
        ("frames", (1,)),
        ("frames", (7,)),
        ("event_stack", (5,)),
        ("event_stack", (5, "count")),
        ("event_stack", (3, "time", "last")),
        ("event_stack", (3, "count", "last")),
        ("voxel_grid", (1,)),
        ("voxel_grid", (5,)),
        ("time_surface", (120.0,)),
        ("spike_tensor", (1,)),
        ("spike_tensor", (9,)),
        ("last_times", (-1,)),
    ],
)
def test_same_as_numpy(streams, batch, name, args):
    together = getattr(batched, name)(batch, *args)
    for stream, found in zip(streams, together):
        expected = getattr(represent, name)(stream, *args)
        assert found.dtype == torch.as_tensor(expected).dtype
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def test_a_common_span(streams):
    span = (10**12 - 5, 10**12 + 2000)
    batch = batched.EventBatch.of(streams, span)
    for stream, grid in zip(streams, batched.voxel_grid(batch, 4)):
        np.testing.assert_allclose(grid.numpy(), represent.voxel_grid(stream, 4, span), atol=1e-4)


def test_warped_image_is_that_of_numpy_and_has_gradients(streams, batch):
    flow = torch.tensor([[1500.0, -700.0]] * len(streams), requires_grad=True)
    image = batched.warped_image(batch, flow)
    for stream, found in zip(streams, image.detach()):
        np.testing.assert_allclose(found.numpy(), represent.warped_image(stream, (1500.0, -700.0)), atol=2e-3)
    image.square().sum().backward()
    assert flow.grad[[0, 3]].abs().min() > 0
    assert flow.grad[1].abs().max() == 0  # no events


def test_gradient_of_contrast_is_that_of_finite_differences():
    batch = batched.EventBatch.of([stream_of(60, 3)])

    def contrast(flow):
        return batched.warped_image(batch, flow).square().sum()

    flow = torch.tensor([[333.3, 151.7]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(contrast, flow, eps=1e-3, atol=1e-3)


def test_a_field_of_flow(streams, batch):
    field = torch.zeros(len(streams), 2, H, W)
    field[:, 0] = 1500.0
    np.testing.assert_allclose(
        batched.warped_image(batch, field).numpy(),
        batched.warped_image(batch, field[:, :, 0, 0]).numpy(),
        atol=1e-4,
    )


def test_real_coordinates_are_shared_out(batch):
    x = (batch.x.double() + 0.25).requires_grad_()
    grid = batched.voxel_grid(batch._replace(x=x, y=batch.y.double()), 3)
    exact = batched.voxel_grid(batch, 3)
    expected = 0.75 * exact[..., 1:] + 0.25 * exact[..., :-1]
    np.testing.assert_allclose(grid[..., 1:].detach(), expected, atol=1e-4)
    grid.square().sum().backward()
    assert x.grad.abs().sum() > 0


def test_the_learned_kernel_starts_as_the_triangle_and_learns(streams, batch):
    module = batched.SpikeTensor(bins=5)
    with torch.no_grad():
        error = module(batch) - batched.spike_tensor(batch, 5)
    assert error.abs().mean() < 0.02
    module(batch).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in module.parameters())
    again = batched.SpikeTensor(bins=5)
    assert all(torch.equal(a, b) for a, b in zip(module.state_dict().values(), again.state_dict().values()))


def test_wrong_batches_are_refused(streams):
    with pytest.raises(ValueError, match="one sensor size"):
        batched.EventBatch.of([streams[0], EventStream.empty(W, H + 1)])
    with pytest.raises(ValueError, match="one sensor size"):
        batched.EventBatch.of([])


@pytest.mark.parametrize(
    ("flow", "match"),
    [
        (torch.zeros(2), r"shape \(5, 2\)"),
        (torch.zeros(1, 2), r"shape \(5, 2\)"),
        (torch.zeros(6, 2), r"shape \(5, 2\)"),
        (torch.zeros(5, 2, H + 1, W + 1), rf"\(5, 2, {H}, {W}\)"),
        (torch.full((5, 2), torch.nan), "finite"),
    ],
)
def test_wrong_flow_is_refused_as_in_numpy(batch, flow, match):
    with pytest.raises(ValueError, match=match):
        batched.warped_image(batch, flow)


def test_events_that_were_moved_off_the_sensor_have_the_flow_of_its_border(batch):
    flow = torch.zeros(len(LENGTHS), 2, H, W)
    flow[..., -1] = 1e9  # an index of -1 must not wrap to here
    x, y = batched.moved(batch._replace(x=batch.x * 0.0 - 1, y=batch.y * 0.0 + H), flow)
    assert (x == -1).all()
    assert (y == H).all()


@pytest.mark.parametrize("tau", [0.0, torch.inf, torch.nan])
def test_wrong_tau_is_refused_as_in_numpy(batch, tau):
    with pytest.raises(ValueError, match="tau must be > 0 us and finite"):
        batched.time_surface(batch, tau)


def test_a_learned_kernel_of_many_events_is_read_from_a_table_with_the_same_gradients():
    torch.manual_seed(0)
    module = batched.SpikeTensor(bins=3)
    rng = np.random.default_rng(0)
    n = batched.TABLE
    stream = EventStream(
        rng.integers(0, 6, n),
        rng.integers(0, 5, n),
        np.sort(rng.integers(0, 10**6, n)),
        rng.random(n) < 0.5,
        6,
        5,
    )
    events = batched.EventBatch.of([stream])
    weight = torch.randn(1, 6, 5, 6)

    def gradients(of):
        module.zero_grad()
        grid = of()
        (grid * weight).sum().backward()
        return grid.detach(), [p.grad.clone() for p in module.parameters()]

    quick = gradients(lambda: module(events))
    exact = batched.SpikeTensor._kernel_at
    try:
        batched.SpikeTensor._kernel_at = lambda self, s: self.kernel(s.reshape(-1, 1)).reshape(s.shape)
        slow = gradients(lambda: module(events))
    finally:
        batched.SpikeTensor._kernel_at = exact
    scale = slow[0].abs().max()
    assert (quick[0] - slow[0]).abs().max() < 1e-4 * scale
    for a, b in zip(quick[1], slow[1]):
        assert (a - b).norm() < 2e-3 * b.norm() + 1e-3
