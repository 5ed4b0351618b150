"""The Kalman filter that is told the true association: the floor under the errors of trackers.

It knows which measurement came from which object and which objects are there, and reports an object from its
first detection on. What is left is the error of position, and the scans before the first detection.
"""

import numpy as np

from sims.peers.plain import check_models, first_covariance, predict, update
from sims.scenarios import Scenario
from sims.targets import Scene
from tracking.tracks import Tracks


class TruthKalman:
    """Filter of one scene, whose scans must be given in order.

    Args:
        scenario: the problem, one that `PlainGNN` accepts.
        scene:    what was drawn.
    Raises:
        ValueError: the scenario has other models.
    """

    def __init__(self, scenario: Scenario, scene: Scene):
        check_models(scenario)
        self.motion, self.scene, self.k = scenario.motion, scene, 0
        self.R, self.start_cov = first_covariance(scenario)
        n = len(scene.truth)
        self.x, self.P, self.seen = np.zeros((n, 4)), np.zeros((n, 4, 4)), np.zeros(n, bool)

    def step(self, z: np.ndarray, time: float) -> Tracks:
        """Objects that are there after the measurements z (m, 2) of a time, s."""
        k, scene = self.k, self.scene
        there = ~np.isnan(scene.truth.states[:, k, 0])
        if k > 0:
            i = np.flatnonzero(self.seen & there)
            self.x[i], self.P[i] = predict(self.x[i], self.P[i], self.motion, time - scene.time[k - 1])
        self.k += 1
        row = np.flatnonzero(scene.origin[k] >= 0)
        of = scene.origin[k][row]
        known = self.seen[of]
        i = of[known]
        self.x[i], self.P[i] = update(self.x[i], self.P[i], z[row[known]], self.R)
        new = of[~known]
        self.x[new, :2], self.P[new], self.seen[new] = z[row[~known]], self.start_cov, True
        source = np.full(len(there), -1)
        source[of] = row
        told = np.flatnonzero(self.seen & there)
        return Tracks(time, told, self.x[told], self.P[told], np.ones(len(told)), source[told])
