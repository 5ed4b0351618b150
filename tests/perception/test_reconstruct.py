"""Reconstruction: what needs no training is exact, losses say what they should, networks keep their state."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from perception.events import EventStream
from perception.events.represent_torch import EventBatch
from perception.reconstruct.classical import Integrator, wiener
from perception.reconstruct.fit import FADING, Sequences, photometric, supervised
from perception.reconstruct.losses import (
    constancy_loss,
    contrast_loss,
    measured_increment,
    photometric_loss,
    similarity,
    standardised,
    supervised_loss,
    warp,
)
from perception.reconstruct.model import Reconstructor, displayed, load
from perception.reconstruct.networks import E2VID, FireFlowNet, FireNet
from perception.reconstruct.scores import scores
from sims.camera import PERFECT, EventCamera, Pixels, replayed
from sims.saccades import TRIANGLE, moved, saccade, way

SPAN = (0, 9_999)


def pattern(width=48, height=48):
    y, x = np.mgrid[:height, :width]
    return np.log(0.5 + 0.2 * np.sin(2 * np.pi * x / 16) + 0.2 * np.sin(2 * np.pi * (y + x) / 24))


def bars(width=48, height=48):
    """Sharp edges with nothing between them."""
    y, x = np.mgrid[:height, :width]
    return np.where((np.abs(x - 15) < 3) | (np.abs(y - 30) < 4) | (np.abs(x + y - 60) < 3), 0.0, -1.5)


def drifting(by, threshold=0.05, steps=20, image=None):
    """Images at both ends, and events, of a pattern that moves by (x, y) pixels in 10 ms."""
    image = pattern() if image is None else image
    where = np.linspace((0, 0), by, steps + 1)
    film = [(k * 10_000 // steps, f) for k, f in enumerate(moved(image, where))]
    events = EventCamera(48, 48, Pixels(on=threshold, off=threshold, mismatch=0)).film(film).events
    return film[0][1] / threshold, film[-1][1] / threshold, events.between(0, 10_000)


def batch(events):
    return EventBatch.of([events], span=SPAN)


def as_flow(by):
    return torch.tensor(by, dtype=torch.float32)[None, :, None, None].expand(1, 2, 48, 48)


def test_integration_without_forgetting_is_the_replay_of_the_events():
    image = pattern()
    events = saccade(np.exp(image), offset=1e-3, pixels=PERFECT).events
    found = Integrator(48, 48, threshold=0.2)
    for part in events.by_count(1000):
        level = found.step(part)
    assert np.allclose(level, replayed(events, np.zeros((48, 48)), np.full((2, 48, 48), 0.2)))


def test_a_highpass_forgets_at_its_rate_whatever_the_pieces():
    events = EventStream([1, 1, 0], [0, 0, 0], [0, 100_000, 150_000], [1, 1, 0], 2, 1)
    whole = Integrator(2, 1, cutoff=5.0).step(events, 300_000)
    assert whole[0, 1] == pytest.approx(np.exp(-5 * 0.3) + np.exp(-5 * 0.2))
    assert whole[0, 0] == pytest.approx(-np.exp(-5 * 0.15))
    parts = Integrator(2, 1, cutoff=5.0)
    for k in range(3):
        parts.step(events[k : k + 1])
    assert np.allclose(parts.step(events[:0], 300_000), whole)
    with pytest.raises(ValueError, match="must lie between"):
        parts.step(events)
    with pytest.raises(ValueError, match="pixels are expected"):
        parts.step(EventStream.empty(3, 1))
    with pytest.raises(ValueError, match="cutoff"):
        Integrator(2, 1, cutoff=-1)
    early = Integrator(2, 1)
    early.step(EventStream.empty(2, 1))
    assert early.step(EventStream([0], [0], [-5], [1], 2, 1)).tolist() == [[1, 0]]


def test_wieners_filter_finds_the_image_that_was_moved():
    image = np.exp(pattern())
    legs, when = way(TRIANGLE, 100_000, 24)
    events = saccade(image, offset=1e-3, pixels=Pixels(on=0.1, off=0.1, mismatch=0.01)).events
    parts = [events.between(int(when[k]), int(when[k + 24])) for k in (0, 24, 48)]
    found = wiener(parts, legs[::24], threshold=0.1)
    assert np.corrcoef(found.ravel(), pattern().ravel())[0, 1] > 0.95
    whole = Integrator(48, 48).step(events)
    assert abs(np.corrcoef(whole.ravel(), pattern().ravel())[0, 1]) < 0.3  # a closed way adds up to nothing
    with pytest.raises(ValueError, match="4 ends"):
        wiener(parts, legs[:2])


@pytest.mark.parametrize("by", [(0.5, 0.2), (1.5, -1.0), (3.0, 1.0)])
def test_events_moved_along_flow_add_up_to_what_the_image_predicts(by):
    before, _, events = drifting(by)
    gradient = np.stack(np.gradient(before)[::-1])
    there = warp(torch.tensor(gradient, dtype=torch.float32)[None], as_flow(by))[0].numpy()
    predicted = -(there[0] * by[0] + there[1] * by[1])[6:-6, 6:-6].ravel()
    seen = measured_increment(batch(events), as_flow(by))[0, 0, 6:-6, 6:-6].numpy().ravel()
    assert np.corrcoef(seen, predicted)[0, 1] > 0.95
    assert (seen @ predicted) / (predicted @ predicted) == pytest.approx(
        1, abs=0.17
    )  # a pixel says whole steps


def test_an_image_explains_its_own_events_and_another_does_not():
    before, _, events = drifting((1.5, -1.0))
    image = torch.tensor(before, dtype=torch.float32)[None, None]
    right = photometric_loss(image, batch(events), as_flow((1.5, -1.0)))
    for other, flow in (
        (image, (-1.5, 1.0)),
        (-image, (1.5, -1.0)),
        (image.flip(-1), (1.5, -1.0)),
        (image * 0, (1.5, -1.0)),
    ):
        assert right < 0.5 * photometric_loss(other, batch(events), as_flow(flow))


def test_contrast_is_best_at_the_flow_that_there_was():
    _, _, events = drifting((3.0, 1.5), threshold=0.4, image=bars())
    losses = {
        (u, v): float(contrast_loss(batch(events), as_flow((u, v)), smooth=0.0))
        for u in (-3.0, 0.0, 1.5, 3.0, 4.5)
        for v in (-1.5, 0.0, 1.5, 3.0)
    }
    assert min(losses, key=losses.get) == (3.0, 1.5)


def test_flow_learns_the_motion_from_contrast_alone():
    _, _, events = drifting((2.0, 0.5), threshold=0.4, image=bars())
    flow = torch.zeros(1, 2, 1, 1, requires_grad=True)
    optimizer = torch.optim.Adam([flow], lr=0.1)
    for _ in range(60):
        loss = contrast_loss(batch(events), flow.expand(1, 2, 48, 48), smooth=0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert flow.detach().flatten().tolist() == pytest.approx([2.0, 0.5], abs=0.6)


def test_sums_of_events_are_most_constant_along_the_flow_that_there_was():
    film = moved(pattern(), [(k * 1.5, k * -0.5) for k in range(8)])
    sums = [np.zeros_like(film[0])]
    for before, after in pairwise(film):  # as events add up
        sums.append(FADING * sums[-1] + 5 * (after - before))
    pair = [torch.tensor(s, dtype=torch.float32)[None, None] for s in sums[-2:]]
    losses = {
        (u, v): float(constancy_loss(*pair, as_flow((u, v)), smooth=0.0))
        for u in (-1.5, 0.0, 1.0, 1.5, 2.0, 3.0)
        for v in (-1.5, -0.5, 0.0, 0.5)
    }
    assert min(losses, key=losses.get) == (1.5, -0.5)


def test_warping_moves_an_image_along_flow():
    image = torch.tensor(pattern(), dtype=torch.float32)[None, None]
    there = warp(image, as_flow((2.0, -1.0)))
    assert torch.allclose(there[0, 0, 5:40, 5:40], image[0, 0, 6:41, 3:38], atol=1e-5)
    assert torch.allclose(warp(image, as_flow((0.0, 0.0))), image, atol=1e-5)


def test_similarity_is_that_of_its_definition():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 20, 24))
    at = np.arange(-5, 6)
    line = np.exp(-(at**2) / 4.5)
    window = np.outer(line, line) / line.sum() ** 2
    found = []
    for y in range(10):
        for x in range(14):
            one, other = a[y : y + 11, x : x + 11], b[y : y + 11, x : x + 11]
            m, n = (window * one).sum(), (window * other).sum()
            v, w = (window * (one - m) ** 2).sum(), (window * (other - n) ** 2).sum()
            cov = (window * (one - m) * (other - n)).sum()
            c1, c2 = (0.01 * 3) ** 2, (0.03 * 3) ** 2
            found.append((2 * m * n + c1) * (2 * cov + c2) / ((m**2 + n**2 + c1) * (v + w + c2)))
    one, other = (torch.tensor(i)[None, None] for i in (a, b))
    assert float(similarity(one, other, 3.0)) == pytest.approx(np.mean(found))
    assert float(similarity(one, one, 3.0)) == pytest.approx(1)


def test_scores_do_not_see_gain_and_offset_and_know_a_sign():
    truth = np.stack([pattern(), pattern().T])
    same = scores(3 * truth + 7, truth)
    assert same.error.max() < 1e-6
    assert same.similarity.min() > 0.999
    noise = np.random.default_rng(0).normal(size=truth.shape)
    assert scores(noise, truth).error.min() > 0.9
    assert scores(-truth, truth).error.min() == pytest.approx(1)  # a negative is not the image
    assert scores(-truth, truth).similarity.max() < 0.5
    assert np.isfinite(scores(truth * 0, truth).error).all()
    black = scores(truth, np.stack([truth[0], truth[1] * 0]))
    assert np.isnan(black.error).tolist() == np.isnan(black.similarity).tolist() == [False, True]
    with pytest.raises(ValueError, match="one shape"):
        scores(truth[:, :5], truth[:, :5])


@pytest.mark.parametrize("network", [FireNet(), E2VID(channels=4, encoders=2)])
@pytest.mark.parametrize("size", [(16, 16), (17, 22)])
def test_networks_remember_and_every_weight_learns(network, size):
    torch.manual_seed(0)
    voxels = torch.randn(3, 2, 5, *size)
    one, state = network(voxels[0])
    assert one.shape == (2, 1, *size)
    two, later = network(voxels[1], state)
    fresh, _ = network(voxels[1])
    assert not torch.allclose(two, fresh)
    alone, _ = network(voxels[1, :1], tuple(s[:1] for s in state))
    assert torch.allclose(two[:1], alone, atol=1e-5)
    image, _ = network(voxels[2], later)
    network.zero_grad()
    supervised_loss(image, torch.randn(2, 1, *size)).backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name


def test_sizes_are_those_of_the_papers():
    count = {type(n).__name__: sum(p.numel() for p in n.parameters()) for n in (FireNet(), E2VID())}
    assert 37_000 < count["FireNet"] < 39_000
    assert 10.6e6 < count["E2VID"] < 10.8e6


def test_flow_starts_at_rest_and_keeps_in_reach():
    network = FireFlowNet(reach=4.0)
    voxels = torch.randn(1, 5, 16, 16)
    assert network(voxels).abs().max() < 0.1
    with torch.no_grad():
        network.out.weight.mul_(1e6)
    assert network(voxels).abs().max() <= 4


def data(n=3, windows=5):
    _, after, events = drifting((1.0, 0.5), threshold=0.15)
    from perception.events.represent import voxel_grid

    grid = torch.tensor(voxel_grid(events, 5, SPAN)).expand(n, windows, 5, 48, 48)
    truth = torch.tensor(after, dtype=torch.float32).expand(n, windows, 48, 48)
    flow = as_flow((1.0, 0.5)).expand(n, windows, 2, 48, 48)
    return Sequences(grid, truth, flow, [[events] * windows] * n, np.array([SPAN] * windows))


@pytest.mark.parametrize(("flow", "part"), [("constancy", "flow"), ("contrast", "contrast")])
def test_training_without_labels_never_reads_them(flow, part):
    whole = data()
    blind = Sequences(whole.voxels, None, None, whole.events, whole.span)
    found = []
    for known in (whole, blind):
        torch.manual_seed(0)
        network = torch.nn.ModuleDict({"image": FireNet(channels=4), "flow": FireFlowNet(channels=4)})
        parts = photometric(known, batch=2, length=4, flow=flow)(network, np.random.default_rng(0))
        assert set(parts) == {part, "photometric", "constancy", "variation"}
        torch.stack(list(parts.values())).sum().backward()
        found.append([p.grad.clone() for p in network.parameters()])
        assert all(p.grad.abs().sum() > 0 for p in network.parameters())
    assert all(torch.equal(a, b) for a, b in zip(*found))


class Told(torch.nn.Module):
    """Stands for a network: says the sum of each window's voxels plus what it said before."""

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))

    def forward(self, voxels, state=None):
        before = torch.zeros_like(voxels[:, :1]) if state is None else state[0]
        said = before + self.gain * voxels.sum(1, keepdim=True)
        return said, (said,)


def changing(n=4, windows=6):
    """Sequences whose truth is the sum of their voxels."""
    rng = torch.Generator().manual_seed(0)
    voxels = torch.randn(n, windows, 5, 16, 20, generator=rng)
    truth = voxels.sum(2).cumsum(1)
    return Sequences(
        voxels, (truth - truth.mean((2, 3), keepdim=True)) / truth.std((2, 3), keepdim=True, unbiased=False)
    )


@pytest.mark.parametrize("seed", range(12))
def test_supervised_batches_are_changed_alike_and_images_meet_the_truth_of_their_window(seed):
    """Mirrored, transposed or negated, from any window on: only the right network has a small loss."""
    whole = changing()
    part = supervised(whole, batch=3, length=6, first=0, bfloat16=False)
    exact = float(part(Standard(), np.random.default_rng(seed))["supervised"].detach())
    assert exact < 1e-3
    for wrong in (whole.truth.roll(1, 1), -whole.truth, whole.truth.flip(-1)):
        other = supervised(Sequences(whole.voxels, wrong), batch=3, length=6, first=0, bfloat16=False)
        assert float(other(Standard(), np.random.default_rng(seed))["supervised"].detach()) > 0.5


class Standard(Told):
    """The same, standardised."""

    def forward(self, voxels, state=None):
        said, state = super().forward(voxels, state)
        return standardised(said), state


def test_images_before_a_window_must_explain_its_events():
    """The photometric loss of training: it is small for the image at the window's beginning alone."""
    by = (2.0, -1.0)
    film, streams, image = [], [], pattern()
    for k in range(4):
        before, _, events = drifting(by, image=moved(pattern(), [(k * by[0], k * by[1])])[0])
        film.append(before)
        streams.append(events)

    class Fixed(torch.nn.Module):
        """Says images of a list, whatever the voxels."""

        def __init__(self, images):
            super().__init__()
            self.images = images

        def forward(self, voxels, state=None):
            k = 0 if state is None else int(state[0]) + 1
            return self.images[k].expand(len(voxels), 1, 48, 48), (torch.tensor(k),)

    def loss(images, flow=by):
        known = as_flow(flow).expand(1, 4, 2, 48, 48)
        data = Sequences(torch.zeros(1, 4, 5, 48, 48), None, known, [streams], np.array([SPAN] * 4))
        network = {"image": Fixed(images)}
        parts = photometric(data, batch=1, length=4, first=1, flow="known")(network, np.random.default_rng(0))
        return {name: float(value) for name, value in parts.items()}

    true = [torch.tensor(f, dtype=torch.float32) for f in [*film[1:], film[0]]]  # said at windows' ends
    right = loss(true)
    assert image.shape == (48, 48)
    assert right["photometric"] < 0.1 * loss([t * 0 for t in true])["photometric"]
    assert right["photometric"] < 0.5 * loss([true[(k + 1) % 4] for k in range(4)])["photometric"]  # too late
    assert right["photometric"] < 0.5 * loss(true, (-2.0, 1.0))["photometric"]
    assert right["constancy"] < 0.5 * loss(true, (-2.0, 1.0))["constancy"]


def test_flow_is_not_moved_by_what_explains_events():
    torch.manual_seed(0)
    network = torch.nn.ModuleDict({"image": FireNet(channels=4), "flow": FireFlowNet(channels=4)})
    parts = photometric(data(), batch=1, length=4)(network, np.random.default_rng(0))
    parts["photometric"].backward()
    assert all(p.grad is None for p in network["flow"].parameters())


def test_losses_ask_for_what_they_need():
    whole = data()
    with pytest.raises(ValueError, match="needs the truth"):
        supervised(Sequences(whole.voxels))
    short = Sequences(whole.voxels[:, :2], whole.truth[:, :2], whole.flow[:, :2], whole.events, whole.span)
    for make in (supervised, photometric):
        with pytest.raises(ValueError, match="windows"):
            make(short)
    with pytest.raises(ValueError, match="needs events"):
        photometric(Sequences(whole.voxels, whole.truth))
    parts = supervised(whole, batch=2, length=4)(FireNet(channels=4), np.random.default_rng(0))
    assert torch.isfinite(parts["supervised"])


def test_a_reconstructor_goes_window_by_window_and_comes_back_from_a_file(tmp_path):
    torch.manual_seed(0)
    _, _, events = drifting((1.0, 0.5), threshold=0.15)
    for network in (FireNet(channels=4), E2VID(channels=4, encoders=1)):
        found = Reconstructor(network.eval(), period=10_000)
        first = found.step(events, SPAN)
        second = found.step(events, SPAN)
        assert first.shape == (48, 48)
        assert not np.allclose(first, second)
        assert np.isfinite(found.step(EventStream.empty(48, 48))).all()
        with pytest.raises(ValueError, match="reset"):
            found.step(EventStream.empty(20, 48))
        found.save(tmp_path / "net.safetensors", steps=1)
        again = load(tmp_path / "net.safetensors")
        assert (again.step(events, SPAN) == first).all()
        found.reset()
        assert (found.step(events, SPAN) == first).all()


def test_files_of_something_else_are_refused(tmp_path):
    from tracking.formats.weights import write_weights

    network = FireNet(channels=4)
    settings = {"bins": 5, "channels": 10**6}
    write_weights(
        tmp_path / "a.safetensors",
        "reconstruct",
        {"network": "FireNet", "settings": settings, "period": 1},
        network.state_dict(),
    )
    with pytest.raises(ValueError, match="do not fit"):
        load(tmp_path / "a.safetensors")
    right = {"network": "FireNet", "settings": {"bins": 5, "channels": 4}, "period": 1}
    for wrong in (
        {"period": 0},
        {"period": True},
        {"period": float("inf")},
        {"network": "E2VID", "settings": {"encoders": -1}},
        {"network": "E2VID", "settings": {"encoders": 200_000}},
        {"network": "os"},
    ):
        write_weights(tmp_path / "a.safetensors", "reconstruct", right | wrong, network.state_dict())
        with pytest.raises(ValueError, match="does not hold a reconstruction network"):
            load(tmp_path / "a.safetensors")
    write_weights(tmp_path / "a.safetensors", "reconstruct", {"network": "os"}, network.state_dict())
    with pytest.raises(ValueError, match="does not hold a reconstruction network"):
        load(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="are shipped"):
        load("nothing")


def test_pictures_span_black_to_white():
    picture = displayed(pattern())
    assert picture.dtype == np.uint8
    assert (picture.min(), picture.max()) == (0, 255)
    assert (displayed(np.zeros((3, 3))) == 0).all()
    for wrong in (np.full((3, 3), np.nan), np.zeros((0, 3))):
        with pytest.raises(ValueError, match="finite"):
            displayed(wrong)


def test_standardised_images_have_no_gain_and_offset():
    image = torch.tensor(pattern())[None, None]
    assert torch.allclose(standardised(image), standardised(3 * image - 2), atol=1e-6)


def test_the_command_line_makes_a_film(tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")
    from perception.events import write
    from perception.reconstruct.__main__ import main

    torch.manual_seed(0)
    Reconstructor(FireNet(channels=4).eval(), period=2_000).save(tmp_path / "net.safetensors")
    write(drifting((1.0, 0.5), threshold=0.15)[2], tmp_path / "a.npz")
    argv = [str(tmp_path / "a.npz"), "--weights", str(tmp_path / "net.safetensors"), "--size", "48x48"]
    assert main([*argv, "--out", str(tmp_path / "a.gif")]) == 0
    with image.open(tmp_path / "a.gif") as gif:
        assert 3 <= gif.n_frames <= 5  # Pillow joins pictures that are equal
        assert gif.size == (240, 240)
    assert main([*argv, "--out", str(tmp_path / "a.gif"), "--most", "2"]) == 0
    assert "first 2 pictures" in capsys.readouterr().err
    assert main([*argv[:-2], "--out", str(tmp_path / "a.avi")]) == 2


def test_shipped_weights_are_small_and_see_a_room():
    from perception.reconstruct.model import SHIPPED
    from sims.camera import log_intensity
    from sims.clips import random_clip

    files = list(SHIPPED.glob("*.safetensors"))
    assert [file.stem for file in files] == ["firenet"]
    assert sum(file.stat().st_size for file in files) < 1 << 20
    clip = random_clip(3_000_001, side=48, frames=14)
    reconstructor, sums, said, added = load(), Integrator(48, 48), [], []
    for k in range(len(clip)):
        window, span = clip.window(k), (int(clip.times[k]), int(clip.times[k + 1]) - 1)
        said.append(reconstructor.step(window, span))
        added.append(sums.step(window, span[1]))
    truth = np.stack([log_intensity(image) for image in clip.image[1:]])
    learned, plain = scores(np.stack(said)[8:], truth[8:]), scores(np.stack(added)[8:], truth[8:])
    assert learned.error.mean() < 0.6 * plain.error.mean()
    assert learned.similarity.mean() > plain.similarity.mean() + 0.2
