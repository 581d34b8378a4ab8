"""The three forms of ``options.framework``: ``name@version``, the URL of a zip, the path of a zip or directory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit
from urllib.request import url2pathname

from pipcook_provider.errors import FrameworkError

_NAME = re.compile(r"(?P<name>[a-z0-9][a-z0-9._-]{0,59})(@(?P<version>[0-9][0-9a-z.+-]{0,39}))?")
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+-]+):")
_PARTS = re.compile(r"([^\d]+)(\d*)")
_RELEASE = re.compile(r"(?P<release>\d+(\.\d+)*)(?P<rest>.*)")


@dataclass(frozen=True, slots=True)
class NameReference:
    """``name`` or ``name@version``; the version may be the beginning of one: ``2.21`` stands for any 2.21.x."""

    name: str
    version: str | None

    def __str__(self) -> str:
        return f"{self.name}@{self.version}" if self.version else self.name

    def accepts(self, version: str) -> bool:
        """Return whether a version answers to this reference (``2.21`` and ``2.21.0`` both accept ``2.21.0``)."""
        if self.version is None or self.version == version:
            return True
        wanted, rest = _split(self.version)
        found, found_rest = _split(version)
        padded = found + (0,) * (len(wanted) - len(found))
        return not rest and not _is_early(found_rest) and padded[: len(wanted)] == wanted


@dataclass(frozen=True, slots=True)
class UrlReference:
    """The absolute ``http`` or ``https`` URL of a framework's zip, as it was given."""

    url: str


@dataclass(frozen=True, slots=True)
class PathReference:
    """The absolute path of a framework's zip or directory."""

    path: Path


Reference = NameReference | UrlReference | PathReference


def parse_reference(text: str, origin: str | None = None) -> Reference:
    """Read an ``options.framework``.

    A bare word is a name; a path has a separator in it, starts with ``.`` or ``~``, or ends in ``.zip``.

    :param origin: path or URL of the document; relative paths are relative to it, without one to the working directory.
    :raises FrameworkError: none of the three forms.
    """
    if (found := _NAME.fullmatch(text)) and not text.endswith(".zip"):
        return NameReference(found["name"], found["version"])
    scheme = _SCHEME.match(text)
    match scheme["scheme"].lower() if scheme else "":
        case "http" | "https":
            return UrlReference(text)
        case "file":
            return PathReference(_local(text))
        case "" if text.startswith((".", "~")) or text.endswith(".zip") or "/" in text or "\\" in text:
            return _relative(text, origin)
    raise FrameworkError(
        f"The framework {text!r} was expected to be name@version (such as tensorflow@2.21, in small letters), the http "
        "or https URL of a zip, or the path of a zip or directory. It is none of them. Correct options.framework."
    )


def version_key(version: str) -> tuple[object, ...]:
    """Return what versions are ordered by: ``2.9 < 2.21.0rc1 < 2.21.0rc10 < 2.21.0 < 2.21.0+local``."""
    release, rest = _split(version)
    while release and release[-1] == 0:
        release = release[:-1]
    parts = tuple((text, int(number or 0)) for text, number in _PARTS.findall(rest))
    return release, not _is_early(rest), parts


def is_early(version: str) -> bool:
    """Return whether a version is none for everybody yet, such as ``2.21.0rc1``."""
    return _is_early(_split(version)[1])


def _split(version: str) -> tuple[tuple[int, ...], str]:
    found = _RELEASE.match(version)
    return (tuple(map(int, found["release"].split("."))), found["rest"]) if found else ((), version)


def _is_early(rest: str) -> bool:
    return bool(rest) and not rest.startswith(("+", ".post"))


def _relative(text: str, origin: str | None) -> Reference:
    if origin and origin.startswith(("http://", "https://")):
        return UrlReference(urljoin(origin, text))
    base = Path() if origin is None else (_local(origin) if origin.startswith("file:") else Path(origin)).parent
    return PathReference(base.joinpath(Path(text).expanduser()).resolve())


def _local(uri: str) -> Path:
    return Path(url2pathname(urlsplit(uri).path)).resolve()
