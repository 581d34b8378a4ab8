"""Frameworks from a mirror: a tree of zips that any web server or folder can serve.

The names of the files are Pipcook's (:mod:`.platform`)::

    {mirror}/py311/tensorflow%402.21.0-linux-x64.zip
    {mirror}/py311/tensorflow%402.21.0-linux-x64.zip.sha256     optional: its digest
    {mirror}/py311/index.json                                   optional: which versions there are

``pipcook framework build --output`` writes all three. Without an index a mirror is asked for the files by their names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

from pipcook_provider.archive import extract_zip
from pipcook_provider.errors import FetchError, FetchNotFound, IntegrityError
from pipcook_provider.frameworks.report import Report
from pipcook_provider.settings import Settings
from pipcook_provider.store.cache import Built
from pipcook_provider.store.fetch import download, read_text, shown

INDEX = "index.json"
_DIGEST = re.compile(r"\s*([0-9a-fA-F]{64})\b")
_LABEL = 40
_HOST = re.compile(r"[\w.-]+:\d+")
_HEX = re.compile(r"[0-9a-f]{64}")
_DIGEST_LIMIT = 4096
_INDEX_LIMIT = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Offer:
    """A zip that a mirror has, or may have.

    :param uri: where it is.
    :param version: as the mirror's index or the file's name says; the zip itself may be more exact.
    :param sha256: its digest (hex), where it is known.
    """

    uri: str
    version: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Mirror:
    """A mirror, and how to speak with it.

    :param address: base address, ``http``, ``https`` or ``file``, or a path.
    :param settings: those of this machine.
    :param optional: whether its failure is only worth a warning.
    """

    address: str
    settings: Settings
    optional: bool = False

    @property
    def base(self) -> str:
        """The address as a URI, without a slash at its end."""
        address = self.address if "://" in self.address else Path(self.address).expanduser().absolute().as_uri()
        return address.rstrip("/")

    def offer(self, path: str, version: str) -> Offer:
        """Return the offer of a file by its path below the mirror's address, whether it is there or not."""
        return Offer(f"{self.base}/{path}", version)

    def index(self, folder: str) -> list[IndexEntry] | None:
        """Return what the mirror's index of a folder lists; None where it has no index.

        :raises FetchError: it cannot be had, or is no index.
        """
        self._check_folder()
        uri = f"{self.base}/{folder}/{INDEX}"
        try:
            text = read_text(uri, self.trusting, limit=_INDEX_LIMIT)
        except FetchNotFound:
            return None
        try:
            return [IndexEntry.read(entry, f"{self.base}/{folder}") for entry in json.loads(text)["frameworks"]]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise IntegrityError(
                f"{shown(uri)} was expected to be the index of a framework mirror, but cannot be read as one: "
                f"{type(exc).__name__}: {exc}. Write it again with pipcook framework build --output, or delete it."
            ) from exc

    def _check_folder(self) -> None:
        parts = urlsplit(self.base)
        if parts.scheme == "file" and not Path(url2pathname(parts.path)).is_dir():
            hint = f" Did you mean http://{self.address}?" if _HOST.match(self.address) else ""
            raise FetchError(
                f"The framework mirror {self.address!r} was expected to be a folder on this machine, or an http, https or "
                f"file address, but there is no such folder.{hint} Mount the folder, or correct the mirror's address."
            )

    @property
    def trusting(self) -> Settings:
        """The settings, with this mirror allowed: whoever configures it need not name it among the origins as well."""
        if not self.settings.allowed_origins or self.optional:
            return self.settings
        return replace(self.settings, allowed_origins=(*self.settings.allowed_origins, self.base))

    def fetch(self, offer: Offer, directory: Path, archive: Path, report: Report) -> Built:
        """Unpack a file of the mirror into a directory, after comparing it with the digest that the mirror states.

        :param archive: where the zip lies meanwhile; a file that nobody else writes.
        :raises FetchNotFound: the mirror does not have it.
        :raises IntegrityError: it is another one than the mirror states.
        :raises FetchError: it cannot be had.
        """
        uri = f"{offer.uri}#sha256={offer.sha256}" if offer.sha256 else offer.uri
        stated = self._stated_digest if offer.sha256 is None else None
        return unpack_uri(uri, directory, self.trusting, Unpacking(archive, report, stated))

    def _stated_digest(self, uri: str) -> str | None:
        try:
            text = read_text(f"{uri}.sha256", self.trusting, limit=_DIGEST_LIMIT)
        except FetchNotFound:
            return None
        found = _DIGEST.match(text)
        if found is None:
            raise IntegrityError(
                f"{shown(uri)}.sha256 was expected to begin with the 64 hexadecimal digits of a SHA-256 digest, but it "
                f"does not. {shown(uri)} was not used. Write the digest again, or delete that file."
            )
        return found[1].lower()


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A line of a mirror's index.

    :param platform: as :attr:`.Platform.binaries`.
    """

    name: str
    platform: str
    variant: str | None
    offer: Offer

    @property
    def version(self) -> str:
        """The exact version."""
        return self.offer.version

    @classmethod
    def read(cls, entry: Mapping[str, Any], folder: str) -> IndexEntry:
        """Read an entry of the index of a folder.

        :raises ValueError: it is none.
        """
        file = entry["file"]
        if "/" in file or "\\" in file or not _HEX.fullmatch(entry["sha256"]):
            raise ValueError(f"{entry} names no file beside the index with its digest")
        if not all(isinstance(entry[key], str) for key in ("name", "version", "platform")):
            raise ValueError(f"{entry} has no texts as name, version and platform")
        offer = Offer(f"{folder}/{quote(file)}", entry["version"], entry["sha256"])
        return cls(entry["name"], entry["platform"], entry.get("variant"), offer)


@dataclass(frozen=True, slots=True)
class Unpacking:
    """How a zip is unpacked: where it lies meanwhile, who is told, and who states a digest.

    :param archive: a file that nobody else writes; what of it arrived stays there when the download fails.
    :param stated: returns the digest that is stated for a URI elsewhere, if any; asked when the zip is there.
    """

    archive: Path
    report: Report
    stated: Callable[[str], str | None] | None = None


def unpack_uri(uri: str, directory: Path, settings: Settings, unpacking: Unpacking) -> Built:
    """Fetch a framework's zip and unpack it into a directory.

    What of a download arrived is kept when it fails, or when this process dies, and the next call goes on from there.

    :raises FetchError: it cannot be fetched, or is no zip that may be unpacked.
    """
    name = shown(uri).partition("#")[0]
    archive = unpacking.archive
    label = f"Downloading {_short(name)}"
    begun = False

    def progress(done: int, total: int | None) -> None:
        nonlocal begun
        if not begun:
            begun = True
            unpacking.report.info(f"Downloading {name}")
        unpacking.report.progress(label, done, total)

    digest = download(
        uri,
        archive,
        settings,
        resumable=True,
        on_progress=progress,
    )
    try:
        _compare(name, digest, unpacking.stated(uri) if unpacking.stated else None)
        return unpack_zip(archive, directory, name, digest, unpacking.report)
    finally:
        archive.unlink(missing_ok=True)


def unpack_zip(archive: Path, directory: Path, source: str, digest: str, report: Report) -> Built:
    """Unpack a framework's zip into a directory.

    :param source: where it is from, as a person may read it.
    :param digest: SHA-256 (hex) of the zip.
    :raises IntegrityError: it is no zip that may be unpacked.
    """
    label = f"Unpacking {_short(source)}"
    digests = extract_zip(archive, directory, on_progress=lambda done, total: report.progress(label, done, total))
    return Built(source, digest, digests)


def _compare(name: str, digest: str, stated: str | None) -> None:
    if stated is not None and stated != digest:
        raise IntegrityError(
            f"{name} was expected to have the SHA-256 digest {stated}, which {name}.sha256 states, but what arrived has "
            f"{digest}. It was deleted for safety. Either it was changed on its way, or the mirror's two files do not "
            "belong together: have the mirror's keeper write them again."
        )


def _short(name: str) -> str:
    """Return a file's name as it fits beside a bar."""
    file = unquote(name.rpartition("/")[2]) or name
    return file if len(file) <= _LABEL else f"{file[: _LABEL - 1]}…"
