"""What a container writes, from its beginning to its end, whatever happens to the connection."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from pipcook_provider.launchers.docker.container import ContainerState
from pipcook_provider.launchers.docker.engine import ANSWER_WITHIN, Engine, is_lost

if TYPE_CHECKING:
    from requests import Response

STDOUT, STDERR = 1, 2

#: Each piece in the engine's stream: 1 byte that tells stdout from stderr, 3 bytes unused, its length.
_HEADER = struct.Struct(">BxxxL")
#: What an engine answers for a container that is not there, and for one that is being removed.
_GONE = (404, 409)
_SILENCE = 300
_LOST_FOR = 60
_PAUSE = 1


class _GoneError(Exception):
    """The container is not there, or no more."""


class LogStream:
    """Reads a container's log while it grows.

    When the connection breaks, or nothing was said for so long that it may have, it is opened again, and what was read
    already is skipped.

    :param engine: where the container is.
    :param container: its id.
    :param is_complete: tells whether all that matters was read.
    """

    def __init__(self, engine: Engine, container: str, is_complete: Callable[[], bool]) -> None:
        self._engine = engine
        self._container = container
        self._is_complete = is_complete
        self._read: dict[int, int] = {STDOUT: 0, STDERR: 0}
        self._response: Response | None = None
        self.engine_was_lost = False
        self.state: ContainerState | None = None

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """Yield which stream each piece was written to, and the piece, until the container has ended or is gone.

        :attr:`state` is its state then: None when it is gone.

        :raises EngineError: the engine cannot be reached for a minute.
        """
        while True:
            ended = self.state is not None and not self.state.is_running
            try:
                yield from self._pieces_once()
            except _GoneError:
                self.state = None
                return
            if ended:
                return
            self.state = self._inspect()
            # What was written last may come after the end of a stream that was followed.
            if self.state is None or (not self.state.is_running and self._is_complete()):
                return

    def break_off(self) -> None:
        """Let :meth:`pieces` look whether the container still runs; called from another thread."""
        response = self._response
        if response is None:
            return
        with suppress(OSError, ValueError), socket.socket(fileno=os.dup(response.raw.fileno())) as connection:
            connection.shutdown(socket.SHUT_RDWR)

    def _pieces_once(self) -> Iterator[tuple[int, bytes]]:
        from docker.errors import APIError

        skipped = dict(self._read)
        try:
            for number, piece in self._open():
                left = skipped[number]
                skipped[number] = max(0, left - len(piece))
                if fresh := piece[left:]:
                    self._read[number] += len(fresh)
                    yield number, fresh
        except APIError as exc:
            if exc.status_code in _GONE:
                raise _GoneError from exc
            with self._engine.translated("read the container's log"):
                raise
        except OSError:
            # Silence or a lost connection: the container's state says what follows.
            return

    def _open(self) -> Iterator[tuple[int, bytes]]:
        """Yield the pieces of the log from its beginning, as the engine sends them."""
        client = self._engine.client
        with client.get(
            self._engine.url(f"/containers/{self._container}/logs"),
            params={"stdout": 1, "stderr": 1, "follow": 1},
            stream=True,
            timeout=(ANSWER_WITHIN, _SILENCE),
        ) as response:
            client._raise_for_status(response)
            self._response = response
            try:
                yield from _unframed(response.iter_content(chunk_size=None))
            finally:
                self._response = None

    def _inspect(self) -> ContainerState | None:
        deadline = time.monotonic() + _LOST_FOR
        while True:
            with self._engine.translated("follow the container"):
                try:
                    return ContainerState.inspect(self._engine, self._container)
                except OSError as exc:
                    if not is_lost(exc) or time.monotonic() > deadline:
                        raise
            self.engine_was_lost = True
            time.sleep(_PAUSE)


def _unframed(chunks: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    rest = b""
    for chunk in chunks:
        rest += chunk
        begin = 0
        while len(rest) >= begin + _HEADER.size:
            number, length = _HEADER.unpack_from(rest, begin)
            end = begin + _HEADER.size + length
            if len(rest) < end:
                break
            yield number, rest[begin + _HEADER.size : end]
            begin = end
        rest = rest[begin:]
