"""From ``options.framework`` to a framework on this machine.

A name is looked up in the cache, then on the mirrors, then built from a recipe (:mod:`.named`). A URL is downloaded
once. A zip's path is unpacked once per content; a directory is used where it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from pipcook_provider.errors import FetchError, FrameworkError, FrameworkNotFound
from pipcook_provider.frameworks.framework import Framework
from pipcook_provider.frameworks.mirror import Unpacking, unpack_uri, unpack_zip
from pipcook_provider.frameworks.named import ensure_named
from pipcook_provider.frameworks.pin import FrameworkPin
from pipcook_provider.frameworks.platform import Platform
from pipcook_provider.frameworks.reference import NameReference, PathReference, UrlReference, parse_reference
from pipcook_provider.frameworks.report import LogReport, Report
from pipcook_provider.frameworks.sources import Search
from pipcook_provider.settings import Settings
from pipcook_provider.store.cache import Built, Cache, Damage
from pipcook_provider.store.fetch import check_origin, shown


def ensure_framework(  # noqa: PLR0913 - wishes that have nothing to do with each other, each by its name
    reference: str,
    settings: Settings,
    *,
    gpu: bool = False,
    refresh: bool = False,
    verify: bool = False,
    pin: FrameworkPin | None = None,
    report: Report | None = None,
    platform: Platform | None = None,
) -> Framework:
    """Return the framework that a reference names, after fetching or building it where it is not there yet.

    It counts as used by this process until that exits: nobody removes it meanwhile.

    :param reference: ``name@version``, ``name`` for the newest, the URL of a zip, or the path of a zip or directory.
    :param gpu: whether the GPU variant is wanted; ignored with a warning where the platform has no CUDA.
    :param refresh: fetch or build it again although it is cached; those who use the cached one keep it.
    :param verify: compare each file of a cached one with its record, and get it anew where one is missing or changed.
    :param pin: what a lock says that it must be.
    :param report: told what is done; by default the log.
    :param platform: what it is for; by default this process's.
    :raises FrameworkNotFound: nothing answers to the reference.
    :raises FrameworkError: the reference or the framework cannot be used, or its packages cannot be installed.
    :raises IntegrityError: what was fetched is damaged, or not what its digest or the lock says.
    :raises FetchError: a download failed.
    :raises CacheError: the cache cannot be written.
    """
    report = report or LogReport()
    platform = platform or Platform.current()
    cache = framework_cache(settings)
    wanted = _wanted(gpu, platform, report)
    parsed = parse_reference(reference)
    if isinstance(parsed, NameReference):
        return ensure_named(
            Search(
                asked=parsed,
                wanted=wanted,
                cache=cache,
                settings=settings,
                report=report,
                platform=platform,
                pin=pin,
                refresh=refresh,
                verify=verify,
            )
        )

    def provide(key: str, unpack: Callable[[Path], Built]) -> Path:
        def build(folder: Path) -> Built:
            built = unpack(folder)
            Framework.load(folder, built.source, platform=platform)
            return built

        def tell_waiting() -> None:
            report.info(f"Another process is getting the framework {reference}; waiting for it.")

        def tell_damage(damage: list[Damage]) -> None:
            report.warning(f"{reference} is damaged ({len(damage)} file(s), such as {damage[0].path}). It is got anew.")

        entry = cache.ensure(key, build, refresh=refresh, verify=verify, on_wait=tell_waiting, on_damage=tell_damage)
        return entry.path

    match parsed:
        case UrlReference(url):
            check_origin(url, settings)
            unpacking = Unpacking(cache.download(shown(url)), report)
            name = shown(url)
            folder = provide(name, lambda folder: unpack_uri(url, folder, settings, unpacking))
            framework = Framework.load(folder, name, platform=platform)
        case PathReference(path):
            check_origin(path.as_uri(), settings)
            is_unpacked = path.is_dir()
            folder = path if is_unpacked else provide(_zip_key(path), lambda folder: _unpack_path(path, folder, report))
            framework = Framework.load(folder, str(path), platform=platform)
    if pin:
        pin.check(framework)
    return framework


def build_framework(
    reference: str,
    settings: Settings,
    *,
    gpu: bool = False,
    refresh: bool = False,
    report: Report | None = None,
    platform: Platform | None = None,
) -> Framework:
    """Return a framework that was built here from the package registries, after building it where it was not.

    :param reference: ``name@version``, or ``name`` for the newest.
    :param platform: what it is for; by default this process's.
    :raises FrameworkNotFound: there is no recipe of that name.
    :raises FrameworkBuildError: its packages cannot be installed.
    :raises FrameworkError: the reference is no name.
    """
    report = report or LogReport()
    parsed = parse_reference(reference)
    if not isinstance(parsed, NameReference):
        raise FrameworkError(
            f"expected the name of a framework, such as tensorflow@2.21, found {reference}: only recipes are built, and "
            "they have names. Correct it."
        )
    platform = platform or Platform.current()
    search = Search(
        asked=parsed,
        wanted=_wanted(gpu, platform, report),
        cache=framework_cache(settings),
        settings=settings,
        report=report,
        platform=platform,
        refresh=refresh,
        use_mirrors=False,
    )
    return ensure_named(search)


def absolute_reference(reference: str, origin: str) -> str:
    """Return a reference that means the same from anywhere.

    :param origin: path or URL of the document, which relative paths are relative to.
    :raises FrameworkError: the reference cannot be used.
    """
    match parse_reference(reference, origin):
        case NameReference() as name:
            return str(name)
        case UrlReference(url):
            return url
        case PathReference(path):
            return str(path)


def framework_cache(settings: Settings) -> Cache:
    """Return the cache that frameworks live in."""
    return Cache(settings.home / "framework")


def platform_key(*, gpu: bool, platform: Platform | None = None) -> str:
    """Return what a lock knows a framework for a platform by: ``py311-linux-x64``, or ``py311-linux-x64-gpu``.

    :param platform: by default this process's.
    """
    platform = platform or Platform.current()
    return f"{platform.key}-gpu" if gpu and platform.has_cuda else platform.key


def _wanted(gpu: bool, platform: Platform, report: Report) -> str:
    if gpu and not platform.has_cuda:
        report.warning("macOS has no CUDA, so options.train.gpu is ignored and the CPU is used.")
        return "cpu"
    return "gpu" if gpu else "cpu"


def _zip_key(path: Path) -> str:
    if not path.is_file():
        raise FrameworkNotFound(
            f"The framework {path} was expected to be a zip or a directory, but there is none, so it cannot be used. "
            "Correct options.framework; a relative path is relative to the document."
        )
    stat = path.stat()
    return f"{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ctime_ns}-{stat.st_ino}:{path}"


def _unpack_path(path: Path, directory: Path, report: Report) -> Built:
    try:
        with path.open("rb") as archive:
            digest = hashlib.file_digest(archive, "sha256").hexdigest()
    except OSError as exc:
        raise FetchError(
            f"The framework {path} could not be read: {exc.strerror or exc}. Make it readable for this user.",
            retryable=False,
        ) from exc
    return unpack_zip(path, directory, str(path), digest, report)
