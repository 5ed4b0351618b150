"""Over HTTP on loopback: the same answers as in process, limits, faults, and no way to a file."""

import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from torch import nn

from adapt.black_box import (
    BadAnswer,
    BlackBox,
    Endpoint,
    InversionConfig,
    Limits,
    MetaConfig,
    Retry,
    Server,
    Unavailable,
    meta_learn,
    predictor,
)
from adapt.black_box.wire import JSON, NPY, written


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 3))


def images(n=7, seed=0):
    return np.random.default_rng(seed).random((n, 1, 4, 4)).astype(np.float32)


MODELS = {"a": (predictor(network(0)), 3), "b": (predictor(network(1)), 3)}


@pytest.fixture(scope="module")
def server():
    with Server(MODELS, limits=Limits(body=20_000, seconds=5.0)) as found:
        yield found


def impatient(times=0, **settings):
    return Retry(times=times, sleep=lambda s: None, **settings)


@pytest.mark.parametrize("kind", ["npy", "json"])
def test_answers_are_those_of_the_process_to_the_bit(server, kind):
    for name, (predict, _) in MODELS.items():
        api = BlackBox(Endpoint(server.url(name), kind=kind), 3, batch=3)
        np.testing.assert_array_equal(api(images()), BlackBox(predict, 3, batch=3)(images()))
        assert api.queries == 7
        assert api.predict.attempts == 3


def test_what_is_learned_over_http_is_what_is_learned_in_process(server):
    config = MetaConfig(
        updates=3,
        episodes=2,
        per_class=4,
        steps=2,
        rate_inside=0.1,
        warm_up=0,
        patience=1,
        inversion=InversionConfig(iterations=4, directions=5, noise=6, generator="dense", rate=0.02),
    )
    found = []
    for ask in (lambda n: MODELS[n][0], lambda n: Endpoint(server.url(n))):
        apis = [BlackBox(ask(name), 3, name=name) for name in MODELS]
        model = meta_learn(apis, network(5), (1, 4, 4), config)
        found.append((model.state_dict(), [api.queries for api in apis]))
    (one, asked), (two, also) = found
    assert asked == also
    assert sum(asked) > 0
    assert all(torch.equal(v, two[n]) for n, v in one.items())
    assert any(not torch.equal(v, network(5).state_dict()[n]) for n, v in one.items())


def asked(server, method, path, body=b"", headers=None, kind=NPY):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path, body, {"Content-Type": kind, **(headers or {})})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def test_it_says_how_many_classes(server):
    assert asked(server, "GET", "/a") == (200, b'{"classes": 3}')


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/c",
        "/a/",
        "/../a",
        "/%61",
        "/a?x=1",
        "/etc/passwd",
        "/../../../../etc/passwd",
        "/a%00",
        "/A",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_name_is_a_name_and_never_a_path(server, method, path, tmp_path, monkeypatch):
    (tmp_path / "c").write_text("secret")
    monkeypatch.chdir(tmp_path)
    status, body = asked(server, method, path, written(images(), NPY))
    assert status == 404
    assert json.loads(body) == {"error": "no model has this name"}


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", NPY, 400),
        (b"\x80\x04K\x01.", NPY, 400),
        (b"{}", JSON, 400),
        (b'{"x": [[1e300]]}', JSON, 400),
        (b"\x93NUMPY\x01\x00\x04\x00(((\n", NPY, 400),
        (written(np.zeros(3), NPY), NPY, 400),
        (written(np.zeros((2, 1, 4, 4)), NPY), "application/octet-stream", 415),
        (written(np.zeros((2, 1, 4, 4)), NPY), "", 415),
        (b"\0" * 20_001, NPY, 413),
        (written(np.zeros((2, 5)), NPY), NPY, 500),
    ],
)
def test_what_is_refused(server, body, kind, status):
    found, said = asked(server, "POST", "/a", body, kind=kind)
    assert found == status
    assert "error" in json.loads(said)


def test_a_length_is_needed_and_is_a_number(server):
    for headers, status in (
        ({"Transfer-Encoding": "chunked"}, 411),
        ({"Content-Length": "-1"}, 400),
        ({"Content-Length": "1e3"}, 400),
        ({"Content-Length": "9" * 400}, 413),
    ):
        with socket.create_connection(("127.0.0.1", server.port), 10) as s:
            lines = [f"{k}: {v}" for k, v in ({"Content-Type": NPY} | headers).items()]
            s.sendall(("POST /a HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode())
            assert s.recv(1000).startswith(f"HTTP/1.1 {status} ".encode())


def test_a_body_of_a_question_is_not_the_next_request(server):
    hidden = b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 10) as s:
        s.sendall(b"GET /a HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(hidden) + hidden)
        found = b""
        while part := s.recv(1000):  # until the server closes
            found += part
    assert found.count(b"HTTP/1.1") == 1
    assert b'{"classes": 3}' in found


def test_a_model_says_nothing_of_itself_when_it_fails():
    def broken(x):
        raise ValueError("the password is 1234")

    models = {"broken": (broken, 3), "wrong": (lambda x: np.full((len(x), 2), 0.5), 3)}
    with Server(models) as found:
        for name, words in (("broken", "ValueError"), ("wrong", "BadAnswer")):
            status, body = asked(found, "POST", f"/{name}", written(images(), NPY))
            assert status == 500
            assert words in json.loads(body)["error"]
            assert b"1234" not in body


def test_slow_clients_and_slow_models_are_cut_off():
    wait = threading.Event()

    def slow(x):
        wait.wait(5)
        return np.full((len(x), 3), 1 / 3)

    with Server({"slow": (slow, 3)}, limits=Limits(seconds=0.4)) as found:
        start = time.monotonic()
        status, body = asked(found, "POST", "/slow", written(images(), NPY))
        assert (status, json.loads(body)) == (503, {"error": "the model took too long"})
        with socket.create_connection(("127.0.0.1", found.port), 5) as s:  # a byte now and then
            s.sendall(b"POST /slow HTTP/1.1\r\n")
            try:
                for _ in range(30):
                    s.sendall(b"X: 1\r\n")
                    time.sleep(0.05)
                    s.settimeout(0.01)
                    try:
                        closed = s.recv(100) == b""
                    except TimeoutError:
                        closed = False
                    if closed:
                        break
            except ConnectionError:
                closed = True
            assert closed
        assert time.monotonic() - start < 4
        wait.set()


def test_more_connections_than_it_takes_are_told_so():
    with Server(MODELS, limits=Limits(connections=1, seconds=5)) as found:
        with socket.create_connection(("127.0.0.1", found.port), 5):
            time.sleep(0.2)
            status, _ = asked(found, "GET", "/a")
            assert status == 503
        for _ in range(50):
            if asked(found, "GET", "/a")[0] == 200:
                break
            time.sleep(0.05)
        else:
            pytest.fail("the place was not given back")


@contextmanager
def scripted(*replies):
    """A server that gives one reply after the other: a status, bytes to send, or None to say nothing."""
    left = list(replies)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            reply = left.pop(0)
            if reply is None:
                time.sleep(0.6)
                self.close_connection = True
                return
            status, headers, body = reply
            self.send_response(status)
            for name, value in ({"Content-Type": NPY, "Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    http_server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{http_server.server_address[1]}/x"
    finally:
        http_server.shutdown()
        thread.join()
        http_server.server_close()


THIRDS = np.full((7, 3), 1 / 3)
GOOD = (200, {}, written(THIRDS, NPY))


@pytest.mark.parametrize("passing", [(503, {}, b""), (500, {}, b"oops"), (429, {}, b""), None])
def test_what_passes_is_asked_again_after_growing_waits(passing):
    waits = []
    with scripted(passing, passing, GOOD) as url:
        retry = Retry(times=3, wait=0.5, sleep=waits.append)
        api = BlackBox(Endpoint(url, timeout=0.3, retry=retry), 3)
        np.testing.assert_array_equal(api(images()), THIRDS)
    assert waits == [0.5, 1.0]
    assert (api.predict.attempts, api.queries) == (3, 7)


def test_waits_have_a_longest():
    waits = []
    with scripted(*[(503, {}, b"")] * 5) as url, pytest.raises(Unavailable, match=r"5 attempts.*status 503"):
        Endpoint(url, retry=Retry(times=4, wait=1.0, longest=3.0, sleep=waits.append))(images())
    assert waits == [1, 2, 3, 3]


def test_who_is_not_there():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{s.getsockname()[1]}/a"
    api = BlackBox(Endpoint(url, timeout=0.5, retry=impatient(2)), 3)
    with pytest.raises(Unavailable, match=r"3 attempts.*ConnectionRefused"):
        api(images())
    assert api.queries == 0


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        ((404, {}, b'{"error": "no such\\nmodel"}'), RuntimeError, "status 404: no such model"),
        ((302, {"Location": "http://127.0.0.1:1/elsewhere"}, b""), RuntimeError, "status 302"),
        ((200, {"Content-Type": "text/html"}, b"<p>"), RuntimeError, "'text/html', asked for"),
        ((200, {}, b"\x80\x04K\x01."), RuntimeError, "no array"),
        ((200, {}, written(np.full((7, 4), 0.25), NPY)), BadAnswer, "4 classes"),
        ((200, {}, written(np.full((7, 3), 0.5), NPY)), BadAnswer, "adds up to 1.5"),
    ],
)
def test_what_does_not_pass_is_not_asked_again(reply, error, words):
    with scripted(reply) as url:
        api = BlackBox(Endpoint(url, retry=impatient(3)), 3)
        with pytest.raises(error, match=words):
            api(images())
        # an answer is an answer, however wrong it is
        assert (api.predict.attempts, api.queries) == (1, 7 if error is BadAnswer else 0)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "a/b",
        "http://",
        "ftp://127.0.0.1/x",
        "http://a/b c",
        "http://a/\nb",
        "http://a/\xe4",
    ],
)
def test_addresses_that_are_none(url):
    with pytest.raises(ValueError, match="accepted are addresses"):
        Endpoint(url)
    with pytest.raises(ValueError, match="npy, json"):
        Endpoint("http://127.0.0.1", kind="pickle")
    for port in ("x", "99999"):
        with pytest.raises(ValueError, match=r"[Pp]ort"):
            Endpoint(f"http://127.0.0.1:{port}/a")


@pytest.mark.parametrize("wrong", [{"times": -1}, {"wait": -0.1}, {"longest": -1.0}])
def test_patience_out_of_range(wrong):
    with pytest.raises(ValueError, match="at least 0"):
        Retry(**wrong)
    with pytest.raises(ValueError, match="above 0 s"):
        Endpoint("http://127.0.0.1", timeout=0)


def test_a_model_in_training_answers_many_at_once_as_in_evaluation():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(16, 3))
    model[1].eval()
    with Server({"a": (predictor(model), 3)}) as found:
        url = found.url("a")
        with ThreadPoolExecutor(4) as many:
            answers = list(many.map(lambda _: Endpoint(url)(images()), range(24)))
    assert all(np.array_equal(answers[0], p) for p in answers)
    np.testing.assert_array_equal(answers[0], predictor(model)(images()))
    assert (model.training, model[1].training) == (True, False)
