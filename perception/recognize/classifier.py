"""From a recording to a label."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from perception.events import EventStream, describe, read
from perception.events.represent_torch import EventBatch
from perception.recognize.network import Network
from tracking.formats import weights

SHIPPED = Path(__file__).parent / "weights"
AT_ONCE = 64  # streams


@dataclass(frozen=True)
class Classifier:
    """A trained network, the labels it tells apart, and the sensor it was trained for.

    labels: names, in the order of the network's answers.
    width, height: pixels.
    """

    network: Network
    labels: tuple[str, ...]
    width: int
    height: int

    @torch.no_grad()
    def probabilities(self, streams: Sequence[EventStream]) -> np.ndarray:
        """(n, labels) float64, one row for each stream, which adds up to 1.

        Raises:
            ValueError: a stream of another sensor, or without events.
        """
        for k, stream in enumerate(streams):
            if (stream.width, stream.height) != (self.width, self.height):
                raise ValueError(
                    f"stream {k} is of {stream.width} x {stream.height} pixels, this classifier was trained "
                    f"for {self.width} x {self.height}. EventStream.crop cuts a part out."
                )
            if not len(stream):
                raise ValueError(f"stream {k} has no events, so there is nothing to recognize")
        device = next(self.network.parameters()).device
        out = [np.zeros((0, len(self.labels)))]
        for start in range(0, len(streams), AT_ONCE):
            batch = EventBatch.of(streams[start : start + AT_ONCE], device=device)
            out.append(self.network(batch).double().softmax(-1).cpu().numpy())
        return np.concatenate(out)

    def label(self, stream: EventStream) -> str:
        """The most probable label."""
        return self.labels[int(self.probabilities([stream])[0].argmax())]

    def save(self, path: str | Path, **about: Any) -> None:
        """Write weights and description to one file; `about` is kept beside them, for a card."""
        network = self.network
        document = {
            "representation": network.representation,
            "bins": network.bins,
            "width": network.width,
            "labels": list(self.labels),
            "sensor": [self.width, self.height],
            "about": about,
        }
        weights.write_weights(path, "recognize", document, network.state_dict())


def load(name: str | Path = "nmnist", device="cpu") -> Classifier:
    """A classifier: shipped weights by name, or a safetensors file.

    Raises:
        ValueError: no such weights, or a file of something else.
    """
    path = weights.found(name, SHIPPED)
    document, tensors = weights.read_weights(path, "recognize")
    with weights.expecting(path, "a classifier"):
        labels, sensor = document["labels"], document["sensor"]
        if not isinstance(labels, list) or len({str(label) for label in labels}) != len(labels):
            raise ValueError(f"its labels are {labels!r}")
        nothing = EventStream.empty(*sensor)
        settings = {key: document[key] for key in ("representation", "bins", "width")}
        network = weights.filled(lambda: Network(len(labels), **settings, fitted=False), tensors)
    names = tuple(str(label) for label in labels)
    return Classifier(network.to(device), names, nothing.width, nothing.height)


def recognize(recording: EventStream | str | Path, classifier: str | Path | Classifier = "nmnist") -> str:
    """Label of a recording: a stream, or a file of any format that `perception.events.read` knows."""
    if not isinstance(classifier, Classifier):
        classifier = load(classifier)
    return classifier.label(stream_of(recording, classifier))


def stream_of(recording: EventStream | str | Path, classifier: Classifier) -> EventStream:
    """A recording as a stream; a file that does not tell its sensor's size has the classifier's."""
    if isinstance(recording, EventStream):
        return recording
    size = None if describe(recording).size else (classifier.width, classifier.height)
    return read(recording, size=size)
