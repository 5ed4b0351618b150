"""A small HTTP server that answers for models: for tests, demonstrations, and a machine's other programs.

    POST /NAME   an array of inputs as npy or JSON {"x": ...}; probabilities come back in the same form
    GET  /NAME   {"classes": ...}

It listens on the loopback address unless told otherwise. A name is looked up among the models, whatever it
looks like; no file is ever opened for a request. Arrays are read without pickle, a request has a largest size
and a longest time.
"""

import concurrent.futures
import io
import json
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from adapt.black_box.answers import checked
from adapt.black_box.api import Predict
from adapt.black_box.wire import JSON, NPY, read, written


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a server puts up with.

    body:        bytes of a request; what JSON becomes in memory is up to some thirty times that.
    seconds:     for a request to arrive, and again for a model to answer it.
    connections: at once; another one is told that the server is busy.
    workers:     models that think at once.
    """

    body: int = 16 * 2**20
    seconds: float = 30.0
    connections: int = 64
    workers: int = 4


@dataclass(frozen=True)
class Served:
    """A model as it is served: its function, and how many classes it tells apart."""

    predict: Predict
    classes: int


class Server:
    """Serves models until it is closed; best used in a `with` block.

    Args:
        models: by name: what `BlackBox` takes, and the number of classes.
        host:   address to listen on.
        port:   0: any that is free.
        limits: of requests.
    """

    def __init__(
        self,
        models: Mapping[str, tuple[Predict, int]],
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Limits = Limits(),
    ):
        self._host = host
        self._http = _Http((host, port), {name: Served(*model) for name, model in models.items()}, limits)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        self._http.workers.shutdown(wait=False, cancel_futures=True)

    def run(self) -> None:
        """Serve in this thread, until interrupted."""
        try:
            self._http.serve_forever()
        finally:
            self._http.server_close()

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    def url(self, name: str) -> str:
        """Address of a model."""
        return f"http://{self._host}:{self.port}/{name}"


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that sends nothing must not hold up the end

    def __init__(self, address, models: dict[str, Served], limits: Limits):
        self.models, self.limits = models, limits
        self.workers = concurrent.futures.ThreadPoolExecutor(limits.workers)
        self.places = threading.BoundedSemaphore(limits.connections)
        super().__init__(address, _Handler)

    def process_request(self, request, client_address):
        if self.places.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        try:
            request.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        except OSError:  # it has gone already
            pass
        self.shutdown_request(request)

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()

    def handle_error(self, request, client_address):
        """Clients that break off are no event."""


class _InTime(io.RawIOBase):
    """Reads of a socket, which all together must be over by a deadline."""

    def __init__(self, connection: socket.socket, seconds: float):
        self.connection, self.seconds = connection, seconds
        self.start()

    def start(self) -> None:
        self.deadline = time.monotonic() + self.seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long")
        self.connection.settimeout(left)
        return self.connection.recv_into(buffer)


class _Refused(Exception):  # noqa: N818
    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: _Http
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "black-box", ""

    def setup(self):
        super().setup()
        self._raw = _InTime(self.connection, self.server.limits.seconds)
        self.rfile = io.BufferedReader(self._raw)

    def handle_one_request(self):
        self._raw.start()
        super().handle_one_request()  # a TimeoutError in it closes the connection

    def do_GET(self):
        if self.headers.get("Content-Length", "0") != "0" or self.headers.get("Transfer-Encoding"):
            self.close_connection = True  # a body is not read, and must not pass for the next request
        self._answer(lambda model: (JSON, json.dumps({"classes": model.classes}).encode()))

    def do_POST(self):
        self._answer(self._predicted)

    def _answer(self, work):
        try:
            model = self.server.models.get(self.path.removeprefix("/"))
            if model is None:
                raise _Refused(404, "no model has this name")
            kind, body = work(model)
            status = 200
        except _Refused as refused:
            status, kind, body = refused.status, JSON, json.dumps({"error": str(refused)}).encode()
            self.close_connection = True  # what is left of the request is not read
        self.connection.settimeout(self.server.limits.seconds)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _predicted(self, model: Served) -> tuple[str, bytes]:
        kind = (self.headers.get("Content-Type") or "").partition(";")[0].strip()
        if kind not in (NPY, JSON):
            raise _Refused(415, f"accepted are {NPY} and {JSON}")
        x = self._array(kind)
        future = self.server.workers.submit(model.predict, x)
        try:
            p = checked(future.result(self.server.limits.seconds), len(x), model.classes)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise _Refused(503, "the model took too long") from None
        except Exception as error:  # a model's own words may say more than a stranger should know
            raise _Refused(500, f"the model failed: {type(error).__name__}") from None
        return kind, written(p, kind)

    def _array(self, kind: str) -> np.ndarray:
        stated = self.headers.get("Content-Length")
        if stated is None or self.headers.get("Transfer-Encoding"):
            raise _Refused(411, "a Content-Length is needed")
        if not (stated.isascii() and stated.isdigit()):
            raise _Refused(400, "Content-Length must be a whole number")
        if len(stated) > 18 or int(stated) > self.server.limits.body:
            raise _Refused(413, f"accepted are {self.server.limits.body} bytes")
        body = self.rfile.read(int(stated))
        if len(body) != int(stated):
            raise _Refused(400, "the body is shorter than its Content-Length")
        try:
            x = read(body, kind)
        except ValueError as error:
            raise _Refused(400, str(error)) from None
        if x.ndim < 2:
            raise _Refused(400, f"accepted are inputs (n, ...), got shape {x.shape}")
        with np.errstate(over="ignore"):
            x = x.astype(np.float32)
        if not np.isfinite(x).all():
            raise _Refused(400, "the array has numbers too large for 32 bits")
        return x

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""
