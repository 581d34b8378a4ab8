"""Which version of something lies at an address, for watchers that wait for another one.

A version is known by what the server says first of: ``ETag``; ``Last-Modified`` and the length; nothing, where the SHA-256
of the content tells it, and only there the content is read.

It is asked for by ``GET``, and the answer is left behind its headers: signed addresses are signed for ``GET``, and servers
refuse ``HEAD`` or answer it otherwise. The only condition that is sent is the ``ETag``: on a date, a server also answers
"not modified" for a file that was replaced by an older one.

Under ``{home}/watch`` lies what watchers saw last, where nobody else keeps it for them: ``{key}.json`` with the ``uri`` and
its version; ``key`` is the SHA-256 of the address without user, password and fragment.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipcook_provider.errors import CacheError, FetchError
from pipcook_provider.settings import Settings
from pipcook_provider.store.atomic import write_atomically
from pipcook_provider.store.origins import Source, locate
from pipcook_provider.store.transport import Answer, TransientError, opened

#: Bytes of content above which a server has to say by itself which version it serves.
CONTENT_LIMIT = 2**30

#: Characters of a header above which it says nothing: it would be kept in events, and servers refuse to hear it again.
_LONGEST_HEADER = 1024

#: Seconds that reading the content may take.
_PATIENCE = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlVersion:
    """Which version of something a server served; what is not known is None.

    :param etag: its ``ETag``.
    :param last_modified: its ``Last-Modified``, as it was written.
    :param length: bytes of the whole.
    :param sha256: digest (hex) of the content, where the server said neither ``ETag`` nor ``Last-Modified``.
    """

    etag: str | None = None
    last_modified: str | None = None
    length: int | None = None
    sha256: str | None = None

    @classmethod
    def read(cls, document: object) -> UrlVersion | None:
        """Return what :meth:`to_json` made, in whatever it was kept with; None where it cannot be read."""
        if not isinstance(document, Mapping):
            return None
        texts = {name: document.get(name) for name in ("etag", "last_modified", "sha256")}
        length = document.get("length")
        if not any(texts.values()) or not all(isinstance(text, str | None) for text in texts.values()):
            return None
        return cls(**texts, length=length if type(length) is int else None)

    def to_json(self) -> dict[str, Any]:
        """Return what is known, as JSON can hold it."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def differs(self, other: UrlVersion) -> bool:
        """Tell whether the other is another version; what cannot be compared is one.

        A weak ``ETag`` is good enough: its server vouches that the content means the same.
        """
        if self.etag and other.etag:
            return self.etag.removeprefix("W/") != other.etag.removeprefix("W/")
        if self.last_modified and other.last_modified:
            lengths = {self.length, other.length} - {None}
            return self.last_modified != other.last_modified or len(lengths) > 1
        return self.sha256 is None or self.sha256 != other.sha256


def current_version(
    uri: str, settings: Settings, known: UrlVersion | None = None, *, limit: int = CONTENT_LIMIT
) -> UrlVersion:
    """Ask once which version of something lies at an address; the rules for places and credentials are those of downloads.

    :param known: the version that the caller has; it is returned where the server says that it is still the one.
    :param limit: bytes of content that are read at most, where the server does not say which version it serves.
    :raises OriginError: the URI, or where it redirects to, lies outside the allowed origins.
    :raises FetchNotFound: there is nothing at that address.
    :raises FetchError: anything else; ``retryable`` says whether asking again may help.
    """
    source = locate(uri, settings)
    condition = {"If-None-Match": known.etag} if known and known.etag else {}
    try:
        with opened(source, settings, condition) as answer:
            if answer.status == 304:
                assert known is not None, "only a condition is answered so"
                return known
            etag, last_modified = _stated(answer.version.etag), _stated(answer.version.last_modified)
            if etag or last_modified:
                return UrlVersion(etag=etag, last_modified=last_modified, length=answer.total)
            return _version_of_content(source, answer, limit)
    except TransientError as exc:
        raise FetchError(
            f"{source.name} was expected to tell its version, but {exc}, so whether it has changed is not known. Check the "
            "address and the network (proxy, firewall), or wait until the server is back."
        ) from exc


def _stated(header: str | None) -> str | None:
    return header if header and len(header) <= _LONGEST_HEADER else None


def _version_of_content(source: Source, answer: Answer, limit: int) -> UrlVersion:
    digest, size = hashlib.sha256(), 0
    _check_size(source, answer.total or 0, limit)
    deadline = time.monotonic() + _PATIENCE
    for chunk in answer.chunks:
        digest.update(chunk)
        size += len(chunk)
        _check_size(source, size, limit)
        if time.monotonic() > deadline:
            raise TransientError(f"its content did not end within {_PATIENCE:g} s")
    if answer.total not in (None, size):
        raise TransientError(f"{answer.total:,} bytes were announced, {size:,} arrived")
    return UrlVersion(length=size, sha256=digest.hexdigest())


def _check_size(source: Source, size: int, limit: int) -> None:
    if size > limit:
        raise FetchError(
            f"{source.name} was expected to tell its version by an ETag or Last-Modified header, or to have at most "
            f"{limit:,} bytes, so that its content can be compared. It has no such header and is longer, so it cannot be "
            "watched. Have its server send one of them, or schedule by time.",
            retryable=False,
        )


def baseline_key(uri: str) -> str:
    """Return the name under which what was seen last at an address is kept.

    :raises FetchError: the URI cannot be read.
    """
    return hashlib.sha256(Source.parse(uri).written.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Baselines:
    """What watchers saw last, in files.

    :param folder: where the files lie.
    """

    folder: Path

    def read(self, uri: str) -> UrlVersion | None:
        """Return the version that was kept; None where there is none that can be read."""
        try:
            return UrlVersion.read(json.loads(self._path(uri).read_bytes()))
        except (OSError, ValueError):
            return None

    def keep(self, uri: str, version: UrlVersion) -> None:
        """Keep a version in the place of an earlier one.

        :raises CacheError: it cannot be written.
        """
        record = {"uri": Source.parse(uri).written, **version.to_json()}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path(uri), json.dumps(record).encode())
        except OSError as exc:
            raise CacheError(
                f"what was seen at {record['uri']} was expected to be kept in {self.folder}, but that cannot be written: "
                f"{exc.strerror or exc}. Make room there, make it writable, or set [pipcook] home to another folder."
            ) from exc

    def _path(self, uri: str) -> Path:
        return self.folder / f"{baseline_key(uri)}.json"
