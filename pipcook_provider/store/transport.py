"""One request for a source, over the network or from this machine's disk, and what the answer says.

Redirects are followed here, each one judged before it is asked. What may be otherwise in a moment is a
:class:`TransientError`; everything else that goes wrong is a :class:`~pipcook_provider.errors.FetchError`.
"""

from __future__ import annotations

import contextlib
import http.client
import posixpath
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from pipcook_provider.errors import FetchError, FetchNotFound, IntegrityError
from pipcook_provider.masking import masked
from pipcook_provider.settings import Settings
from pipcook_provider.store.origins import Source, authentication, redirected

if TYPE_CHECKING:
    import requests

#: Bytes a second below which a server counts as silent.
SLOWEST = 1024

_CHUNK = 2**18
_REDIRECTS = 10
#: How many times the timeout of one silence all may take until the headers of an answer have ended.
_SILENCES = 4
_AGAIN = {408, 425, 429}
_GONE = {404, 410}
_NOT_PAGES = {".py", ".js", ".mjs", ".json", ".zip"}
_RANGE = re.compile(r"bytes (?:([0-9]+)-[0-9]+|\*)/([0-9]+|\*)")


class TransientError(Exception):
    """The same request may succeed later.

    :param pause: seconds to wait before it, where that is known.
    """

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


@dataclass(frozen=True, slots=True)
class Version:
    """What a server says about which version of a file it served."""

    etag: str | None = None
    last_modified: str | None = None

    @property
    def validator(self) -> str | None:
        """What ``If-Range`` may hold: weak tags do not promise the same bytes."""
        strong = self.etag if self.etag and not self.etag.startswith("W/") else None
        return strong or self.last_modified

    @property
    def conditions(self) -> dict[str, str]:
        """The headers that ask for the file only if it is another version."""
        headers = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in headers.items() if value}

    def agrees(self, other: Version) -> bool:
        """Tell whether nothing says that the other is another version."""
        pairs = ((self.etag, other.etag), (self.last_modified, other.last_modified))
        return all(mine is None or theirs is None or mine == theirs for mine, theirs in pairs)


UNKNOWN = Version()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    :param status: 200: the whole file; 206: the file from ``start`` on; 304: the version that is known already.
    :param chunks: the bytes; reading them raises :class:`TransientError` where the server fails on the way.
    :param total: bytes of the whole file; None where the server does not say.
    :param start: offset in the file of the first byte.
    :param continuable: whether offsets count the bytes that are served.
    """

    status: int
    chunks: Iterator[bytes]
    total: int | None = None
    start: int | None = 0
    version: Version = UNKNOWN
    continuable: bool = False


@contextlib.contextmanager
def opened(source: Source, settings: Settings, headers: Mapping[str, str]) -> Iterator[Answer]:
    """Ask for a source, for as long as the block lasts.

    :param headers: a range or conditions, for a server that understands them.
    :raises TransientError: asking again may help, also while the chunks are read.
    :raises FetchNotFound: there is nothing at that address.
    :raises IntegrityError: a web page where a file was expected.
    :raises FetchError: anything else.
    """
    hop = source
    for _ in range(_REDIRECTS + 1):
        with contextlib.ExitStack() as stack:
            if hop.scheme == "file":
                yield stack.enter_context(_open_file(hop))
                return
            response = stack.enter_context(_open_http(hop, source, settings, headers))
            location = _location(response)
            if location is None:
                _check_status(response, source, headers)
                yield _answer(response, settings.fetch_timeout)
                return
        hop = redirected(hop, location, settings)
    raise FetchError(
        f"{source.name} was redirected more than {_REDIRECTS} times, so it was given up. Use the final address.",
        retryable=False,
    )


def check_file(source: Source) -> None:
    """Refuse a ``file`` URI that is no file of this machine.

    :raises FetchNotFound: it is none.
    """
    if urlsplit(source.url).netloc not in {"", "localhost"} or not source.path.is_file():
        raise FetchNotFound(
            f"{source.name} was expected to be a file on this machine, but there is none. Check the path."
        )


@contextlib.contextmanager
def _open_file(source: Source) -> Iterator[Answer]:
    check_file(source)
    try:
        stream = source.path.open("rb")
    except OSError as exc:
        raise unreadable(source, exc) from exc
    with stream:
        yield Answer(200, _read_file(stream, source), source.path.stat().st_size)


def _read_file(stream: BinaryIO, source: Source) -> Iterator[bytes]:
    while True:
        try:
            chunk = stream.read(_CHUNK)
        except OSError as exc:
            raise unreadable(source, exc) from exc
        if not chunk:
            return
        yield chunk


def unreadable(source: Source, exc: OSError) -> FetchError:
    """Return the error for a local file that cannot be read."""
    return FetchError(
        f"{source.name} was expected to be a readable file, but reading it failed: {exc.strerror or exc}. Make it readable.",
        retryable=False,
    )


@contextlib.contextmanager
def _open_http(
    hop: Source, source: Source, settings: Settings, headers: Mapping[str, str]
) -> Iterator[requests.Response]:
    import requests
    import urllib3

    try:
        with _in_time(lambda: _get(hop, settings, headers), _SILENCES * settings.fetch_timeout) as response:
            yield response
    except requests.exceptions.SSLError as exc:
        raise FetchError(
            f"{source.name} could not be fetched: the server's certificate is not trusted ({_cause(exc)}). Check the "
            "address; behind a company proxy, name its certificates in REQUESTS_CA_BUNDLE.",
            retryable=False,
        ) from exc
    except (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError) as exc:
        raise TransientError(f"the server sent nothing for {settings.fetch_timeout:g} s") from exc
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as exc:
        raise TransientError(f"the connection failed ({_cause(exc)})") from exc
    except requests.exceptions.InvalidURL:
        # What was raised may quote the proxy's password.
        raise FetchError(
            f"{source.name} cannot be fetched: its address, or that of the proxy in the environment variables (http_proxy, "
            "https_proxy, all_proxy), was expected to name a host, or a host and a port; it does not. Correct it, and "
            "percent-encode what a password holds of '/', '?' and '#'.",
            retryable=False,
        ) from None
    except requests.RequestException as exc:
        raise FetchError(
            f"{source.name} cannot be fetched: {masked(str(exc))}. Correct the address.", retryable=False
        ) from exc


def _in_time(ask: Callable[[], requests.Response], seconds: float) -> requests.Response:
    """Ask in a thread, which is left behind when that takes too long: a silence ends with any byte, a deadline does not.

    :raises TransientError: it took more than so many seconds.
    """
    from concurrent.futures import Future, InvalidStateError, wait

    answer: Future[requests.Response] = Future()

    def work() -> None:
        try:
            response = ask()
        except BaseException as exc:
            with contextlib.suppress(InvalidStateError):
                answer.set_exception(exc)
            return
        try:
            answer.set_result(response)
        except InvalidStateError:
            response.close()

    threading.Thread(target=work, name="pipcook-request", daemon=True).start()
    try:
        wait([answer], seconds)
    finally:
        late = answer.cancel()
    if late:
        raise TransientError(f"the headers of the server's answer did not end within {seconds:g} s")
    return answer.result()


def _get(hop: Source, settings: Settings, headers: Mapping[str, str]) -> requests.Response:
    import requests

    secret = authentication(hop, settings)

    def authenticate(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(secret)
        return request

    try:
        return requests.get(
            hop.url,
            # As a callable it keeps ~/.netrc out; without anything of our own that file is asked.
            auth=authenticate if secret else None,
            headers={"Accept-Encoding": "identity", **headers},
            timeout=settings.fetch_timeout,
            stream=True,
            allow_redirects=False,
        )
    except ValueError as exc:
        if isinstance(exc, requests.RequestException):
            raise
        # requests looks at a redirect's target even where it does not follow it.
        # What was raised may quote that target's password.
        raise FetchError(
            f"{hop.url} redirects to an address that cannot be read. Use the final address.", retryable=False
        ) from None


def _cause(exc: BaseException) -> str:
    """Return what an error of the network began with, which says more than what was made of it."""
    while isinstance(exc.__context__, (OSError, http.client.HTTPException)) or _is_urllib3(exc.__context__):
        assert exc.__context__ is not None
        exc = exc.__context__
    return masked(str(exc)) or type(exc).__name__


def _is_urllib3(exc: BaseException | None) -> bool:
    import urllib3

    return isinstance(exc, urllib3.exceptions.HTTPError)


def _location(response: requests.Response) -> str | None:
    # http.client decodes headers as Latin-1; that this is UTF-8 requests has seen to.
    return response.headers["Location"].encode("latin-1").decode() if response.is_redirect else None


def _check_status(response: requests.Response, source: Source, headers: Mapping[str, str]) -> None:
    status = f"{response.status_code} {response.reason or ''}".rstrip()
    if response.status_code in _GONE:
        raise FetchNotFound(f"{source.name} was not found: the server answered {status}. Check the address.")
    if response.status_code in _AGAIN or response.status_code >= 500:
        wait = response.headers.get("Retry-After", "")
        raise TransientError(f"the server answered {status}", float(wait) if wait.isdecimal() else None)
    if response.status_code not in _expected(headers):
        raise FetchError(
            f"{source.name} could not be fetched: the server answered {status}, and asking again would not change that. "
            "Check the address, and user and password if it needs them.",
            retryable=False,
        )
    suffix = posixpath.splitext(urlsplit(source.written).path)[1].lower()
    page = response.headers.get("Content-Type", "").startswith("text/html")
    if page and suffix in _NOT_PAGES and response.status_code in {200, 206}:
        raise IntegrityError(
            f"{source.name} was expected to be a {suffix} file, but a web page was served, such as a login page or an "
            "error page. It was not stored. Open the address in a browser to see what it says."
        )


def _expected(headers: Mapping[str, str]) -> set[int]:
    if "Range" in headers:
        return {200, 206, 416}
    return {200, 304} if headers else {200}


def _answer(response: requests.Response, patience: float) -> Answer:
    headers = response.headers
    version = Version(headers.get("ETag"), headers.get("Last-Modified"))
    if response.status_code == 304:
        return Answer(304, iter(()), version=version)
    # With a content encoding, lengths and ranges count other bytes than those that arrive here.
    encoded = headers.get("Content-Encoding", "identity").lower() != "identity"
    chunks = _steady(response, patience, encoded)
    if response.status_code == 200:
        sized = not encoded and "Transfer-Encoding" not in headers
        total = _number(headers.get("Content-Length")) if sized else None
        return Answer(200, chunks, total, version=version, continuable=not encoded)
    start, total = _content_range(headers.get("Content-Range", ""))
    if response.status_code == 416:
        # Nothing lies behind the end of the file: that is an answer, to whoever has it up to there.
        return Answer(206, iter(()), total, total, version, not encoded)
    return Answer(206, chunks, total, start, version, not encoded)


def _content_range(header: str) -> tuple[int | None, int | None]:
    """Return the offset of the first byte, and the bytes of the whole file."""
    found = _RANGE.fullmatch(header.strip().lower())
    return (_number(found[1]), _number(found[2])) if found else (None, None)


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch("[0-9]{1,18}", text) else None


def _steady(response: requests.Response, patience: float, encoded: bool) -> Iterator[bytes]:
    """Yield bytes as they come, unless next to none come for ``patience`` seconds of waiting."""
    waited, arrived = 0.0, 0
    while True:
        before = time.monotonic()
        chunk: bytes = response.raw.read1(_CHUNK, decode_content=encoded)
        if not chunk:
            return
        waited += time.monotonic() - before
        arrived += len(chunk)
        yield chunk
        if waited >= patience:
            if arrived < SLOWEST * waited:
                raise TransientError(f"the server sent only {arrived:,} bytes in {waited:.1f} s")
            waited, arrived = 0.0, 0
