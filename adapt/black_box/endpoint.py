"""Asking an endpoint over HTTP: patience with what passes, clear words for what does not."""

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np

from adapt.black_box.wire import KINDS, read, written

LARGEST_ANSWER = 64 * 2**20  # bytes
PASSING = (408, 425, 429, 500, 502, 503, 504)  # statuses after which it is worth to ask again


class Unavailable(RuntimeError):  # noqa: N818
    """An endpoint did not answer, however often it was asked."""


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often to ask again, and how long to wait before.

    times:  attempts after the first.
    wait:   s, before the second attempt; it doubles from one to the next.
    longest: s, of a wait.
    sleep:  what waits.
    """

    times: int = 4
    wait: float = 0.5
    longest: float = 30.0
    sleep: Callable[[float], object] = time.sleep

    def __post_init__(self):
        if min(self.times, self.wait, self.longest) < 0:
            raise ValueError(f"times, wait and longest must be at least 0, got {self}")


class Endpoint:
    """A classifier behind an address, for `BlackBox`: arrays (n, ...) in, probabilities (n, classes) out.

    What is sent is an array as npy, or {"x": ...} as JSON; the answer is the same. Redirections are not
    followed.

    Args:
        url:     http or https.
        timeout: s, of each attempt: to connect, and between parts of the answer.
        kind:    "npy" or "json".
        headers: to send along, such as a key.
        retry:   what to do when it does not answer in time, breaks off, or says that it is busy or broken.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 10.0,
        kind: str = "npy",
        headers: dict[str, str] | None = None,
        retry: Retry = Retry(),
    ):
        parts = urlsplit(url)
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or not url.isascii()
            or not url.isprintable()
            or " " in url
        ):
            raise ValueError(f"accepted are addresses like http://host:port/name, got {url!r}")
        if timeout <= 0:
            raise ValueError(f"timeout must be above 0 s, got {timeout}")
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        self.url, self.timeout, self.kind, self.retry = url, timeout, KINDS[kind], retry
        self.headers = dict(headers or {})
        self.attempts = 0
        self._parts, self._port = parts, parts.port  # a port that is none is a ValueError

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Ask about inputs.

        Raises:
            Unavailable:  it did not answer; says why, and how often it was asked.
            RuntimeError: it refused the question, or answered with something else than an array.
        """
        body, reasons = written(x, self.kind), []
        for attempt in range(self.retry.times + 1):
            if attempt:
                self.retry.sleep(min(self.retry.wait * 2 ** (attempt - 1), self.retry.longest))
            self.attempts += 1
            try:
                status, kind, answer = self._sent(body)
            except (OSError, http.client.HTTPException) as error:  # time-outs are OSError, too
                reasons.append(f"{type(error).__name__}: {error}")
                continue
            if status in PASSING:
                reasons.append(f"status {status}")
                continue
            if status != 200:
                raise RuntimeError(f"{self.url} refused the question with status {status}: {_said(answer)}")
            if kind != self.kind:
                raise RuntimeError(f"{self.url} answered with {kind!r}, asked for was {self.kind}")
            try:
                return read(answer, kind)
            except ValueError as error:
                raise RuntimeError(f"{self.url} answered with what is no array: {error}") from None
        raise Unavailable(f"{self.url} did not answer {len(reasons)} attempts; the last: {reasons[-1]}")

    def _sent(self, body: bytes) -> tuple[int, str, bytes]:
        secure = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self._parts.hostname or "", self._port, timeout=self.timeout)
        path = (self._parts.path or "/") + (f"?{self._parts.query}" if self._parts.query else "")
        try:
            headers = {"Content-Type": self.kind, "Accept": self.kind, **self.headers}
            connection.request("POST", path, body, headers)
            reply = connection.getresponse()
            answer = reply.read(LARGEST_ANSWER + 1)
            if len(answer) > LARGEST_ANSWER:
                raise RuntimeError(
                    f"{self.url} answered with more than {LARGEST_ANSWER} bytes; ask for less at once"
                )
            return reply.status, (reply.getheader("Content-Type") or "").partition(";")[0], answer
        finally:
            connection.close()


def _said(answer: bytes) -> str:
    """What a refusal says, in one short line."""
    try:
        text = str(json.loads(answer)["error"])
    except (ValueError, TypeError, KeyError):
        text = answer[:200].decode("utf-8", "replace")
    return " ".join(text.split())[:200] or "nothing"
