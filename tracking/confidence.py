"""Is a track what the detector looks for? The scores of all its detections together decide.

A false object that stands still is detected again and again: every scan confirms that something is there,
and a filter rightly becomes sure of it. That it is no car is told by its scores alone, and those are not
independent: what scored low once scores low again. So existence comes from the filter and class from here,
with n scores that correlate by rho counting as n / (1 + (n - 1) rho).

    sure = Confidence(ScoreModel(slope=2.0, neutral=3.0))
    for time, z, score in scans:
        tracks = sure.step(tracker.step(z, time), score)

Source: the effective sample size of equally correlated observations; Kish, "Survey Sampling" (1965), eq. 5.4.
"""

from dataclasses import replace

import numpy as np

from tracking.checks import require_positive, require_probability
from tracking.models.score import ScoreModel
from tracking.tracks import Tracks


class Confidence:
    """Keeps the scores of every track, and passes on the tracks that are likely of the class.

    Args:
        model:       log p(score | class) - log p(score | anything else), of one score.
        prior:       log odds that a track is of the class before any score.
        correlation: of the scores of one track, in [0, 1].
        threshold:   probability from which a track is passed on.
        memory:      s after which the scores of a track that is no longer reported are forgotten.
    """

    def __init__(self, model: ScoreModel, prior=0.0, correlation=0.3, threshold=0.5, memory=60.0):
        require_probability(correlation=correlation, threshold=threshold)
        require_positive(memory=memory)
        self.model, self.prior, self.correlation = model, prior, correlation
        self.threshold, self.memory = threshold, memory
        self.evidence: dict[int, tuple[float, int, float]] = {}  # label -> time, scores, sum of log ratios

    def step(self, tracks: Tracks, score: np.ndarray, distance: np.ndarray | float = 0.0) -> Tracks:
        """The tracks that are likely of the class, `existence` times that probability.

        Args:
            tracks:   of a scan, from any tracker.
            score:    (m,) of the measurements of the scan, in their order.
            distance: (m,) of the measurements from the sensor, m, where the model asks for it.
        Raises:
            ValueError: scores that are not finite, or fewer than the sources of the tracks ask for.
        """
        score = np.asarray(score, float)
        if score.ndim != 1 or not np.isfinite(score).all() or tracks.source.max(initial=-1) >= len(score):
            raise ValueError(
                "score must hold one finite number for every measurement of the scan, got "
                f"{score.tolist()} for sources up to {tracks.source.max(initial=-1)}"
            )
        ratio = -np.log(self.model.clutter_ratio(score, distance))
        probability = np.empty(len(tracks))
        for i, (label, source) in enumerate(zip(tracks.label.tolist(), tracks.source.tolist())):
            _, n, total = self.evidence.get(label, (0.0, 0, 0.0))
            if source >= 0:
                n, total = n + 1, total + float(ratio[source])
            self.evidence[label] = (tracks.time, n, total)
            effective = n / (1 + (n - 1) * self.correlation) if n else 0.0
            log_odds = self.prior + (total / n * effective if n else 0.0)
            probability[i] = 1 / (1 + np.exp(-log_odds))
        self._forget(tracks.time)
        existence = tracks.existence * probability
        return replace(tracks, existence=existence).take(np.flatnonzero(probability >= self.threshold))

    def _forget(self, time: float):
        stale = [label for label, (seen, _, _) in self.evidence.items() if time - seen > self.memory]
        for label in stale:
            del self.evidence[label]
