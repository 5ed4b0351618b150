"""The study of EventDance: it runs, goes on where it was, and refuses files that are something else."""

import json

import numpy as np
import pytest

from sims.studies import eventdance


@pytest.mark.slow
def test_the_study_writes_and_goes_on(tmp_path, capsys):
    path = tmp_path / "found.json"
    assert eventdance.main(["--quick", "--ablations", "1", "--json", str(path)]) == 0
    said = capsys.readouterr().out
    parts = json.loads(path.read_text())["parts"]
    rows = {"counts", "last surrogates", "anchors", "pseudo-labels", "EventDance", "supervised"}
    assert rows <= parts["digits, 0"].keys()
    assert {f"without {loss}" for loss in eventdance.LOSSES} < parts["digits, 0, ablations"].keys()
    assert all(0 <= value <= 1 for row in parts["digits, 0"].values() for value in row)
    assert (
        eventdance.main(["--quick", "--ablations", "1", "--json", str(path)]) == 0
    )  # nothing is computed again
    assert capsys.readouterr().out == said


def test_files_that_are_not_mnist_are_refused_in_one_line(tmp_path, capsys):
    path = tmp_path / "images.npz"
    np.savez(path, images=np.zeros((4, 28, 28), np.uint8))
    given = ["--tasks", "nmnist", "--mnist", str(path), "--nmnist", str(tmp_path)]
    assert eventdance.main(given) == 2
    said = capsys.readouterr().err
    assert "is no .npz with images and labels" in said
    assert len(said.splitlines()) == 1
    with pytest.raises(SystemExit):
        eventdance.main(["--tasks", "nmnist"])
    with pytest.raises(SystemExit):
        eventdance.main(["--first", "-1"])
