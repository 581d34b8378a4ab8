r"""The message format between a stage's child and whoever launched it.

Version 1. The child's first act, before any user code, is to duplicate its stdout to a private descriptor and to
point stdout at stderr; what user code prints, and what its subprocesses write to fd 1, then lands in the log. On the
private descriptor it writes one message a line::

    \x1e TOKEN SPACE JSON \n

``TOKEN`` is chosen by the launcher for one launch and handed over in the environment (``PIPCOOK_CHANNEL``); a line
that does not begin with the mark and the token is output, not a message. ``JSON`` is one ASCII object of at most
8 KiB: ``kind``, ``sequence`` (counted from 0, without gaps, so that a lost message is noticed) and the fields of the
record of that kind below. A child sends ``opened`` first and ``closed`` last; ``result`` or ``error`` stands before
``closed``. Values that do not fit travel in files of the workspace.

The same stream serves a process, a container and a pod: all it needs is a stdout kept apart from stderr. No pickle
crosses it. Only the process that opened the stream writes to it: a copy that user code forks would break the sequence.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

from pipcook_provider.errors import ProtocolError

PROTOCOL = 1
TOKEN_VARIABLE = "PIPCOOK_CHANNEL"  # noqa: S105 - the name of a variable, not a secret
MAXIMUM_BYTES = 8 * 1024

_MARK = b"\x1e"

#: Escapes of what neither a database nor a terminal can hold, NUL and half a character; pairs and "\\\\" are passed over.
_ESCAPES = re.compile(
    r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u(?:0000|[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_ROOM_FOR = {"traceback": 3_000}


@dataclass(frozen=True, slots=True)
class Opened:
    """The child is up; nothing was run yet.

    :param protocol: the version of the message format that the child speaks.
    :param python: the child's Python version.
    :param pid: the child's process id, as it sees it.
    """

    kind: ClassVar[str] = "opened"
    protocol: int
    python: str
    pid: int


@dataclass(frozen=True, slots=True)
class Log:
    """A line for the task's log that is not user output; ``level`` is ``info`` or ``warning``."""

    kind: ClassVar[str] = "log"
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a script is: ``value`` from 0 to 1, and what it tells beside."""

    kind: ClassVar[str] = "progress"
    value: float
    extend_data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that a script measured, at a step (an epoch, say) or for the whole run."""

    kind: ClassVar[str] = "metric"
    name: str
    value: float
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """The stage ended well; ``value`` are small figures and references, never data."""

    kind: ClassVar[str] = "result"
    value: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """The user's script is to blame.

    :param type: name of the exception's class.
    :param message: what the exception says.
    :param file: the script's or module's file, relative to the workspace where it lies in it; None if unknown.
    :param line: line in that file, counted from 1.
    :param source: the text of that line.
    :param traceback: the traceback from the script's own first frame on.
    :param retryable: whether the same run may succeed when it is tried again.
    """

    kind: ClassVar[str] = "error"
    type: str
    message: str
    file: str | None
    line: int | None
    source: str
    traceback: str
    retryable: bool

    @property
    def summary(self) -> str:
        """The traceback, or, where there is none, what it would end with."""
        return self.traceback.rstrip() or f"{self.type}: {self.message}"


@dataclass(frozen=True, slots=True)
class Closed:
    """Nothing follows."""

    kind: ClassVar[str] = "closed"


Message = Opened | Log | Progress | Metric | Result | Failure | Closed

_KINDS: dict[str, type[Message]] = {
    record.kind: record for record in (Opened, Log, Progress, Metric, Result, Failure, Closed)
}


class ChannelLost(Exception):  # noqa: N818 - nothing can be done about it but to say so
    """The descriptor that messages go to was closed, or is another file by now."""

    def __init__(self) -> None:
        super().__init__(
            "The script closed the descriptor that its stage reports on, so its result is lost. Close only descriptors "
            "that the script itself opened, not a whole range (os.closerange) of them."
        )


class MessageWriter:
    """The child's end: sends messages on a descriptor that user code does not know of.

    Only the process that made it sends; in its forked copies sending does nothing but say so once on stderr.

    :param descriptor: where to write; owned by the writer.
    :param token: the launch's token.
    """

    def __init__(self, descriptor: int, token: str) -> None:
        self._descriptor = descriptor
        self._file = _identity(descriptor)
        self._prefix = _MARK + token.encode("ascii") + b" "
        self._sequence = 0
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._forked_told = False

    @property
    def forked(self) -> bool:
        """Whether this process is a forked copy of the one that made the writer."""
        return os.getpid() != self._process

    def send(self, message: Message) -> None:
        """Write one message; texts that are too long lose their middle.

        :raises ChannelLost: user code closed the descriptor.
        :raises ValueError: a ``result`` is larger than a message may be, or holds what JSON cannot.
        """
        if self.forked:
            if not self._forked_told:
                self._forked_told = True
                tell(
                    f"Process {os.getpid()}, which the script forked, reported {message.kind!r}: ignored here and from now "
                    f"on, since only the stage's own process {self._process} can report."
                )
            return
        with self._lock:
            if _identity(self._descriptor) != self._file:
                raise ChannelLost
            record = {"kind": message.kind, "sequence": self._sequence, **asdict(message)}
            line = self._prefix + _dump(record)
            if len(line) > MAXIMUM_BYTES:
                if isinstance(message, Result):
                    raise ValueError(f"a result may hold {MAXIMUM_BYTES} bytes of JSON, this one has {len(line)}")
                line = self._prefix + _dump(
                    {key: _shorten(value, _ROOM_FOR.get(key, 1_200)) for key, value in record.items()}
                )
            _write_all(self._descriptor, line + b"\n")
            self._sequence += 1


class MessageReader:
    """The launcher's end: tells messages from output and notices what was lost.

    :param token: the launch's token.
    """

    def __init__(self, token: str) -> None:
        self._prefix = _MARK + token.encode("ascii") + b" "
        self._sequence = 0

    def read(self, line: bytes) -> Message | None:
        """Return the message that a line holds, or None when it is output or of a kind that this version ignores.

        :raises ProtocolError: the line is marked as a message but cannot be read, or messages before it are missing.
        """
        if not line.startswith(self._prefix):
            return None
        try:
            record = json.loads(_storable(line[len(self._prefix) :].decode()))
            sequence, kind = record.pop("sequence"), record.pop("kind")
        except (RecursionError, ValueError, KeyError, AttributeError, TypeError) as exc:
            raise ProtocolError(
                f"expected a message in JSON, found {line[:200]!r}; the stage's state is unknown"
            ) from exc
        if sequence != self._sequence:
            raise ProtocolError(
                f"expected message {self._sequence} of the stage, found message {sequence}: what came between is lost. "
                "Something in the stage writes to the message channel; run it again."
            )
        self._sequence += 1
        known = _KINDS.get(kind)
        if known is None:
            return None
        names = {entry.name for entry in fields(known)}
        try:
            return known(**{name: value for name, value in record.items() if name in names})
        except TypeError as exc:
            raise ProtocolError(f"expected a complete {kind!r} message, found {sorted(record)}") from exc


def tell(text: str) -> None:
    """Write lines to stderr, whatever user code made of ``sys.stderr``."""
    with suppress(OSError):
        _write_all(2, f"{text}\n".encode(errors="backslashreplace"))


def describe_figures(values: Mapping[str, Any]) -> str:
    """Return figures as a person reads them: ``epoch 3, loss 0.0532``."""
    shown = {name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in values.items()}
    return ", ".join(f"{name} {text}" for name, text in shown.items())


def _storable(text: str) -> str:
    """Return JSON with what nobody can store replaced: what a long training has to tell is worth more than a character."""
    return _ESCAPES.sub(lambda found: r"\ufffd" if len(found[0]) == len(r"\ufffd") else found[0], text)


def _dump(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, allow_nan=True, separators=(",", ":")).encode("ascii")


def _shorten(value: Any, room: int = 1_200) -> Any:
    """Cut texts to ``room`` bytes of JSON, and collections to their first entries."""
    if isinstance(value, str):
        kept = len(value)
        short = value
        while len(json.dumps(short)) > room:
            kept = kept * 3 // 4
            short = f"{value[: kept // 2]} … {value[-(kept // 2) :]}"
        return short
    if isinstance(value, Mapping):
        return {str(key): _shorten(entry, room // 8) for key, entry in list(value.items())[:8]}
    if isinstance(value, list | tuple):
        return [_shorten(entry, room // 8) for entry in value[:8]]
    return value


def _identity(descriptor: int) -> tuple[int, int] | None:
    """Return what tells an open file from all others; None for a closed descriptor."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
