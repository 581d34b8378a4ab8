"""Frameworks packed for a mirror: a zip, its digest, and the index of the folder.

In the folder of a mirror (:mod:`.platform` tells the names)::

    tensorflow@2.21.0-linux-x64.zip            the framework's contents, at the top
    tensorflow@2.21.0-linux-x64.zip.sha256     its digest, as sha256sum writes it
    index.json                                 {"frameworks": [{"name": "tensorflow", "version": "2.21.0",
                                               "platform": "linux-x64", "variant": null, "file": "tensorflow@...",
                                               "sha256": "...", "size": 403177023}, ...]}

The same contents give the same bytes: members are ordered by name and have no times. The index is made of the zips beside
it that have a digest, so that a zip which is deleted by hand leaves the index with the next one that is packed.

A zip's members are cut into blocks that are compressed at once on all cores, each primed with the end of the block before
it; put together, the blocks are one deflate stream (RFC 1951).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from pipcook_provider.errors import FrameworkError
from pipcook_provider.frameworks.framework import Framework, Manifest
from pipcook_provider.frameworks.report import Report

INDEX = "index.json"
_BLOCK = 2**20
_WINDOW = 2**15
#: Of TensorFlow's 1.5 GB, level 6 makes a zip that is 5 % smaller, in twice the time.
_LEVEL = 4
_ZIP64_FROM = 2**31 - 1
_NO_TIME = (1980, 1, 1, 0, 0, 0)
_FILE = re.compile(
    r"(?P<name>[^@]+)@(?P<version>.+?)-(?P<platform>(linux|darwin|win32)-[a-z0-9_]+(-v\d+)?)(?P<gpu>-gpu)?\.zip"
)


def pack(framework: Framework, output: Path, report: Report) -> Path:
    """Pack a framework into a folder that is, or becomes, a mirror; return the path of the zip.

    What is there under that name is replaced when the new one is complete. Digest and index are written with it.

    :param output: the mirror's folder; created where missing.
    :raises FrameworkError: the framework cannot be read, or the folder cannot be written.
    """
    manifest = Manifest.read(framework.path)
    platform = framework.platform.with_node() if manifest.has_javascript else framework.platform
    path = output / unquote(platform.mirror_paths(framework.name, framework.version, framework.variant)[0])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _replacing(path) as sink:
            write_zip(framework.path, sink, f"Packing {path.name}", report)
            sink.flush()
            # Before it takes its place, so that it has another's digest beside it for a moment only.
            with Path(sink.name).open("rb") as source:
                digest = hashlib.file_digest(source, "sha256").hexdigest()
        with _replacing(_digest_path(path)) as sink:
            sink.write(f"{digest}  {path.name}\n".encode())
        write_index(path.parent)
    except OSError as exc:
        raise FrameworkError(
            f"{framework.reference} was expected to be packed as {path}, but it was not: {exc}. What was there before is "
            "as it was. Check that the folder can be written and has space."
        ) from exc
    return path


def write_zip(directory: Path, sink: IO[bytes], label: str, report: Report) -> None:
    """Write the contents of a directory as a zip into a file that can be sought.

    :param label: what is being done, as progress is told.
    :raises OSError: a file cannot be read or written.
    """
    members = sorted(_members(directory), key=lambda member: member.name)
    total = sum(member.size for member in members)
    done = 0
    with ZipFile(sink, "w") as bundle, ThreadPoolExecutor(os.cpu_count()) as pool:
        blocks = _in_order(pool, members)
        for member in members:
            info = member.info()
            info.header_offset = sink.tell()
            zip64 = member.size > _ZIP64_FROM
            sink.write(info.FileHeader(zip64=zip64))
            for block, is_last in blocks:
                sink.write(block.packed)
                info.CRC = zlib.crc32(block.plain, info.CRC)
                info.compress_size += len(block.packed)
                info.file_size += len(block.plain)
                done += len(block.plain)
                report.progress(label, done, total)
                if is_last:
                    break
            end = sink.tell()
            sink.seek(info.header_offset)
            sink.write(info.FileHeader(zip64=zip64))
            sink.seek(end)
            # From here on this is ZipFile's: it writes the directory at the end.
            bundle.filelist.append(info)
            bundle.NameToInfo[info.filename] = info
            bundle.start_dir = end


def write_index(folder: Path) -> None:
    """Write the index of a mirror's folder, of the zips in it that have a digest.

    Several that do so at once leave an index of all: each looks again after writing.

    :raises OSError: the folder cannot be read or written.
    """
    listed = None
    while (found := list(_listed(folder))) != listed:
        listed = found
        with _replacing(folder / INDEX) as sink:
            sink.write(json.dumps({"frameworks": found}, indent=2, ensure_ascii=False).encode() + b"\n")


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    path: Path
    mode: int
    size: int

    def info(self) -> ZipInfo:
        info = ZipInfo(self.name, _NO_TIME)
        info.create_system = 3  # Unix, on which the mode depends
        is_file = stat.S_ISREG(self.mode)
        info.compress_type = ZIP_DEFLATED if is_file and self.size else ZIP_STORED
        permissions = 0o755 if not is_file or self.mode & stat.S_IXUSR else 0o644
        info.external_attr = (stat.S_IFMT(self.mode) | permissions) << 16
        info.CRC = info.compress_size = info.file_size = 0
        return info


@dataclass(frozen=True, slots=True)
class _Block:
    plain: bytes
    packed: bytes


def _members(directory: Path) -> Iterator[_Member]:
    for folder, folders, names in os.walk(directory):
        for name in (*folders, *names):
            path = Path(folder, name)
            status = path.lstat()
            relative = path.relative_to(directory).as_posix()
            if stat.S_ISLNK(status.st_mode):
                yield _Member(relative, path, status.st_mode, len(bytes(path.readlink())))
            elif stat.S_ISREG(status.st_mode):
                yield _Member(relative, path, status.st_mode, status.st_size)
            elif not stat.S_ISDIR(status.st_mode):
                raise OSError(f"{path} is neither a file, a folder nor a link")
            elif not any(path.iterdir()):
                yield _Member(f"{relative}/", path, status.st_mode, 0)


def _in_order(pool: ThreadPoolExecutor, members: list[_Member]) -> Iterator[tuple[_Block, bool]]:
    """Yield the blocks of all members in order, each with whether it is its member's last; a few are worked on ahead."""
    ahead: deque[tuple[Future[_Block], bool]] = deque()
    for member in members:
        starts = range(0, member.size, _BLOCK) or range(1)
        for start in starts:
            is_last = start == starts[-1]
            ahead.append((pool.submit(_read_block, member, start, is_last), is_last))
            if len(ahead) > 8 * (os.cpu_count() or 1):
                block, ended = ahead.popleft()
                yield block.result(), ended
    for block, ended in ahead:
        yield block.result(), ended


def _read_block(member: _Member, start: int, is_last: bool) -> _Block:
    if stat.S_ISLNK(member.mode):
        target = bytes(member.path.readlink())
        return _Block(target, target)
    if not member.size:
        return _Block(b"", b"")
    before = min(start, _WINDOW)
    with member.path.open("rb") as source:
        source.seek(start - before)
        window, plain = source.read(before), source.read(min(_BLOCK, member.size - start))
    if len(plain) != min(_BLOCK, member.size - start):
        raise OSError(f"{member.path} changed while it was packed")
    packer = zlib.compressobj(_LEVEL, wbits=-zlib.MAX_WBITS, zdict=window)
    packed = packer.compress(plain) + packer.flush(zlib.Z_FINISH if is_last else zlib.Z_SYNC_FLUSH)
    return _Block(plain, packed)


def _listed(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*.zip")):
        found = _FILE.fullmatch(path.name)
        try:
            digest = _digest_path(path).read_text(encoding="utf-8").split()[0]
            size = path.stat().st_size
        except (FileNotFoundError, IndexError):
            continue
        if found:
            yield {
                "name": found["name"],
                "version": found["version"],
                "platform": found["platform"],
                "variant": "gpu" if found["gpu"] else None,
                "file": path.name,
                "sha256": digest,
                "size": size,
            }


def _digest_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file that takes the place of another when the block ends without an exception."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as sink:
            yield sink
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
