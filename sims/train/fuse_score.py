"""What a FUSE network says of pairs, and how far off it is."""

import numpy as np
import torch

from perception.depth import fit
from perception.depth.backbone import prepared, prepared_events
from perception.depth.fuse import FUSE
from perception.depth.metrics import aligned, errors_by_image
from perception.depth.pairs import Pairs

FARTHEST = 10.0  # m; rooms are smaller


@torch.no_grad()
def disparities(network: FUSE, pairs: Pairs, kind: str, batch: int = 32) -> np.ndarray:
    """(n, H, W) inverse depth up to scale and shift that a network says of pairs."""
    said = (network.disparity(network.reading(x, v, kind)) for x, v in _batches(network, pairs, batch))
    return _at_the_size_of(pairs, said)


@torch.no_grad()
def depths(network: FUSE, pairs: Pairs, kind: str, farthest: float = FARTHEST, batch: int = 32) -> np.ndarray:
    """(n, H, W) metric depth that a network says of pairs."""
    batches = _batches(network, pairs, batch)
    said = (network.depth(network.reading(x, v, kind), farthest, kind)[0] for x, v in batches)
    return _at_the_size_of(pairs, said)


def _batches(network, pairs, batch):
    network.eval()
    device = next(network.parameters()).device
    for k in range(0, len(pairs), batch):
        part = pairs[k : k + batch]
        seen, grids = (torch.from_numpy(a.astype(np.float32)).to(device) for a in (part.seen, part.voxels))
        yield prepared(seen, network.patch), prepared_events(grids, network.patch)


def _at_the_size_of(pairs, said):
    like = torch.empty(1, *pairs.clean.shape[1:3])
    return np.concatenate([fit.as_large(image.float().cpu(), like).numpy() for image in said])


def relative_errors(disparity: np.ndarray, pairs: Pairs) -> np.ndarray:
    """(n,) mean relative error of each frame, scale and shift of inverse depth fitted."""
    assert pairs.depth is not None
    return errors_by_image(aligned(disparity, pairs.depth, FARTHEST), pairs.depth, FARTHEST).abs_rel


def metric_errors(depth: np.ndarray, pairs: Pairs, farthest: float = FARTHEST) -> np.ndarray:
    """(n,) mean relative error of each frame."""
    assert pairs.depth is not None
    return errors_by_image(depth, pairs.depth, farthest).abs_rel
