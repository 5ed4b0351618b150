"""Answers on disk, so that nothing is asked twice: an SQLite file of plain numbers."""

import hashlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adapt.black_box.answers import BadAnswer, checked

TOGETHER = 500  # keys of one look-up; SQLite takes a limited number


class AnswerCache:
    """Answers of one endpoint by input.

    It is used in the thread that made it.

    Args:
        path:    of the file; it is made where there is none.
        name:    of the endpoint: a file of another one is refused.
        classes: of its answers.
    Raises:
        ValueError: the file is something else, or of another endpoint.
    """

    def __init__(self, path: str | Path, name: str, classes: int):
        self.path, self.name, self.classes = Path(path), name, classes
        try:
            self.file = sqlite3.connect(self.path)
            self.file.execute("PRAGMA journal_mode=WAL")
            self.file.execute("PRAGMA synchronous=NORMAL")
            with self.file:
                self.file.execute("CREATE TABLE IF NOT EXISTS about (name TEXT, classes INTEGER)")
                self.file.execute("CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, value BLOB)")
                if self.file.execute("SELECT count(*) FROM about").fetchone()[0] == 0:
                    self.file.execute("INSERT INTO about VALUES (?, ?)", (name, classes))
            about = self.file.execute("SELECT name, classes FROM about").fetchone()
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path} is no cache of answers: {error}") from None
        if about != (name, classes):
            raise ValueError(
                f"{path} has answers of {about[0]!r} with {about[1]} classes, not {name!r} with {classes}; "
                "take a file for each endpoint"
            )

    def __len__(self) -> int:
        return int(self.file.execute("SELECT count(*) FROM answers").fetchone()[0])

    def keys(self, x: np.ndarray) -> list[bytes]:
        """A key for each row of x (n, ...), of its shape, type and bytes."""
        kind = f"{x.dtype.str}{x.shape[1:]}".encode()
        return [hashlib.blake2b(kind + row.tobytes(), digest_size=16).digest() for row in x]

    def known(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """Answers (classes,) to those of the keys that have one.

        Raises:
            ValueError: what is in the file is no answer.
        """
        found: dict[bytes, np.ndarray] = {}
        for start in range(0, len(keys), TOGETHER):
            some = list(keys[start : start + TOGETHER])
            marks = ",".join("?" * len(some))
            for key, value in self.file.execute(
                f"SELECT key, value FROM answers WHERE key IN ({marks})", some
            ):
                found[key] = self._number(value)
        return found

    def _number(self, value: object) -> np.ndarray:
        if not isinstance(value, bytes) or len(value) != 8 * self.classes:
            raise ValueError(f"{self.path} holds an answer of another size; delete the file and ask again")
        try:
            return checked(np.frombuffer(value, "<f8")[None], 1, self.classes)[0]
        except BadAnswer as error:
            raise ValueError(f"{self.path} holds what is no answer: {error}") from None

    def add(self, keys: Sequence[bytes], answers: np.ndarray) -> None:
        """Keep answers (n, classes); they are on disk when this returns."""
        rows = [(key, row.astype("<f8").tobytes()) for key, row in zip(keys, answers)]
        with self.file:
            self.file.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", rows)

    def close(self) -> None:
        """Close the file."""
        self.file.close()
