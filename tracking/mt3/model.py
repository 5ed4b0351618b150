"""A trained network together with what it was trained for; saved as safetensors, never unpickled."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from tracking.checks import require_positive, require_probability
from tracking.formats import weights
from tracking.mt3.attention import TrajectoryConfig
from tracking.mt3.geometry import Sight
from tracking.mt3.network import MT3Network, MT3NetworkConfig
from tracking.mt3.objects import Objects, merged
from tracking.mt3.trajectory import TrajectoryNetwork
from tracking.mt3.windows import Windows

SHIPPED = Path(__file__).parent / "weights"
EPS, SURE = 1e-9, 0.01
MAX_SCANS, MIN_STEP = 10_000, 1e-6  # s


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a network was trained for.

    name:   of the scenario.
    sight:  of the sensor.
    scans:  of a window.
    dt:     s between them.
    dims:   entries of the state that the metric compares.
    clutter, p_detect, speed: expected clutter points a scan, detection probability, and standard deviation of
            a velocity component, m/s: outside these the network has not been trained.
    objects, measurements: the most objects at the end of one of many windows of the task, and measurements in
            one; None: not known.
    """

    name: str
    sight: Sight
    scans: int
    dt: float
    dims: int
    clutter: float
    p_detect: float
    speed: float
    objects: int | None = None
    measurements: int | None = None

    def __post_init__(self):
        require_positive(scans=self.scans, dt=self.dt)
        require_probability(p_detect=self.p_detect)
        for name in ("clutter", "speed", "objects", "measurements"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < np.inf:
                raise ValueError(f"{name} must be finite and >= 0, got {value}")
        if not MIN_STEP <= self.dt or self.scans > MAX_SCANS:
            raise ValueError(
                f"{self.scans} scans of {self.dt:g} s, accepted are {MAX_SCANS} of {MIN_STEP:g} s"
            )


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How answers become reported objects.

    threshold: existence probability from which an object is reported.
    radius:    m, within which answers are of one object.
    gain, gain_high, offset: of the calibration, by which what is said comes true: of a probability p the log
               odds become gain log p - gain_high log(1 - p) + offset. None: as gain.
               With gain_high, p counts as between SURE and 1 - SURE: how sure a network is beyond that says
               nothing of how often it is right, and a few such answers would decide the calibration.
    Source: of the calibration, Kull, Silva Filho, Flach, "Beta calibration" (AISTATS 2017).
    """

    threshold: float = 0.5
    radius: float = 1.0
    gain: float = 1.0
    offset: float = 0.0
    gain_high: float | None = None

    def __post_init__(self):
        require_probability(threshold=self.threshold)
        gains = (self.radius, self.gain, self.gain if self.gain_high is None else self.gain_high)
        if not all(0 <= value < np.inf for value in gains) or not abs(self.offset) < np.inf:
            raise ValueError(f"radius and gains must be finite and >= 0, the offset finite, got {self}")

    def existence(self, p: np.ndarray) -> np.ndarray:
        """Probabilities of existence, of what the network says."""
        high = self.gain if self.gain_high is None else self.gain_high
        if (self.gain, high, self.offset) == (1.0, 1.0, 0.0):
            return p
        least = EPS if self.gain_high is None else SURE
        p = np.clip(p, least, 1 - least)
        return expit(self.gain * np.log(p) - high * np.log1p(-p) + self.offset)


@dataclass(frozen=True)
class Model:
    """A network and all that is needed to use it.

    about: how it was trained.
    name:  of the shipped weights that it was loaded from, or None.
    """

    network: TrajectoryNetwork | MT3Network
    task: Task
    reading: Reading = Reading()
    about: dict[str, Any] = field(default_factory=dict)
    name: str | None = None

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @torch.no_grad()
    def objects(self, windows: Windows) -> list[Objects]:
        """Objects at the last scan of each window, all of them, whatever their existence probability."""
        was = self.network.training
        self.network.eval()
        try:
            answer = self.network(windows)[0][-1]
        finally:
            self.network.train(was)
        said = (answer.logit.sigmoid(), answer.mean, answer.log_std.exp())
        found = []
        arrays = (a.double().cpu().numpy() for a in said)
        order, mask = answer.order.cpu().numpy(), answer.mask.cpu().numpy()
        for *window, tokens, real in zip(*arrays, order, mask):
            p, mean, std = (a[real] for a in window)
            objects = merged(p, mean, std, self.reading.radius)
            existence = self.reading.existence(objects.existence)
            found.append(objects._replace(existence=existence, token=tokens[real][objects.token]))
        return found

    def save(self, path: str | Path, half: bool = False, **about: Any) -> None:
        """Write weights, as float16 if `half`, and description to one file; `about` is kept for a card."""
        document = {**self._document(), "about": about}
        weights.write_weights(path, "mt3", document, self.network.state_dict(), half)

    def with_reading(self, **changed) -> "Model":
        """The same with another threshold or radius."""
        return replace(self, reading=replace(self.reading, **changed), name=None)

    def digest(self) -> str:
        """SHA-256 of what decides the answers: parameters, network, task and reading."""
        found = hashlib.sha256(json.dumps(self._document()).encode())
        for name, value in sorted(self.network.state_dict().items()):
            flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            found.update(flat.numpy())
        return found.hexdigest()

    def _document(self) -> dict[str, Any]:
        """All but the parameters, as JSON."""
        return {
            "network": type(self.network).__name__,
            "config": asdict(self.network.config),
            "task": asdict(self.task),
            "reading": asdict(self.reading),
        }


NETWORKS: dict[str, Any] = {
    "TrajectoryNetwork": (TrajectoryNetwork, TrajectoryConfig),
    "MT3Network": (MT3Network, MT3NetworkConfig),
}


def load(name: str | Path, device="cpu") -> Model:
    """Load shipped weights by name, or a file.

    Args:
        name:   of shipped weights (`shipped()` lists them), or the path of a safetensors file.
        device: where to put the network.
    Raises:
        ValueError: no such weights, a file of something else, or a device that is not here.
        OSError:    the file is missing or cannot be read.
    """
    if not isinstance(name, str | Path):
        raise ValueError(f"weights are a name or a path, got {name!r:.40}")
    check_device(device)
    path = weights.found(name, SHIPPED)
    document, tensors = weights.read_weights(path, "mt3")
    with weights.expecting(path, "weights of MT3"):
        kind, config = NETWORKS[document["network"]]
        task = Task(**document["task"] | {"sight": Sight(**_tuples(document["task"]["sight"]))})
        settings = config(**_tuples(document["config"]))
        network = weights.filled(lambda: kind(task.sight, task.scans, task.dt, settings), tensors)
        reading = Reading(**document["reading"])
        about = dict(document.get("about", {}))
    return Model(network.to(device), task, reading, about, path.stem if path.parent == SHIPPED else None)


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    """JSON knows lists alone."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def check_device(device: Any) -> None:
    """Raise ValueError for a device that is not here."""
    cards = range(torch.cuda.device_count())
    accepted = ["cpu", *(["cuda"] if cards else []), *(f"cuda:{k}" for k in cards)]
    if (str(device) if isinstance(device, torch.device) else device) not in accepted:
        raise ValueError(f"device is {device!r:.40}; accepted here are {', '.join(accepted)}")


def shipped() -> list[str]:
    """Names of the weights that come with the toolkit."""
    return weights.shipped(SHIPPED)


def as_arrays(windows: Windows) -> list[np.ndarray]:
    """True states (k, d) of the objects alive at the end of each window."""
    pairs = zip(windows.target.cpu().numpy().astype(float), windows.alive.cpu().numpy())
    return [target[alive] for target, alive in pairs]
