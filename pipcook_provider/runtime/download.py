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
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urldefrag, urlsplit
from urllib.request import url2pathname

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

    A server is asked by ETag or Last-Modified; a file whose digest the URL states (``#sha256=...``) is not asked for
    again. A ``file:`` URL is its own path, which may be a folder.

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
    if scheme not in ("http", "https"):
        raise _final(f"expected an http, https or file URL, found {url!r}: it cannot be downloaded. Correct it.")
    directory.mkdir(parents=True, exist_ok=True)
    state = directory / f"{hashlib.sha256(address.encode()).hexdigest()[:24]}.json"
    known = _read_entry(state)
    if known and digest and known.sha256 == digest:
        return directory / known.file
    for delay in (*back_off, None):
        try:
            entry = _fetch(address, known, directory, timeout)
        except FetchError as exc:
            if delay is None or not exc.retryable:
                raise
            time.sleep(delay)
        else:
            break
    if digest and entry.sha256 != digest:
        _refuse(directory / entry.file, address, digest, entry.sha256)
    if entry is not known:
        with _published(state, "w") as file:
            json.dump(asdict(entry), file)
    return directory / entry.file


def _fetch(address: str, known: _Entry | None, directory: Path, timeout: float) -> _Entry:
    headers = {"Accept-Encoding": "identity", "User-Agent": "pipcook-provider"}
    if known and known.etag:
        headers["If-None-Match"] = known.etag
    if known and known.last_modified:
        headers["If-Modified-Since"] = known.last_modified
    try:
        with _opener().open(request.Request(address, headers=headers), timeout=timeout) as response:  # noqa: S310
            return _receive(address, response, directory)
    except HTTPError as exc:
        if exc.code == 304 and known:
            return known
        message = f"expected {address} to answer with a file, found {exc.code} {exc.reason}"
        if exc.code in BUSY or exc.code >= 500:
            raise FetchError(f"{message}: the server has trouble. Try again later.") from exc
        raise _final(f"{message}: nothing was downloaded. Correct the URL, or ask who runs the server.") from exc
    except (URLError, OSError, http.client.HTTPException) as exc:
        reason = getattr(exc, "reason", None) or exc or type(exc).__name__
        raise FetchError(
            f"expected an answer from {address}, found {reason}: nothing was downloaded. Check the address, the "
            "network and the proxy settings, and try again."
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
    return opener


def _receive(address: str, response: http.client.HTTPResponse, directory: Path) -> _Entry:
    digest = hashlib.sha256()
    size = 0
    with NamedTemporaryFile(dir=directory, prefix=".", suffix=".part", delete=False) as file:
        partial = Path(file.name)
        try:
            while chunk := response.read(CHUNK):
                digest.update(chunk)
                size += file.write(chunk)
            _check_length(address, response, size)
            file.close()
            name = f"{digest.hexdigest()}-{_name(address)}"
            partial.replace(directory / name)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    headers = response.headers
    return _Entry(address, name, size, digest.hexdigest(), headers["ETag"], headers["Last-Modified"])


def _check_length(address: str, response: http.client.HTTPResponse, size: int) -> None:
    announced = response.headers["Content-Length"]
    if announced and announced.isdigit() and int(announced) != size:
        raise IntegrityError(
            f"expected {announced} bytes from {address}, found {size}: the connection broke off. Nothing was kept; try "
            "again."
        )


def _name(address: str) -> str:
    return re.sub(r"[^\w.-]", "_", unquote(urlsplit(address).path).rpartition("/")[2])[-80:] or "download"


def _read_entry(state: Path) -> _Entry | None:
    try:
        entry = _Entry(**json.loads(state.read_text(encoding="utf-8")))
        return entry if (state.parent / entry.file).stat().st_size == entry.size else None
    except (OSError, ValueError, TypeError):
        return None


@contextmanager
def _published(target: Path, mode: str) -> Iterator[IO[Any]]:
    with NamedTemporaryFile(mode, dir=target.parent, prefix=".", suffix=".part", delete=False) as file:
        yield file
    Path(file.name).replace(target)
