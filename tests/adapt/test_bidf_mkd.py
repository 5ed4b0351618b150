"""Inversion, episodes and meta-learning from endpoints: terms, counts, and that nothing is lost."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adapt.black_box import (
    BlackBox,
    BudgetExceeded,
    Inversion,
    InversionConfig,
    MetaConfig,
    MetaLearner,
    Unavailable,
    few_shot,
    invert,
    meta_learn,
    predictor,
)
from adapt.black_box.episodes import adapted, answers_kl, inner_product, outer
from adapt.black_box.generators import convolutional
from adapt.black_box.inversion import cross_entropy, distance
from adapt.black_box.memory import TaskMemory

SHAPE = (1, 4, 4)
SMALL = InversionConfig(iterations=6, directions=5, noise=6, generator="dense", rate=0.02)
META = MetaConfig(
    updates=6,
    episodes=2,
    per_class=4,
    steps=2,
    rate_inside=0.1,
    memory_steps=2,
    queries=3,
    warm_up=2,
    patience=2,
    inversion=SMALL,
)


def network(seed=0, hidden=12):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, hidden), nn.Tanh(), nn.Linear(hidden, 3))


def stripes(each=30, seed=0):
    """Images of three classes: a bright row at the top, in the middle, at the bottom."""
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(3).repeat_interleave(each)
    x = 0.3 * torch.rand(len(y), 1, 4, 4, generator=g)
    x[torch.arange(len(y)), 0, y] += 0.6
    return x, y


def knowing(seed=0):
    model, (x, y) = network(seed), stripes(seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def api_model():
    return knowing()


def api_of(model, **settings):
    return BlackBox(predictor(model), 3, **settings)


def apis(**settings):
    return [api_of(network(k), name=f"api{k}", **settings) for k in range(3)]


def same(one, two):
    return all(torch.equal(v, two.state_dict()[n]) for n, v in one.state_dict().items())


LONG = InversionConfig(iterations=80, directions=20, noise=8, generator="dense", rate=0.03)
TARGETS = torch.arange(3).repeat_interleave(8)


def test_recovered_inputs_are_of_their_classes_and_cost_what_is_stated(api_model):
    api = api_of(api_model)
    x, p = invert(api, TARGETS, SHAPE, LONG)
    assert api.queries == LONG.queries(24) == 80 * 21 * 24
    assert float((p.argmax(1) == TARGETS).double().mean()) >= 0.95
    torch.testing.assert_close(p, api(x), atol=1e-6, rtol=0)
    assert x.shape == (24, *SHAPE)
    assert x.min() >= 0
    assert x.max() <= 1
    start = Inversion(TARGETS, SHAPE, LONG)
    worse = cross_entropy(api(start.network(start.z).detach())[None], TARGETS)[0]
    assert cross_entropy(p[None], TARGETS)[0].mean() < 0.7 * worse.mean()


def test_boundary_inputs_are_of_their_classes_and_the_model_does_not_agree(api_model):
    api = api_of(api_model)
    x, p = invert(api, TARGETS, SHAPE, LONG)
    student = network(7)
    optimizer = torch.optim.SGD(student.parameters(), 0.1)
    for _ in range(60):
        optimizer.zero_grad()
        answers_kl(student(x), p).backward()
        optimizer.step()

    def agreement(images, answers):
        with torch.no_grad():
            return float((student(images).argmax(1) == answers.argmax(1)).double().mean())

    plain = invert(api, TARGETS, SHAPE, LONG, seed=1)
    boundary = invert(api, TARGETS, SHAPE, LONG, seed=1, model=student)
    assert agreement(*plain) > 0.8
    with torch.no_grad():
        far = [float(distance(p[None], student(x).softmax(-1), "kl").mean()) for x, p in (plain, boundary)]
    assert agreement(*boundary) < agreement(*plain) or far[1] > 1.3 * far[0]
    assert far[1] > far[0]
    assert float((boundary[1].argmax(1) == TARGETS).double().mean()) >= 0.8


def test_the_boundary_loss_is_that_of_the_equation():
    p = torch.tensor([[[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]]])
    q = torch.tensor([[0.8, 0.1, 0.1], [0.9, 0.05, 0.05]])
    y = torch.tensor([0, 1])
    inversion = Inversion(
        y, SHAPE, InversionConfig(noise=2, generator="dense", boundary=2.0), model=network()
    )
    kl = float((p[0, 0] * (p[0, 0] / q[0]).log()).sum())
    expected = torch.tensor([[-np.log(0.6) - 2 * kl, -np.log(0.7)]])  # they agree on the first alone
    torch.testing.assert_close(inversion._loss(p, q), expected.float())
    torch.testing.assert_close(distance(p, q, "l1"), torch.tensor([[0.4, 1.4]]))
    torch.testing.assert_close(inversion._loss(p, None), -torch.tensor([[0.6, 0.7]]).log())


def test_an_interrupted_inversion_ends_as_one_that_was_not(api_model):
    whole = invert(api_of(api_model), TARGETS, SHAPE, SMALL, model=network(3))
    api = api_of(api_model, batch=24, budget=SMALL.queries(24) // 2 + 100)
    stopped = Inversion(TARGETS, SHAPE, SMALL, model=network(3))
    with pytest.raises(BudgetExceeded):
        stopped.run(api)
    assert 0 < stopped.step < SMALL.iterations
    other = Inversion(TARGETS, SHAPE, SMALL, model=network(3))
    other.restore(copy.deepcopy(stopped.state()))
    api.budget = None
    for again in (stopped, other):
        found = again.run(api)
        assert all(torch.equal(a, b) for a, b in zip(whole, found))


def test_convolutional_generators_start_from_the_weights_of_the_code():
    torch.manual_seed(0)
    made = convolutional((2, 8, 12), 5, width=16)
    x = made(torch.randn(4, 5))
    assert x.shape == (4, 2, 8, 12)
    assert 0 <= x.min() <= x.max() <= 1
    assert float(made[0].weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    with pytest.raises(ValueError, match="multiples of 4"):
        convolutional((1, 6, 8), 5)


@pytest.mark.parametrize("targets", [[0, 3], [-1, 2]])
def test_targets_that_the_endpoint_has_not(api_model, targets):
    api = api_of(api_model)
    with pytest.raises(ValueError, match="classes 0 to 2"):
        invert(api, torch.tensor(targets), SHAPE, SMALL)
    assert api.queries == 0


@pytest.mark.parametrize(
    "wrong", [{"generator": "none"}, {"distance": "l2"}, {"iterations": 0}, {"radius": 0}]
)
def test_settings_of_an_inversion_out_of_range(wrong):
    with pytest.raises(ValueError):
        InversionConfig(**wrong)


def test_a_divergence_of_answers_and_what_the_code_has_instead():
    logits, p = (
        torch.tensor([[1.0, 0, -1], [0, 0, 0]]),
        torch.tensor([[0.5, 0.4, 0.1], [1 / 3, 1 / 3, 1 / 3]]),
    )
    q = logits.softmax(-1)
    assert float(answers_kl(logits, p)) == pytest.approx(float((p * (p / q).log()).sum() / 2), abs=1e-6)
    assert float(inner_product(logits, p)) == pytest.approx(float(-(p * q).sum() / 6))


@pytest.mark.parametrize("first_order", [False, True])
def test_the_outer_gradient_is_through_the_inner_steps(first_order):
    """Against finite differences of the whole, which second derivatives are part of."""
    model = network().double()
    (x, y), (v, w) = stripes(4), stripes(4, 1)
    x, v = x.double(), v.double()

    def whole(parameters):
        end = adapted(model, parameters, x, y, F.cross_entropy, 3, 0.8, first_order)
        return outer(model, end, v, w, F.cross_entropy)[0]

    start = dict(model.named_parameters())
    found = torch.autograd.grad(whole(start), start["3.bias"])[0]
    differences = []
    for k in range(3):
        values = []
        for sign in (1, -1):
            moved = {n: p.detach().clone().requires_grad_() for n, p in start.items()}
            with torch.no_grad():
                moved["3.bias"][k] += sign * 1e-5
            values.append(whole(moved).item())
        differences.append((values[0] - values[1]) / 2e-5)
    error = (found - torch.tensor(differences).double()).abs().max()
    assert (error > 1e-3) if first_order else (error < 1e-7)
    assert all(p.grad is None for p in model.parameters())


def test_a_memory_forgets_the_oldest_and_makes_tasks_of_any_classes():
    memory = TaskMemory(limit=2)
    for k in range(4):
        for batch in range(3):
            memory.add(f"class {k}", torch.full((3, 1), 10.0 * k + batch))
    assert {float(v) for v in torch.cat(memory.batches["class 2"])} == {21, 22}
    seen = set()
    for seed in range(20):
        g = torch.Generator().manual_seed(seed)
        task = memory.task(3, 2, 3, g)
        (x, y), (v, w) = task
        assert (len(x), len(v)) == (6, 9)
        tens = (x // 10).long().flatten()
        for c in range(3):
            assert len(set(tens[y == c].tolist()) | set((v // 10).long().flatten()[w == c].tolist())) == 1
        seen |= set(tens.tolist())
    assert seen == {0, 1, 2, 3}
    g = torch.Generator()
    assert len(memory.task(3, 2, 100, g).query[0]) == 12
    with pytest.raises(ValueError, match="4 classes, the task is of 5"):
        memory.task(5, 1, 1, g)
    with pytest.raises(ValueError, match="6 inputs in the memory, a task needs 7"):
        memory.task(2, 6, 1, g)


def test_support_and_query_of_a_task_share_no_input():
    memory = TaskMemory()
    for k in range(2):
        memory.add(str(k), torch.arange(5.0)[:, None] + 100 * k)
    task = memory.task(2, 2, 9, torch.Generator().manual_seed(0))
    assert not set(task.support[0].flatten().tolist()) & set(task.query[0].flatten().tolist())


def test_endpoints_are_asked_as_often_as_stated_and_the_model_given_is_not_changed():
    found, model = apis(), network(9)
    kept = copy.deepcopy(model)
    learner = MetaLearner(found, model, SHAPE, META)
    said = []
    learned = learner.train(advance=lambda update, accuracy: said.append((update, accuracy)))
    asked = [api.queries for api in found]
    assert sum(asked) > 0
    assert all(n % META.queries_of(3) == 0 for n in asked)
    assert META.queries_of(3) == 2 * 6 * 6 * 12
    assert [u for u, _ in said] == [1, 2, 3, 4, 5, 6]
    assert same(model, kept)
    assert not same(learned, kept)
    assert same(meta_learn(apis(), model, SHAPE, META), learned)


def test_same_labels_are_the_same_class():
    for labels, classes in ((None, 9), ((("a", "b", "c"),) * 3, 3)):
        found = [
            api_of(network(k), name=f"api{k}", labels=None if labels is None else labels[k]) for k in range(3)
        ]
        learner = MetaLearner(
            found, network(9), SHAPE, MetaConfig(**META.__dict__ | {"patience": 1, "updates": 14})
        )
        learner.train()
        assert len({api.queries > 0 for api in found}) == 1
        assert len(learner.memory.batches) == classes


def changed(**settings):
    return MetaConfig(**META.__dict__ | settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"query": "plain"},
        {"query": "support"},
        {"replay": False},
        {"first_order": True},
        {"exact": True},
        {"inversion": InversionConfig(**SMALL.__dict__ | {"boundary": 5.0})},
        {"inversion": InversionConfig(**SMALL.__dict__ | {"distance": "l1"})},
        {"inversion": InversionConfig(**SMALL.__dict__ | {"radius": 0.1})},
    ],
)
def test_every_setting_of_meta_learning_makes_a_difference(settings):
    found = [knowing(k) for k in range(2)]
    base = changed(warm_up=0, patience=1)
    one, two = (
        meta_learn([api_of(m, name=str(k)) for k, m in enumerate(found)], network(9), SHAPE, config)
        for config in (base, MetaConfig(**base.__dict__ | settings))
    )
    assert not same(one, two)
    assert all(v.isfinite().all() for v in two.state_dict().values())


def test_before_the_warm_up_there_is_no_boundary(monkeypatch):
    given = []
    init = Inversion.__init__

    def spy(self, targets, shape, config, seed=0, model=None):
        given.append(model)
        init(self, targets, shape, config, seed, model)

    monkeypatch.setattr(Inversion, "__init__", spy)
    MetaLearner(apis(), network(9), SHAPE, changed(warm_up=3, patience=1, updates=5)).train()
    assert given[0] is given[1] is None
    assert given[-2] is None
    assert given[-1] is not None


def test_budgets_that_end_in_the_middle_lose_nothing(tmp_path):
    whole = apis(batch=6)
    expected = meta_learn(whole, network(9), SHAPE, META)
    path, limited = tmp_path / "state.pt", apis(batch=6, budget=100)
    stops = 0
    for _ in range(200):
        try:
            found = meta_learn(limited, network(9), SHAPE, META, checkpoint=path)
            break
        except BudgetExceeded as error:
            stops += 1
            empty = next(api for api in limited if api.name in str(error))
            spent, budget = empty.queries, empty.budget + 100
            limited = [
                api_of(network(k), name=f"api{k}", batch=6, budget=a.budget) for k, a in enumerate(limited)
            ]
            limited[int(empty.name[-1])].budget = budget  # a new process, a new budget
            assert spent <= budget
    assert stops > 5
    assert same(found, expected)
    assert all(a.queries >= b.queries for a, b in zip(limited, whole, strict=True))


def test_a_process_that_is_killed_goes_on_from_its_last_questions(tmp_path):
    path, copies = tmp_path / "state.pt", []

    def advance(update, accuracy):
        copies.append(path.read_bytes())

    expected = meta_learn(apis(), network(9), SHAPE, META, checkpoint=path, advance=advance)
    assert len(set(copies)) > 1
    path.write_bytes(copies[-2])  # as it was when the process was killed
    learner = MetaLearner(apis(), network(9), SHAPE, META)
    learner.resume(path)
    assert 0 < learner.update < META.updates
    assert sum(api.queries for api in learner.apis) > 0
    assert same(learner.train(), expected)


def test_an_endpoint_that_goes_away_in_the_middle_loses_nothing():
    expected = meta_learn(apis(), network(9), SHAPE, META)
    calls = 0

    def flaky(predict):
        def asked(x):
            nonlocal calls
            calls += 1
            if calls % 7 == 0:
                raise Unavailable("gone")
            return predict(x)

        return asked

    found = [BlackBox(flaky(predictor(network(k))), 3, name=f"api{k}") for k in range(3)]
    learner, stops = MetaLearner(found, network(9), SHAPE, META), 0
    while not learner.done:
        try:
            learner.train()
        except Unavailable:
            stops += 1
    assert stops > 0
    assert same(learner.model, expected)


def test_files_that_do_not_fit_are_refused_and_nothing_is_changed(tmp_path):
    learner = MetaLearner(apis(), network(9), SHAPE, META)
    learner.train(2)
    learner.save(tmp_path / "state.pt")
    kept = copy.deepcopy(learner.model)
    for name, content in (("text", b"hello"), ("pickle", b"\x80\x04cos\nsystem\n(S'true'\ntR.")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="not a saved run"):
            learner.resume(tmp_path / name)
    with pytest.raises(
        ValueError, match=r"\{'config': \{'rate': 0.001\}\}, not \{'config': \{'rate': 0.007\}\}"
    ):
        MetaLearner(apis(), network(9), SHAPE, changed(rate=7e-3)).resume(tmp_path / "state.pt")
    labelled = apis()
    labelled[0].labels = ("x", "y", "z")
    with pytest.raises(ValueError, match="not a run of this meta-learning: ValueError: its settings, about"):
        MetaLearner(labelled, network(9), SHAPE, META).resume(tmp_path / "state.pt")
    longer = MetaLearner(apis(), network(9), SHAPE, changed(updates=META.updates + 1))
    longer.resume(tmp_path / "state.pt")
    assert longer.update == 2
    other = MetaLearner(apis(), network(9, hidden=5), SHAPE, META)
    before = copy.deepcopy(other.model)
    with pytest.raises(ValueError, match="not a run of this meta-learning"):
        other.resume(tmp_path / "state.pt")
    assert same(other.model, before)
    other.train(1)
    with pytest.raises(FileNotFoundError):
        learner.resume(tmp_path / "nothing.pt")
    assert same(learner.model, kept)


def test_a_checkpoint_without_a_place_is_found_out_before_anybody_is_asked(tmp_path):
    found = apis()
    with pytest.raises(OSError):
        meta_learn(found, network(9), SHAPE, META, checkpoint=tmp_path / "nowhere" / "state.pt")
    assert [api.queries for api in found] == [0] * len(found)


def test_endpoints_and_model_agree_in_classes():
    with pytest.raises(ValueError, match="api0 has 4 classes and the model 3"):
        MetaLearner([BlackBox(lambda x: np.full((len(x), 4), 0.25), 4, name="api0")], network(), SHAPE)
    with pytest.raises(ValueError, match="no endpoint"):
        MetaLearner([], network(), SHAPE)


@pytest.mark.parametrize("wrong", [{"query": "none"}, {"per_class": 1}, {"updates": 0}, {"patience": 0}])
def test_settings_of_meta_learning_out_of_range(wrong):
    with pytest.raises(ValueError):
        MetaConfig(**wrong)


def test_few_shots_are_learned_by_a_copy():
    model, (x, y) = network(), stripes(5)
    kept = copy.deepcopy(model)
    learned = few_shot(model, (x, y), steps=60, rate=0.5)
    assert same(model, kept)
    v, w = stripes(20, 1)
    assert float((learned(v).argmax(1) == w).double().mean()) > 0.9
    assert same(few_shot(model, (x, y), steps=0), model)
    with pytest.raises(ValueError, match="a class for each input"):
        few_shot(model, (x, y[:3]))


@pytest.mark.slow
def test_meta_learning_from_endpoints_helps_on_real_tasks():
    """Of digits that no endpoint knows, adapted alike, against the same network that has learned nothing."""
    from sims.studies import bidf_mkd
    from sims.studies.record import Record
    from sims.table import interval

    rows = ["--rows", "random", "bidf-mkd", "--apis", "8", "--updates", "100", "--tasks", "100"]
    found = bidf_mkd.study(
        bidf_mkd.parse(["--seeds", "1", "--shots", "1", *rows]), Record(None), lambda line: None
    )
    learned, nothing = (bidf_mkd.pooled(found[row], "1", "common") for row in ("bidf-mkd", "random"))
    low, _ = interval(learned - nothing)
    assert low > 0
