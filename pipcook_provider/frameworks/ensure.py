"""From ``options.framework`` to a framework on this machine.

A name is looked up in the cache, then on the mirrors, then built from a recipe (:mod:`.named`). A URL is downloaded
once. A zip's path is unpacked once per content; a directory is used where it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from pipcook_provider.archive import extract_zip
from pipcook_provider.errors import FrameworkNotFound
from pipcook_provider.frameworks.framework import Framework, Manifest
from pipcook_provider.frameworks.mirror import Report, unpack_uri
from pipcook_provider.frameworks.named import NamedFramework
from pipcook_provider.frameworks.platform import Platform
from pipcook_provider.frameworks.reference import NameReference, PathReference, UrlReference, parse_reference
from pipcook_provider.settings import Settings
from pipcook_provider.store.cache import Cache
from pipcook_provider.store.fetch import check_origin

_report = logging.getLogger(__name__).info


def ensure_framework(
    reference: str,
    settings: Settings,
    *,
    gpu: bool = False,
    origin: str | None = None,
    refresh: bool = False,
    report: Report = _report,
) -> Framework:
    """Return the framework that a reference names, after fetching or building it where it is not there yet.

    :param reference: ``name@version``, ``name``, the URL of a zip, or the path of a zip or directory.
    :param gpu: whether the GPU variant is wanted; ignored with a warning where there is no CUDA.
    :param origin: path or URL of the document, which relative paths are relative to.
    :param refresh: fetch or build it again although it is cached.
    :param report: told what is done, a line at a time; by default the log.
    :raises FrameworkNotFound: nothing answers to the reference.
    :raises FrameworkError: the reference or the framework cannot be used, or its packages cannot be installed.
    :raises FetchError: a download failed.
    :raises CacheError: the cache cannot be written.
    """

    def provide(key: str, build: Callable[[Path], None]) -> Path:
        def on_wait() -> None:
            report(f"Another process is getting the framework {reference}; waiting for it.")

        return _cache(settings).ensure(key, build, refresh=refresh, on_wait=on_wait)

    match parse_reference(reference, origin):
        case NameReference() as name:
            named = NamedFramework.look_up(name, _wanted(gpu, report), _cache(settings), settings, report)
            if named.cached and not refresh:
                return named.cached
            return named.load(provide(named.key, named.obtain))
        case UrlReference(url):
            check_origin(url, settings)
            return Framework.load(provide(url, lambda folder: _unpack_url(url, folder, settings, report)), url)
        case PathReference(path):
            check_origin(path.as_uri(), settings)
            if path.is_dir():
                return Framework.load(path, str(path))
            return Framework.load(provide(_zip_key(path), lambda folder: _unpack_path(path, folder)), str(path))


def pin_framework(reference: str, settings: Settings, *, gpu: bool = False, origin: str | None = None) -> str:
    """Return a reference that finds the same framework from anywhere and tomorrow; nothing is fetched.

    A name gets the newest version that the cache or the recipes know; one that only a mirror can know stays as it is
    written. Relative paths become absolute.

    :raises FrameworkNotFound: a name without a version that neither cache nor recipes know.
    :raises FrameworkError: the reference cannot be used.
    """
    match parse_reference(reference, origin):
        case NameReference() as name:
            named = NamedFramework.look_up(name, _wanted(gpu, _report), _cache(settings), settings, _report)
            return str(named.exact)
        case UrlReference(url):
            return url
        case PathReference(path):
            return str(path)


def _cache(settings: Settings) -> Cache:
    return Cache(settings.home / "framework")


def _wanted(gpu: bool, report: Report) -> str:
    if gpu and not Platform.current().has_cuda:
        report("Warning: macOS has no CUDA, so options.train.gpu is ignored and the CPU is used.")
        return "cpu"
    return "gpu" if gpu else "cpu"


def _zip_key(path: Path) -> str:
    if not path.is_file():
        raise FrameworkNotFound(
            f"The framework {path} was expected to be a zip or a directory, but there is none, so it cannot be used. "
            "Correct options.framework; a relative path is relative to the document."
        )
    stat = path.stat()
    return f"{path}?size={stat.st_size}&mtime={stat.st_mtime_ns}"


def _unpack_url(url: str, directory: Path, settings: Settings, report: Report) -> None:
    unpack_uri(url, directory, settings, report)
    Manifest.read(directory)


def _unpack_path(path: Path, directory: Path) -> None:
    extract_zip(path, directory)
    Manifest.read(directory)
