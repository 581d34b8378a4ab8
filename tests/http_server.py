"""A real HTTP server on a loopback port, which can also misbehave; a ``conftest.py`` imports the fixtures it wants."""

from __future__ import annotations

import contextlib
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
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    announced: int | None = None
    failures: int = 0
    failure: int = 503
    stalls: bool = False


class Server:
    """Answers by path; ``hits`` counts requests, ``authorizations`` keeps what each path was sent."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.hits: Counter[str] = Counter()
        self.authorizations: dict[str, str | None] = {}
        self._stopped = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"127.0.0.1:{self._http.server_port}"
        self.url = f"http://{self.address}"

    def put(self, path: str, body: bytes = b"", **options: object) -> str:
        """Serve a body at a path and return its URL."""
        self.answers[path] = Answer(body, **options)  # type: ignore[arg-type]
        return self.url + path

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - the inner class has its own self
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                server.hits[path] += 1
                server.authorizations[path] = self.headers.get("Authorization")
                answer = server.answers.get(path, Answer(status=404))
                if server.hits[path] <= answer.failures:
                    answer = Answer(status=answer.failure, headers={"Retry-After": "0"})
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                length = len(answer.body) if answer.announced is None else answer.announced
                if length >= 0:
                    self.send_header("Content-Length", str(length))
                self.end_headers()
                if answer.stalls:
                    server._stopped.wait()
                    return
                self.wfile.write(answer.body)

            def log_message(self, *args: object) -> None:
                pass

        return Handler

    def run(self) -> None:
        self._http.serve_forever(poll_interval=0.02)

    def stop(self) -> None:
        self._stopped.set()
        self._http.shutdown()
        self._http.server_close()


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
