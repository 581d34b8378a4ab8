"""Directories that are built once and read by many processes.

Layout under a cache's root::

    {name}                          link to .entries/{name}~{id}/content, swapped in one step
    .entries/{name}~{id}/content/   the tree as built; never changed once it is published
    .entries/{name}~{id}/SHA256SUMS digest of each file (:mod:`.contents`)
    .entries/{name}~{id}/entry.json key, source, archive, created, size, files, digest of SHA256SUMS
    .uses/{name}~{id}/{unique}      marks of the processes that use this generation, or of what outlives them (:mod:`.uses`)
    .locks/{name}.lock              held while the entry is built, repaired or pruned (:mod:`.lease`)
    .building/{name}~{id}/          what is being built; what the dead leave is removed by the next builder, or pruned
    .downloads/                     what has arrived so far of archives; whoever builds puts it there

An entry is found without a lock, also on a read-only file system. Each build makes a new generation, so nothing ever
changes under a reader; the old one stays until nobody uses it. Locks save work; correctness rests on the renames and
on the order of steps: a reader marks a generation and then looks whether the link still points to it, and whoever
removes one takes the link away and then looks for marks.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from pipcook_provider.errors import CacheError
from pipcook_provider.store import uses
from pipcook_provider.store.contents import Contents, Damage, OnProgress, find_damage, parse_sums, read_contents
from pipcook_provider.store.folders import remove
from pipcook_provider.store.layout import CONTENT, RECORD, SUMS, Layout, name_of
from pipcook_provider.store.lease import hold
from pipcook_provider.store.prune import Pruned, Pruner

__all__ = ["Built", "Cache", "Damage", "Entry", "Pruned", "safe_name"]

_PLAIN = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,119}")
_FORMAT = 1
_ATTEMPTS = 3


def safe_name(key: str) -> str:
    """Return the name of the entry for ``key``: the key itself where it is plain, else its end and a digest.

    Keys that differ give names that differ, also where the file system ignores case.
    """
    if _PLAIN.fullmatch(key):
        return key
    slug = re.sub(r"[^a-z0-9._@+-]+", "-", key.lower())[-60:].strip("-.")
    return f"{slug}~{hashlib.sha256(key.encode()).hexdigest()[:16]}"


@dataclass(frozen=True, slots=True)
class Built:
    """What whoever built an entry tells of it.

    :param source: where it came from, as a person may read it; without credentials.
    :param archive: sha256 (hex) of the archive that it was unpacked from.
    :param digests: sha256 (hex) by relative path with ``/``, of those files whose digest is known already.
    """

    source: str
    archive: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A generation of an entry. What is recorded about it is read when it is first asked for.

    :param name: the entry's name.
    :param path: the directory with the content; it stays as it is, also when the entry is refreshed.
    """

    name: str
    path: Path

    @classmethod
    def around(cls, path: Path) -> Entry | None:
        """Return the entry whose content lies at a path; ``None`` where that is no entry's content."""
        entry = cls(name_of(path.parent.name), path)
        return entry if entry.is_complete else None

    @property
    def generation(self) -> str:
        return self.path.parent.name

    @property
    def is_complete(self) -> bool:
        """Whether content and records are there, by a few system calls; :meth:`Cache.verify` compares them."""
        try:
            sums = (self.path.parent / SUMS).stat()
            return (sums.st_size > 0) == (self._record["files"] > 0) and self.path.is_dir()
        except (OSError, CacheError):
            return False

    @property
    def key(self) -> str:
        return str(self._record["key"])

    @property
    def source(self) -> str:
        """Where it came from."""
        return str(self._record["source"])

    @property
    def archive(self) -> str | None:
        """The sha256 (hex) of the archive that it was unpacked from, if any."""
        archive = self._record["archive"]
        return None if archive is None else str(archive)

    @property
    def created(self) -> datetime:
        """When it was built, UTC."""
        return datetime.fromisoformat(self._record["created"])

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return int(self._record["size"])

    @property
    def files(self) -> int:
        """Number of files and links."""
        return int(self._record["files"])

    def digests(self) -> dict[str, str]:
        """Return the sha256 (hex) of each file by its relative path with ``/``; of a link, that of its target's text.

        :raises CacheError: the record is missing or damaged.
        """
        path = self.path.parent / SUMS
        try:
            text = path.read_bytes()
            if hashlib.sha256(text).hexdigest() != self._record["sums"]:
                raise ValueError("it is not what was recorded")
            return parse_sums(text)
        except (OSError, ValueError) as exc:
            raise _DamagedError(path, exc) from exc

    def keep(self, seconds: float) -> None:
        """Mark as used by this process, and for so long after it is gone; where nothing can be written, do nothing."""
        layout = Layout(self.path.parents[2])
        if self.path == layout.entries / self.generation / CONTENT:
            uses.mark(layout.uses / self.generation, outlived_by=seconds)

    @cached_property
    def _record(self) -> dict[str, Any]:
        path = self.path.parent / RECORD
        try:
            record = json.loads(path.read_bytes())
            if not isinstance(record, dict) or record.get("format") != _FORMAT or not isinstance(record["files"], int):
                raise ValueError(f"it is not a record of format {_FORMAT}")
            if missing := {"key", "source", "archive", "created", "size", "sums"} - record.keys():
                raise ValueError(f"it has no {', '.join(sorted(missing))}")
            datetime.fromisoformat(record["created"])
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise _DamagedError(path, exc) from exc
        return record


def _silent() -> None:
    pass


def _ignore(damage: list[Damage]) -> None:
    pass


class Cache:
    """Directories by key, each built by whoever needs it first.

    :param root: folder of the cache; created when the first entry is built.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._layout = Layout(root)

    def download(self, key: str) -> Path:
        """Return where an archive for an entry may lie while the entry is built; nobody else writes there then.

        Pruning removes what is older than a day while nobody builds anything.
        """
        return self._layout.downloads / f"{safe_name(key)}.zip"

    def find(self, key: str) -> Entry | None:
        """Return the complete entry for ``key``, marked as used by this process until it exits; else ``None``.

        No lock is taken. On a read-only file system no mark is made.
        """
        while True:
            entry = self._current(safe_name(key))
            if entry is None or not entry.is_complete:
                return None
            uses.mark(self._layout.uses / entry.generation)
            if self._layout.generation(entry.name) == entry.generation:
                return entry

    def entries(self, *, complete: bool = True) -> Iterator[Entry]:
        """Yield the entries, by name; none is marked as used.

        :param complete: only those that :meth:`find` would find; else also those of which parts are missing.
        """
        for name in self._layout.names():
            entry = self._current(name)
            if entry is not None and (entry.is_complete or not complete):
                yield entry

    def ensure(
        self,
        key: str,
        build: Callable[[Path], Built],
        *,
        refresh: bool = False,
        verify: bool = False,
        on_wait: Callable[[], None] = _silent,
        on_damage: Callable[[list[Damage]], None] = _ignore,
    ) -> Entry:
        """Return the entry for ``key``, built by ``build`` if nobody has built it yet; it is marked as by :meth:`find`.

        :param build: fills the empty directory that it is given; what it raises is passed on and leaves no entry.
        :param refresh: build although there is an entry. Those who read the old generation keep it.
        :param verify: compare the files of an entry that is there with their digests; build anew where they differ.
        :param on_wait: called once when another process is building this entry.
        :param on_damage: told the damage before the entry is built anew because of it.
        :raises CacheError: the cache cannot be read or written.
        """
        name = safe_name(key)
        attempts = _ATTEMPTS
        try:
            unwanted, damage = self._damaged(name) if verify and not refresh else (None, [])
            while True:
                if not (refresh or unwanted) and (entry := self.find(key)):
                    return entry
                try:
                    with hold(self._layout.lock(name), on_wait):
                        current = self._current(name)
                        if current and current.generation == unwanted:
                            on_damage(damage)
                        if refresh or current is None or not current.is_complete or current.generation == unwanted:
                            self._build(name, key, build)
                        # Found while the lock is held, so that nobody prunes what nobody has marked yet.
                        if entry := self.find(key):
                            return entry
                    refresh, unwanted = False, None
                except _TakenOverError:
                    attempts -= 1
                    if not attempts:
                        raise
        except OSError as exc:
            raise _unusable(self._layout.link(name), exc) from exc

    @contextlib.contextmanager
    def alone(self, key: str, on_wait: Callable[[], None] = _silent) -> Iterator[None]:
        """Let nobody else into this block for the same key meanwhile: whoever waits finds what was done here.

        :param key: of what is done; no entry's.
        :param on_wait: called once when somebody else is in it.
        :raises CacheError: the cache cannot be written.
        """
        name = safe_name(key)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(hold(self._layout.lock(name), on_wait))
            except OSError as exc:
                raise _unusable(self._layout.link(name), exc) from exc
            yield

    def verify(self, entry: Entry, on_progress: OnProgress | None = None) -> list[Damage]:
        """Compare the files of an entry with their digests; files that came later are no damage.

        :param on_progress: called with the bytes that were read and are to be read.
        :raises CacheError: a file may not be read.
        """
        try:
            return find_damage(entry.path, entry.digests(), on_progress)
        except _DamagedError as exc:
            return [exc.damage]
        except OSError as exc:
            raise CacheError(
                f"{exc.filename or entry.path} could not be read: {exc.strerror or exc}. Whether {entry.name} is whole "
                "is not known. Make its files readable for this user, and try again."
            ) from exc

    def last_use(self, entry: Entry) -> tuple[datetime, bool]:
        """Return when an entry was last used (UTC), and whether it is used now.

        :raises CacheError: it was never used, and its record of when it was built is missing or damaged.
        """
        folder = self._layout.uses / entry.generation
        used = uses.last_use(folder)
        return datetime.fromtimestamp(used, UTC) if used else entry.created, uses.is_used(folder)

    def prune(self, *, older_than: timedelta | None, keep: int | None, dry_run: bool = False) -> list[Pruned]:
        """Remove entries that nobody uses, and always what was left by processes that are gone.

        :param older_than: entries whose last use is longer ago are removed; ``None``: none for their age.
        :param keep: bytes that may stay; the least recently used entries go first. ``None``: none for their size.
        :param dry_run: say what would be removed, and remove nothing.
        :raises CacheError: the cache cannot be written.
        """
        try:
            return Pruner(self._layout, dry_run=dry_run).run(self.entries(complete=False), older_than, keep)
        except OSError as exc:
            raise CacheError(
                f"{self.root} could not be pruned: {exc.strerror or exc} ({exc.filename}). What was removed so far is "
                "gone; all that is left is usable. Make the folder writable for this user, and try again."
            ) from exc

    def _current(self, name: str) -> Entry | None:
        generation = self._layout.generation(name)
        return None if generation is None else Entry(name, self._layout.entries / generation / CONTENT)

    def _damaged(self, name: str) -> tuple[str | None, list[Damage]]:
        entry = self._current(name)
        damage = self.verify(entry) if entry else []
        return (entry.generation if entry and damage else None), damage

    def _build(self, name: str, key: str, build: Callable[[Path], Built]) -> None:
        layout = self._layout
        layout.sweep(name)
        staging = layout.building / f"{name}~{secrets.token_hex(4)}"
        content = staging / CONTENT
        content.mkdir(parents=True)
        try:
            with _same_folder(staging) as is_same:
                try:
                    built = build(content)
                    _record(staging, key, built, read_contents(content, built.digests))
                except Exception as exc:
                    if is_same():
                        raise
                    raise _taken_over(layout.link(name)) from exc
                if not is_same() or not layout.publish(staging):
                    raise _taken_over(layout.link(name))
        finally:
            remove(staging)
        with contextlib.suppress(OSError):
            layout.sweep(name)


@contextlib.contextmanager
def _same_folder(folder: Path) -> Iterator[Callable[[], bool]]:
    """Yield whether a path still leads to the same folder: a builder that slept through its lease may have lost it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield lambda: folder.is_dir() and os.path.samestat(folder.stat(), os.fstat(descriptor))
    finally:
        os.close(descriptor)


def _record(staging: Path, key: str, built: Built, contents: Contents) -> None:
    sums = contents.sums
    (staging / SUMS).write_bytes(sums)
    record = {
        "format": _FORMAT,
        "key": key,
        "source": built.source,
        "archive": built.archive,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "size": contents.size,
        "files": len(contents.digests),
        "sums": hashlib.sha256(sums).hexdigest(),
    }
    (staging / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


class _DamagedError(CacheError):
    """A record of an entry cannot be used."""

    def __init__(self, path: Path, exc: Exception) -> None:
        missing = isinstance(exc, FileNotFoundError | NotADirectoryError)
        self.damage = Damage(path.name, "missing" if missing else "changed")
        super().__init__(
            f"{path} was expected to describe an entry of the cache, but it cannot be used: {exc}. The entry counts as "
            "not there; it is built anew when it is needed next."
        )


class _TakenOverError(CacheError):
    """What was being built was swept away: another process believed that this one is gone."""


def _taken_over(link: Path) -> _TakenOverError:
    return _TakenOverError(
        f"{link} was being built here, but this process gave no sign of life for so long that another one took over. "
        "Nothing was kept of this build. Try again: most likely the other one has built it by now."
    )


def _unusable(link: Path, exc: OSError) -> CacheError:
    remedy = "Make room there" if exc.errno in {errno.ENOSPC, errno.EDQUOT} else "Make the folder writable"
    return CacheError(
        f"{link} could not be built: {exc.strerror or exc} ({exc.filename or link.parent}). Nothing was kept of it. "
        f"{remedy}, or set PIPCOOK_HOME (option [pipcook] home) to another folder, and try again."
    )
