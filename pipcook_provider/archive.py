"""Archives from elsewhere, unpacked without leaving their folder.

What will be written is decided first, from the archive's directory alone (:func:`plan`), and refused as a whole if
any of it is unsafe; only then is anything written. Files are inflated, digested and written by several threads (all
three release the interpreter's lock), the largest first; links are made last, when nothing can be written through them.

Of a framework most members are small, and most of the time that :mod:`zipfile` takes for a small one is spent in Python,
which threads cannot share. So stored and deflated members are read here, by the places that zipfile found in the directory.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import stat
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from pipcook_provider.errors import IntegrityError

#: What :mod:`zipfile` raises for damaged, encrypted and exotic members.
BROKEN = (BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, UnicodeDecodeError, RuntimeError)
_KINDS = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
_DRIVE = re.compile(r"[A-Za-z]:")
_LINK_LENGTH = 4096
#: A member's header, up to the lengths of name and extra field (APPNOTE.TXT 4.3.7).
_HEADER = struct.Struct("<4s22xHH")
_HEADER_MARK = b"PK\3\4"
_CHUNK = 2**18
_PACKED_CHUNK = 2**16
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
        with archive.open("rb") as stream, ZipFile(stream) as bundle:
            members = plan(bundle.infolist(), os.fstat(stream.fileno()).st_size, limits)
            return _write(_Source(bundle, stream.fileno()), members, directory, on_progress)
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
        end = member.info.header_offset + _HEADER.size + member.info.compress_size
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
    seen: set[PurePosixPath] = set()
    for folder in _folders(members):
        place = folder
        while place not in seen:
            if place in leaves:
                raise _UnsafeError(f"its member {str(place)!r} is a file or a link, and a folder for other members")
            seen.add(place)
            place = place.parent


def _folders(members: list[Member]) -> set[PurePosixPath]:
    return {member.path if member.kind == "directory" else member.path.parent for member in members}


def _write(source: _Source, members: list[Member], directory: Path, on_progress: OnProgress | None) -> dict[str, str]:
    for folder in sorted(_folders(members), key=str):  # parents first, which saves a failed attempt each
        (directory / folder).mkdir(parents=True, exist_ok=True)
    files = [member for member in members if member.kind == "file"]
    digests = _Unpacking(source, str(directory), files).run(on_progress)
    links = [member for member in members if member.kind == "link"]
    for link in links:
        (directory / link.path).symlink_to(b"".join(source.content(link.info)).decode())
    root = os.path.realpath(directory)
    for link in links:
        # Judged when all links stand: one link may lead through another.
        if not Path(os.path.realpath(directory / link.path)).is_relative_to(root):
            raise _UnsafeError(f"its link {link.info.filename!r} leads outside of the folder")
    return digests


@dataclass(frozen=True, slots=True)
class _Source:
    """The archive's contents; any number of threads may read them.

    :param file: descriptor of the archive.
    """

    bundle: ZipFile
    file: int

    def content(self, info: ZipInfo) -> Iterator[bytes]:
        """Yield what a member holds, in pieces: no more of it than its directory entry says, and checked against that.

        :raises BadZipFile: it is damaged.
        """
        length = checksum = 0
        for chunk in self._chunks(info):
            length += len(chunk)
            if length > info.file_size:
                break
            checksum = zlib.crc32(chunk, checksum)
            yield chunk
        if length != info.file_size:
            raise BadZipFile(f"its member {info.filename!r} was expected to have {info.file_size:,} bytes, and has not")
        if checksum != info.CRC:
            raise BadZipFile(f"its member {info.filename!r} does not have the checksum (CRC-32) that it should have")

    def _chunks(self, info: ZipInfo) -> Iterator[bytes]:
        if info.compress_type == ZIP_STORED:
            yield from self._packed(info)
        elif info.compress_type == ZIP_DEFLATED:
            yield from self._inflated(info)
        else:
            with self.bundle.open(info) as stream:
                yield from iter(lambda: stream.read(_CHUNK), b"")

    def _inflated(self, info: ZipInfo) -> Iterator[bytes]:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        for packed in self._packed(info):
            plain = inflater.decompress(packed, _CHUNK)
            while plain:
                yield plain
                plain = inflater.decompress(inflater.unconsumed_tail, _CHUNK)
            if inflater.eof:
                return

    def _packed(self, info: ZipInfo) -> Iterator[bytes]:
        header = os.pread(self.file, _HEADER.size, info.header_offset)
        if len(header) < _HEADER.size or not header.startswith(_HEADER_MARK):
            raise BadZipFile(f"its member {info.filename!r} is not where its directory says")
        _, name, extra = _HEADER.unpack(header)
        position = info.header_offset + _HEADER.size + name + extra
        end = position + info.compress_size
        while position < end and (packed := os.pread(self.file, min(_PACKED_CHUNK, end - position), position)):
            position += len(packed)
            yield packed


@dataclass(slots=True)
class _Unpacking:
    """The writing of all files by several threads, which share what follows.

    :param waiting: the files nobody has begun, the largest at the end: begun last, it would keep one thread busy alone.
    :param done: bytes written so far.
    """

    source: _Source
    directory: str
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
            try:
                member = self.waiting.pop()
            except IndexError:
                return
            path = str(member.path)
            self.digests[path] = self._write(member, f"{self.directory}/{path}")

    def _write(self, member: Member, path: str) -> str:
        digest = hashlib.sha256()
        mode = 0o777 if member.executable else 0o666
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)  # the process's umask applies
        try:
            for chunk in self.source.content(member.info):
                if self.stopped.is_set():
                    break
                digest.update(chunk)
                _write_all(target, chunk)
                with self.lock:
                    self.done += len(chunk)
        finally:
            os.close(target)
        return digest.hexdigest()


def _write_all(target: int, data: bytes) -> None:
    written = os.write(target, data)
    while written < len(data):
        written += os.write(target, memoryview(data)[written:])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
