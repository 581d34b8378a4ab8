"""What a container is told through its stdin: first what it runs with, then that somebody still asks for it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipcook_provider.errors import LaunchError
from pipcook_provider.launchers.docker.container import ContainerState
from pipcook_provider.launchers.docker.engine import Engine
from pipcook_provider.launchers.docker.stream import LogStream

_LONGEST_INTERVAL = 15.0
#: Bytes that go on their way to a container that was not started, and that nobody reads until it is.
_LARGEST_HANDOVER = 2**17


class LeaseKeeper:
    """Keeps a container running, from threads of its own, for as long as this process follows it.

    :param engine: where the container is; a client of the keeper's own, since clients are not made for several threads.
    :param container: its id.
    :param stream: its log; broken off when the container has ended and the log has not.
    :param lease: seconds that the container runs on when this process is lost.
    """

    def __init__(self, engine: Engine, container: str, stream: LogStream, lease: float) -> None:
        self._engine = engine
        self._observed = engine.twin()
        self._container = container
        self._stream = stream
        self._lease = lease
        self._connection: Any = None
        self._left = threading.Event()
        self._ended_before = False

    def hand_over(self, environment: Mapping[str, str], netrc: str | None = None) -> None:
        """Attach to the container and tell it what it runs with.

        :raises LaunchError: it is too much.
        :raises EngineError: the engine refuses, or does not answer.
        """
        told = {"lease": self._lease, "environment": dict(environment), "netrc": netrc}
        size = len(json.dumps(told))
        if size > _LARGEST_HANDOVER:
            raise LaunchError(
                f"The variables of a stage and the worker's ~/.netrc were expected to be at most {_LARGEST_HANDOVER} bytes in "
                f"all, but are {size}; nothing was run. Put what is large into a file that the document names.",
                retryable=False,
            )
        with self._engine.translated("attach to the container"):
            self._attach(told)

    def take_over(self) -> None:
        """Attach to a container that another process has handed what it runs with.

        :raises EngineError: the engine refuses, or does not answer.
        """
        with self._engine.translated("attach to the container"):
            self._attach({"lease": self._lease})

    def begin(self) -> None:
        """Give signs of life from now on."""
        # An engine that takes long to answer must not hold up the signs of life, which need no answer.
        for work in (self._beat, self._look):
            name = f"{work.__name__} of {self._container[:12]}"
            threading.Thread(target=self._repeat, args=(work,), name=name, daemon=True).start()

    def leave(self) -> None:
        """Give no more signs of life."""
        self._left.set()
        self._detach()

    def _repeat(self, work: Callable[[], None]) -> None:
        while not self._left.wait(min(_LONGEST_INTERVAL, self._lease / 4)):
            # Whatever fails here is tried again; what reads the log tells of an engine that is lost.
            with suppress(Exception):
                work()

    def _beat(self) -> None:
        try:
            self._send(b"\n")
        except OSError:
            self._detach()
            self._attach({"lease": self._lease})

    def _look(self) -> None:
        state = ContainerState.inspect(self._observed, self._container)
        ended = state is None or not state.is_running
        if ended and self._ended_before:
            self._stream.break_off()
        self._ended_before = ended

    def _attach(self, first: Mapping[str, Any]) -> None:
        self._connection = self._engine.client.attach_socket(self._container, params={"stdin": 1, "stream": 1})
        self._send(json.dumps(first).encode("ascii") + b"\n")

    def _send(self, data: bytes) -> None:
        # For a socket without TLS there is a file in front of it, which can only be read.
        connection: socket.socket = getattr(self._connection, "_sock", self._connection)
        connection.sendall(data)

    def _detach(self) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()


def read_netrc() -> str | None:
    """Return the worker's ``~/.netrc``, by which hosts let it in; None where there is none."""
    try:
        return (Path.home() / ".netrc").read_text(encoding="utf-8")
    except (OSError, RuntimeError, UnicodeDecodeError):
        return None
