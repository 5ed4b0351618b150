"""One object's states so far as a Gaussian: the last few jointly, the earlier ones as they were then.

A measurement says something of all states before it, ever less of those long ago. So the last `window`
states (L in the papers) stay one joint Gaussian, which every update smooths, and a state that leaves the
window keeps the moments that it has there.

Source: Garcia-Fernandez, Svensson, "Trajectory PHD and CPHD filters" (TSP 2019), the L-scan approximation;
Garcia-Fernandez, Williams, Svensson, Xia, "Trajectory Poisson multi-Bernoulli filters" (TSP 2020).
"""

from dataclasses import dataclass, replace

import numpy as np

from tracking.gaussian import symmetrise


@dataclass(frozen=True)
class Path:
    """States of an object from scan `start` on, one a scan, and when it may have ended.

    start:  scan of the first state.
    past:   moments (d,), (d, d) of the states that have left the window.
    mean:   (w, d) and cov: (w d, w d) of the window, the newest state last.
    source: measurement of every state, -1 where it was missed.
    ended:  (k,) probability that each of the k states was the last; what is left is that it is still there.
    """

    start: int
    past: tuple[tuple[np.ndarray, np.ndarray], ...]
    mean: np.ndarray
    cov: np.ndarray
    source: tuple[int, ...]
    ended: np.ndarray

    def __len__(self) -> int:
        return len(self.source)

    @classmethod
    def begun(cls, start: int, m: np.ndarray, P: np.ndarray, source: int = -1) -> "Path":
        """A path of one state with moments (d,), (d, d)."""
        return cls(start, (), m[None], P, (source,), np.zeros(1))

    def moved(self, F: np.ndarray, Q: np.ndarray, window: int) -> "Path":
        """The path with one more state, F x + noise of covariance Q; the window keeps `window` states."""
        d = self.mean.shape[1]
        cross = self.cov[:, -d:] @ F.T  # of the window with the new state
        cov = np.block([[self.cov, cross], [cross.T, symmetrise(F @ self.cov[-d:, -d:] @ F.T + Q)]])
        mean = np.concatenate((self.mean, (F @ self.mean[-1])[None]))
        past = self.past
        if len(mean) > window:
            past = (*past, (mean[0], cov[:d, :d]))
            mean, cov = mean[1:], cov[d:, d:]
        return Path(self.start, past, mean, cov, (*self.source, -1), np.append(self.ended, 0.0))

    def detected(self, nu: np.ndarray, H: np.ndarray, R: np.ndarray, source: int) -> "Path":
        """The path after its newest state was measured, with residual nu (d_z,)."""
        d = self.mean.shape[1]
        cross = self.cov[:, -d:] @ H.T
        S = H @ cross[-d:] + R
        K = np.linalg.solve(S, cross.T).T
        mean = self.mean + (K @ nu).reshape(self.mean.shape)
        cov = symmetrise(self.cov - K @ S @ K.T)
        return replace(
            self, mean=mean, cov=cov, source=(*self.source[:-1], source), ended=np.zeros(len(self))
        )

    def ending(self, died: float, total: float = 1.0) -> "Path":
        """The path when its newest state was its last with probability `died`, of a total."""
        ended = self.ended.copy()
        ended[-1] += died
        return replace(self, ended=ended / total)

    def anchored(self, m: np.ndarray, P: np.ndarray) -> "Path":
        """The path whose newest state has other moments (d,), (d, d), and the earlier ones follow from it."""
        d = self.mean.shape[1]
        last = self.cov[-d:, -d:]
        G = self.cov[:, -d:] @ np.linalg.pinv(last, 1e-13, hermitian=True)
        G[-d:] = np.eye(d)
        mean = self.mean + (G @ (m - self.mean[-1])).reshape(self.mean.shape)
        return replace(self, mean=mean, cov=symmetrise(self.cov + G @ (P - last) @ G.T))

    def states(self) -> tuple[np.ndarray, np.ndarray]:
        """Moments (k, d), (k, d, d) of all states."""
        w, d = self.mean.shape
        blocks = self.cov.reshape(w, d, w, d)[range(w), :, range(w)]
        mean = np.array([m for m, _ in self.past]).reshape(-1, d)
        cov = np.array([P for _, P in self.past]).reshape(-1, d, d)
        return np.concatenate((mean, self.mean)), np.concatenate((cov, blocks))

    def span(self, alive: float) -> int:
        """How many states the path has, most probably, when it is still there with a probability."""
        chance = self.ended.copy()
        chance[-1] += alive
        return int(np.argmax(chance)) + 1

    def reached(self, alive: float) -> np.ndarray:
        """Probability (k,) that the path has each of its states."""
        chance = self.ended.copy()
        chance[-1] += alive
        return np.cumsum(chance[::-1])[::-1]
