"""The study of forgetting: a curve of every row of every kind, kept and gone on with."""

import json

import pytest

from sims.studies import lra


@pytest.mark.slow
def test_curves_of_all_studies_are_compared_and_kept(tmp_path, capsys):
    path = tmp_path / "lra.json"
    argv = ["--quick", "--studies", "drift", "pairs", "inverted", "presets", "--json", str(path)]
    assert lra.main(argv) == 0
    out = capsys.readouterr().out
    parts = json.loads(path.read_text())["parts"]
    epochs = {"drift": 20, "pairs": 6, "inverted": 4, "presets": 3}
    rows = {kind: lra.UPDATES for kind in epochs} | {"presets": [*lra.PRESETS, "clean"]}
    assert set(parts) == {"teacher 0", *(f"{kind}, {row}, 0" for kind in epochs for row in rows[kind])}
    for name, part in parts.items():
        if name != "teacher 0":
            assert len(part["curve"]) == epochs[name.split(",")[0]]
            assert all(0 <= accuracy <= 100 for accuracy in part["curve"])
    assert parts["drift, second order, 0"]["curve"] != parts["drift, alpha = 0, 0"]["curve"]
    assert parts["drift, second order, 0"]["curve"][-1] > 40
    assert lra.main(argv) == 0  # all of it is known
    assert capsys.readouterr().out == out
