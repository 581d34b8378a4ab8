"""Frameworks from a mirror: a tree of zips that any web server or folder can serve.

File names are Pipcook's, without the part about Node::

    {mirror}/py311/tensorflow%402.21-linux-x64.zip
    {mirror}/py311/tensorflow%402.21-linux-x64-gpu.zip
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from pipcook_provider.archive import extract_zip
from pipcook_provider.errors import FetchError, FetchNotFound
from pipcook_provider.frameworks.framework import Manifest
from pipcook_provider.frameworks.platform import Platform
from pipcook_provider.settings import Settings
from pipcook_provider.store.fetch import download, shown

Report = Callable[[str], None]


def mirror_files(name: str, versions: Iterable[str], platform: Platform, variants: Iterable[str | None]) -> list[str]:
    """Return the paths below a mirror's address at which a framework may be, in the order to try them.

    :param versions: spellings of the version, such as ``2.21.0`` and ``2.21``.
    :param variants: ``gpu`` asks for the GPU variant's file, anything else for the plain one.
    """
    stems = [quote(f"{name}@{version}", safe="") for version in dict.fromkeys(versions)]
    return [
        f"{platform.python}/{stem}-{platform.os}-{platform.arch}{'-gpu' if variant == 'gpu' else ''}.zip"
        for variant in variants
        for stem in stems
    ]


def fetch_from_mirrors(
    files: list[str], directory: Path, settings: Settings, accepts: Callable[[Manifest], bool], report: Report
) -> list[str] | None:
    """Unpack the first file that a mirror has and that is accepted.

    A mirror that fails does not hide the next one; but where none delivers, its failure is raised: whether it has the
    file is not known then, and another source must not silently take its place.

    :returns: None when done, else the addresses that were tried.
    :raises FetchError: no mirror delivered, and one of them failed.
    """
    tried: list[str] = []
    failure: FetchError | None = None
    for mirror in settings.framework_mirror:
        for file in files:
            uri = f"{_base(mirror)}/{file}"
            try:
                unpack_uri(uri, directory, _trusting(settings, mirror), report)
                if accepts(Manifest.read(directory)):
                    return None
                tried.append(f"{shown(uri)} (another framework is in it)")
            except FetchNotFound:
                tried.append(shown(uri))
            except FetchError as exc:
                report(f"The mirror {shown(mirror)} failed: {exc}")
                failure = failure or exc
            _clear(directory)
    if failure is not None:
        raise failure
    return tried


def unpack_uri(uri: str, directory: Path, settings: Settings, report: Report) -> None:
    """Fetch a framework's zip and unpack it into a directory.

    :raises FetchError: it cannot be fetched, or is no zip that may be unpacked.
    """
    archive = directory / ".archive.zip"
    download(uri, archive, settings, on_progress=_Steps(f"Downloading {shown(uri)}", report))
    extract_zip(archive, directory)
    archive.unlink()


class _Steps:
    """Reports a download at its start and at every quarter of it."""

    def __init__(self, label: str, report: Report) -> None:
        self._label, self._report, self._quarter = label, report, -1

    def __call__(self, done: int, total: int | None) -> None:
        quarter = 4 * done // total if total else 0
        if quarter != self._quarter:
            self._quarter = quarter
            self._report(f"{self._label}: {25 * quarter} % of {total / 2**20:.1f} MB" if total else self._label)


def _base(mirror: str) -> str:
    return (mirror if "://" in mirror else Path(mirror).expanduser().absolute().as_uri()).rstrip("/")


def _trusting(settings: Settings, mirror: str) -> Settings:
    """A mirror is configured by whoever configures the allowed origins, and need not be named twice."""
    if not settings.allowed_origins:
        return settings
    return replace(settings, allowed_origins=(*settings.allowed_origins, mirror))


def _clear(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.mkdir()
