"""What of a file has arrived: its bytes, their digest, and the version of the file that they belong to.

On disk it may outlive the process. Beside ``{file}.part`` then lies ``{file}.part.json``::

    {"url": ..., "etag": ..., "last_modified": ..., "total": ...}

``url`` is the address that was asked, without user and password; ``total`` the bytes of the whole file, or null. The
bytes are continued only for the same address, and only where ``etag`` or ``last_modified`` lets the server tell whether it
still has that version. The JSON is written before the first byte of a version, and the bytes of another one are gone
before that.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

from pipcook_provider.errors import IntegrityError
from pipcook_provider.store.atomic import unique_sibling, write_atomically
from pipcook_provider.store.origins import Source
from pipcook_provider.store.transport import UNKNOWN, Answer, TransientError, Version

_CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a file of which bytes have arrived.

    :param total: bytes of the whole file; None where nobody said.
    """

    version: Version = UNKNOWN
    total: int | None = None


class Partial:
    """The bytes of one file, from its beginning on.

    :param stream: where they go; what lies in it already counts only if it is ``known``.
    :param folder: the folder whose disk they fill; None for memory.
    :param known: what was remembered of the bytes that lie in the stream.
    :param remember: is told what to know of the bytes that come next; who gives it keeps the bytes.
    """

    def __init__(
        self,
        stream: BinaryIO,
        folder: Path | None = None,
        known: Known | None = None,
        remember: Callable[[Known], None] | None = None,
    ) -> None:
        self.folder = folder
        self.known = known or Known()
        self._stream = stream
        self._remember = remember
        if known is None:
            self.clear()
        else:
            self._restore()

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the bytes so far."""
        return self._hash.hexdigest()

    @property
    def lasting(self) -> bool:
        """Whether a later call can continue the bytes so far."""
        return self._remember is not None and self.known.version.validator is not None and self.size > 0

    @property
    def total(self) -> int | None:
        """Bytes of the whole file; None where nobody said."""
        return self.known.total

    @property
    def headers(self) -> dict[str, str]:
        """The headers that ask for what is missing; none where it could not be told whether that fits."""
        validator = self.known.version.validator
        if not self.size or (validator is None and self.total is None):
            return {}
        return {"Range": f"bytes={self.size}-", **({"If-Range": validator} if validator else {})}

    def accept(self, answer: Answer) -> None:
        """Get ready for an answer's bytes: they begin anew, or continue.

        :raises TransientError: they would not fit; what had arrived is dropped.
        """
        if answer.status == 206:
            if not self._fits(answer):
                self.clear()
                raise TransientError("the server's answer does not continue what had arrived", pause=0)
            if self.total is None:
                self.known = replace(self.known, total=answer.total)
            return
        self.clear()
        self.known = Known(answer.version if answer.continuable else UNKNOWN, answer.total)
        if self._remember:
            self._remember(self.known)

    def append(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._stream.write(chunk)
        self._count(chunk)

    def clear(self) -> None:
        """Drop everything."""
        self._stream.seek(0)
        self._stream.truncate()
        self._hash = hashlib.sha256()
        self.size = 0

    def check_whole(self) -> None:
        """Refuse what has another size than was announced.

        :raises TransientError: it has; too much is dropped.
        """
        if self.total is None or self.size == self.total:
            return
        reason = f"{self.total:,} bytes were announced, {self.size:,} arrived"
        if self.size > self.total:
            self.clear()
        raise TransientError(reason)

    def _fits(self, answer: Answer) -> bool:
        version = self.known.version
        if answer.start != self.size or not answer.continuable or not version.agrees(answer.version):
            return False
        # Without a validator the size is the only sign that it is still the same file.
        return answer.total == self.total or (version.validator is not None and None in (answer.total, self.total))

    def _restore(self) -> None:
        self._hash = hashlib.sha256()
        self.size = 0
        self._stream.seek(0)
        while chunk := self._stream.read(_CHUNK):
            self._count(chunk)

    def _count(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self.size += len(chunk)


@contextlib.contextmanager
def unique_partial(target: Path) -> Iterator[Partial]:
    """Open a file of a name of its own, which becomes the target when the block ends well, and is deleted otherwise."""
    path = unique_sibling(target)
    try:
        with path.open("w+b") as stream:
            yield Partial(stream, target.parent)
        path.replace(target)
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def lasting_partial(target: Path, source: Source) -> Iterator[Partial]:
    """Open ``{target}.part``, with what an earlier call left there of the same source.

    It becomes the target when the block ends well, is deleted where the block finds its content wrong, and stays otherwise.
    """
    path = target.with_name(f"{target.name}.part")
    state = target.with_name(f"{target.name}.part.json")

    def remember(known: Known) -> None:
        facts = {"url": source.url, **asdict(known.version), "total": known.total}
        write_atomically(state, json.dumps(facts).encode())

    try:
        # Appending keeps what is there; truncating works all the same.
        with path.open("a+b") as stream:
            yield Partial(stream, target.parent, _read_state(state, source), remember)
    except IntegrityError:
        path.unlink(missing_ok=True)
        state.unlink(missing_ok=True)
        raise
    path.replace(target)
    state.unlink(missing_ok=True)


def _read_state(state: Path, source: Source) -> Known | None:
    """Return what is known of the bytes that are there, if they can be continued."""
    try:
        facts = json.loads(state.read_bytes())
        known = Known(Version(_text(facts["etag"]), _text(facts["last_modified"])), facts["total"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return known if facts["url"] == source.url and known.version.validator else None


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise ValueError("expected a text or null")
