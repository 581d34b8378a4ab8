"""From a URI to a verified local file.

``http``, ``https`` and ``file`` URIs are fetched. A fragment ``#sha256=<64 hex digits>`` states the digest of what is
expected; ``user:password@`` before the host is sent as basic authentication to that host only and never shown.

A reader of the target sees the old file, the new one or none: bytes arrive in a file beside it, are verified there, and
appear by a rename. An attempt that fails on the way is continued where it stopped, by a request for a range, if the server
can do that and still has the same version of the file.
"""

from __future__ import annotations

import errno
import io
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipcook_provider.errors import FetchError, IntegrityError
from pipcook_provider.settings import Settings
from pipcook_provider.store.origins import Source, check_origin, locate, shown
from pipcook_provider.store.partial import Partial, lasting_partial, unique_partial
from pipcook_provider.store.transport import UNKNOWN, TransientError, Version, opened

__all__ = [
    "DOWNLOAD_LIMIT",
    "PAUSES",
    "TEXT_LIMIT",
    "Fetched",
    "check_digest",
    "check_origin",
    "check_reachable",
    "check_size",
    "decode",
    "download",
    "fetch_bytes",
    "read_text",
    "shown",
]

OnProgress = Callable[[int, int | None], None]

#: Seconds between attempts; one more attempt than there are pauses.
PAUSES = (0.5, 1.5, 4.0)
#: Bytes above which a file, and a text, is refused.
DOWNLOAD_LIMIT = 64 * 2**30
TEXT_LIMIT = 10 * 2**20

_LONGEST_PAUSE = 30.0
#: Bytes that an attempt has to bring, beyond what earlier ones brought, for the attempts to be counted anew.
_GAIN = 2**20
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def download(
    uri: str,
    target: Path,
    settings: Settings,
    *,
    limit: int = DOWNLOAD_LIMIT,
    resumable: bool = False,
    on_progress: OnProgress | None = None,
) -> str:
    """Fetch a URI into a file, which appears whole and verified or not at all.

    :param target: where the file goes; its folder is created, a file there is replaced.
    :param limit: bytes above which it is refused.
    :param resumable: keep what arrived in ``{target}.part`` when it fails, also when this process dies, and continue it in
        a later call; the caller sees to it that nobody else does the same at that time.
    :param on_progress: called with the bytes so far and the bytes in all (None where the server does not say).
    :returns: SHA-256 (hex) of the file.
    :raises OriginError: the URI lies outside the allowed origins.
    :raises FetchNotFound: there is nothing at that address.
    :raises IntegrityError: another digest than stated, a web page where a file was expected, or more than ``limit``
        bytes; what arrived is deleted.
    :raises FetchError: anything else; ``retryable`` says whether trying again may help.
    """
    source = locate(uri, settings)
    partial: Partial | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with lasting_partial(target, source) if resumable else unique_partial(target) as partial:
            _receive(source, partial, settings, _Terms(limit, on_progress=on_progress))
    except OSError as exc:
        raise _unwritten(source, target, partial, exc) from exc
    return partial.digest


def read_text(uri: str, settings: Settings, *, limit: int = TEXT_LIMIT) -> str:
    """Fetch a URI and return its text (UTF-8, a byte order mark is dropped); errors as of :func:`download`.

    :param limit: bytes above which it is refused.
    """
    source = locate(uri, settings)
    fetched = fetch_bytes(source, settings, limit=limit)
    assert fetched is not None, "only conditions are answered with nothing"
    return decode(fetched.content, source.name)


def decode(content: bytes, name: str) -> str:
    """Return the text of a document: UTF-8, a byte order mark is dropped.

    :param name: what messages call the document.
    :raises FetchError: it is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise FetchError(
            f"{name} was expected to be text in UTF-8, but its byte {exc.start} is not, so it cannot be used. "
            "Save it as UTF-8, or check the address.",
            retryable=False,
        ) from exc


def check_reachable(uri: str, settings: Settings) -> None:
    """Ask whether there is something at a URI, and read no more than the headers of the answer; errors as of :func:`download`.

    It is asked by ``GET``: addresses are signed for it, and servers refuse ``HEAD`` or answer it otherwise.
    """
    source = locate(uri, settings)
    for pause in (PAUSES[0], None):
        try:
            with opened(source, settings, {}):
                return
        except TransientError as exc:
            if pause is None:
                raise FetchError(
                    f"{source.name} could not be reached in two attempts; the last one: {exc}. Check the address and the "
                    "network (proxy, firewall), or try again later."
                ) from exc
            time.sleep(pause if exc.pause is None else min(exc.pause, _LONGEST_PAUSE))


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a source holds.

    :param digest: SHA-256 (hex) of the content.
    """

    content: bytes
    digest: str
    version: Version


def fetch_bytes(
    source: Source, settings: Settings, *, limit: int, known: Version = UNKNOWN, retries: int | None = None
) -> Fetched | None:
    """Fetch a source into memory; errors as of :func:`download`.

    :param known: the version that the caller has.
    :param retries: attempts after the first one; as many as are usual by default.
    :returns: None where ``known`` is still the newest version.
    """
    memory = io.BytesIO()
    partial = Partial(memory)
    version = _receive(source, partial, settings, _Terms(limit, known, retries))
    return None if version is None else Fetched(memory.getvalue(), partial.digest, version)


@dataclass(frozen=True, slots=True)
class _Terms:
    """On what terms a source is received; see :func:`fetch_bytes`."""

    limit: int
    known: Version = UNKNOWN
    retries: int | None = None
    on_progress: OnProgress | None = None

    def tell(self, partial: Partial) -> None:
        if self.on_progress is not None:
            self.on_progress(partial.size, partial.total)


def _receive(source: Source, partial: Partial, settings: Settings, terms: _Terms) -> Version | None:
    """Bring a source's bytes into ``partial``, whole and verified, in as many attempts as it takes.

    :returns: the version that arrived; None where the known one is still the newest.
    """
    pauses = PAUSES[: terms.retries]
    failures, furthest = 0, partial.size
    while True:
        try:
            return _attempt(source, partial, settings, terms)
        except TransientError as exc:
            failures = 1 if partial.size >= furthest + _GAIN else failures + 1
            furthest = max(furthest, partial.size)
            if failures > len(pauses):
                raise _given_up(source, partial, failures, exc) from exc
            time.sleep(pauses[failures - 1] if exc.pause is None else min(exc.pause, _LONGEST_PAUSE))


def _attempt(source: Source, partial: Partial, settings: Settings, terms: _Terms) -> Version | None:
    with opened(source, settings, partial.headers or terms.known.conditions) as answer:
        if answer.status == 304:
            return None
        partial.accept(answer)
        check_size(source, partial.total or 0, terms.limit)
        _check_room(source, partial)
        if partial.size:
            terms.tell(partial)
        for chunk in answer.chunks:
            check_size(source, partial.size + len(chunk), terms.limit)
            partial.append(chunk)
            terms.tell(partial)
        partial.check_whole()
        check_digest(source, partial.digest)
        return answer.version if answer.status == 200 else partial.known.version


def _given_up(source: Source, partial: Partial, attempts: int, last: TransientError) -> FetchError:
    if partial.lasting:
        rest = f"The {partial.size:,} bytes that arrived are kept, and the next call continues behind them."
    else:
        rest = "Nothing was kept."
    return FetchError(
        f"{source.name} could not be fetched in {attempts} attempts; the last one: {last}. {rest} Check the address and "
        "the network (proxy, firewall), or try again later."
    )


def check_size(source: Source, size: int, limit: int) -> None:
    """Refuse what is longer than ``limit`` bytes.

    :raises IntegrityError: it is.
    """
    if size > limit:
        raise IntegrityError(
            f"{source.name} was expected to have at most {limit:,} bytes, but it is longer, so it was not read on and "
            "nothing was stored. Check the address.",
            retryable=False,
        )


def check_digest(source: Source, digest: str) -> None:
    """Refuse what has another SHA-256 than the source states.

    :raises IntegrityError: it has.
    """
    if source.digest is not None and digest != source.digest:
        raise IntegrityError(
            f"{source.name} was expected to have the SHA-256 digest {source.digest}, but what was read has {digest}, so "
            "it was not used, and no download of it is kept. Either the file was changed on its way, or the stated digest "
            "is out of date: compare it with the one that the file's author publishes."
        )


def _check_room(source: Source, partial: Partial) -> None:
    if partial.folder is None or partial.total is None:
        return
    disk = shutil.disk_usage(partial.folder)
    # Some file systems do not know their size.
    if disk.total and partial.total - partial.size > disk.free:
        raise _no_room(
            source, partial.folder, f"{partial.total - partial.size:,} bytes, but only {disk.free:,} are free"
        )


def _unwritten(source: Source, target: Path, partial: Partial | None, exc: OSError) -> FetchError:
    if exc.errno in _FULL and partial is not None:
        whole = f"{partial.total:,} bytes in all" if partial.total else f"more than {partial.size:,} bytes"
        return _no_room(source, target.parent, f"{whole}, but no room was left behind {partial.size:,} bytes")
    return FetchError(
        f"{source.name} could not be written to {target}: {exc.strerror or exc}. Nothing was stored. Make the folder "
        "writable, or name another one, and try again.",
        retryable=False,
    )


def _no_room(source: Source, folder: Path, needs: str) -> FetchError:
    return FetchError(
        f"{source.name} could not be stored in {folder}: it needs {needs}. Make room there and try again.",
        retryable=False,
    )
