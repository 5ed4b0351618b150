"""Stone Soup's trackers behind this toolkit's `step`, put together as its tutorials do, on the true models.

    stonesoup-gnn   global nearest neighbour by 2-D assignment, detections in a KD-tree
    stonesoup-jpda  joint probabilistic data association, exact, detections in a KD-tree
    stonesoup-phd   Gaussian-mixture PHD, births from one Gaussian over the whole field

Source: https://stonesoup.readthedocs.io, tutorials 6, 8 and 11 of multi-target tracking. Its clutter density
is 1e-26 per square metre unless one is given; here it is that of the scenario.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from sims.peers.plain import check_models
from sims.scenarios import Scenario
from sims.targets import Scene
from tracking.tracks import Tracks

STONE_SOUP = ("stonesoup-gnn", "stonesoup-jpda", "stonesoup-phd")
START = datetime(2000, 1, 1)
POSITION = (0, 2)  # its states are (x, vx, y, vy)
OURS = (0, 2, 1, 3)
MAX_DISTANCE = 50.0  # m, of a detection from a predicted one: five standard deviations of a new track


@dataclass(frozen=True, kw_only=True)
class StoneSoupSettings:
    """Thresholds of these trackers.

    gate:      squared Mahalanobis distance beyond which a measurement is not associated.
    hits:      measurements from which a track is reported.
    misses:    a track is dropped after so many scans without a measurement.
    threshold: weight from which a component of the PHD is reported.
    """

    gate: float = 16.0
    hits: int = 3
    misses: int = 2
    threshold: float = 0.5


class StoneSoup:
    """One of its trackers, fed scan by scan.

    Args:
        name:     of STONE_SOUP.
        scenario: the problem, one that `PlainGNN` accepts.
        scene:    not looked at.
        settings: fields of `StoneSoupSettings`.
    Raises:
        ImportError: Stone Soup is not installed.
        ValueError:  the scenario has other models.
    """

    def __init__(self, name: str, scenario: Scenario, scene: Scene | None = None, **settings):
        check_models(scenario)
        parts = Parts(scenario, StoneSoupSettings(**settings))
        self.model, self.feed = parts.sensor, Feed()
        self.label: dict[Any, int] = {}
        self.phd = name == "stonesoup-phd"
        make = {"stonesoup-gnn": parts.gnn, "stonesoup-jpda": parts.jpda, "stonesoup-phd": parts.phd}[name]
        self.tracker = make(self.feed)
        self.iterator = iter(self.tracker)
        self.later_birth = parts.expected_births

    def step(self, z: np.ndarray, time: float) -> Tracks:
        """Tracks after the measurements z (m, 2) of a time, s."""
        from stonesoup.types.detection import Detection

        now = START + timedelta(seconds=float(time))
        self.feed.scan = now, {Detection(row, timestamp=now, measurement_model=self.model) for row in z}
        _, tracks = next(self.iterator)
        if self.phd:
            self.tracker.birth_component.weight = self.later_birth
            found = {c.tag: c for c in self.tracker.extracted_target_states}
        else:
            found = {track.id: track.state for track in tracks}
        label = [self.label.setdefault(key, len(self.label)) for key in found]
        mean = np.array([np.ravel(s.state_vector)[list(OURS)] for s in found.values()], float).reshape(-1, 4)
        cov = np.array([np.asarray(s.covar, float)[np.ix_(OURS, OURS)] for s in found.values()])
        n = len(found)
        return Tracks(time, np.array(label, np.int64), mean, cov.reshape(n, 4, 4), np.ones(n), np.full(n, -1))


class Feed:
    """Where its trackers take their scans from: always the one that is there."""

    scan: Any = None

    def __iter__(self):
        return self

    def __next__(self):
        return self.scan


def dynamics(scenario: Scenario) -> float:
    """Intensity of the process noise, m^2/s^3."""
    return 3 * float(scenario.motion.noise(np.zeros((1, 4)), 1.0)[..., 0, 0])


class Parts:
    """Its models and components for a scenario."""

    def __init__(self, scenario: Scenario, settings: StoneSoupSettings):
        try:
            from stonesoup.models.measurement.linear import LinearGaussian
            from stonesoup.models.transition.linear import (
                CombinedLinearGaussianTransitionModel,
                ConstantVelocity,
            )
            from stonesoup.predictor.kalman import KalmanPredictor
            from stonesoup.updater.kalman import KalmanUpdater
        except ImportError:
            raise ImportError("Stone Soup needs the peers extra: pip install '.[peers]'") from None
        self.scenario, self.settings = scenario, settings
        q, self.speed = dynamics(scenario), float(scenario.birth.rest_std)
        self.R = np.asarray(scenario.sensor.noise(np.zeros((1, 4))), float).reshape(2, 2)
        self.sensor = LinearGaussian(ndim_state=4, mapping=POSITION, noise_covar=self.R)
        motion = CombinedLinearGaussianTransitionModel([ConstantVelocity(q), ConstantVelocity(q)])
        self.predictor, self.updater = KalmanPredictor(motion), KalmanUpdater(self.sensor)
        self.p_detect = float(np.ravel(scenario.sensor.detection(np.zeros((1, 4))))[0])
        p_survival = scenario.survival.probability
        assert not callable(p_survival)  # by check_models
        self.p_survival = float(p_survival)
        self.clutter = float(np.ravel(scenario.sensor.clutter(np.zeros((1, 2))))[0])
        self.expected_births = float(scenario.birth.rate)

    def gnn(self, feed):
        """Global nearest neighbour."""
        from stonesoup.tracker.simple import MultiTargetTracker

        associator, deleter = self.nearest(), self.deleter()
        return MultiTargetTracker(self.initiator(), deleter, feed, associator, self.updater)

    def jpda(self, feed):
        """Joint probabilistic data association."""
        from scipy.stats import chi2
        from stonesoup.dataassociator.tree import KDTreeJPDA
        from stonesoup.hypothesiser.probability import PDAHypothesiser
        from stonesoup.tracker.simple import MultiTargetMixtureTracker

        hypothesiser = PDAHypothesiser(
            self.predictor,
            self.updater,
            clutter_spatial_density=self.clutter,
            prob_detect=self.p_detect,
            prob_gate=float(chi2.cdf(self.settings.gate, 2)),
        )
        associator = KDTreeJPDA(hypothesiser, self.predictor, self.updater, max_distance=MAX_DISTANCE)
        return MultiTargetMixtureTracker(self.initiator(), self.deleter(), feed, associator, self.updater)

    def phd(self, feed):
        """Gaussian-mixture PHD."""
        from stonesoup.hypothesiser.distance import DistanceHypothesiser
        from stonesoup.hypothesiser.gaussianmixture import GaussianMixtureHypothesiser
        from stonesoup.measures import Mahalanobis
        from stonesoup.mixturereducer.gaussianmixture import GaussianMixtureReducer
        from stonesoup.tracker.pointprocess import PointProcessMultiTargetTracker
        from stonesoup.types.state import TaggedWeightedGaussianState
        from stonesoup.updater.pointprocess import PHDUpdater

        hypothesiser = DistanceHypothesiser(
            self.predictor, self.updater, Mahalanobis(), missed_distance=np.sqrt(self.settings.gate)
        )
        (low_x, low_y), (high_x, high_y) = self.scenario.birth.lower, self.scenario.birth.upper
        # As wide as the field, so that the corners have a third of the density of the middle.
        std = np.array([(high_x - low_x) / 2, self.speed, (high_y - low_y) / 2, self.speed])
        birth = TaggedWeightedGaussianState(
            [(low_x + high_x) / 2, 0, (low_y + high_y) / 2, 0],
            np.diag(std**2),
            weight=float(self.scenario.initial.rate),  # before the first scan; then that of later births
            tag=TaggedWeightedGaussianState.BIRTH,
            timestamp=START,
        )
        return PointProcessMultiTargetTracker(
            feed,
            PHDUpdater(
                self.updater,
                clutter_spatial_density=self.clutter,
                prob_detection=self.p_detect,
                prob_survival=self.p_survival,
            ),
            GaussianMixtureHypothesiser(hypothesiser, order_by_detection=True),
            GaussianMixtureReducer(prune_threshold=1e-4, merge_threshold=4),
            extraction_threshold=self.settings.threshold,
            birth_component=birth,
        )

    def nearest(self):
        """Association of the GNN tracker, and of tracks that are not confirmed."""
        from stonesoup.dataassociator.tree import DetectionKDTreeGNN2D
        from stonesoup.hypothesiser.distance import DistanceHypothesiser
        from stonesoup.measures import Mahalanobis

        hypothesiser = DistanceHypothesiser(
            self.predictor, self.updater, Mahalanobis(), missed_distance=np.sqrt(self.settings.gate)
        )
        return DetectionKDTreeGNN2D(hypothesiser, self.predictor, self.updater, max_distance=MAX_DISTANCE)

    def initiator(self):
        """Tracks that are reported from so many measurements on."""
        from stonesoup.deleter.time import UpdateTimeStepsDeleter
        from stonesoup.initiator.simple import MultiMeasurementInitiator
        from stonesoup.types.state import GaussianState

        std = np.array([np.sqrt(self.R[0, 0]), self.speed, np.sqrt(self.R[1, 1]), self.speed])
        return MultiMeasurementInitiator(
            prior_state=GaussianState([0, 0, 0, 0], np.diag(std**2), timestamp=START),
            deleter=UpdateTimeStepsDeleter(1),
            data_associator=self.nearest(),
            updater=self.updater,
            measurement_model=self.sensor,
            min_points=self.settings.hits,
        )

    def deleter(self):
        """Drops tracks after a run of misses."""
        from stonesoup.deleter.time import UpdateTimeStepsDeleter

        return UpdateTimeStepsDeleter(self.settings.misses)
