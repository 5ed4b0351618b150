"""What the pages and cards say is what the results and weights beside them say."""

import json
import re
from pathlib import Path

import pytest

from tracking.mt3 import load, shipped
from tracking.mt3.model import SHIPPED

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs" / "mt3" / "README.md"]


def results(name):
    return json.loads((PAGES[1].parent / name).read_text())["tasks"]


def with_half(row):
    low, high = row["ci95"]
    return f"{row['gospa']:.2f} ± {(high - low) / 2:.2f}"


def signed(found):
    numbers = [f"{v:+.2f}" for v in (found["gospa"], *found["ci95"])]
    mean, low, high = (n.lstrip("+-") if float(n) == 0 else n for n in numbers)
    return f"{mean} [{low}, {high}]"


@pytest.mark.parametrize("page", PAGES, ids=["README", "docs"])
def test_the_table_is_of_the_results(page):
    text, rows = page.read_text(), results("mt3-task2.json")["mt3-task2"]["trackers"]
    text = text[text.index("`python -m sims.studies.mt3 --scenario mt3-task2 --trackers pmbm glmb") :]
    for name, row in rows.items():
        line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        assert with_half(row) in line
        if name != "pmbm":
            assert signed(row["differences"]["pmbm"]) in line
        if name != "mt3":
            assert signed(rows["mt3"]["differences"][name]) in line


def test_the_radar_table_is_of_the_results():
    text = PAGES[1].read_text()
    for task, found in results("radar.json").items():
        rows = found["trackers"]
        line = next(
            line
            for line in text.splitlines()
            if line.startswith(f"| {task} | {rows['pmbm-ekf']['gospa']:.2f}")
        )
        for row in rows.values():
            assert with_half(row) in line
        for network in {"mt3", "mt3-m"} & set(rows):
            for way in ("pmbm-ekf", "pmbm-ukf"):
                assert signed(rows[network]["differences"][way]) in line


@pytest.mark.parametrize("name", shipped())
def test_cards_are_of_their_weights(name):
    card, about = (SHIPPED / f"{name}.md").read_text(), load(name).about
    for part in ("gospa", "localisation", "missed", "false"):
        assert f"{about[part]:.3f}" in card
    assert f"{about['steps']} steps, {about['windows']} windows" in card
    assert f"Threshold {load(name).reading.threshold:.2f}" in card
    assert float(re.search(r"expected calibration error ([\d.]+)", card)[1]) < 0.02
