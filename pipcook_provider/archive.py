"""Archives from elsewhere, unpacked without leaving their folder.

What will be written is decided first, from the archive's directory alone (:func:`plan`), and refused as a whole if
any of it is unsafe; only then is anything written. Files are inflated, digested and written by several threads (all
three release the interpreter's lock), the largest first; links are made last, when nothing can be written through them.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import stat
import threading
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import cast
from zipfile import BadZipFile, ZipExtFile, ZipFile, ZipInfo

from pipcook_provider.errors import IntegrityError

#: What :mod:`zipfile` raises for damaged, encrypted and exotic members.
BROKEN = (BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, UnicodeDecodeError, RuntimeError)
_KINDS = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
_DRIVE = re.compile(r"[A-Za-z]:")
_LINK_LENGTH = 4096
_HEADER_LENGTH = 30
_CHUNK = 2**18
_THREADS = 8
_TICK = 0.1

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may cost.

    :param members: number of files, directories and links.
    :param size: bytes when unpacked.
    :param ratio: bytes unpacked per byte packed; judged only above ``ratio_from`` bytes, since small things pack well.
    """

    members: int = 500_000
    size: int = 64 * 2**30
    ratio: float = 200.0
    ratio_from: int = 64 * 2**20


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Member:
    """One thing to unpack.

    :param info: the archive's entry.
    :param path: where it goes, relative to the folder, without ``.`` and ``..``.
    :param kind: ``file``, ``directory`` or ``link``.
    :param executable: whether the owner may execute it.
    """

    info: ZipInfo
    path: PurePosixPath
    kind: str
    executable: bool


def extract_zip(
    archive: Path, directory: Path, *, limits: Limits = DEFAULT_LIMITS, on_progress: OnProgress | None = None
) -> dict[str, str]:
    """Unpack a zip into a directory; executable bits are kept.

    On an error some files may be there already: unpack into a folder of its own and publish that by a rename.

    :param directory: created where missing; nothing in it is overwritten.
    :param on_progress: called in this thread, a few times a second, with the bytes written so far and the bytes in all;
        what it raises ends the unpacking.
    :returns: the SHA-256 digest (hex) of each regular file, by its path relative to the directory with ``/``.
    :raises IntegrityError: not a zip, damaged, unsafe, or above the limits.
    :raises OSError: the directory cannot be written, or the disk is full.
    """
    try:
        with ZipFile(archive) as bundle:
            members = plan(bundle.infolist(), archive.stat().st_size, limits)
            return _write(bundle, members, directory, on_progress)
    except _UnsafeError as exc:
        raise IntegrityError(
            f"{archive.name} is refused: {exc}. Nothing of it is used. Pack it again without that, if it is yours."
        ) from None
    except (*BROKEN, OSError) as exc:
        # Errors of the system have a number; one without comes from bz2, about its input.
        if isinstance(exc, OSError) and exc.errno is not None:
            raise
        raise IntegrityError(
            f"{archive.name} was expected to be a whole zip archive, but it is not: {exc}. Nothing of it is used. It "
            "may have been cut off on its way, or a web page was served in its place: fetch or pack it again."
        ) from exc


def plan(infos: Iterable[ZipInfo], packed: int, limits: Limits = DEFAULT_LIMITS) -> list[Member]:
    """Decide what will be written, without writing.

    :param packed: size of the archive in bytes.
    :raises ValueError: a member is unsafe, or the whole is above the limits; the message says which.
    :raises BadZipFile: the archive ends before its members do.
    """
    members = [_member(info) for info in infos]
    _check_size(members, packed, limits)
    _check_extents(members, packed)
    _check_places(members)
    return members


class _UnsafeError(ValueError):
    """Why an archive is refused, as a clause whose subject is the archive."""


def _member(info: ZipInfo) -> Member:
    name = info.filename.replace("\\", "/")
    path = PurePosixPath(name)
    if path.is_absolute() or _DRIVE.match(name) or ".." in path.parts:
        raise _UnsafeError(f"its member {info.filename!r} would be written outside of the folder")
    if info.flag_bits & 0x1:
        raise _UnsafeError(f"its member {info.filename!r} is encrypted")
    mode = info.external_attr >> 16
    kind = "directory" if name.endswith("/") else _KINDS.get(stat.S_IFMT(mode))
    if kind is None:
        raise _UnsafeError(f"its member {info.filename!r} is neither a file, a directory nor a link")
    if kind == "link" and info.file_size > _LINK_LENGTH:
        raise _UnsafeError(f"its link {info.filename!r} has a target of {info.file_size} bytes")
    return Member(info, path, kind, bool(mode & stat.S_IXUSR))


def _check_size(members: list[Member], packed: int, limits: Limits) -> None:
    size = sum(member.info.file_size for member in members)
    if len(members) > limits.members:
        raise _UnsafeError(f"it has {len(members):,} members, above the limit of {limits.members:,}")
    if size > limits.size:
        raise _UnsafeError(f"it would unpack to {size:,} bytes, above the limit of {limits.size:,}")
    if size > limits.ratio_from and size > limits.ratio * packed:
        raise _UnsafeError(f"its {packed:,} bytes would unpack to {size:,}, more than {limits.ratio:g} times as much")


def _check_extents(members: list[Member], packed: int) -> None:
    """Refuse members that share bytes of the archive: that is how a small file inflates without end."""
    end = 0
    for member in sorted(members, key=lambda member: member.info.header_offset):
        if member.info.header_offset < end:
            raise _UnsafeError(f"its member {member.info.filename!r} overlaps another one")
        end = member.info.header_offset + _HEADER_LENGTH + member.info.compress_size
        if end > packed:
            raise BadZipFile(f"its member {member.info.filename!r} ends behind the end of the file")


def _check_places(members: list[Member]) -> None:
    leaves: set[PurePosixPath] = set()
    for member in members:
        if member.kind == "directory":
            continue
        if member.path in leaves:
            raise _UnsafeError(f"its member {member.info.filename!r} comes twice")
        leaves.add(member.path)
    for folder in _folders(members):
        for place in (folder, *folder.parents):
            if place in leaves:
                raise _UnsafeError(f"its member {str(place)!r} is a file or a link, and a folder for other members")


def _folders(members: list[Member]) -> set[PurePosixPath]:
    return {member.path if member.kind == "directory" else member.path.parent for member in members}


def _write(bundle: ZipFile, members: list[Member], directory: Path, on_progress: OnProgress | None) -> dict[str, str]:
    for folder in _folders(members):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    files = [member for member in members if member.kind == "file"]
    digests = _Unpacking(bundle, directory, files).run(on_progress)
    links = [member for member in members if member.kind == "link"]
    for link in links:
        (directory / link.path).symlink_to(bundle.read(link.info).decode())
    root = os.path.realpath(directory)
    for link in links:
        # Judged when all links stand: one link may lead through another.
        if not Path(os.path.realpath(directory / link.path)).is_relative_to(root):
            raise _UnsafeError(f"its link {link.info.filename!r} leads outside of the folder")
    return digests


@dataclass(slots=True)
class _Unpacking:
    """The writing of all files by several threads, which share what follows.

    :param waiting: the files nobody has begun, the largest at the end: begun last, it would keep one thread busy alone.
    """

    bundle: ZipFile
    directory: Path
    waiting: list[Member]
    digests: dict[str, str] = field(default_factory=dict)
    done: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self, on_progress: OnProgress | None) -> dict[str, str]:
        """Write everything; the first error in any thread stops all."""
        self.waiting = sorted(self.waiting, key=lambda member: member.info.file_size)
        total = sum(member.info.file_size for member in self.waiting)
        count = max(1, min(_cores(), _THREADS, len(self.waiting)))
        with ThreadPoolExecutor(count, thread_name_prefix="extract_zip") as pool:
            try:
                running = {pool.submit(self._work) for _ in range(count)}
                while running:
                    ended, running = wait(running, _TICK if on_progress else None, FIRST_COMPLETED)
                    for thread in ended:
                        thread.result()
                    if on_progress:
                        on_progress(self.done, total)
            finally:
                self.stopped.set()
        return self.digests

    def _work(self) -> None:
        while not self.stopped.is_set():
            with self.lock:
                if not self.waiting:
                    return
                member = self.waiting.pop()
            digest = self._write(member)
            with self.lock:
                self.digests[member.path.as_posix()] = digest

    def _write(self, member: Member) -> str:
        target = self.directory / member.path
        digest = hashlib.sha256()
        length = 0
        with cast("ZipExtFile", self.bundle.open(member.info)) as source, target.open("xb") as sink:
            while not self.stopped.is_set() and (chunk := source.read1(_CHUNK)):
                digest.update(chunk)
                sink.write(chunk)
                length += len(chunk)
                with self.lock:
                    self.done += len(chunk)
        if length != member.info.file_size and not self.stopped.is_set():
            raise BadZipFile(f"its member {member.info.filename!r} has {length:,} bytes, not {member.info.file_size:,}")
        if member.executable:
            mode = target.stat().st_mode
            target.chmod(mode | (mode & 0o444) >> 2)
        return digest.hexdigest()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
