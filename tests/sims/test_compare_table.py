"""The document of a comparison states honest intervals, and its table is readable everywhere."""

import io
import json
import re

import numpy as np
import pytest
from scipy import stats

from sims.evaluate import Scores
from sims.scenarios import scenario
from sims.table import difference, document, interval, show, signed, wide_console


def scores(rng, n=6, level=25.0, ospa2=7.0, expected=5.6):
    return [
        Scores(
            level * rng.uniform(0.9, 1.1, 4),
            9.0,
            ospa2,
            expected,
            5.5,
            5.7,
            rng.uniform(1e-3, 2e-3, 40),
            np.ones(40, bool),
        )
        for _ in range(n)
    ]


def some(name="crossing", n=6, level=25.0, choice=None, **more):
    rng = np.random.default_rng(0)
    found = {t: scores(rng, n, level, **more) for t in ("pmbm", "glmb", "gnn")}
    return document(scenario(name), found, {t: {"threshold": 0.4} for t in found}, 3, choice)


def printed(result, encoding="utf-8"):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    show(result, wide_console(file))
    file.flush()
    return raw.getvalue().decode(encoding)


def test_intervals_are_those_of_student():
    x, y = np.random.default_rng(0).normal(3, 1, (2, 9))
    low, high = stats.ttest_1samp(x, 0).confidence_interval(0.95)
    np.testing.assert_allclose(interval(x), [low, high])
    low, high = stats.ttest_rel(x, y).confidence_interval(0.95)
    found = difference(x, y)
    np.testing.assert_allclose(found["ci95"], [low, high])
    assert found["gospa"] == pytest.approx(x.mean() - y.mean())
    assert interval(np.ones(1)) is None


def test_shared_luck_cancels_in_differences():
    luck = np.random.default_rng(0).normal(0, 10, 20)
    x, y = luck + 1.0, luck
    assert np.diff(interval(x)) > 5
    np.testing.assert_allclose(difference(x, y)["ci95"], [1, 1])


def test_means_and_parts_are_over_runs():
    result = some()["trackers"]["glmb"]
    runs = scores(np.random.default_rng(0), 12)[6:]
    mean = np.mean([r.gospa for r in runs], axis=0)
    found = [result[k] for k in ("gospa", "localisation", "missed", "false")]
    np.testing.assert_allclose(found, mean)
    np.testing.assert_allclose(result["ci95"], interval(np.array([r.gospa[0] for r in runs])))
    cpu = 1e3 * np.concatenate([r.cpu for r in runs])
    assert result["cpu_ms_per_scan"] == {"median": np.median(cpu), "p95": np.quantile(cpu, 0.95)}


def test_root_mean_squares_and_their_interval():
    rng = np.random.default_rng(1)
    square = rng.gamma(20, 0.4, (200, 2))
    found = {
        t: [
            Scores(np.full(4, v), 1.0, 1.0, 1.0, 1.0, 1.0, np.ones(1), np.ones(1, bool)) for v in square[:, i]
        ]
        for i, t in enumerate("ab")
    }
    result = document(scenario("williams15"), found, {"a": {}, "b": {}}, 0)["trackers"]
    assert result["a"]["gospa"] == result["a"]["missed"] == pytest.approx(np.sqrt(square[:, 0].mean()))
    low, high = result["a"]["ci95"]
    assert (low + high) / 2 == pytest.approx(result["a"]["gospa"])
    draws = np.sqrt(rng.choice(square[:, 0], (4000, 200)).mean(axis=1))
    assert (high - low) / 2 == pytest.approx(1.97 * draws.std(), rel=0.06)
    exact = np.sqrt(square[:, 1].mean()) - np.sqrt(square[:, 0].mean())
    assert result["b"]["differences"]["a"]["gospa"] == pytest.approx(exact)
    assert result["a"]["differences"]["b"]["gospa"] == pytest.approx(-exact)


def test_the_document_has_its_schema_and_is_strict_json():
    result = some("mt3-task2", ospa2=np.nan, expected=np.nan)
    text = json.dumps(result, allow_nan=False)
    assert {"scenario", "seed", "runs", "settings", "trackers"} <= set(json.loads(text))
    for name, row in result["trackers"].items():
        assert {
            "gospa",
            "localisation",
            "missed",
            "false",
            "ospa",
            "ospa2",
            "ci95",
            "cpu_ms_per_scan",
        } <= set(row)
        assert set(row["cpu_ms_per_scan"]) == {"median", "p95"}
        assert row["ospa2"] is None
        assert row["cardinality"] == {"expected": None, "reported": 5.5, "true": pytest.approx(5.7)}
        assert row["settings"] == {"threshold": 0.4}
        assert set(row["differences"]) == set(result["trackers"]) - {name}
    assert result["seed"] == 3
    assert result["settings"]["gospa_c"] == 2.0


@pytest.mark.parametrize("level", [0.0, 0.031, 25.0, 47000.0])
def test_a_piped_table_has_every_number_within_108_plain_columns(level):
    text = printed(some(level=level))
    assert "\x1b" not in text
    assert "…" not in text
    lines = text.splitlines()
    assert max(map(len, lines)) <= 108
    rows = {line.split()[0]: line for line in lines if line and line.split()[0] in ("pmbm", "glmb", "gnn")}
    assert list(rows) == ["pmbm", "glmb", "gnn"]
    for name, line in rows.items():
        numbers = re.findall(r"[-+]?\d+(?:\.\d+)?", line)
        assert len(numbers) == (11 if name == "pmbm" else 14)
        assert float(numbers[0]) == pytest.approx(
            some(level=level)["trackers"][name]["gospa"], abs=0.006, rel=1e-3
        )
    assert text.startswith("crossing: 6 objects")
    assert "6 runs of seed 3; GOSPA: c = 20, p = 1, mean over runs and all scans" in text


def test_a_piped_table_of_long_names_is_wide_rather_than_cut():
    found = {f"a-long-name-{k}": scores(np.random.default_rng(k), 6, 25.0) for k in range(3)}
    text = printed(document(scenario("crossing"), found, {name: {} for name in found}, 0))
    assert "…" not in text
    assert text.count("]") >= 2


def test_one_run_has_no_intervals():
    result = some(n=1)
    assert result["trackers"]["glmb"]["ci95"] is None
    text = printed(result)
    assert "±" not in text
    assert "[" not in text
    assert "1 run of seed 3" in text


def test_the_table_says_how_thresholds_were_chosen():
    choice = {"seed": 1000006, "runs": 50, "thresholds": {"pmbm": 0.45, "gnn": 0.2}}
    text = printed(some(choice=choice))
    assert "Thresholds chosen on 50 scenes of seed 1000006: pmbm 0.45, gnn 0.2." in text


def test_a_terminal_without_unicode_gets_ascii():
    assert "+-" in printed(some(), "ascii")


def test_differences_are_written_with_their_interval():
    assert signed(np.array([1.0, 2.0, 3.0]), 1) == "+2.0 [-0.5, +4.5]"
    assert signed(np.array([-1.0]), 2) == "-1.00"
