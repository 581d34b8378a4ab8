"""Downloads of data that many runs share, with the standard library alone.

A folder of downloads holds, for each URL, ``{key}.json`` (``url``, ``file``, ``size``, ``etag``, ``last_modified``,
``sha256``), and the files themselves, named after their content: ``{sha256}-{name}``. A file never changes once it is
there; a new version is published by replacing the small JSON, so that processes which share the folder, without a lock,
each see the old version or the new one whole.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import netrc
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib import request
from urllib.error import HTTPError
from urllib.parse import unquote, urldefrag, urlsplit
from urllib.request import url2pathname
from uuid import uuid4

from pipcook_provider.errors import FetchError, IntegrityError

BACK_OFF = (0.5, 1.0, 2.0)  # seconds before each further attempt
CHUNK = 1 << 20
BUSY = (408, 429)  # statuses that, like 5xx, may be another one in a moment


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is known about the file that a URL gave last."""

    url: str
    file: str
    size: int
    sha256: str
    etag: str | None
    last_modified: str | None


def download(url: str, directory: Path, *, timeout: float = 30.0, back_off: Sequence[float] = BACK_OFF) -> Path:
    """Return the file behind a URL, downloaded unless what is in the folder is still current.

    A server is asked by ETag or Last-Modified; when it cannot be reached, what is there is used. A file whose digest the
    URL states (``#sha256=...``) is not asked for again. A ``file:`` URL is its own path, which may be a folder. A server
    that asks for a user and password is answered with those of ``~/.netrc``.

    :param directory: folder of downloads, shared by runs and processes; made if need be.
    :param timeout: seconds without a byte after which an attempt is given up.
    :param back_off: seconds to wait before each further attempt after a broken connection or a server's failure.
    :raises FetchError: it cannot be had.
    :raises IntegrityError: what arrived is shorter than announced, or has another digest.
    """
    address, fragment = urldefrag(url)
    digest = _stated_digest(url, fragment)
    scheme = urlsplit(address).scheme
    if scheme == "file":
        return _local(address, digest)
    if "@" in urlsplit(address).netloc:
        raise _final(
            f"expected an address without user and password, found one with them ({urlsplit(address).hostname}): they "
            "would be kept in the run's files. Put them into ~/.netrc, which downloads read."
        )
    if scheme not in ("http", "https"):
        raise _final(f"expected an http, https or file URL, found {url!r}: it cannot be downloaded. Correct it.")
    with _writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    state = directory / f"{hashlib.sha256(address.encode()).hexdigest()[:24]}.json"
    known = _read_entry(state)
    if known and digest:
        if known.sha256 == digest:
            return directory / known.file
        known = None
    for delay in (*back_off, None):
        try:
            entry = _fetch(address, known, directory, digest, timeout)
            break
        except FetchError as exc:
            if delay is None and known and exc.retryable:
                print(f"{exc} The copy that an earlier run downloaded is used.", file=sys.stderr)
                return directory / known.file
            if delay is None or not exc.retryable:
                raise
            time.sleep(delay)
    if entry != known:
        _publish(state, json.dumps(asdict(entry)).encode())
    return directory / entry.file


def _fetch(address: str, known: _Entry | None, directory: Path, digest: str | None, timeout: float) -> _Entry:
    headers = {"Accept-Encoding": "identity", "User-Agent": "pipcook-provider"}
    if known and known.etag:
        headers["If-None-Match"] = known.etag
    if known and known.last_modified:
        headers["If-Modified-Since"] = known.last_modified
    try:
        with _opener().open(request.Request(address, headers=headers), timeout=timeout) as response:  # noqa: S310
            return _receive(address, response, directory, digest)
    except HTTPError as exc:
        if exc.code == 304 and known:
            return known
        message = f"expected {address} to answer with a file, found {exc.code} {exc.reason}"
        if exc.code in BUSY or exc.code >= 500:
            raise FetchError(f"{message}: the server has trouble. Try again later.") from exc
        raise _final(f"{message}: nothing was downloaded. Correct the URL, or ask who runs the server.") from exc
    except (OSError, http.client.HTTPException) as exc:
        reason = getattr(exc, "reason", None) or str(exc) or type(exc).__name__
        raise FetchError(
            f"expected a file from {address}, found {reason}: nothing was downloaded. Check the address, the network "
            "and the proxy settings, and try again."
        ) from exc


def _opener() -> request.OpenerDirector:
    """Return an opener of web addresses only: a redirect to ``file:`` or ``ftp:`` leads nowhere."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler,
        request.UnknownHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        request.HTTPDefaultErrorHandler,
        request.HTTPRedirectHandler,
        request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    opener.add_handler(request.HTTPBasicAuthHandler(_Netrc()))
    return opener


class _Netrc(request.HTTPPasswordMgr):
    """Users and passwords from ``~/.netrc``, by host; asked for only when a server wants them."""

    def find_user_password(self, realm: str, authuri: str) -> tuple[str | None, str | None]:  # noqa: ARG002
        host = urlsplit(authuri if "//" in authuri else f"//{authuri}").hostname
        try:
            found = netrc.netrc().authenticators(host or "")
        except (OSError, netrc.NetrcParseError):
            found = None
        return (found[0], found[2]) if found else (None, None)


def _receive(address: str, response: http.client.HTTPResponse, directory: Path, digest: str | None) -> _Entry:
    found = hashlib.sha256()
    size = 0
    partial = directory / f".{uuid4().hex}.part"
    try:
        with _writing(directory), partial.open("xb") as file:
            while chunk := _read(response):
                found.update(chunk)
                size += file.write(chunk)
        _check_length(address, response.headers["Content-Length"], size)
        _check_digest(address, digest, found.hexdigest())
        name = f"{found.hexdigest()}-{_name(address)}"
        with _writing(directory):
            partial.replace(directory / name)
    finally:
        partial.unlink(missing_ok=True)
    headers = response.headers
    return _Entry(address, name, size, found.hexdigest(), headers["ETag"], headers["Last-Modified"])


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK)
    except OSError as exc:
        raise http.client.HTTPException(str(exc) or type(exc).__name__) from exc


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    """Tell what goes wrong with this machine's disk apart from what goes wrong with the network."""
    try:
        yield
    except OSError as exc:
        raise _final(
            f"expected to write into {directory}, found {exc}: nothing was kept. Make room there, make it writable, or "
            "set [pipcook] home to another folder."
        ) from exc


def _check_length(address: str, announced: str | None, size: int) -> None:
    if announced and announced.isdigit() and int(announced) != size:
        raise IntegrityError(
            f"expected {announced} bytes from {address}, found {size}: the connection broke off. Nothing was kept; try "
            "again."
        )


def _check_digest(address: str, digest: str | None, found: str) -> None:
    if digest and found != digest:
        raise _final(
            f"expected {address} to have the SHA-256 {digest}, found {found}: it was corrupted on its way, or replaced "
            "by another version. Nothing was kept; correct the digest if the new version is right.",
            IntegrityError,
        )


def _stated_digest(url: str, fragment: str) -> str | None:
    name, _, digest = fragment.partition("=")
    if name != "sha256":
        return None
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        raise _final(f"expected 64 hexadecimal digits after '#sha256=' in {url}, found {digest!r}. Correct the URL.")
    return digest.lower()


def _local(address: str, digest: str | None) -> Path:
    path = Path(url2pathname(urlsplit(address).path))
    if not path.exists():
        raise _final(f"expected a file or folder at {path}, found nothing: there is no data to read. Correct the path.")
    if digest:
        with path.open("rb") as file:
            _check_digest(address, digest, hashlib.file_digest(file, "sha256").hexdigest())
    return path


def _final(message: str, kind: type[FetchError] = FetchError) -> FetchError:
    """Return an error that doing the same again does not mend."""
    error = kind(message)
    error.retryable = False
    return error


def _name(address: str) -> str:
    return re.sub(r"[^\w.-]", "_", unquote(urlsplit(address).path).rpartition("/")[2])[-40:] or "download"


def _read_entry(state: Path) -> _Entry | None:
    try:
        entry = _Entry(**json.loads(state.read_text(encoding="utf-8")))
        return entry if (state.parent / entry.file).stat().st_size == entry.size else None
    except (OSError, ValueError, TypeError):
        return None


def _publish(target: Path, content: bytes) -> None:
    partial = target.with_name(f".{uuid4().hex}.part")
    partial.write_bytes(content)
    partial.replace(target)
