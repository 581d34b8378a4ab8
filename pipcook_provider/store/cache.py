"""Directories that are built once and read by many processes.

Layout under a cache's root::

    {name}/                  complete entries; each appears by one rename, whole
    .building/{name}/{id}/   entries being built; what a killed builder leaves is removed by the next one
    .locks/{name}.lock       held while ``{name}`` is built; the kernel releases it with its owner

A complete entry is found by one ``stat`` and read without a lock, also on a read-only file system. The lock saves
work; correctness rests on the rename: where locks are not honoured, two builders do the work twice and one wins.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from pipcook_provider.errors import CacheError

_PLAIN = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,119}")
_TAKEN = {errno.EEXIST, errno.ENOTEMPTY}


def safe_name(key: str) -> str:
    """Return the name of the entry for ``key``: the key itself where it is plain, else its end and a digest.

    Keys that differ give names that differ, also where the file system ignores case.
    """
    if _PLAIN.fullmatch(key):
        return key
    slug = re.sub(r"[^a-z0-9._@+-]+", "-", key.lower())[-60:].strip("-.")
    return f"{slug}~{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _silent() -> None:
    pass


class Cache:
    """Directories by key, each built by whoever needs it first.

    :param root: folder of the cache; created when the first entry is built.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        """Return where the entry for ``key`` is, or would be."""
        return self.root / safe_name(key)

    def entries(self) -> Iterator[Path]:
        """Yield the complete entries, in no order."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            yield from (path for path in self.root.iterdir() if not path.name.startswith(".") and path.is_dir())

    def ensure(
        self,
        key: str,
        build: Callable[[Path], None],
        *,
        refresh: bool = False,
        on_wait: Callable[[], None] = _silent,
    ) -> Path:
        """Return the entry for ``key``, built by ``build`` if nobody has built it yet.

        :param build: fills the empty directory that it is given; what it raises is passed on and leaves no entry.
        :param refresh: build although there is an entry; it is replaced when the new one is complete, also under
            those who are reading it.
        :param on_wait: called once when another process is building this entry.
        :raises CacheError: the cache cannot be written.
        """
        entry = self.path(key)
        if refresh or not entry.is_dir():
            try:
                with self._locked(entry.name, on_wait):
                    if refresh or not entry.is_dir():
                        self._build(entry, build, replace=refresh)
            except OSError as exc:
                raise _unusable(entry, exc) from exc
        return entry

    @contextlib.contextmanager
    def _locked(self, name: str, on_wait: Callable[[], None]) -> Iterator[None]:
        from filelock import FileLock, Timeout

        folder = self.root / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_wait()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _build(self, entry: Path, build: Callable[[Path], None], *, replace: bool) -> None:
        workshop = self.root / ".building" / entry.name
        shutil.rmtree(workshop, ignore_errors=True)
        staging = workshop / secrets.token_hex(4)
        staging.mkdir(parents=True)
        try:
            build(staging)
            if replace and entry.is_dir():
                entry.rename(workshop / "replaced")
            _publish(staging, entry)
        finally:
            shutil.rmtree(workshop, ignore_errors=True)


def _publish(staging: Path, entry: Path) -> None:
    try:
        staging.rename(entry)
    except OSError as exc:
        if exc.errno not in _TAKEN or not entry.is_dir():
            raise


def _unusable(entry: Path, exc: OSError) -> CacheError:
    remedy = "Make room there" if exc.errno in {errno.ENOSPC, errno.EDQUOT} else "Make the folder writable"
    return CacheError(
        f"{entry} could not be built: {exc.strerror or exc} ({exc.filename or entry.parent}). Nothing was kept of it. "
        f"{remedy}, or set PIPCOOK_HOME (option [pipcook] home) to another folder, and try again."
    )
