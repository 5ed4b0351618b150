"""Search for changes that turn inputs of all classes into one: sparse and dense, for each class.

Our extension of ABD's search, which looks for one dense perturbation without a class and so cannot see a
small patch. An item is a mask m and a paint q; it turns x into x (1 - m) + q within the range of inputs.
Sparse items have q = m p and sum(m) <= size, as in Neural Cleanse (Wang et al., S&P 2019) with a bound
instead of a penalty; dense ones have m = 0 and |q| <= size, Euclidean.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.data_free.networks import Shape

SIDE, RANGE = 8, 2.657  # pixels, and numbers, of the images that SEARCH was made for: standardised digits
DENSEST = 3.0  # times that masks are as dense as they are found, on larger images
Draw = Callable[[int], Tensor]  # n -> (n, *shape) synthetic inputs
Bounds = tuple[float, float]  # smallest and largest number of an input


@dataclass(frozen=True)
class Budget:
    """Items of one kind and size.

    kind:   "sparse", size is a number of pixels; "dense", size is a Euclidean length, in units of the inputs.
    starts: random starts for each class.
    """

    kind: str
    size: float
    starts: int = 2


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Settings of a search.

    budgets: kinds and sizes that are tried for every class.
    closer:  starts of sparse and of dense budgets when only one class is left.
    batch:   fresh inputs of each round.
    asked:   fresh inputs that say in the end how many of them an item turns.
    rounds:  of Adam, of sparse and of dense items.
    rates:   of Adam, of sparse and of dense items.
    contiguity: weight of the mask's total variation; above 0 it prefers patches to scattered
                pixels, of which a student learns nothing about the patch. Too much of it smooths masks away
                before they find anything.
    densest: masks are applied up to so many times as dense as they are found, each time another; 1: as found.
             A search is content with a faint trigger; a student that ignores it may react to all of it still.
    """

    budgets: tuple[Budget, ...] = (
        Budget("sparse", 2, 4),
        Budget("sparse", 4, 4),
        Budget("dense", 1, 1),
        Budget("dense", 2, 1),
    )
    closer: tuple[int, int] = (10, 3)
    batch: int = 24
    asked: int = 48
    rounds: tuple[int, int] = (80, 40)
    rates: tuple[float, float] = (0.05, 0.1)
    contiguity: float = 0.1
    densest: float = 1.0

    def __post_init__(self):
        if not self.budgets or any(b.kind not in ("sparse", "dense") or b.size <= 0 for b in self.budgets):
            raise ValueError(f"budgets are sparse or dense and of positive size, got {self.budgets}")
        starts = [*self.closer, *(b.starts for b in self.budgets)]
        if min(self.batch, self.asked, *self.rounds, *starts) < 1 or not self.contiguity >= 0:
            raise ValueError(
                f"batch, asked, rounds and starts must be at least 1 and contiguity at least 0, got {self}"
            )
        if not 1 <= self.densest < math.inf:
            raise ValueError(f"densest must be at least 1 and finite, got {self.densest}")

    @property
    def dense(self) -> list[bool]:
        """Of each budget, whether it is dense."""
        return [budget.kind == "dense" for budget in self.budgets]

    def for_one_class(self) -> "SearchConfig":
        """The same with the starts of `closer`."""
        starts = dict(zip(("sparse", "dense"), self.closer))
        return replace(self, budgets=tuple(replace(b, starts=starts[b.kind]) for b in self.budgets))


SEARCH = SearchConfig()  # for images of 8 x 8 pixels


def search_for(shape: Shape, bounds: Bounds) -> SearchConfig:
    """SEARCH with sizes for inputs like these.

    Numbers of pixels and lengths grow with the longer side of images (C, H, W), lengths with the range of
    inputs as well. On images larger than 8 x 8 triggers have more pixels than a search needs.
    """
    factor = max(shape[1:]) / SIDE if len(shape) == 3 else 1.0
    factors = {"sparse": factor, "dense": factor * (bounds[1] - bounds[0]) / RANGE}
    sized = (replace(b, size=float(f"{b.size * factors[b.kind]:.4g}")) for b in SEARCH.budgets)
    return replace(SEARCH, budgets=tuple(sized), densest=DENSEST if factor > 1 else SEARCH.densest)


@dataclass(frozen=True)
class Items:
    """n changes of inputs, found by a search.

    mask:   (n, 1, H, W) for images, else (n, *shape).
    paint:  (n, *shape).
    target: (n,) class that they turn inputs into.
    budget: (n,) which of the budgets.
    flips:  (n,) share of fresh inputs of other classes that they turn.
    """

    mask: Tensor
    paint: Tensor
    target: Tensor
    budget: Tensor
    flips: Tensor

    def __len__(self) -> int:
        return len(self.target)

    def on(self, x: Tensor, rows: Tensor, bounds: Bounds, times: Tensor | None = None) -> Tensor:
        """Inputs (b, *shape), each changed by the item of its row (b,).

        With `times` (b,) a mask is so many times as dense, 1 at most, and so is what is painted by it; dense
        items have no mask and stay as they are.
        """
        mask, paint = self.mask[rows], self.paint[rows]
        if times is not None:
            denser = (mask * times.reshape(-1, *[1] * (mask.ndim - 1))).clamp(max=1)
            paint = paint * torch.where(mask > 0, denser / mask.clamp(min=1e-12), 1)
            mask = denser
        return (x * (1 - mask) + paint).clamp(*bounds)

    def best(self, budgets: int, classes: int) -> Tensor:
        """(budgets, classes) flips of the best start of each."""
        of = [
            [self.flips[(self.budget == k) & (self.target == c)].max() for c in range(classes)]
            for k in range(budgets)
        ]
        return torch.stack([torch.stack(row) for row in of])

    def by_class(self, classes: int, dense: Sequence[bool]) -> Tensor:
        """(classes,) how far each class stands out: the more of its sparse and of its dense items.

        Of every budget the best start of each class counts, minus the median over classes; budgets of a kind
        are averaged. `dense` says of each budget whether it is.
        """
        kinds: dict[bool, list[Tensor]] = {}
        for best, is_dense in zip(self.best(len(dense), classes), dense):
            kinds.setdefault(is_dense, []).append(best - best.median())
        return torch.stack([torch.stack(kind).mean(0) for kind in kinds.values()]).amax(0)

    def state(self) -> dict[str, Any]:
        """Tensors by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def search(
    teacher: nn.Module,
    draw: Draw,
    targets: Sequence[int],
    config: SearchConfig,
    bounds: Bounds,
    generator: torch.Generator,
) -> Items:
    """The items of all budgets for the classes named.

    Args:
        teacher:   without gradients of its weights.
        draw:      of synthetic inputs.
        targets:   classes.
        config:    settings.
        bounds:    of inputs.
        generator: of starts.
    """
    found = [
        _searched(teacher, draw, targets, k, config, bounds, generator) for k in range(len(config.budgets))
    ]
    return Items(*(torch.cat([getattr(f, field.name) for f in found]) for field in fields(Items)))


def _searched(teacher, draw, targets, k, config, bounds, generator) -> Items:
    budget = config.budgets[k]
    dense = budget.kind == "dense"
    shape = draw(2).shape[1:]
    target = torch.tensor(targets, device=generator.device).repeat(budget.starts)
    m, p = _starts(len(target), shape, budget, bounds, generator)
    parameters = [p] if dense else [m, p]
    optimizer = torch.optim.Adam([v.requires_grad_() for v in parameters], config.rates[dense])
    for _ in range(config.rounds[dense]):
        x = draw(config.batch)
        loss = F.cross_entropy(
            _answers(teacher, x, m, p if dense else m * p, bounds), target.repeat_interleave(len(x))
        ) * len(target)
        if config.contiguity and not dense:
            loss = loss + config.contiguity * _variation(m)
        for v, slope in zip(parameters, torch.autograd.grad(loss, parameters)):
            v.grad = slope
        optimizer.step()
        with torch.no_grad():
            if dense:
                p.copy_(within_ball(p, budget.size))
            else:
                m.copy_(within_simplex(m, budget.size))
                p.clamp_(*bounds)  # else a faint mask with loud paint is a dense change in disguise
    m, p = m.detach(), p.detach()
    q = p if dense else m * p
    flips = _flips(teacher, draw(config.asked), m, q, target, bounds)
    return Items(m, q, target, torch.full_like(target, k), flips)


def _starts(n: int, shape: Shape, budget: Budget, bounds: Bounds, generator: torch.Generator):
    device = generator.device
    masked = (1, *shape[1:]) if len(shape) == 3 else tuple(shape)  # channels of a pixel share a mask
    if budget.kind == "dense":
        start = torch.randn(n, *shape, generator=generator, device=device)
        return torch.zeros(n, *masked, device=device), within_ball(start, 0.5 * budget.size)
    low, high = bounds
    m = within_simplex(torch.rand(n, *masked, generator=generator, device=device), budget.size)
    p = low + (high - low) * torch.rand(n, *shape, generator=generator, device=device)
    return m, p


def _answers(teacher, x, m, q, bounds) -> Tensor:
    """(n * b, classes) logits of every item on every input."""
    changed = (x[None] * (1 - m[:, None]) + q[:, None]).clamp(*bounds)
    return teacher(changed.flatten(0, 1))


@torch.no_grad()
def _flips(teacher, x, m, q, target, bounds) -> Tensor:
    turned, others = torch.zeros(2, len(m), device=x.device)
    for part in x.split(64):  # of many or large inputs not all are held at once
        away = teacher(part).argmax(1)[None] != target[:, None]  # (n, b)
        said = [_answers(teacher, part, a[None], b[None], bounds).argmax(1) for a, b in zip(m, q)]
        turned += ((torch.stack(said) == target[:, None]) & away).sum(1)
        others += away.sum(1)
    return turned / others.clamp(min=1)


def within_ball(p: Tensor, size: float) -> Tensor:
    """(n, ...) scaled to Euclidean lengths of at most `size`."""
    length = p.flatten(1).norm(dim=1).clamp(min=1e-12)
    return p * (size / length).clamp(max=1).reshape(-1, *[1] * (p.ndim - 1))


def within_simplex(m: Tensor, size: float) -> Tensor:
    """Nearest (n, ...) with numbers in [0, 1] that add up to at most `size`, by bisection."""
    flat = m.flatten(1)
    low, high = torch.zeros_like(flat[:, :1]), flat.amax(1, keepdim=True).clamp(min=0)
    fits = flat.clamp(0, 1).sum(1, keepdim=True) <= size
    for _ in range(30):
        middle = (low + high) / 2
        over = (flat - middle).clamp(0, 1).sum(1, keepdim=True) > size
        low, high = torch.where(over, middle, low), torch.where(over, high, middle)
    return (flat - torch.where(fits, 0.0, high)).clamp(0, 1).reshape(m.shape)


def _variation(m: Tensor) -> Tensor:
    # numbers of a vector have no neighbours
    return sum((m.diff(dim=d).abs().sum() for d in range(2, m.ndim)), start=m.new_zeros(()))
