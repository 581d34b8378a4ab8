"""Script URIs: ``http``, ``https`` and ``file``; no scheme means a path, relative to the document's own place.

The query holds the script's parameters. Its rules are those of the existing implementation (npm ``query-string`` 6,
default options): keys sorted, values are text, a repeated key gives a list, ``key`` alone gives ``None``, ``key=``
the empty text, ``+`` is a space, escapes are decoded, ``key[]`` has no meaning of its own. What stands in a template
(``{{ ... }}``) is the template's: ``&``, ``=``, ``+``, ``%``, ``?`` and ``#`` mean nothing to the query there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from pipcook_provider.masking import masked
from pipcook_provider.spec.credentials import refuse_credentials
from pipcook_provider.spec.model import Parameter, ScriptSpec
from pipcook_provider.spec.names import did_you_mean
from pipcook_provider.spec.templates import pieces_of

_UNDECODABLE: Final = re.compile("[\udc80-\udcff]")
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_DIGEST: Final = re.compile("sha256=[0-9A-Fa-f]{64}")
_SCHEMES: Final = ("https", "http", "file")
_URL: Final = re.compile("https?:", re.IGNORECASE)
# What quote() leaves alone beside letters, digits and "_.-~": allowed in the path of a URI by RFC 3986.
_PATH_SAFE: Final = "/!$&'()*+,;=:@"
_NOT_IN_PATH: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9_.~%/!$&'()*+,;=:@-]")
_NOT_IN_QUERY: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9_.~%/!$&'()*+,;=:@?-]")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.~/!$&'()*+,;=:@?#-]*")  # neither unsafe nor escaped: nothing more to look at
_KEY_SAFE: Final = "/!$'()*,;:@[]"
_VALUE_SAFE: Final = f"{_KEY_SAFE}=?"
_NOT_IN_HOST: Final = re.compile(r"""[\s\\"<>^`{|}%]""")


def resolve_script(reference: str, origin: str) -> ScriptSpec:
    """Make a script's reference absolute and take its query apart.

    :param reference: URI or path as written in the document.
    :param origin: absolute path or ``http(s)`` URL of the document.
    :raises ValueError: the reference cannot be used; the message is for the document's author.
    """
    refuse_credentials(reference)
    plain = _PLAIN.fullmatch(reference) is not None
    text = reference
    if not plain:
        _check_characters(reference, reference)
        text = _with_templates_encoded(reference)
        if "%00" in text:
            _check_characters("\0", reference)
    try:
        parts = urlsplit(text.strip())
        _ = parts.port
    except ValueError as exc:
        raise ValueError(f"Expected the URI or path of a script, found {json.dumps(reference)}: {exc}.") from exc
    _check_scheme(parts, reference)
    _check_rest(parts, reference)
    uri = _absolute(parts, reference, origin, plain=plain)
    query = ""
    # A query with templates is none yet: no server must see them.
    if parts.query and text == reference and not uri.startswith("file:"):
        query = f"?{parts.query if plain else _escaped(parts.query, _NOT_IN_QUERY)}"
    digest = f"#{parts.fragment}" if parts.fragment else ""
    return ScriptSpec(uri, parse_query(parts.query), f"{uri}{query}{digest}")


def _with_templates_encoded(reference: str) -> str:
    """Percent-encode the templates in the query of a reference, so that it can be taken apart like any other.

    :raises ValueError: a template stands elsewhere.
    """
    if "{" not in reference:
        return reference
    encoded: list[str] = []
    in_query = False
    for piece, is_template in pieces_of(reference):
        if is_template and not in_query:
            raise ValueError(
                f"Expected templates in the query only, found {piece} elsewhere in {json.dumps(reference)}: which file runs "
                'must be known before the run. Move it behind the "?", or write out what it stands for.'
            )
        if not is_template:
            in_query = "#" not in piece and (in_query or "?" in piece)
        encoded.append(quote(piece, safe="") if is_template else piece)
    return "".join(encoded)


def _escaped(text: str, unsafe: re.Pattern[str]) -> str:
    """Percent-encode what stands unescaped where it may not; escapes stay as they are."""
    return unsafe.sub(lambda found: quote(found[0], safe=""), text)


def parse_query(query: str) -> dict[str, Parameter]:
    """Take the query of a script URI apart, with or without the leading ``?``.

    :return: the parameters, keys sorted; values are text, ``None`` or lists of those.
    """
    values: dict[str, list[str | None]] = {}
    if "{" in query:
        query = "".join(quote(piece, safe="") if is_template else piece for piece, is_template in pieces_of(query))
    for part in query.strip().removeprefix("?").split("&"):
        if part:
            key, given, value = part.replace("+", " ").partition("=")
            values.setdefault(_decode(key), []).append(_decode(value) if given else None)
    return {key: found if len(found) > 1 else found[0] for key, found in sorted(values.items())}


def with_query(reference: str, parameters: Mapping[str, Parameter]) -> str:
    """Return a script's reference with another query; its path and its digest stay.

    Taking the query apart gives the parameters again. Templates stay readable.

    :param reference: URI or path as written in a document that can be used.
    :param parameters: as `parse_query` returns them.
    :raises ValueError: a parameter holds half a character, which no URI can carry.
    """
    base, separator, digest = _with_templates_encoded(reference.strip()).partition("#")
    query = "&".join(_query_parts(parameters))
    return f"{base.partition('?')[0]}{'?' if query else ''}{query}{separator}{digest}"


def _query_parts(parameters: Mapping[str, Parameter]) -> Iterator[str]:
    for key, given in parameters.items():
        for value in given if isinstance(given, list) else [given]:
            try:
                name = quote(key, safe=_KEY_SAFE)
                yield name if value is None else f"{name}={_escaped_value(value)}"
            except UnicodeEncodeError as exc:
                raise ValueError(
                    f"Expected characters in the parameter {json.dumps(key)}, found half of one in {json.dumps(value)}, "
                    "which no URI can carry. Write the character itself."
                ) from exc


def _escaped_value(value: str) -> str:
    if "{" not in value:
        return quote(value, safe=_VALUE_SAFE)
    return "".join(
        piece if is_template and not _UNSAFE.search(piece) else quote(piece, safe=_VALUE_SAFE)
        for piece, is_template in pieces_of(value)
    )


def absolute_origin(origin: str, base: str = "") -> str:
    """Return the place of a document as an ``http(s)`` URL or an absolute path.

    :param origin: URL, ``file`` URI or path.
    :param base: place that a relative ``origin`` is relative to; by default the working directory.
    """
    if is_url(origin):
        return origin
    if is_url(base):
        return urljoin(base, origin)
    path = unquote(urlsplit(origin).path) if origin.startswith("file:") else origin
    joined = os.path.join(os.path.dirname(base), path)  # noqa: PTH118, PTH120 - three times as fast, once a document
    return os.path.abspath(joined)  # noqa: PTH100


def is_url(origin: str) -> bool:
    """Tell whether a document's place is an ``http(s)`` URL rather than a path."""
    return _URL.match(origin) is not None


def _check_characters(text: str, reference: str) -> None:
    if found := _UNSAFE.search(text):
        raise ValueError(
            f"Expected the URI or path of a script, found {json.dumps(reference)}, with the character "
            f"{json.dumps(found[0])} in it, which no URI can carry. Remove it."
        )


def _check_scheme(parts: SplitResult, reference: str) -> None:
    if parts.scheme in {"http", "https"}:
        if not parts.hostname:
            raise ValueError(
                f'Expected {parts.scheme}://host/path, found "{reference}", which names no host. Add the host, or drop '
                f'"{parts.scheme}:" if it is a path.'
            )
        if found := _NOT_IN_HOST.search(parts.netloc):
            raise ValueError(
                f'Expected {parts.scheme}://host/path, found "{reference}", with the character {json.dumps(found[0])} '
                "in the host, which no host has. Correct it."
            )
    elif parts.scheme not in {"", "file"}:
        if not parts.netloc and "@" in parts.path.partition("/")[0]:
            raise ValueError(  # the "scheme" may be a user's name
                f'Expected an http, https or file URI, or a path, found "{masked(reference)}", which is none. Write '
                '"https://" before a host, or "./" before a path.'
            )
        hint = f'If it is a path, write "./{reference}".'
        if parts.netloc:
            near = did_you_mean(parts.scheme, _SCHEMES).lstrip()
            hint = near or "Serve the script from one of these, or put it beside this document."
        elif len(parts.scheme) == 1:
            hint = 'A path with a drive letter is written "file:///C:/...", or relative to this document.'
        raise ValueError(
            f'Expected an http, https or file URI, or a path, found the scheme "{parts.scheme}:", which cannot be '
            f"fetched. {hint}"
        )


def _check_rest(parts: SplitResult, reference: str) -> None:
    path = unquote(parts.path)
    if path != parts.path:
        _check_characters(path, reference)
    if path.rpartition("/")[2] in {"", ".", ".."}:
        raise ValueError(
            f'Expected the URI or path of a script, found "{reference}", which names no file. Name the script\'s file.'
        )
    if parts.fragment and not _DIGEST.fullmatch(parts.fragment):
        raise ValueError(
            f'Expected nothing or a digest ("#sha256=" and 64 hex digits) after "#", found "#{parts.fragment}". '
            'Write %23 for a "#" that belongs to the path.'
        )


def _absolute(parts: SplitResult, reference: str, origin: str, *, plain: bool) -> str:
    if parts.scheme in {"http", "https"}:
        return f"{parts.scheme}://{parts.netloc}{parts.path if plain else _escaped(parts.path, _NOT_IN_PATH)}"
    if not parts.scheme and is_url(origin):
        joined = urlsplit(urljoin(origin, f"//{parts.netloc}{parts.path}" if parts.netloc else parts.path))
        return f"{joined.scheme}://{joined.netloc}{_escaped(joined.path, _NOT_IN_PATH)}"
    if parts.netloc not in {"", "localhost"}:
        raise ValueError(
            f'Expected a file of this machine, found "{reference}", which names the host "{parts.netloc}". Write '
            "file:///path, or a path relative to this document."
        )
    path = unquote(parts.path)
    if not path.startswith("/"):
        if is_url(origin):
            raise ValueError(
                f'Expected file:///path, found "{reference}": a relative file has no meaning in a document that came '
                f'from {origin}. Drop "file:" to name a script beside the document.'
            )
        path = f"{os.path.dirname(origin)}/{path}"  # noqa: PTH120
    return f"file://{quote(os.path.normpath(path).replace('//', '/'), safe=_PATH_SAFE)}"


def _decode(text: str) -> str:
    if "%" not in text:
        return text
    # Bytes that are not UTF-8 stay escaped, as they do in the existing implementation.
    return _UNDECODABLE.sub(lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", unquote(text, errors="surrogateescape"))
