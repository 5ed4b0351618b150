"""Asking: counts, budgets, batches, the cache, what is no answer; zero-order gradients; arrays as bytes."""

import copy
import io
import sqlite3

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from adapt.black_box import AnswerCache, BadAnswer, BlackBox, BudgetExceeded, predictor, zo_grad
from adapt.black_box.wire import JSON, NPY, read, written


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


MATRIX = np.random.default_rng(0).normal(size=(4, 3))


def predict(x):
    return softmax(x @ MATRIX)


class Counting:
    def __init__(self):
        self.sizes = []

    def __call__(self, x):
        self.sizes.append(len(x))
        return predict(x)


def inputs(n=10, seed=0):
    return np.random.default_rng(seed).random((n, 4)).astype(np.float32)


def test_answers_are_counted_and_batched():
    inside = Counting()
    api = BlackBox(inside, 3, batch=4)
    np.testing.assert_array_equal(api(inputs()), predict(inputs()))
    assert (inside.sizes, api.queries) == ([4, 4, 2], 10)
    tensor = api(torch.from_numpy(inputs(3)))
    assert tensor.dtype == torch.float32
    assert tensor.grad_fn is None
    assert api.queries == 13
    whole = api(torch.ones((2, 4), dtype=torch.int64))
    assert whole.dtype == torch.float32
    np.testing.assert_allclose(whole.numpy(), predict(np.ones((2, 4))), rtol=1e-6)
    assert api(torch.ones((2, 4)).double()).dtype == torch.float64


def test_there_is_no_gradient():
    api = BlackBox(predict, 3)
    x = torch.from_numpy(inputs()).requires_grad_()
    with pytest.raises(ValueError, match=r"no gradient.*zo_grad"):
        api(x)
    assert api.queries == 0
    with torch.no_grad():
        assert not api(x).requires_grad
    assert not api(x.detach()).requires_grad


def test_a_budget_ends_in_the_middle_with_what_was_answered():
    inside = Counting()
    api = BlackBox(inside, 3, batch=4, budget=9)
    with pytest.raises(BudgetExceeded, match="budget of 9 queries and 2 more") as caught:
        api(inputs())
    np.testing.assert_array_equal(caught.value.answers, predict(inputs()[:8]))
    assert (api.queries, inside.sizes) == (8, [4, 4])
    api.budget = 18
    assert len(api(inputs())) == 10
    assert api.queries == 18
    with pytest.raises(BudgetExceeded):
        api(inputs(1))


def test_what_is_cached_is_not_asked_again_also_after_a_restart(tmp_path):
    path, inside = tmp_path / "answers.db", Counting()
    api = BlackBox(inside, 3, name="one", batch=4, cache=AnswerCache(path, "one", 3), budget=9)
    with pytest.raises(BudgetExceeded):
        api(inputs())
    api.cache.close()
    again = BlackBox(inside, 3, name="one", batch=4, cache=AnswerCache(path, "one", 3), budget=2)
    np.testing.assert_array_equal(again(inputs()), predict(inputs()))
    assert (again.queries, inside.sizes) == (2, [4, 4, 2])
    np.testing.assert_array_equal(again(inputs()[::-1]), predict(inputs()[::-1]))
    assert (again.queries, len(again.cache)) == (2, 10)
    with pytest.raises(ValueError, match=r"answers of 'one' with 3 classes.*a file for each"):
        AnswerCache(path, "two", 3)
    for name, classes in (("one", 4), ("two", 3)):
        with pytest.raises(ValueError, match=rf"of 'one' with 3 classes, not of '{name}' with {classes}"):
            BlackBox(predict, classes, name=name, cache=again.cache)


def test_a_cache_that_is_none(tmp_path):
    path = tmp_path / "answers.db"
    path.write_bytes(b"\x80\x04not a database" * 100)
    with pytest.raises(ValueError, match="no cache of answers"):
        AnswerCache(path, "one", 3)
    for value in (b"\0" * 8, np.array([0.5, 0.6, 0.7]).tobytes(), np.full(3, np.nan).tobytes(), "text"):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.db"
        api = BlackBox(predict, 3, name="one", cache=AnswerCache(path, "one", 3))
        api(inputs(2))
        with sqlite3.connect(path) as file:
            file.execute("UPDATE answers SET value = ?", (value,))
        with pytest.raises(ValueError, match=r"no answer|another size"):
            api(inputs(2))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (np.full((2, 4), 0.25), "of 4 classes, accepted are 3"),
        (np.full((1, 3), 1 / 3), r"shape \(1, 3\)"),
        (np.full((2, 3), 0.4), "adds up to 1.2, accepted is 1"),
        (np.array([[0.5, 0.5, 0], [np.nan, 0.5, 0.5]]), "not finite"),
        (np.array([[0.5, 0.5, 0], [1.5, -0.5, 0]]), "negative"),
        (np.array([0.5, 0.5]), "shape"),
        ([["a", "b", "c"]] * 2, "no table"),
        ([[0.5, 0.5, 0], [1]], "no table"),
        (None, "shape|no table"),
    ],
)
def test_what_is_no_answer(answer, words):
    api = BlackBox(lambda x: answer, 3)
    with pytest.raises(BadAnswer, match=words):
        api(inputs(2))


def test_answers_may_be_rounded():
    assert BlackBox(lambda x: np.array([[0.333, 0.333, 0.333]]), 3)(inputs(1)).sum() == pytest.approx(0.999)


@pytest.mark.parametrize(
    "wrong",
    [{"classes": 1}, {"batch": 0}, {"budget": -1}, {"labels": ("a", "b")}, {"labels": ("a", "a", "b")}],
)
def test_settings_of_a_black_box_out_of_range(wrong):
    with pytest.raises(ValueError):
        BlackBox(predict, **({"classes": 3} | wrong))


def test_inputs_that_are_refused():
    api = BlackBox(predict, 3)
    for x in (np.zeros(4), np.full((2, 4), np.inf)):
        with pytest.raises(ValueError, match="finite"):
            api(x)
    assert len(api(inputs(0))) == 0


def test_models_are_asked_as_they_are():
    from sklearn.linear_model import LogisticRegression

    x, y = inputs(30), np.arange(30) % 3
    model = LogisticRegression().fit(x, y)
    np.testing.assert_array_equal(BlackBox(predictor(model), 3)(x.reshape(30, 2, 2)), model.predict_proba(x))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3)).train()
    kept = copy.deepcopy(network.state_dict())
    p = BlackBox(predictor(network), 3)(x)
    assert network.training
    assert all(torch.equal(v, kept[n]) for n, v in network.state_dict().items())
    with torch.no_grad():
        np.testing.assert_allclose(p, network.eval()(torch.from_numpy(x)).softmax(-1).numpy(), atol=1e-6)
    with pytest.raises(TypeError, match="predict_proba"):
        predictor(object())


def smooth(seed=0, d=64):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(d, 32), nn.Tanh(), nn.Linear(32, 1)).double()


def cosines(directions, antithetic=False, radius=5e-3):
    network = smooth()
    x = torch.randn(200, 64, generator=torch.Generator().manual_seed(1)).double()
    g = torch.Generator().manual_seed(2)
    found, _ = zo_grad(
        lambda points: network(points)[..., 0], x, directions, radius, antithetic=antithetic, generator=g
    )
    x.requires_grad_()
    (true,) = torch.autograd.grad(network(x).sum(), x)
    return torch.cosine_similarity(found, true, dim=1)


@pytest.mark.parametrize("q", [20, 100])
@pytest.mark.parametrize("antithetic", [False, True])
def test_cosine_with_the_gradient_is_as_in_theory(q, antithetic):
    assert float(cosines(q, antithetic).mean()) == pytest.approx((q / (64 + q - 1)) ** 0.5, abs=0.05)


def test_the_mean_of_many_estimates_is_the_gradient():
    network, x = smooth(d=6), torch.full((1, 6), 0.3).double()
    g = torch.Generator().manual_seed(0)
    many, _ = zo_grad(lambda p: network(p)[..., 0], x, 40_000, 1e-5, generator=g)
    x.requires_grad_()
    (true,) = torch.autograd.grad(network(x).sum(), x)
    torch.testing.assert_close(many, true, rtol=0, atol=0.03 * float(true.norm()))


def test_both_ways_have_no_bias_of_first_order():
    x = torch.zeros(1, 5).double()

    def loss(p):
        return p.sum(-1) + 50 * p.square().sum(-1)

    found = {}
    for both in (False, True):
        g = torch.Generator().manual_seed(0)
        found[both], base = zo_grad(loss, x, 7, 0.1, antithetic=both, generator=g)
        assert (base is None) == both
    g = torch.Generator().manual_seed(0)
    linear, _ = zo_grad(lambda p: p.sum(-1), x, 7, 0.1, generator=g)
    torch.testing.assert_close(found[True], linear)
    assert (found[False] - linear).norm() > 1


def test_evaluations_are_as_many_as_stated_also_in_pieces():
    seen = []

    def loss(points):
        seen.append(points.shape[0] * points.shape[1])
        return points.flatten(2).square().sum(-1)

    x = torch.rand(3, 2, 2)
    for both, expected in ((False, 3 * 8), (True, 3 * 14)):
        found = []
        for chunk in (None, 3):
            seen.clear()
            g = torch.Generator().manual_seed(0)
            found.append(zo_grad(loss, x, 7, 0.01, antithetic=both, chunk=chunk, generator=g)[0])
            assert sum(seen) == expected
        for gradient in found:
            assert gradient.shape == x.shape
            assert torch.nn.functional.cosine_similarity(gradient.flatten(), 2 * x.flatten(), 0) > 0.5
    with pytest.raises(ValueError, match="at least 1"):
        zo_grad(loss, x, 0)


def test_each_sample_has_its_own_loss():
    scale = torch.tensor([1.0, -2.0, 0.0])
    x = torch.rand(3, 5)
    found, base = zo_grad(
        lambda p: scale * p.sum(-1), x, 200, 0.01, generator=torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(base, scale * x.sum(-1))
    assert found[2].abs().max() == 0
    assert torch.sign(found[0].mean()) == -torch.sign(found[1].mean())


@pytest.mark.parametrize("kind", [NPY, JSON])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_survive_the_wire(kind, dtype):
    x = np.random.default_rng(0).normal(size=(3, 1, 2)).astype(dtype)
    found = read(written(x, kind), kind)
    np.testing.assert_array_equal(found.astype(dtype), x)


def pickled():
    file = io.BytesIO()
    np.save(file, np.array([{"a": print}], dtype=object), allow_pickle=True)
    return file.getvalue()


def stating(shape, dtype="<f4", body=b"\0" * 8, fortran=False):
    file = io.BytesIO()
    header = {"descr": dtype, "fortran_order": fortran, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x93NUMPY",
        pickled(),
        stating((10**12,)),
        stating((10**6, 10**6, 10**6)),
        stating((3,)),
        stating((2,), fortran=True),
        stating((2,), "|S4"),
        stating((-2, -1)),
        stating((2,), body=np.array([0, np.inf], "<f4").tobytes()),
        stating((2,))[:20],
    ],
)
def test_bytes_that_are_no_array(body):
    with pytest.raises(ValueError):
        read(body, NPY)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1, 2]",
        b'{"y": 1}',
        b'{"x": [[1], [1, 2]]}',
        b'{"x": ["a"]}',
        b'{"x": NaN}',
        b'{"x": 1e999}',
        b"\xff\xfe",
        b'{"x": ' + b"[" * 100_000,
        b'{"x": {"a": 1}}',
        b'{"x": null}',
    ],
)
def test_json_that_is_no_array(body):
    with pytest.raises(ValueError):
        read(body, JSON)


@pytest.mark.parametrize("header", ["(((", "'''", "{[]: 1}", "  x\n y", "-" * 9000 + "1", "{"])
def test_odd_headers_are_a_value_error(header):
    text = header.encode() + b"\n"
    with pytest.raises(ValueError, match="npy format"):
        read(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text, NPY)


def test_what_was_asked_counts_whatever_it_said():
    api = BlackBox(lambda x: np.ones((len(x), 3)), 3, budget=10)
    for _ in range(2):
        with pytest.raises(BadAnswer):
            api(inputs(4))
    with pytest.raises(BudgetExceeded):
        api(inputs(4))
    assert api.queries == 8


@given(st.binary(max_size=200), st.sampled_from([NPY, JSON]))
@settings(max_examples=100)
def test_any_bytes_are_an_array_or_a_value_error(body, kind):
    for prefix in (b"", b"\x93NUMPY\x01\x00"):
        try:
            found = read(prefix + body, kind)
        except ValueError:
            continue
        assert isinstance(found, np.ndarray)
        assert found.dtype.kind in "fiub"
