"""What may go from a cache, and how it goes without disturbing anybody."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, Protocol

from pipcook_provider.store import lease, uses
from pipcook_provider.store.folders import children, newest, remove, tree_size
from pipcook_provider.store.layout import Layout, name_of

Reason = Literal["unused", "size", "superseded", "leftover"]

_DOWNLOAD_AGE = timedelta(days=1).total_seconds()


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed, or would be.

    :param name: name of the entry; of a leftover, its path relative to the cache's root.
    :param reason: ``unused``: not used for so long; ``size``: the cache was too large; ``superseded``: a newer
        generation took its place; ``leftover``: what a process that is gone has left behind.
    :param size: bytes.
    """

    name: str
    reason: Reason
    size: int


class Prunable(Protocol):
    """What is asked of an entry."""

    @property
    def name(self) -> str: ...
    @property
    def generation(self) -> str: ...
    @property
    def is_complete(self) -> bool: ...
    @property
    def created(self) -> datetime: ...
    @property
    def size(self) -> int: ...


class Pruner:
    """One pass over a cache.

    :param dry_run: say what would be removed, and remove nothing.
    """

    def __init__(self, layout: Layout, *, dry_run: bool) -> None:
        self._layout = layout
        self._dry_run = dry_run
        self._pruned: list[Pruned] = []
        self._superseded_size = 0

    def run(self, entries: Iterable[Prunable], older_than: timedelta | None, keep: int | None) -> list[Pruned]:
        """Remove what may go; see :meth:`.cache.Cache.prune`.

        :param entries: all, also incomplete ones.
        :raises OSError: the cache cannot be written.
        """
        # What the dead held goes first: to take a lock or a generation removes it silently.
        self._prune_leases()
        for path in self._layout.trash():
            self._remove(path, "leftover", remove)
        for name in self._names():
            self._prune_rest(name)
        remaining = []
        for entry in sorted(entries, key=self._last_use):
            if not entry.is_complete:
                self._prune_linked(entry, "leftover", tree_size(self._layout.entries / entry.generation))
            elif not (self._is_old(entry, older_than) and self._prune_linked(entry, "unused", entry.size)):
                remaining.append(entry)
        self._prune_to_size(remaining, keep)
        self._prune_downloads()
        self._prune_unused_folders()
        return self._pruned

    def _names(self) -> list[str]:
        generations = [*children(self._layout.entries), *children(self._layout.building)]
        return sorted({name_of(one) for one in generations} - {""})

    def _last_use(self, entry: Prunable) -> float:
        used = uses.last_use(self._layout.uses / entry.generation)
        return used or (entry.created.timestamp() if entry.is_complete else 0.0)

    def _is_old(self, entry: Prunable, older_than: timedelta | None) -> bool:
        return older_than is not None and self._last_use(entry) <= time.time() - older_than.total_seconds()

    def _prune_to_size(self, entries: list[Prunable], keep: int | None) -> None:
        if keep is None:
            return
        total = self._superseded_size + sum(entry.size for entry in entries)
        for entry in entries:
            if total > keep and self._prune_linked(entry, "size", entry.size):
                total -= entry.size

    def _prune_linked(self, entry: Prunable, reason: Reason, size: int) -> bool:
        """Remove what an entry's link points to, and the link, unless somebody uses it or is at work on it."""
        layout, generation = self._layout, entry.generation
        with self._locked(entry.name) as mine:
            if not mine or layout.generation(entry.name) != generation or uses.is_used(layout.uses / generation):
                return False
            if not self._dry_run:
                layout.link(entry.name).unlink(missing_ok=True)
                # Asked again: whoever marked it before the link went has found it, and reads it.
                if not layout.discard_unused(generation):
                    layout.restore_link(generation)
                    return False
            self._pruned.append(Pruned(entry.name, reason, size))
            return True

    def _prune_rest(self, name: str) -> None:
        """Remove what builders of an entry have left, and its earlier generations."""
        layout = self._layout
        with self._locked(name) as mine:
            if not mine:
                return
            for path in layout.unfinished(name):
                self._remove(path, "leftover", layout.discard)
            for generation in layout.superseded(name):
                if uses.is_used(layout.uses / generation):
                    self._superseded_size += tree_size(layout.entries / generation)
                else:
                    self._remove(layout.entries / generation, "superseded", self._discard_generation)

    def _discard_generation(self, path: Path) -> None:
        self._layout.discard_unused(path.name)

    def _prune_leases(self) -> None:
        for name in children(self._layout.locks):
            path = self._layout.locks / name
            if lease.is_dead(path):
                self._remove(path, "leftover", lease.clear)
        for generation in children(self._layout.uses):
            folder = self._layout.uses / generation
            for path in uses.dead_marks(folder):
                self._pruned.append(self._describe(path, "leftover"))
            if not self._dry_run:
                uses.sweep(folder)

    def _prune_unused_folders(self) -> None:
        generations = children(self._layout.entries)
        for generation in children(self._layout.uses):
            folder = self._layout.uses / generation
            # Without its marks: a process may be about to find that what it marks is gone.
            if generation not in generations and not self._dry_run and not children(folder):
                with contextlib.suppress(OSError):
                    folder.rmdir()

    def _prune_downloads(self) -> None:
        layout = self._layout
        if not all(lease.is_dead(layout.locks / name) for name in children(layout.locks)):
            return  # a file does not tell which builder it belongs to
        for name in children(layout.downloads):
            path = layout.downloads / name
            if newest(path) < time.time() - _DOWNLOAD_AGE:
                self._remove(path, "leftover", layout.discard)

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[bool]:
        """Hold an entry's lock, if nobody does; yield whether nobody did."""
        path = self._layout.lock(name)
        if self._dry_run:
            yield lease.is_dead(path)
            return
        held = lease.acquire(path)
        try:
            yield held is not None
        finally:
            if held:
                held.release()

    def _remove(self, path: Path, reason: Reason, how: Callable[[Path], object]) -> None:
        self._pruned.append(self._describe(path, reason))
        if not self._dry_run:
            how(path)

    def _describe(self, path: Path, reason: Reason) -> Pruned:
        return Pruned(path.relative_to(self._layout.root).as_posix(), reason, tree_size(path))
