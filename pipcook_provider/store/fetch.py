"""From a URI to a verified local file.

``http``, ``https`` and ``file`` URIs are fetched. A fragment ``#sha256=<64 hex digits>`` states the digest of what is
expected; ``user:password@`` before the host is sent as basic authentication to that host only and never shown.

A reader of the target sees the old file, the new one or none: bytes arrive in a file of a unique name beside it, are
verified there, and appear by a rename.
"""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
import re
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit
from urllib.request import url2pathname

from pipcook_provider.errors import FetchError, FetchNotFound, IntegrityError, OriginError
from pipcook_provider.settings import Settings

if TYPE_CHECKING:
    import requests

T = TypeVar("T")
OnProgress = Callable[[int, int | None], None]

#: Seconds between attempts; one more attempt than there are pauses.
PAUSES = (0.5, 1.5, 4.0)
TEXT_LIMIT = 10 * 2**20

_CHUNK = 2**18
_REDIRECTS = 10
_LONGEST_PAUSE = 30.0
_PORTS = {"http": 80, "https": 443}
_AGAIN = {408, 425, 429}
_GONE = {404, 410}
_DIGEST = re.compile(r"sha256=([0-9a-fA-F]{64})")
_UNSAFE = re.compile(r"[\s\\\x00-\x1f\x7f]|%00")
_NOT_PAGES = {".py", ".js", ".mjs", ".json", ".zip"}


def check_origin(uri: str, settings: Settings) -> None:
    """Refuse a URI that none of ``settings.allowed_origins`` covers.

    An entry covers a URI of the same scheme, host and port whose path is the entry's, or continues it behind a ``/``
    or ``@``; paths are compared without ``..`` and percent-encoding. An entry without a scheme is a local path.

    :raises OriginError: no entry covers the URI.
    :raises FetchError: the URI cannot be read, or its scheme is none of ``http``, ``https`` and ``file``.
    """
    source = _Source.parse(uri)
    allowed = settings.allowed_origins
    if allowed and not any(_covers(_place(_Source.parse(_as_uri(entry))), _place(source)) for entry in allowed):
        raise OriginError(
            f"{source.url} lies outside the allowed origins ({', '.join(map(shown, allowed))}), so nothing was "
            "fetched. Use a copy at an allowed place, or have its origin added to the option [pipcook] allowed_origins."
        )


def shown(uri: str) -> str:
    """Return the URI as it may be shown: without user and password."""
    return re.sub(r"(?<=://)[^/?#]*@", "", uri, count=1)


def download(uri: str, target: Path, settings: Settings, *, on_progress: OnProgress | None = None) -> Path:
    """Fetch a URI into a file, which appears whole and verified or not at all.

    :param target: where the file goes; its folder is created, a file there is replaced.
    :param on_progress: called with the bytes so far and the bytes in all (None where the server does not say).
    :returns: the target.
    :raises OriginError: the URI lies outside the allowed origins.
    :raises FetchNotFound: there is nothing at that address.
    :raises IntegrityError: another digest than stated, or a web page where a file was expected.
    :raises FetchError: anything else; ``retryable`` says whether trying again may help.
    """
    partial = target.with_name(f".{secrets.token_hex(8)}.part")

    def receive(chunks: Iterator[bytes]) -> None:
        with partial.open("wb") as sink:
            for chunk in chunks:
                sink.write(chunk)

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(uri, settings, receive, on_progress)
        partial.replace(target)
    except OSError as exc:
        raise FetchError(
            f"{shown(uri)} could not be written to {target}: {exc.strerror or exc}. Nothing was stored. Make room "
            "there, or make the folder writable, and try again.",
            retryable=False,
        ) from exc
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    return target


def read_text(uri: str, settings: Settings, *, limit: int = TEXT_LIMIT) -> str:
    """Fetch a URI and return its text (UTF-8, a byte order mark is dropped); errors as of :func:`download`.

    :param limit: bytes above which it is refused.
    """

    def receive(chunks: Iterator[bytes]) -> bytes:
        data = bytearray()
        for chunk in chunks:
            data += chunk
            if len(data) > limit:
                raise FetchError(
                    f"{shown(uri)} was expected to be a text of at most {limit:,} bytes, but it is longer, so it was "
                    "not read on. Check the address.",
                    retryable=False,
                )
        return bytes(data)

    data = _fetch(uri, settings, receive, None)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise FetchError(
            f"{shown(uri)} was expected to be text in UTF-8, but its byte {exc.start} is not, so it cannot be used. "
            "Save it as UTF-8, or check the address.",
            retryable=False,
        ) from exc


@dataclass(frozen=True, slots=True)
class _Source:
    """A URI taken apart: ``url`` is without user, password and fragment."""

    scheme: str
    url: str
    auth: tuple[str, str] | None
    digest: str | None

    @classmethod
    def parse(cls, uri: str) -> _Source:
        try:
            parts = urlsplit(uri)
            _ = parts.port
        except ValueError as exc:
            raise FetchError(f"{shown(uri)!r} cannot be read as a URI: {exc}. Correct it.", retryable=False) from exc
        if _UNSAFE.search(uri):
            # Parsers disagree about these, and a check with one parser says nothing about a request by another.
            raise FetchError(
                f"{shown(uri)!r} holds a space, a backslash or a control character, so it is not fetched. "
                "Percent-encode it.",
                retryable=False,
            )
        if parts.scheme not in {"http", "https", "file"} or (parts.scheme != "file" and not parts.hostname):
            raise FetchError(
                f"{shown(uri)!r} was expected to be an http, https or file URI with a host or path; it is not, so it "
                "cannot be fetched. Correct it.",
                retryable=False,
            )
        user, separator, host = parts.netloc.rpartition("@")
        name, _, password = user.partition(":")
        auth = (unquote(name), unquote(password)) if separator else None
        url = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
        return cls(parts.scheme, url, auth, _digest(parts.fragment, url))

    @property
    def path(self) -> Path:
        return Path(url2pathname(urlsplit(self.url).path))


def _digest(fragment: str, url: str) -> str | None:
    if not fragment.startswith("sha256"):
        return None
    if found := _DIGEST.fullmatch(fragment):
        return found[1].lower()
    raise FetchError(
        f"{url}#{fragment} was expected to end in #sha256= and 64 hexadecimal digits, so it cannot be verified and was "
        "not fetched. Correct the digest.",
        retryable=False,
    )


def _as_uri(entry: str) -> str:
    return entry if "://" in entry else Path(entry).expanduser().absolute().as_uri()


def _place(source: _Source) -> tuple[str, str | None, int | None, str]:
    """Return scheme, host, port and path in the one form in which places are compared."""
    if source.scheme == "file":
        return "file", None, None, str(source.path.resolve())
    parts = urlsplit(source.url)
    path = posixpath.normpath("/" + unquote(parts.path).lstrip("/"))
    return source.scheme, parts.hostname, parts.port or _PORTS[source.scheme], path


def _covers(allowed: tuple[str, str | None, int | None, str], place: tuple[str, str | None, int | None, str]) -> bool:
    prefix, path = allowed[3].rstrip("/"), place[3]
    inside = (
        path == prefix
        or path.startswith((prefix + "/", prefix + "@"))
        or (prefix[-1:] == "@" and path.startswith(prefix))
    )
    return allowed[:3] == place[:3] and inside


class _TransientError(Exception):
    """The same request may succeed later.

    :param pause: seconds the server asks to wait, where it says so.
    """

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


def _fetch(uri: str, settings: Settings, receive: Callable[[Iterator[bytes]], T], on_progress: OnProgress | None) -> T:
    """Hand the verified bytes of a URI to ``receive``, anew for each attempt."""
    check_origin(uri, settings)
    source = _Source.parse(uri)
    for pause in (*PAUSES, None):
        try:
            with _open(source, settings) as (chunks, total):
                return receive(_verified(_counted(chunks, total, on_progress), source))
        except _TransientError as exc:
            if pause is None:
                raise FetchError(
                    f"{source.url} could not be fetched in {len(PAUSES) + 1} attempts; the last one: {exc}. Nothing "
                    "was stored. Check the address and the network (proxy, firewall), or try again later."
                ) from exc
            time.sleep(pause if exc.pause is None else min(exc.pause, _LONGEST_PAUSE))
    raise AssertionError("the last attempt returns or raises")


def _counted(chunks: Iterator[bytes], total: int | None, on_progress: OnProgress | None) -> Iterator[bytes]:
    done = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        if on_progress is not None:
            on_progress(done, total)


def _verified(chunks: Iterator[bytes], source: _Source) -> Iterator[bytes]:
    if source.digest is None:
        yield from chunks
        return
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != source.digest:
        raise IntegrityError(
            f"{source.url} was expected to have the SHA-256 digest {source.digest}, but what arrived has "
            f"{digest.hexdigest()}. It was deleted for safety. Either the file was changed on its way, or the stated "
            "digest is out of date: compare it with the one that the file's author publishes."
        )


_Body = tuple[Iterator[bytes], int | None]


def _open(source: _Source, settings: Settings) -> contextlib.AbstractContextManager[_Body]:
    return _open_file(source) if source.scheme == "file" else _open_http(source, settings)


@contextlib.contextmanager
def _open_file(source: _Source) -> Iterator[_Body]:
    path = source.path
    if urlsplit(source.url).netloc not in {"", "localhost"} or not path.is_file():
        raise FetchNotFound(
            f"{source.url} was expected to be a file on this machine, but there is none. Check the path."
        )
    try:
        stream = path.open("rb")
    except PermissionError as exc:
        raise FetchError(f"{path} cannot be read: {exc.strerror}. Make it readable.", retryable=False) from exc
    with stream:
        yield iter(lambda: stream.read(_CHUNK), b""), path.stat().st_size


@contextlib.contextmanager
def _open_http(source: _Source, settings: Settings) -> Iterator[_Body]:
    import requests

    try:
        with requests.Session() as session, _follow(session, source, settings) as response:
            _check_response(response, source)
            total = int(response.headers.get("Content-Length", "")) if _is_sized(response) else None
            yield _whole(response, total), total
    except requests.exceptions.SSLError as exc:
        raise FetchError(
            f"{source.url} could not be fetched: the server's certificate is not trusted ({exc}). Check the address; "
            "behind a company proxy, name its certificates in REQUESTS_CA_BUNDLE.",
            retryable=False,
        ) from exc
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as exc:
        raise _TransientError(str(exc)) from exc
    except requests.RequestException as exc:
        raise FetchError(f"{source.url} cannot be fetched: {exc}. Correct the address.", retryable=False) from exc


def _follow(session: requests.Session, source: _Source, settings: Settings) -> requests.Response:
    """Ask for a URL and follow redirects by hand, so that each hop is checked before it is asked."""
    hop = source
    for _ in range(_REDIRECTS + 1):
        response = session.get(
            hop.url,
            auth=hop.auth,
            headers={"Accept-Encoding": "identity"},
            timeout=settings.fetch_timeout,
            stream=True,
            allow_redirects=False,
        )
        location = session.get_redirect_target(response)
        if location is None:
            return response
        response.close()
        hop = _next_hop(hop, location, settings)
    raise FetchError(
        f"{source.url} was redirected more than {_REDIRECTS} times, so it was given up. Use the final address.",
        retryable=False,
    )


def _next_hop(hop: _Source, location: str, settings: Settings) -> _Source:
    target = _Source.parse(urljoin(hop.url, location))
    if target.scheme == "file":
        raise FetchError(f"{hop.url} redirects to a local file, so it was refused.", retryable=False)
    check_origin(target.url, settings)
    keeps_auth = _place(hop)[:3] == _place(target)[:3]
    return _Source(target.scheme, target.url, hop.auth if keeps_auth else None, None)


def _check_response(response: requests.Response, source: _Source) -> None:
    status = f"{response.status_code} {response.reason or ''}".rstrip()
    if response.status_code in _GONE:
        raise FetchNotFound(f"{source.url} was not found: the server answered {status}. Check the address.")
    if response.status_code in _AGAIN or response.status_code >= 500:
        wait = response.headers.get("Retry-After", "")
        raise _TransientError(f"the server answered {status}", float(wait) if wait.isdecimal() else None)
    if response.status_code != 200:
        raise FetchError(
            f"{source.url} could not be fetched: the server answered {status}, and asking again would not change that. "
            "Check the address, and user and password if it needs them.",
            retryable=False,
        )
    suffix = posixpath.splitext(urlsplit(source.url).path)[1].lower()
    if response.headers.get("Content-Type", "").startswith("text/html") and suffix in _NOT_PAGES:
        raise IntegrityError(
            f"{source.url} was expected to be a {suffix} file, but a web page was served, such as a login page or an "
            "error page. It was not stored. Open the address in a browser to see what it says."
        )


def _is_sized(response: requests.Response) -> bool:
    # With a content encoding the header counts other bytes than those that arrive here.
    return response.headers.get("Content-Length", "").isdecimal() and "Content-Encoding" not in response.headers


def _whole(response: requests.Response, total: int | None) -> Iterator[bytes]:
    done = 0
    for chunk in response.iter_content(_CHUNK):
        done += len(chunk)
        yield chunk
    if total is not None and done != total:
        raise _TransientError(f"{total:,} bytes were announced, {done:,} arrived")
