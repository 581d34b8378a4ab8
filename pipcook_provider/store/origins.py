"""Where something may be fetched from, where it is fetched from instead, and what authenticates the request.

Places are compared by one rule, for allowed origins and for credentials: same scheme, host and port, and a path that is
the prefix's or continues it behind a ``/`` or ``@``; paths are compared without ``..`` and percent-encoding.

A rewrite replaces the beginning of an address, as text. What is allowed is judged by the address as it was written: the
replacement was chosen by whoever configures the machine, and is trusted. So are the places that replacements name when a
server redirects to them.
"""

from __future__ import annotations

import base64
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urljoin, urlsplit, urlunsplit
from urllib.request import url2pathname

from pipcook_provider.errors import FetchError, OriginError
from pipcook_provider.masking import without_credentials
from pipcook_provider.settings import Settings

_PORTS = {"http": 80, "https": 443}
_DIGEST = re.compile(r"sha256=([0-9a-fA-F]{64})")
_UNSAFE = re.compile(r"[\s\\\x00-\x1f\x7f]|%00")
_SCHEME_AND_HOST = re.compile(r"[^/?#]+://[^/?#]*")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\x21-\x7e\x80-\xff]([\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?")


def check_origin(uri: str, settings: Settings) -> None:
    """Refuse a URI that none of ``settings.allowed_origins`` covers.

    An entry covers a URI of the same scheme, host and port whose path is the entry's, or continues it behind a ``/``
    or ``@``; paths are compared without ``..`` and percent-encoding. An entry without a scheme is a local path.

    :raises OriginError: no entry covers the URI.
    :raises FetchError: the URI cannot be read, or its scheme is none of ``http``, ``https`` and ``file``.
    """
    source = Source.parse(uri)
    _check(source, settings.allowed_origins, (), source.url)


def shown(uri: str) -> str:
    """Return the URI as it may be shown: without user and password."""
    return without_credentials(uri)


def locate(uri: str, settings: Settings) -> Source:
    """Return where a URI is fetched from.

    :raises OriginError: it lies outside the allowed origins.
    :raises FetchError: it cannot be read, or cannot be rewritten.
    """
    check_origin(uri, settings)
    return _rewritten(Source.parse(uri), settings)


def redirected(hop: Source, location: str, settings: Settings) -> Source:
    """Return where a redirect leads.

    User and password go along to the same scheme, host and port only.

    :raises OriginError: to a place that is neither an allowed origin nor the replacement of a rewrite.
    :raises FetchError: to a local file, or to an address that cannot be read.
    """
    target = Source.parse(urljoin(hop.url, location))
    if target.scheme == "file":
        raise FetchError(f"{hop.url} redirects to a local file, so it was refused.", retryable=False)
    trusted = [replacement for _, replacement in settings.url_rewrites]
    _check(target, settings.allowed_origins, trusted, f"{hop.url} redirects to {target.url}, which")
    return _rewritten(replace(target, auth=hop.auth if hop.place.same_host(target.place) else None), settings)


def authentication(source: Source, settings: Settings) -> Mapping[str, str]:
    """Return the headers that authenticate a request to a source; empty where there are none.

    User and password of the address come first, then the credential whose prefix is the longest that covers it.

    :raises FetchError: a header cannot be sent.
    """
    if source.auth is not None:
        return {"Authorization": f"Basic {base64.b64encode(':'.join(source.auth).encode()).decode()}"}
    places = [(Source.parse(credential.prefix).place, credential) for credential in settings.credentials]
    covering = [(place, credential) for place, credential in places if place.covers(source.place)]
    if not covering:
        return {}
    _, credential = max(covering, key=lambda pair: len(pair[0].path))
    for name, value in credential.headers.items():
        if not (_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)):
            raise FetchError(
                f"The credential for {shown(credential.prefix)} was expected to hold HTTP headers, but the name or the "
                f"value of {name!r} is empty, or holds a space at its edge or a character that no header may have, such "
                "as a line break. Nothing was asked. Correct it where it is configured, such as in Airflow's connection.",
                retryable=False,
            )
    return credential.headers


class Place(NamedTuple):
    """Scheme, host, port and path of an address, in the one form in which places are compared."""

    scheme: str
    host: str | None
    port: int | None
    path: str

    def same_host(self, other: Place) -> bool:
        """Tell whether the other place has the same scheme, host and port."""
        return self[:3] == other[:3]

    def covers(self, other: Place) -> bool:
        """Tell whether the other place is this one or lies below it."""
        prefix, path = self.path.rstrip("/"), other.path
        below = path.startswith((prefix + "/", prefix + "@")) or (prefix[-1:] == "@" and path.startswith(prefix))
        return self.same_host(other) and (path == prefix or below)


@dataclass(frozen=True, slots=True)
class Source:
    """A URI taken apart.

    :param scheme: ``http``, ``https`` or ``file``.
    :param url: the address that is asked, without user, password and fragment.
    :param written: the address as it was written, before a rewrite; likewise without them.
    :param auth: user and password for the address's host.
    :param digest: SHA-256 (64 hexadecimal digits) that the content has to have.
    """

    scheme: str
    url: str
    written: str
    auth: tuple[str, str] | None = field(repr=False)
    digest: str | None

    @classmethod
    def parse(cls, uri: str) -> Source:
        """Take a URI apart; nothing is rewritten.

        :raises FetchError: it cannot be read, or has another scheme, or a malformed digest.
        """
        parts = _split(uri)
        user, separator, host = parts.netloc.rpartition("@")
        name, _, password = user.partition(":")
        auth = (unquote(name), unquote(password)) if separator else None
        url = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
        return cls(parts.scheme, url, url, auth, _digest(parts.fragment, url))

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.written if self.url == self.written else f"{self.written} (fetched from {self.url})"

    @property
    def path(self) -> Path:
        """The local path of a ``file`` URI."""
        return Path(url2pathname(urlsplit(self.url).path))

    @property
    def place(self) -> Place:
        """Where it lies."""
        if self.scheme == "file":
            return Place("file", None, None, str(self.path.resolve()))
        parts = urlsplit(self.url)
        path = posixpath.normpath("/" + unquote(parts.path).lstrip("/"))
        return Place(self.scheme, parts.hostname, parts.port or _PORTS[self.scheme], path)


def _split(uri: str) -> SplitResult:
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        # What was raised may quote the password, and a traceback would show it.
        raise FetchError(
            f"{shown(uri)!r} was expected to have a host, or a host and a port, behind its '//'; it has not, so it cannot "
            "be read as a URI. Correct it, and percent-encode what a password holds of '/', '?', '#', '[' and ']'.",
            retryable=False,
        ) from None
    if _UNSAFE.search(uri):
        # Parsers disagree about these, and a check with one parser says nothing about a request by another.
        raise FetchError(
            f"{shown(uri)!r} holds a space, a backslash or a control character, so it is not fetched. Percent-encode it.",
            retryable=False,
        )
    if parts.scheme not in {"http", "https", "file"} or (parts.scheme != "file" and not parts.hostname):
        raise FetchError(
            f"{shown(uri)!r} was expected to be an http, https or file URI with a host or path; it is not, so it "
            "cannot be fetched. Correct it.",
            retryable=False,
        )
    return parts


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


def _check(source: Source, allowed: Iterable[str], trusted: Iterable[str], subject: str) -> None:
    """Refuse a source that lies outside the allowed origins, if there are any, and outside the trusted ones."""
    allowed = tuple(allowed)
    if allowed and not any(Source.parse(_as_uri(entry)).place.covers(source.place) for entry in (*allowed, *trusted)):
        raise OriginError(
            f"{subject} lies outside the allowed origins ({', '.join(map(shown, allowed))}), so nothing was "
            "fetched. Use a copy at an allowed place, or have its origin added to the option [pipcook] allowed_origins."
        )


def _as_uri(entry: str) -> str:
    return entry if "://" in entry else Path(entry).expanduser().absolute().as_uri()


def _rewritten(source: Source, settings: Settings) -> Source:
    address = _plain(source.url)
    for prefix, replacement in settings.url_rewrites:
        if not address.startswith(_plain(prefix)):
            continue
        target = Source.parse(replacement + address[len(_plain(prefix)) :])
        # A prefix that ends within a host's name must not lead to another host than the replacement names.
        if not Source.parse(replacement).place.same_host(target.place):
            continue
        _refuse_climbing(source)
        kept = source.auth if source.place.same_host(target.place) else None
        return replace(target, written=source.written, auth=target.auth or kept, digest=source.digest)
    return source


def _plain(address: str) -> str:
    """Return an address with scheme and host in lower case and without the default port."""
    found = _SCHEME_AND_HOST.match(address)
    if found is None:
        return address
    start = found[0].lower()
    scheme = start.partition(":")[0]
    return start.removesuffix(f":{_PORTS.get(scheme)}") + address[found.end() :]


def _refuse_climbing(source: Source) -> None:
    if ".." in unquote(urlsplit(source.url).path).split("/"):
        raise FetchError(
            f"{source.url} holds '..', which could lead out of the place that it is rewritten to, so it was not fetched. "
            "Write the address without it.",
            retryable=False,
        )
