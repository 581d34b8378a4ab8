"""A real HTTP server on a loopback port, which can also misbehave; a ``conftest.py`` imports the fixtures it wants."""

from __future__ import annotations

import contextlib
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipcook_provider.store import fetch


@dataclass
class Answer:
    """What the server says at a path.

    :param announced: the Content-Length that is sent, where it is not the true one; -1 sends none.
    :param failures: so many requests get ``failure`` before this answer is given.
    :param stalls: after the headers nothing more is sent.
    :param ranges: ``Range`` and ``If-Range`` are heeded, as are conditions, by the ``ETag`` and ``Last-Modified`` of
        ``headers``.
    :param breaks_after: after so many bytes of the body the connection is closed, or with ``stalls`` goes silent.
    :param dribbles: seconds between single bytes, of which there is no end.
    :param chunked: the body is sent in chunks, without its length.
    :param drips: seconds between single bytes of a header, of which there is no end.
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    announced: int | None = None
    failures: int = 0
    failure: int = 503
    stalls: bool = False
    ranges: bool = False
    breaks_after: int | None = None
    dribbles: float | None = None
    chunked: bool = False
    drips: float | None = None


@dataclass
class Request:
    """A request as it came, and how it was answered."""

    path: str
    headers: dict[str, str]
    status: int = 0
    sent: int = 0


class Server:
    """Answers by path.

    ``hits`` counts requests, ``authorizations`` keeps what each path was sent last, ``requests`` all that was asked.
    """

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.hits: Counter[str] = Counter()
        self.authorizations: dict[str, str | None] = {}
        self.requests: list[Request] = []
        self._before: Counter[str] = Counter()
        self._stopped = threading.Event()
        self._http = _Quiet(("127.0.0.1", 0), self._handler())
        self.address = f"127.0.0.1:{self._http.server_port}"
        self.url = f"http://{self.address}"

    def put(self, path: str, body: bytes = b"", **options: object) -> str:
        """Serve a body at a path and return its URL."""
        self._before[path] = self.hits[path]
        self.answers[path] = [Answer(body, **options)]  # type: ignore[arg-type]
        return self.url + path

    def then(self, path: str, body: bytes = b"", **options: object) -> None:
        """Serve a body at a path from the next request on, after those that have an answer already."""
        self.answers[path].append(Answer(body, **options))  # type: ignore[arg-type]

    def ranges(self, path: str) -> list[str | None]:
        """Return the ranges that were asked for at a path, in turn."""
        return [request.headers.get("range") for request in self.requests if request.path == path]

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - the inner class has its own self
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                server.hits[path] += 1
                server.authorizations[path] = self.headers.get("Authorization")
                request = Request(path, {name.lower(): value for name, value in self.headers.items()})
                server.requests.append(request)
                self._send(_resolved(server._answer(path), request.headers), request)

            def _send(self, answer: Answer, request: Request) -> None:
                request.status = answer.status
                if answer.drips is not None:
                    self._drip(answer.drips)
                    return
                if answer.chunked:
                    self.protocol_version, self.close_connection = "HTTP/1.1", True
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                length = len(answer.body) if answer.announced is None else answer.announced
                if answer.chunked:
                    self.send_header("Transfer-Encoding", "chunked")
                elif length >= 0 and answer.dribbles is None:
                    self.send_header("Content-Length", str(length))
                self.end_headers()
                self._send_body(answer, request)

            def _drip(self, pause: float) -> None:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
                while not server._stopped.wait(pause):
                    self.wfile.write(b".")

            def _send_body(self, answer: Answer, request: Request) -> None:
                while answer.dribbles is not None and not server._stopped.wait(answer.dribbles):
                    self.wfile.write(b".")
                if answer.stalls and answer.breaks_after is None:
                    server._stopped.wait()
                    return
                whole = answer.breaks_after is None or answer.breaks_after >= len(answer.body)
                part = answer.body if whole else answer.body[: answer.breaks_after]
                request.sent = len(part)
                if answer.chunked:
                    end = b"\r\n0\r\n\r\n" if whole else b""
                    part = f"{len(answer.body):x}\r\n".encode() + part + end
                self.wfile.write(part)
                if answer.stalls:
                    server._stopped.wait()

            def log_message(self, *args: object) -> None:
                pass

        return Handler

    def _answer(self, path: str) -> Answer:
        answers = self.answers.get(path, [Answer(status=404)])
        turn = self.hits[path] - self._before[path]
        answer = answers[min(turn, len(answers)) - 1]
        if turn <= answer.failures:
            return Answer(status=answer.failure, headers={"Retry-After": "0"})
        return answer

    def run(self) -> None:
        self._http.serve_forever(poll_interval=0.02)

    def stop(self) -> None:
        self._stopped.set()
        self._http.shutdown()
        self._http.server_close()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is what some tests are about."""


def _resolved(answer: Answer, asked: dict[str, str]) -> Answer:
    """Return what an answer that heeds conditions and ranges becomes for a request."""
    if not answer.ranges or answer.status != 200:
        return answer
    etag, modified = answer.headers.get("ETag"), answer.headers.get("Last-Modified")
    if (etag and asked.get("if-none-match") == etag) or (
        "if-none-match" not in asked and modified and asked.get("if-modified-since") == modified
    ):
        return Answer(status=304, headers=answer.headers)
    found = re.fullmatch(r"bytes=(\d+)-", asked.get("range", ""))
    if not found or asked.get("if-range", etag or modified) not in (etag, modified):
        return answer
    start, total = int(found[1]), len(answer.body)
    if start >= total:
        return Answer(status=416, headers={**answer.headers, "Content-Range": f"bytes */{total}"})
    headers = {**answer.headers, "Content-Range": f"bytes {start}-{total - 1}/{total}"}
    rest = Answer(answer.body[start:], 206, headers, answer.announced)
    rest.breaks_after, rest.stalls, rest.chunked = answer.breaks_after, answer.stalls, answer.chunked
    return rest


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """Run a server for as long as the block lasts."""
    server = Server()
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let downloads be tried three times without a pause."""
    monkeypatch.setattr(fetch, "PAUSES", (0.0, 0.0))
