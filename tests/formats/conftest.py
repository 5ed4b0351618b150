"""Files to read."""

import os

import pytest


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
