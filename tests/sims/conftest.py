import pytest

from sims import compare


@pytest.fixture(autouse=True)
def no_word_about_compilation(monkeypatch):
    """Tests read standard error, and on a new machine the first of them compiles."""
    monkeypatch.setattr(compare, "SLOW", 3600.0)
