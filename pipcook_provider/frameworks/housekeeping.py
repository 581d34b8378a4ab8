"""What is in the cache of frameworks: listing, checking, removing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pipcook_provider.errors import FrameworkError, FrameworkNotFound
from pipcook_provider.frameworks.ensure import framework_cache
from pipcook_provider.frameworks.framework import Manifest
from pipcook_provider.frameworks.report import Report
from pipcook_provider.settings import Settings
from pipcook_provider.store.cache import Damage, Entry, Pruned


@dataclass(frozen=True, slots=True)
class CachedFramework:
    """A framework in the cache.

    :param name: of the cache's entry.
    :param reference: ``name@version``.
    :param variant: ``cpu`` or ``gpu``, where it tells them apart.
    :param platform: what it was built for, where it says so.
    :param size: bytes of its files.
    :param files: number of its files.
    :param source: where it came from.
    :param created: when it was put here, UTC.
    :param used: when it was last used, UTC.
    :param is_used: whether a living process uses it now, or what may outlive one (:func:`keep_framework`).
    """

    name: str
    reference: str
    variant: str | None
    platform: str | None
    size: int
    files: int
    source: str
    created: datetime
    used: datetime
    is_used: bool
    path: str

    @property
    def asked(self) -> str:
        """What to ask for to get it again: its name, or the URL or path that it came from."""
        return self.reference if self.name.startswith(f"{self.reference.partition('@')[0]}@") else self.source

    def describe(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "name": self.name,
            "reference": self.reference,
            "variant": self.variant,
            "platform": self.platform,
            "size": self.size,
            "files": self.files,
            "source": self.source,
            "created": self.created.isoformat(),
            "used": self.used.isoformat(),
            "isUsed": self.is_used,
            "path": self.path,
        }


def list_frameworks(settings: Settings) -> list[CachedFramework]:
    """Return the frameworks in the cache, by name; one that cannot be read is shown as damaged."""
    cache = framework_cache(settings)
    return [_describe(entry, *cache.last_use(entry)) for entry in cache.entries()]


def verify_frameworks(settings: Settings, names: Sequence[str], report: Report) -> dict[str, list[Damage]]:
    """Compare the files of cached frameworks with their records.

    :param names: of the entries, or how they begin; all where empty.
    :returns: what is damaged, by the name of the entry.
    :raises FrameworkNotFound: nothing in the cache has one of the names.
    :raises CacheError: a file cannot be read.
    """
    cache = framework_cache(settings)
    found = {entry.name: _reference(entry) for entry in cache.entries(complete=False)}

    def answers(entry: str, name: str) -> bool:
        return entry.startswith(name) or found[entry].startswith(name)

    for name in names:
        if not any(answers(entry, name) for entry in found):
            raise FrameworkNotFound(
                f"expected a framework in the cache that is called {name} or begins so, found none. It has "
                f"{', '.join(sorted(found.values())) or 'nothing'}. Correct the name."
            )
    chosen = [
        entry
        for entry in cache.entries(complete=False)
        if not names or any(answers(entry.name, name) for name in names)
    ]

    def progress(entry: Entry, done: int, total: int) -> None:
        report.progress(f"Reading {entry.name}", done, total)

    return {
        entry.name: cache.verify(entry, lambda done, total, entry=entry: progress(entry, done, total))  # type: ignore[misc]
        for entry in chosen
    }


def prune_frameworks(
    settings: Settings, *, older_than: timedelta | None = None, keep: int | None = None, dry_run: bool = False
) -> list[Pruned]:
    """Remove frameworks that are not used, and what interrupted work has left; as :meth:`.Cache.prune`."""
    return framework_cache(settings).prune(older_than=older_than, keep=keep, dry_run=dry_run)


def keep_framework(path: Path, seconds: float) -> None:
    """Count what lies in a folder as used for so long after this process is gone, however it goes: nobody removes it.

    For what outlives the process that started it, such as a container. Nothing is done for a framework that is not in a
    cache, or in one that cannot be written.
    """
    if entry := Entry.around(path):
        entry.keep(seconds)


def _describe(entry: Entry, used: datetime, is_used: bool) -> CachedFramework:
    try:
        manifest = Manifest.read(entry.path)
        variant, platform = manifest.variant, manifest.platform
    except FrameworkError:
        variant, platform = None, None
    return CachedFramework(
        name=entry.name,
        reference=_reference(entry),
        variant=variant,
        platform=platform,
        size=entry.size,
        files=entry.files,
        source=entry.source,
        created=entry.created,
        used=used,
        is_used=is_used,
        path=str(entry.path),
    )


def _reference(entry: Entry) -> str:
    try:
        manifest = Manifest.read(entry.path)
    except FrameworkError:
        return f"{entry.name} (damaged)"
    return f"{manifest.name}@{manifest.version}"
