"""Copies of scripts and documents from the web, shared by runs and processes.

Under ``{home}/script``::

    blob/{sha256}       contents, named after themselves
    url/{key}.json      what an address held last: url, asked, sha256, etag, last_modified

``key`` is the SHA-256 of the address as it was written, without user, password and fragment; ``asked`` is the address that
answered for it. Each file appears by one rename and a blob never changes, so that processes share the folder without a
lock, and a path stays good while others bring a newer version.

A server is asked each time whether it has a newer version, except for an address that names one version for ever
(:func:`~pipcook_provider.pinning.is_pinned`) and for one that states a digest.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from pipcook_provider.errors import CacheError, FetchError
from pipcook_provider.pinning import is_pinned
from pipcook_provider.settings import Settings
from pipcook_provider.store.atomic import write_atomically
from pipcook_provider.store.fetch import TEXT_LIMIT, Fetched, check_digest, check_size, decode, fetch_bytes
from pipcook_provider.store.origins import Source, locate
from pipcook_provider.store.transport import UNKNOWN, Version, check_file, unreadable

OnStale = Callable[[str], None]

_log = logging.getLogger(__name__)


def fetch_cached(uri: str, settings: Settings, *, limit: int = TEXT_LIMIT, on_stale: OnStale | None = None) -> Path:
    """Return the local path of a verified copy of a script or document.

    A ``file`` URI is its own path. Of an ``http`` or ``https`` URI the newest version is returned; where the server cannot
    be reached or has trouble, the last one that it served, with a warning.

    :param limit: bytes above which it is refused.
    :param on_stale: is told in a sentence that a copy is used without asking the server; by default a log is.
    :raises OriginError: the URI lies outside the allowed origins.
    :raises FetchNotFound: there is nothing at that address.
    :raises FetchError: anything else, as of :func:`.fetch.download`.
    :raises CacheError: the copy cannot be written.
    """
    source = locate(uri, settings)
    if source.scheme == "file":
        return _local(source, limit)
    copies = _Copies(settings.home / "script")
    copy = copies.find(source)
    if copy is not None and (source.digest or is_pinned(source.written)):
        return copy.path
    try:
        fetched = fetch_bytes(
            source,
            settings,
            limit=limit,
            known=copy.version if copy else UNKNOWN,
            retries=1 if copy else None,
        )
    except FetchError as exc:
        if copy is None or not exc.retryable:
            raise
        (on_stale or _log.warning)(
            f"The copy of {source.name} that was fetched earlier is used. It may be out of date: {exc}"
        )
        return copy.path
    if fetched is None:
        assert copy is not None, "only what is known can be unchanged"
        return copy.path
    return copies.add(source, fetched)


def read_document(uri: str, settings: Settings, *, limit: int = TEXT_LIMIT, on_stale: OnStale | None = None) -> str:
    """Return the text of a script or document; parameters and errors as of :func:`fetch_cached`."""
    path = fetch_cached(uri, settings, limit=limit, on_stale=on_stale)
    source = locate(uri, settings)
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise unreadable(source, exc) from exc
    return decode(content, source.name)


def _local(source: Source, limit: int) -> Path:
    check_file(source)
    try:
        check_size(source, source.path.stat().st_size, limit)
        if source.digest:
            with source.path.open("rb") as stream:
                check_digest(source, hashlib.file_digest(stream, "sha256").hexdigest())
    except OSError as exc:
        raise unreadable(source, exc) from exc
    return source.path


@dataclass(frozen=True, slots=True)
class _Copy:
    """A blob that is what it should be, and what the server said about its version."""

    path: Path
    version: Version


@dataclass(frozen=True, slots=True)
class _Record:
    """What an address held last."""

    url: str
    asked: str
    sha256: str
    etag: str | None
    last_modified: str | None


@dataclass(frozen=True, slots=True)
class _Copies:
    root: Path

    def find(self, source: Source) -> _Copy | None:
        """Return the copy of a source that states a digest, else the last one that was fetched; None if it is damaged."""
        if source.digest:
            path = self._blob(source.digest)
            return _Copy(path, UNKNOWN) if _holds(path, source.digest) else None
        record = self._read(source)
        if record is None or not _holds(self._blob(record.sha256), record.sha256):
            return None
        # What one server says about versions means nothing to another one.
        version = Version(record.etag, record.last_modified) if record.asked == source.url else UNKNOWN
        return _Copy(self._blob(record.sha256), version)

    def add(self, source: Source, fetched: Fetched) -> Path:
        """Keep what was fetched, and return its path."""
        blob = self._blob(fetched.digest)
        record = _Record(source.written, source.url, fetched.digest, **asdict(fetched.version))
        try:
            if not _holds(blob, fetched.digest):
                _write(blob, fetched.content)
            _write(self._record(source), json.dumps(asdict(record)).encode())
        except OSError as exc:
            raise CacheError(
                f"{source.name} was expected to be kept in {self.root}, but that cannot be written: {exc.strerror or exc}. "
                "It was not used. Make room there, make it writable, or set [pipcook] home to another folder."
            ) from exc
        return blob

    def _read(self, source: Source) -> _Record | None:
        try:
            record = _Record(**json.loads(self._record(source).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        return record if record.url == source.written else None

    def _blob(self, digest: str) -> Path:
        return self.root / "blob" / digest

    def _record(self, source: Source) -> Path:
        return self.root / "url" / f"{hashlib.sha256(source.written.encode()).hexdigest()}.json"


def _holds(path: Path, digest: str) -> bool:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == digest
    except OSError:
        return False


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
