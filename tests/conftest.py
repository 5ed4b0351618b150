"""Where the real recordings are, which are not part of the project."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data() -> Path:
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TOOLKIT_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder}; set TOOLKIT_DATA")
    return folder
