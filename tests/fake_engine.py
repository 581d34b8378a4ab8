"""The interface of a Docker engine over HTTP, for what no engine of a test machine has: GPUs, and faults on request."""

from __future__ import annotations

import contextlib
import json
import re
import struct
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from docker import APIClient

from pipcook_provider.launchers.docker.engine import Engine
from pipcook_provider.runtime.messages import PROTOCOL, TOKEN_VARIABLE

#: What an engine without a GPU says of itself; of one with a GPU, ``Runtimes`` or ``DiscoveredDevices`` say so.
INFO: dict[str, Any] = {
    "Architecture": "x86_64",
    "MemTotal": 8 * 2**30,
    "Name": "gpu-worker",
    "OSType": "linux",
    "Runtimes": {"runc": {"path": "runc"}},
    "SecurityOptions": ["name=seccomp,profile=default"],
}
NVIDIA_RUNTIME = {"Runtimes": {"runc": {"path": "runc"}, "nvidia": {"path": "nvidia-container-runtime"}}}


def image(**changes: Any) -> dict[str, Any]:
    """Return what an engine tells of an image that stages can run in; labels are changed by their last part."""
    labels = {"version": "0.1.0", "protocol": "1", "python": "3.11", "variant": "cpu", **changes.pop("labels", {})}
    return {
        "Id": "sha256:" + "1" * 64,
        "Os": "linux",
        "Architecture": "amd64",
        "Config": {"Labels": {f"io.pipcook.{name}": text for name, text in labels.items() if text}, "User": "1000"},
        **changes,
    }


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    query: dict[str, str]
    body: Any


@dataclass
class FakeEngine:
    """What the engine has, and what it was asked.

    :param info: what it tells of itself.
    :param images: what it tells of its images, by reference.
    :param registry: what a pull tells, by reference, and the image that is there afterwards.
    :param pull_refusal: the status and message that a pull gets instead.
    :param start_refusal: the message that starting a container gets.
    :param result: the result of every stage that runs.
    :param breaks: whether the connection breaks when all of a pull is told.
    """

    info: Mapping[str, Any] = field(default_factory=lambda: INFO)
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    registry: dict[str, tuple[list[dict[str, Any]], dict[str, Any] | None]] = field(default_factory=dict)
    pull_refusal: tuple[int, str] | None = None
    start_refusal: str | None = None
    result: dict[str, Any] = field(default_factory=dict)
    breaks: bool = False
    asked: list[Asked] = field(default_factory=list)
    stdin: list[bytes] = field(default_factory=list)
    url: str = ""

    def connect(self) -> Engine:
        """Return what launchers ask it through."""
        return Engine(APIClient(base_url=self.url.replace("http://", "tcp://"), version="1.41"))

    def requests(self, path: str) -> list[Asked]:
        """Return what it was asked at a path, in turn."""
        return [asked for asked in self.asked if asked.path == path]

    def answer(self, asked: Asked) -> tuple[int, Any]:
        """Return the status and the body, a list for a stream of events."""
        if found := re.fullmatch(r"/images/(.+)/json", asked.path):
            known = self.images.get(found[1])
            return (200, known) if known else (404, {"message": f"No such image: {found[1]}"})
        if asked.path == "/images/create":
            return self._pull(f"{asked.query['fromImage']}:{asked.query['tag']}")
        if found := re.fullmatch(r"/containers/[^/]+/(\w+)", asked.path):
            return self._container(found[1])
        answers: dict[str, tuple[int, Any]] = {
            "/_ping": (200, "OK"),
            "/info": (200, self.info),
            "/containers/json": (200, []),
            "/containers/create": (201, {"Id": "c" * 64, "Warnings": []}),
        }
        return (
            (204, None) if asked.method == "DELETE" else answers.get(asked.path, (404, {"message": "page not found"}))
        )

    def _container(self, verb: str) -> tuple[int, Any]:
        """Answer for the one container that there is: its stage has a result as soon as it has started."""
        started = any(asked.path.endswith("/start") for asked in self.asked)
        match verb:
            case "start" if self.start_refusal:
                return 500, {"message": self.start_refusal}
            case "json":
                created = self.requests("/containers/create")[-1].body
                status = "exited" if started else "created"
                state = {"Status": status, "ExitCode": 0, "OOMKilled": False}
                return 200, {"State": state, "Config": {"Env": created["Env"]}, "HostConfig": created["HostConfig"]}
            case "logs":
                return 200, self._log()
            case "attach":
                return 101, None
        return 204, None

    def _log(self) -> bytes:
        variables = dict(entry.split("=", 1) for entry in self.requests("/containers/create")[-1].body["Env"])
        opened = {"kind": "opened", "protocol": PROTOCOL, "python": "3.11.2", "pid": 1}
        messages = [opened, {"kind": "result", "value": self.result}, {"kind": "closed"}]
        lines = b"".join(
            f"\x1e{variables[TOKEN_VARIABLE]} {json.dumps({**message, 'sequence': number})}\n".encode()
            for number, message in enumerate(messages)
        )
        return struct.pack(">BxxxL", 1, len(lines)) + lines

    def _pull(self, reference: str) -> tuple[int, Any]:
        if self.pull_refusal:
            status, message = self.pull_refusal
            return status, {"message": message}
        events, pulled = self.registry[reference]
        if pulled:
            self.images[reference] = pulled
        return 200, events


def _handler(engine: FakeEngine) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def do_DELETE(self) -> None:
            self._answer()

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            asked = Asked(
                self.command,
                re.sub(r"^/v[\d.]+", "", unquote(parts.path)),
                {name: values[0] for name, values in parse_qs(parts.query).items()},
                json.loads(self.rfile.read(length) or "null"),
            )
            engine.asked.append(asked)
            status, body = engine.answer(asked)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if status == 101:
                self._take_stdin()
                return
            if asked.path == "/images/create" and isinstance(body, list):
                self._stream(body)
                return
            data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _take_stdin(self) -> None:
            self.send_header("Connection", "Upgrade")
            self.send_header("Upgrade", "tcp")
            self.end_headers()
            self.close_connection = True
            engine.stdin.extend(self.rfile)

        def _stream(self, events: list[dict[str, Any]]) -> None:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for event in events:
                data = json.dumps(event).encode() + b"\r\n"
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            if engine.breaks:
                self.close_connection = True
            else:
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@contextlib.contextmanager
def running(engine: FakeEngine) -> Iterator[FakeEngine]:
    """Serve an engine for as long as the block lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(engine))
    server.daemon_threads = True
    engine.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield engine
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
