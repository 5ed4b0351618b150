"""How samples are shared out among clients, and what a client says of its labels."""

import numpy as np


def dirichlet(
    labels: np.ndarray, clients: int, alpha: float, rng: np.random.Generator, least: int = 10
) -> list[np.ndarray]:
    """Samples of each client: of every class, shares that a symmetric Dirichlet distribution gives.

    Args:
        labels:  (n,) whole numbers.
        clients: how many.
        alpha:   concentration; 0.1: a client has few classes, 100: about all alike.
        rng:     NumPy's generator.
        least:   samples that every client has at least; shares are drawn again until it is so.
    Returns:
        Sorted indices for each client; together every sample once.
    Raises:
        ValueError: arguments out of range, or no draw of 10,000 gave every client enough.
    Source: Hsu, Qi, Brown (arXiv 1909.06335, 2019), with shares of each class instead of each client.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or clients < 1 or not alpha > 0 or least < 0:
        raise ValueError(
            f"labels must be (n,), clients at least 1, alpha above 0 and least at least 0, got "
            f"{labels.shape}, {clients}, {alpha} and {least}"
        )
    if clients * least > len(labels):
        raise ValueError(f"{len(labels)} samples are not enough for {clients} clients of {least} each")
    members = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    for _ in range(10_000):
        share = rng.dirichlet(np.full(clients, alpha), len(members))  # (C, clients)
        cuts = [(np.cumsum(s)[:-1] * len(m)).astype(int) for s, m in zip(share, members)]
        sizes = sum(np.diff(cut, prepend=0, append=len(m)) for cut, m in zip(cuts, members))
        if np.min(sizes) >= least:
            parts = [np.split(rng.permutation(m), cut) for m, cut in zip(members, cuts)]
            return [np.sort(np.concatenate(client)) for client in zip(*parts)]
    raise ValueError(
        f"with alpha {alpha} no draw gave each of {clients} clients {least} samples; "
        "take a larger alpha, fewer clients or a smaller least"
    )


def label_counts(labels: np.ndarray, classes: int) -> np.ndarray:
    """(classes,) how many samples there are of each class.

    Raises:
        ValueError: a label outside of 0 to classes - 1.
    """
    labels = np.asarray(labels)
    if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(
            f"labels are {labels.min()} to {labels.max()}, accepted are 0 to {classes - 1}; "
            "say how many classes there are at all clients together"
        )
    return np.bincount(labels.astype(np.int64), minlength=classes)


def noisy_counts(counts: np.ndarray, epsilon: float, rng: np.random.Generator) -> np.ndarray:
    """Counts with Laplace noise of scale 1 / epsilon, not below zero.

    Args:
        counts:  (classes,) of a client.
        epsilon: of differential privacy: one sample more or less changes the odds of what the server sees
                 by at most exp(epsilon), in each round in which noise is drawn.
        rng:     NumPy's generator, of the client.
    Source: Dwork et al. (TCC 2006), Laplace mechanism; adding a sample changes one count by one.
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon must be above 0, got {epsilon}; leave it out for exact counts")
    return np.maximum(counts + rng.laplace(0.0, 1 / epsilon, len(counts)), 0.0)
