"""Can one learn to learn from endpoints alone: `python -m sims.studies.bidf_mkd --help`.

Hu et al. (BiDf-MKD, ICML 2023) learn one Conv4 from 100 endpoints, 5-way classifiers of CIFAR-FS,
miniImageNet and CUB, asked some millions of times each, and say that it is superior in all scenarios that
they tested. Here: digits of 8 x 8 pixels, each turned in five ways into other classes (or Omniglot's
characters of 14 x 14 from a folder), 20 endpoints, each a small classifier of 5 of the training classes, a
network of two layers, one CPU core. Test tasks are of real images of classes, and with --split digit of
digits, that no endpoint knows: 5 ways, 1 or 5 shots, 15 queries. Every arm is adapted twice: all with the
rate that is meta-learned with, and each with the one that is best for it on tasks of the validation classes,
which is the harder comparison: a network that has learned nothing then learns faster. Intervals are 95 %,
paired, over all test tasks of all seeds. Rows:

    random           a network that has learned nothing
    clone            a network that has learned the answers of the endpoint that is best at its own test
    bidf-mkd         as the paper has it, with second derivatives
    plain query      the query is a second support: no boundary
    same query       the query is the support
    no replay        without tasks of the memory
    real data        MAML on real images of the training classes, which no endpoint gives away: an upper bound

What --json has already is not computed again. Exit status as of `sims.compare`.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.black_box import (
    BlackBox,
    Endpoint,
    InversionConfig,
    MetaConfig,
    MetaLearner,
    Server,
    few_shot,
    invert,
    predictor,
)
from adapt.black_box.episodes import adapted, answers_kl, outer
from adapt.black_box.memory import Task, TaskMemory
from sims.labelled import Images, digits, omniglot
from sims.studies.record import Record
from sims.table import interval
from tracking.program import Parser, output, positive, run

PROGRAM = "python -m sims.studies.bidf_mkd"
WAYS, QUERIES = 5, 15
FILE = "omniglot/images_background_small1.zip"
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)  # of which each arm has its best on validation tasks
STEPS, RATE = 10, 0.1  # of adaptation, and of the learning of tasks of the memory
N_VALIDATION = 40  # tasks
INVERSION = InversionConfig(iterations=80, directions=20, rate=0.01, noise=32, width=16)
META = MetaConfig(
    rate=3e-3, per_class=10, steps=5, rate_inside=0.1, memory_steps=5, memory_rate=RATE, warm_up=50,
    patience=10, inversion=INVERSION,
)  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "bidf-mkd": {},
    "plain query": {"query": "plain"},
    "same query": {"query": "support"},
    "no replay": {"replay": False},
}
ROWS = ("random", "clone", *VARIANTS, "real data")


@dataclass(frozen=True)
class World:
    """Real images of classes, (n, 1, h, w) for each; the endpoints' classes are of `train`."""

    train: list[Tensor]
    validation: list[Tensor]
    test: list[Tensor]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.train[0].shape[1:])


def turned(images: Images) -> tuple[list[Tensor], list[int]]:
    """Images of every class in five ways, each a class of its own, and what class they were."""
    ways: list[Callable[[Tensor], Tensor]] = [
        lambda x: x,
        lambda x: x.rot90(1, (2, 3)),
        lambda x: x.rot90(2, (2, 3)),
        lambda x: x.transpose(2, 3),
        lambda x: 1 - x,
    ]
    found = [(way(torch.from_numpy(images.x[images.y == c])), c) for c in range(10) for way in ways]
    return [x.contiguous() for x, _ in found], [c for _, c in found]


def world(args: argparse.Namespace, seed: int) -> World:
    """The classes of a seed."""
    rng = np.random.default_rng(seed)
    if args.dataset == "omniglot":
        images = omniglot(Path(args.data) / FILE)
        classes = [torch.from_numpy(images.x[images.y == c]) for c in range(images.y.max() + 1)]
        order = rng.permutation(len(classes))
        cuts = [len(classes) * 6 // 10, len(classes) * 7 // 10]
        parts = np.split(order, cuts)
    else:
        classes, digit = turned(digits())
        if args.split == "digit":
            of = np.array(digit)
            mixed = rng.permutation(10)
            parts = [np.flatnonzero(np.isin(of, part)) for part in np.split(mixed, [7, 8])]
        else:
            parts = np.split(rng.permutation(len(classes)), [35, 40])
    train, validation, test = ([classes[k] for k in part] for part in parts)
    return World(train, validation, test)


def tasks_of(classes: Sequence[Tensor], shots: int, number: int, seed: int) -> list[Task]:
    """Tasks of real images."""
    memory = TaskMemory()
    for k, x in enumerate(classes):
        memory.add(f"{k:04d}", x)
    generator = torch.Generator().manual_seed(seed)
    return [memory.task(WAYS, shots, QUERIES, generator) for _ in range(number)]


def network(shape: tuple[int, ...], seed: int, hidden: int = 64) -> nn.Module:
    """The meta-model, and the endpoints' of torch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        size = int(np.prod(shape))
        return nn.Sequential(nn.Flatten(), nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, WAYS))


def endpoints(
    known: World, number: int, seed: int, stack: ExitStack, http: bool
) -> tuple[list[BlackBox], list[float]]:
    """Classifiers of five training classes each, of three kinds in turn; their accuracies on other images."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    rng = np.random.default_rng((seed, 1))
    models: dict[str, tuple[Any, int]] = {}
    names, accuracies = [], []
    for k in range(number):
        classes = rng.permutation(len(known.train))[:WAYS]
        x = torch.cat([known.train[c] for c in classes])
        y = torch.arange(WAYS).repeat_interleave(torch.tensor([len(known.train[c]) for c in classes]))
        order = torch.from_numpy(rng.permutation(len(x)))
        test, train = order[: len(x) // 5], order[len(x) // 5 :]
        model: Any
        if k % 3 == 0:
            model = _taught(network(known.shape, 1000 * seed + k), x[train], y[train])
        else:
            kind = (
                MLPClassifier((32,), max_iter=200, tol=1e-2, random_state=k)
                if k % 3 == 1
                else LogisticRegression(C=1.0)
            )
            model = kind.fit(x[train].flatten(1).numpy(), y[train].numpy())
        models[f"api{k}"] = (predictor(model), WAYS)
        said = models[f"api{k}"][0](x[test].numpy())
        accuracies.append(float(np.mean(said.argmax(1) == y[test].numpy())))
        names.append([str(c) for c in classes])
    server = stack.enter_context(Server(models)) if http else None
    apis = [
        BlackBox(predict if server is None else Endpoint(server.url(name)), WAYS, name=name, labels=labels)
        for (name, (predict, _)), labels in zip(models.items(), names)
    ]
    return apis, accuracies


def _taught(model: nn.Module, x: Tensor, y: Tensor, steps: int = 200) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


def clone(
    api: BlackBox, model: nn.Module, shape: tuple[int, ...], config: MetaConfig, seed: int
) -> nn.Module:
    """A network that has learned an endpoint's answers to inputs recovered from it."""
    targets = torch.arange(WAYS).repeat_interleave(2 * config.per_class)
    x, p = invert(api, targets, shape, config.inversion, seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(200):
        optimizer.zero_grad()
        answers_kl(model(x), p).backward()
        optimizer.step()
    return model


def on_real_data(known: World, model: nn.Module, config: MetaConfig, seed: int) -> nn.Module:
    """MAML on the images that the endpoints were trained on."""
    memory = TaskMemory()
    for k, x in enumerate(known.train):
        memory.add(f"{k:04d}", x)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.rate)
    for _ in range(config.updates):
        optimizer.zero_grad()
        for _ in range(config.episodes):
            task = memory.task(WAYS, config.shots, config.queries, generator)
            start = dict(model.named_parameters())
            steps, rate = config.memory_steps, config.memory_rate
            end = adapted(model, start, *task.support, F.cross_entropy, steps, rate)
            outer(model, end, *task.query, F.cross_entropy)[0].backward()
        optimizer.step()
    return model


def accuracies(model: nn.Module, tasks: Sequence[Task], rate: float) -> np.ndarray:
    """Accuracy on the query of each task, after its support was learned."""
    found = []
    for task in tasks:
        learned = few_shot(model, task.support, STEPS, rate)
        with torch.no_grad():
            found.append(float((learned(task.query[0]).argmax(1) == task.query[1]).double().mean()))
    return np.array(found)


def scored(model: nn.Module, known: World, shots: int, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Accuracies on test tasks, at the common rate and at that which is best on validation tasks."""
    validation = tasks_of(known.validation, shots, N_VALIDATION, seed + 1)
    rate = max(RATES, key=lambda r: accuracies(model, validation, r).mean())
    test = tasks_of(known.test, shots, args.tasks, seed)
    return {
        "rate": rate,
        "best": accuracies(model, test, rate).round(4).tolist(),
        "common": accuracies(model, test, RATE).round(4).tolist(),
    }


def trained(
    row: str, apis: Sequence[BlackBox], best: int, known: World, args: argparse.Namespace, seed: int
) -> nn.Module:
    """The network of a row, before it is adapted."""
    model = network(known.shape, seed)
    config = replace(META, updates=args.updates, seed=seed)
    if row == "random":
        return model
    if row == "clone":
        return clone(apis[best], model, known.shape, config, seed)
    if row == "real data":
        return on_real_data(known, model, config, seed)
    return MetaLearner(apis, model, known.shape, replace(config, **VARIANTS[row])).train()


def study(args: argparse.Namespace, record: Record, advance: Callable[[str], object]) -> dict[str, Any]:
    """Row -> for each seed accuracies by shots, queries asked and CPU seconds."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {row: [] for row in args.rows}
    for seed in range(args.seeds):
        known = world(args, seed)
        with ExitStack() as stack:
            apis, own = endpoints(known, args.apis, seed, stack, args.http)
            advance(f"seed {seed}: endpoints are right about {np.mean(own):.3f} of their own test images")
            for row in args.rows:
                work = partial(one_run, row, apis, int(np.argmax(own)), known, args, seed)
                result = record.part(f"{seed}, {row}", work)
                found[row].append(result)
                said = ", ".join(
                    f"{s}-shot {np.mean(result[s]['common']):.4f}, "
                    f"{np.mean(result[s]['best']):.4f} at rate {result[s]['rate']}"
                    for s in map(str, args.shots)
                )
                advance(f"seed {seed}, {row}: {said}, {result['queries']:,} queries, {result['cpu_s']:.0f} s")
    return found


def one_run(
    row: str, apis: Sequence[BlackBox], best: int, known: World, args: argparse.Namespace, seed: int
) -> dict[str, Any]:
    """Scores of a row by shots, the queries that it asked and CPU seconds of its training."""
    before, start = sum(api.queries for api in apis), time.process_time()
    model = trained(row, apis, best, known, args, seed)
    seconds = time.process_time() - start
    asked = sum(api.queries for api in apis) - before
    result = {str(shots): scored(model, known, shots, args, seed) for shots in args.shots}
    return result | {"queries": asked, "cpu_s": round(seconds, 1)}


def show(found: dict[str, Any], args: argparse.Namespace) -> None:
    """Print a table for each number of shots, at both rates."""
    console = Console(width=150)
    for shots in map(str, args.shots):
        for at, words in (("common", f"rate {RATE} for all"), ("best", "each at its best rate")):
            table = Table(
                f"{shots}-shot, {words}", "accuracy", "minus random", "bidf-mkd minus it", "queries", "CPU s"
            )
            for row, runs in found.items():
                mine = pooled(runs, shots, at)
                gaps = [
                    ""
                    if other not in found or other == row
                    else _gap(sign * (mine - pooled(found[other], shots, at)))
                    for other, sign in (("random", 1), ("bidf-mkd", -1))
                ]
                asked, seconds = (np.mean([r[name] for r in runs]) for name in ("queries", "cpu_s"))
                table.add_row(row, f"{mine.mean():.4f}", *gaps, f"{asked:,.0f}", f"{seconds:.0f}")
            console.print(table)
    console.print(
        f"{args.seeds} seeds of {args.tasks} tasks; [ ]: 95 %, paired, over all tasks; queries: of all."
    )


def pooled(runs: Sequence[dict[str, Any]], shots: str, at: str = "best") -> np.ndarray:
    """Accuracies of all tasks of all seeds."""
    return np.concatenate([r[shots][at] for r in runs])


def _gap(gap: np.ndarray) -> str:
    low, high = interval(gap) or (np.nan, np.nan)
    return f"{gap.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    args = parse(argv)

    def work() -> None:
        console = Console(stderr=True)
        names = ("dataset", "split", "apis", "updates", "tasks", "shots", "http")
        record = Record(args.json, **{name: getattr(args, name) for name in names})
        show(study(args, record, lambda line: console.print(line, highlight=False)), args)

    return run(PROGRAM, work)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, checked."""
    parser = Parser(PROGRAM, "Can one learn to learn from endpoints alone (BiDf-MKD).")
    add = parser.add_argument
    add(
        "--seeds",
        type=positive,
        default=5,
        metavar="N",
        help="classes, endpoints, weights, tasks; default: 5",
    )
    add(
        "--dataset",
        choices=("digits", "omniglot"),
        default="digits",
        help="default: digits, which come along",
    )
    add("--data", metavar="FOLDER", help=f"where the other is: {FILE}")
    add(
        "--split",
        choices=("digit", "class"),
        default="digit",
        help="what test classes are new in; default: digit",
    )
    add("--rows", nargs="+", choices=ROWS, default=ROWS, metavar="ROW", help=", ".join(ROWS))
    add("--apis", type=positive, default=20, metavar="N", help="endpoints; default: 20")
    add("--updates", type=positive, default=400, metavar="N", help="of the meta-model; default: 400")
    add("--tasks", type=positive, default=200, metavar="N", help="test tasks; default: 200")
    add("--shots", type=positive, nargs="+", default=[1, 5], metavar="N", help="default: 1 5")
    add("--http", action="store_true", help="ask over HTTP on this machine")
    add(
        "--quick", action="store_true", help="one seed, few endpoints, updates and tasks, to see that it runs"
    )
    add("--json", type=output, metavar="FILE")
    args = parser.parse_args(argv)
    if args.quick:
        args.seeds, args.apis, args.updates, args.tasks, args.shots = 1, 3, 4, 4, [1]
        args.rows = tuple(row for row in args.rows if row in ("random", "clone", "bidf-mkd"))
    if args.dataset == "omniglot" and args.data is None:
        parser.error(f"--dataset omniglot needs --data: the folder that has {FILE} in it")
    return args


if __name__ == "__main__":
    sys.exit(main())
