"""Leases: files that say that a living process holds something.

A lease exists as a file, so it works where ``flock`` does not. Its owner refreshes the file's time; what a dead owner
left is recognised at once on its own host (process id and start time), and by its silence from any other. A lease
saves work; nothing may rest on it that would be wrong if two processes held it.

:class:`filelock.SoftFileLease` does the work. Three things are added here: a question that changes nothing
(:func:`is_dead`), an end for files that their owner died before writing (filelock keeps those for good), and taking
away what the dead left where the file system cannot exchange two names (filelock waits there for good).
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import SoftFileLease

#: Seconds without a sign of life after which a waiter takes a lease; all who share a cache must agree on it.
DURATION = 30.0
_SILENCE = 3 * DURATION
_POLL = 0.03
_ASK = 1.0
#: A lease is written within a moment of its creation: one that is younger than this is looked at twice.
_UNWRITTEN, _GRACE = 1.0, 0.2


def acquire(path: Path) -> SoftFileLease | None:
    """Take a lease in one attempt; ``None`` where somebody holds it.

    It ends with ``release()``, with the object that is returned, or with the process.

    :raises OSError: the file cannot be made.
    """
    lease = _lease(path)
    return lease if _taken(lease) or (clear(path) and _taken(lease)) else None


@contextlib.contextmanager
def hold(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold a lease for as long as the block lasts, after waiting for whoever holds it.

    :param on_wait: called once when somebody does.
    :raises OSError: the file cannot be made.
    """
    lease = _lease(path)
    waiting = False
    while not _taken(lease):
        if clear(path):
            continue
        if not waiting:
            waiting = True
            on_wait()
        # To look whether the file is there costs next to nothing; to ask for the lease, and to judge its owner, does not.
        again = time.monotonic() + _ASK
        while path.exists() and time.monotonic() < again:
            time.sleep(_POLL)
    try:
        yield
    finally:
        lease.release()


def is_dead(path: Path) -> bool:
    """Return whether nobody holds the lease any more, without touching it."""
    try:
        seen, record = path.stat(), path.read_bytes()
        owner = _lease(path).owner
        if owner is None:
            return _stays_unwritten(path, seen)
        if owner.hostname == _host():
            if not _is_running(owner.pid) or _owner_is_gone(record):
                return True
            if owner.start is not None:
                return False
        return _is_silent(path, seen, _SILENCE)
    except FileNotFoundError:
        return True
    except OSError:
        return False


def is_silent(path: Path, seconds: float) -> bool:
    """Return whether a lease gave no sign of life for so long, or is not there, without touching it."""
    try:
        return _is_silent(path, path.stat(), seconds)
    except FileNotFoundError:
        return True
    except OSError:
        return False


def clear(path: Path) -> bool:
    """Remove a lease that nobody holds any more; return whether there is none now."""
    with contextlib.suppress(FileNotFoundError):
        seen = path.stat()
        if not is_dead(path):
            return False
        aside = path.with_name(f"{path.name}.dead.{secrets.token_hex(4)}")
        path.rename(aside)
        taken = aside.stat()
        if (taken.st_ino, taken.st_mtime_ns) != (seen.st_ino, seen.st_mtime_ns):
            # Somebody was quicker, and what was taken away is a living successor's.
            with contextlib.suppress(OSError):
                path.hardlink_to(aside)
        aside.unlink()
    return not path.exists()


def _lease(path: Path) -> SoftFileLease:
    from filelock import SoftFileLease

    # Not thread-local: a mark made in one thread is released by another at exit.
    return SoftFileLease(path, lease_duration=DURATION, thread_local=False)


def _taken(lease: SoftFileLease) -> bool:
    from filelock import LeaseSettingsMismatch, Timeout

    try:
        lease.acquire(blocking=False)
    except (Timeout, LeaseSettingsMismatch):
        return False
    return True


def _is_running(pid: int) -> bool:
    # A process that ended and that nobody waits for, as in a container without an init, still has its id.
    with contextlib.suppress(OSError, IndexError):
        if Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in {b"Z", b"X"}:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is another user's
    return True


def _owner_is_gone(record: bytes) -> bool:
    """Ask filelock whether the process that runs is not the owner, of a copy: asked of the lease itself, it takes it."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        copy = Path(folder, "copy")
        copy.write_bytes(record)
        probe = _lease(copy)
        if not _taken(probe):
            return False
        probe.release()
        return True


@functools.cache
def _host() -> str:
    """Return what filelock writes for this host."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder, _lease(Path(folder, "own")) as own:
        assert own.owner is not None
        return own.owner.hostname


def _stays_unwritten(path: Path, seen: os.stat_result) -> bool:
    """Return whether a lease without an owner's record stays so, as after a death between its creation and writing."""
    if time.time() - seen.st_mtime < _UNWRITTEN:
        time.sleep(_GRACE)
    return path.stat().st_ino == seen.st_ino and _lease(path).owner is None


def _is_silent(path: Path, seen: os.stat_result, seconds: float) -> bool:
    from tempfile import TemporaryFile

    if time.time() - seen.st_mtime < seconds:
        return False
    # Judged by the clock that wrote the time: that of the file system, which may be another host's. Not in the
    # lease's own folder, whose time says something already.
    with TemporaryFile(dir=path.parent.parent) as clock:
        return os.fstat(clock.fileno()).st_mtime - path.stat().st_mtime >= seconds
