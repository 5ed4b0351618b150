"""Damaged files of every format: a clear error or the events before the damage, never anything else."""

from contextlib import suppress

import numpy as np
import pytest
from event_file_cases import CASES  # tests/perception/event_file_cases.py

from perception.events import EventStream, read

FEW, MANY = 40, 10_000


def mutated(content, rng):
    """A copy with bytes changed, cut out, repeated, or the end missing."""
    found = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at, length = int(rng.integers(0, len(found) + 1)), int(rng.integers(1, 17))
        match rng.integers(0, 5):
            case 0:
                found[at : at + length] = rng.bytes(length)
            case 1:
                del found[at : at + length]
            case 2:
                found[at:at] = found[at : at + length]
            case 3:
                del found[at:]
            case 4 if at < len(found):
                found[at] ^= 1 << int(rng.integers(0, 8))
        if not found:
            break
    return bytes(found)


def survives(name, folder, number):
    case, rng = CASES[name], np.random.default_rng(sum(name.encode()))
    content = case.write(case.stream(60), folder).read_bytes()
    path, told = folder / f"damaged{case.suffix}", 0
    for k in range(number):
        path.write_bytes(mutated(content, rng))
        try:
            window = (3_000_000, 6_000_000) if k % 4 > 1 else ()  # seeking reads other parts of a file
            found = case.read(path, *window, format=case.format, recover=bool(k % 2))
        except (ValueError, OSError) as error:
            told += bool(str(error))
        else:
            assert isinstance(found, EventStream)
            assert len(found) <= 10_000
            assert not window or ((found.t >= window[0]) & (found.t < window[1])).all()
    return told


@pytest.mark.parametrize("name", CASES)
def test_damage_is_told_or_cut_off(name, tmp_path):
    assert survives(name, tmp_path, FEW) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_ten_thousand_damaged_files(name, tmp_path):
    assert survives(name, tmp_path, MANY) > 0


def test_a_file_of_zeros_or_noise_is_no_crash(tmp_path):
    rng = np.random.default_rng(0)
    for case in CASES.values():
        for content in (b"", b"\0" * 4096, rng.bytes(4096)):
            path = tmp_path / f"noise{case.suffix}"
            path.write_bytes(content)
            with suppress(ValueError, OSError):
                assert len(read(path, format=case.format)) <= 4096
