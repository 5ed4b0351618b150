"""Where the real recordings are, which are not part of the project, and files to read."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data() -> Path:
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("TOOLKIT_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder}; set TOOLKIT_DATA")
    return folder


@pytest.fixture
def written(tmp_path):
    """Write text or bytes to a file and return its path."""

    def write(content):
        path = tmp_path / "file.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture(autouse=True, scope="session")
def synced():
    """Files synced so far: thousands are written here, none has to survive a power cut."""
    with pytest.MonkeyPatch.context() as patch:
        calls = []
        patch.setattr(os, "fsync", calls.append)
        yield calls
