"""What a study has found so far, kept in its JSON file: the same command goes on where it was stopped."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from sims.bench.measure import machine
from tracking.program import write_json


class Record:
    """Results by name. With a path, all of them are written after each.

    Args:
        path:     of the file, read first where there is one; None: nothing is kept.
        settings: all that results depend on beside their names.
    Raises:
        ValueError: the file is of something else, or of other settings.
    """

    def __init__(self, path: str | Path | None, **settings: Any):
        self.path = None if path is None else Path(path)
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))  # as they come back
        self.parts: dict[str, Any] = {}
        if self.path is not None and self.path.exists():
            self.parts = _parts(self.path, self.settings)

    def part(self, name: str, work: Callable[[], Any]) -> Any:
        """The result of that name; `work` is asked for what JSON can hold where it is not known yet."""
        if name not in self.parts:
            self.parts[name] = json.loads(json.dumps(work()))
            self.write()
        return self.parts[name]

    def write(self, **more: Any) -> None:
        """Write all there is, and more under names of its own, as a summary."""
        if self.path is not None:
            about = {"settings": self.settings, "machine": machine(), "date": date.today().isoformat()}
            write_json(self.path, about | more | {"parts": self.parts})


def _parts(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        before, parts = dict(document["settings"]), dict(document["parts"])
    except (ValueError, LookupError, TypeError):
        raise ValueError(f"{path} is not of this study: name another file") from None
    if before != settings:
        names = [k for k in before | settings if before.get(k) != settings.get(k)]
        said = ", ".join(f"{k} {before.get(k)!r} and not {settings.get(k)!r}" for k in names)
        raise ValueError(f"{path} holds results of {said}: name another file, or give the same settings")
    return parts
