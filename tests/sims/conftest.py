import pytest

from tracking import notice


@pytest.fixture(autouse=True)
def no_word_about_compilation(monkeypatch):
    """Tests read standard error, and on a new machine the first of them compiles."""
    monkeypatch.setattr(notice, "SLOW", 3600.0)
