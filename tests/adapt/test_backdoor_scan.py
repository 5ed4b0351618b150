"""What is said of a teacher that may be poisoned: scans, their calibration, and the margins of MM-BD."""

import json
import sys
from dataclasses import replace
from functools import partial

import pytest
import small_teachers
import torch
from torch import nn

from adapt.data_free import presets
from adapt.data_free.__main__ import main
from adapt.data_free.abd import ClassWise, abd_classwise
from adapt.data_free.distiller import Config
from adapt.data_free.margin import largest_margins
from adapt.data_free.scan import ScanConfig, Suspicion, calibrated, judged, scan
from adapt.data_free.search import Budget, SearchConfig

SHAPE = (1, 8, 8)
SEARCH = SearchConfig(
    budgets=(Budget("sparse", 2), Budget("dense", 1)), closer=(2, 2), batch=8, rounds=(3, 3)
)
SETTINGS = replace(presets.SMALL, config=Config(epochs=2, rounds=2, steps=3, batch=16), width=8, nz=8)


@pytest.fixture
def teacher():
    return small_teachers.network(0, "resnet-4", SHAPE)


class Diagonal(nn.Module):
    """Answers its inputs, each times a number of its own, and class 3 more if two are at their largest."""

    def forward(self, x):
        both = torch.relu(x[:, 0] + x[:, 1] - 1.5)
        return x * torch.tensor([1.0, 2.0, 3.0, 4.0]) + 20 * both[:, None] * torch.eye(4)[3]


def found(*flips):
    return judged(torch.tensor(flips))


def test_without_a_calibration_the_class_that_stands_out_is_named_and_not_how_surely():
    # small changes turn nothing, large ones everything
    said = found([0.1, 0.12, 0.05, 0.02], [0.75, 0.25, 0.1, 0.2], [1.0, 1.0, 0.9, 0.9])
    assert said == Suspicion(0, 3.0, said.flips, None, None)
    assert found([0.0, 0.09, 0.05, 0.02]).score == 1.0


def test_a_class_that_is_easily_turned_to_by_nature_is_no_suspect_of_a_calibrated_scan():
    clean = calibrated(
        [found([0.1, a, 0.05, 0.2], [0.3, b, 0.3, 0.4]) for a, b in ((0.4, 0.9), (0.5, 1.0), (0.45, 0.95))]
    )
    usual = judged(torch.tensor([[0.1, 0.5, 0.05, 0.2], [0.3, 1.0, 0.3, 0.4]]), clean)
    odd = judged(torch.tensor([[0.1, 0.45, 0.9, 0.2], [0.3, 0.95, 1.0, 0.4]]), clean)
    assert not usual.alarm
    assert odd.alarm
    assert odd.target == 2
    assert odd.score == pytest.approx(9.0)
    assert usual.sure < 0.9 < odd.sure


def test_few_clean_teachers_or_alike_make_no_alarm_of_little():
    alike = [found([0.05, 0.1, 0.0])] * 4
    assert not judged(torch.tensor([[0.05, 0.15, 0.0]]), calibrated(alike)).alarm
    some = [found([0.1, 0.2, 0.1]), found([0.2, 0.1, 0.1]), found([0.1, 0.1, 0.1])]
    assert calibrated(some).sure(3.0) < calibrated(some * 10).sure(3.0)


def test_a_calibration_is_of_enough_teachers_of_the_same_classes():
    with pytest.raises(ValueError, match="three clean teachers, got 2"):
        calibrated([found([0.1, 0.2])] * 2)
    with pytest.raises(ValueError, match="alarm"):
        calibrated([found([0.1, 0.2])] * 3, alarm=1.5)
    for flips in ((), ((),), ((0.1, float("nan")),), ((0.1, 0.2), (0.1,))):
        with pytest.raises(ValueError, match="flips of a scan"):
            calibrated([Suspicion(0, 1.0, flips)] * 3)
    with pytest.raises(ValueError, match="same classes"):
        calibrated([found([0.1, 0.2]), found([0.1, 0.2]), found([0.1, 0.2, 0.3])])
    with pytest.raises(ValueError, match=r"calibration is of \(1, 2\)"):
        judged(torch.tensor([[0.1, 0.2, 0.3]]), calibrated([found([0.1, 0.2])] * 3))


def test_a_teacher_without_parameters_is_scanned_on_the_cpu():
    config = ScanConfig(steps=1, settings=replace(SETTINGS, bn=0.0), search=SEARCH)
    with pytest.raises(ValueError, match="activation"):  # it has no layer to look into, which is said
        scan(Diagonal().eval(), (4,), (0.0, 1.0), config)


def test_a_scan_leaves_the_teacher_as_it_is(teacher):
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    config = ScanConfig(steps=2, settings=SETTINGS, search=SEARCH)
    found = scan(teacher, SHAPE, (-1.0, 2.0), config)
    assert found == scan(teacher, SHAPE, (-1.0, 2.0), config)
    assert [len(row) for row in found.flips] == [4, 4]
    largest_margins(teacher, SHAPE, (-1.0, 2.0), starts=2, steps=2)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_margins_are_the_largest_within_bounds():
    found = largest_margins(Diagonal().eval(), (4,), (0.0, 1.0), starts=20)
    # class 3 wins by 4 + 20 * 0.5 - 2 with all of 0, 1, 3 at 1; the others by what they are times
    torch.testing.assert_close(found, torch.tensor([1.0, 2.0, 3.0, 12.0]), atol=0.05, rtol=0)
    with pytest.raises(ValueError, match="bounds"):
        largest_margins(Diagonal().eval(), (4,), (1.0, 0.0))


def test_a_teacher_without_gradient_is_refused(teacher):
    class Silent(nn.Module):
        def forward(self, x):
            with torch.no_grad():
                return teacher(x)

    for look in (scan, largest_margins):
        with pytest.raises(ValueError, match="no gradient"):
            look(Silent().eval(), SHAPE, (-1.0, 2.0))


def defended(teacher, **more):
    student = small_teachers.network(1, "cnn-4", SHAPE)
    d = presets.dfq(teacher, student, SHAPE, SETTINGS)
    return abd_classwise(d, (-1.0, 2.0), start=0.4, every=2, config=SEARCH, **more)


def test_the_defence_is_as_strong_as_a_scan_is_sure(teacher):
    found = Suspicion(2, 1.5, ((0.0, 0.1, 0.3, 0.0),))
    whole = defended(teacher).phase.update
    assert whole.suspect is None
    for sure, share in ((None, 1.0), (1.0, 1.0), (0.5, 1 / 16), (0.0, 1e-6)):
        update = defended(teacher, suspicion=replace(found, sure=sure)).phase.update
        assert update.suspect == 2
        assert update.weight == pytest.approx(share * whole.weight)


def test_a_class_that_a_scan_named_is_not_looked_for_again(teacher, monkeypatch):
    asked = []

    def spy(teacher, draw, targets, *rest):
        asked.append(list(targets))
        return kept(teacher, draw, targets, *rest)

    module = sys.modules[ClassWise.__module__]  # its name in the package is that of a function
    kept = module.search
    monkeypatch.setattr(module, "search", spy)
    defended(teacher, suspicion=Suspicion(2, 1.5, ((0.0, 0.1, 0.3, 0.0),))).fit()
    assert asked
    assert all(targets == [2] for targets in asked)
    with pytest.raises(ValueError, match="class 4 is suspected, and the teacher has 4"):
        defended(teacher, suspicion=Suspicion(4, 1.5, ((0.0,) * 5,)))


def test_the_program_scans_and_defends_with_the_settings_that_it_was_given(tmp_path, capsys, monkeypatch):
    quick = partial(ScanConfig, steps=2, search=SEARCH)
    monkeypatch.setattr("adapt.data_free.__main__.ScanConfig", quick)
    files = []
    for seed in range(4):
        torch.manual_seed(seed)
        plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).eval()
        files.append(str(tmp_path / f"{seed}.pt2"))
        dynamic = ({0: torch.export.Dim("b")},)
        torch.export.save(
            torch.export.export(plain, (torch.randn(4, *SHAPE),), dynamic_shapes=dynamic), files[-1]
        )
    argv = [
        "--teacher",
        files[0],
        "--student",
        "cnn-4",
        "--method",
        "dfad",
        "--out",
        str(tmp_path / "s.safetensors"),
    ]
    argv += ["--input-shape", "1", "8", "8", "--epochs", "1", "--rounds", "2", "--steps", "2", "--batch", "8"]
    argv += ["--bn", "0", "--bounds", "-1", "2"]
    assert main([*argv, "--scan"]) == 0
    said = json.loads(capsys.readouterr().out)["scan"]
    assert said["score"] >= 1
    assert "alarm" not in said
    assert main([*argv, "--calibrate", *files[1:], "--defence", "classwise"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert 0 <= said["scan"]["sure"] <= 1
    assert said["scan"]["alarm"] in (True, False)
    with pytest.raises(SystemExit) as error:
        main([*argv, "--calibrate", *files[:2]])
    assert error.value.code == 2
    assert "three clean teachers, got 2" in capsys.readouterr().err


def test_a_scan_asks_about_inputs_that_the_teacher_is_sure_of(teacher, monkeypatch):
    module, margins = sys.modules[ScanConfig.__module__], []

    def spy(teacher, draw, *rest):
        x = draw(40)  # more than a batch of 16
        assert x.shape == (40, *SHAPE)
        first, second = teacher(x).topk(2).values.unbind(1)
        margins.append(float((first - second).mean()))
        return kept(teacher, draw, *rest)

    kept = module.search
    monkeypatch.setattr(module, "search", spy)
    for surest in (1, 8):
        scan(
            teacher, SHAPE, (-1.0, 2.0), ScanConfig(steps=2, settings=SETTINGS, search=SEARCH, surest=surest)
        )
    assert margins[1] > 1.5 * margins[0]
    with pytest.raises(ValueError, match="surest"):
        ScanConfig(surest=0)
