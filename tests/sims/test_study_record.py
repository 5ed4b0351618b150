"""Studies keep what they have found and go on from it."""

import json

import pytest

from sims.studies import lra
from sims.studies.record import Record


def test_what_is_known_is_not_worked_out_again(tmp_path):
    path = tmp_path / "found.json"
    first = Record(path, steps=3, shots=(1, 5))
    assert first.part("a 0", lambda: {"x": (1, 2)}) == {"x": [1, 2]}
    again = Record(path, steps=3, shots=(1, 5))
    assert again.part("a 0", lambda: pytest.fail("is known")) == {"x": [1, 2]}
    assert again.part("a 1", lambda: 0.5) == 0.5
    document = json.loads(path.read_text())
    assert document["parts"] == {"a 0": {"x": [1, 2]}, "a 1": 0.5}
    assert document["settings"] == {"steps": 3, "shots": [1, 5]}


def test_a_part_that_fails_leaves_the_others(tmp_path):
    path = tmp_path / "found.json"
    record = Record(path)
    record.part("a", lambda: 1)
    with pytest.raises(ZeroDivisionError):
        record.part("b", lambda: 1 / 0)
    assert Record(path).parts == {"a": 1}


def test_other_settings_are_refused_by_name(tmp_path):
    path = tmp_path / "found.json"
    Record(path, steps=3, rate=0.1).part("a", lambda: 1)
    with pytest.raises(ValueError, match=r"results of steps 3 and not 4: name another file"):
        Record(path, steps=4, rate=0.1)
    assert Record(path, steps=3, rate=0.1).parts == {"a": 1}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"parts": 3, "settings": {}}', '{"parts": {}}', "\x00"])
def test_another_file_is_refused_and_kept(tmp_path, text):
    path = tmp_path / "found.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="not of this study"):
        Record(path)
    assert path.read_text() == text


def test_without_a_file_nothing_is_kept():
    record = Record(None)
    assert record.part("a", lambda: 1) == 1
    record.write(summary=2)


def test_a_study_that_is_stopped_goes_on(tmp_path, monkeypatch, capsys):
    path = tmp_path / "lra.json"
    command = ["--quick", "--studies", "generator", "--rows", "vanilla", "buffer", "--json", str(path)]

    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    work = lra.loop
    monkeypatch.setattr(lra, "loop", lambda *a: stopped() if a[3] == "buffer" else work(*a))
    assert lra.main(command) == 130
    kept = json.loads(path.read_text())["parts"]
    assert list(kept) == ["teacher 0", "generator, vanilla, 0"]
    monkeypatch.setattr(lra, "loop", lambda *a: stopped() if a[3] == "vanilla" else work(*a))
    assert lra.main(command) == 0
    found = json.loads(path.read_text())["parts"]
    assert found["generator, vanilla, 0"] == kept["generator, vanilla, 0"]
    assert len(found["generator, buffer, 0"]["curve"]) == 3
    assert "buffer" in capsys.readouterr().out
    assert lra.main([*command, "--epochs", "4"]) == 0  # --quick has its own epochs
