"""Unpacking zip archives that come from elsewhere."""

from __future__ import annotations

import lzma
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from uuid import uuid4

from pipcook_provider.errors import IntegrityError

MAX_MEMBERS = 5_000_000
MAX_RATIO = 200  # unpacked size over the archive's; data sets stay below 20, an attack comes near 1,000
HARMLESS_BYTES = 1 << 30  # up to here any ratio will do

#: What :mod:`zipfile` raises for damaged, encrypted and exotic members.
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError)


def unzip(path: Path, directory: Path) -> Path:
    """Unpack a zip archive into a folder, which appears at once and complete, and return that folder.

    A folder that is there already is taken for what an earlier call unpacked. Members may neither leave the folder nor
    be links or devices.

    :raises IntegrityError: the archive is damaged, unsafe, or unpacks to far more than it should.
    """
    if directory.is_dir():
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = directory.with_name(f".{directory.name}.{uuid4().hex}.part")
    try:
        with zipfile.ZipFile(path) as archive:
            members = check_members(path, archive.infolist())
            partial.mkdir()
            for member in members:
                archive.extract(member, partial)
        _publish(partial, directory)
    except DAMAGE as exc:
        raise IntegrityError(
            f"expected a zip archive in {path}, found {exc}: it is damaged or of another format. Download or make it "
            "again."
        ) from exc
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return directory


def check_members(path: Path, members: Sequence[zipfile.ZipInfo]) -> Sequence[zipfile.ZipInfo]:
    """Return the members of an archive, after a look at all of them.

    :param path: the archive.
    :raises IntegrityError: one of them is unsafe, or all of them are too much.
    """
    size = sum(member.file_size for member in members)
    if len(members) > MAX_MEMBERS or size > max(HARMLESS_BYTES, MAX_RATIO * path.stat().st_size):
        raise IntegrityError(
            f"expected a data archive in {path}, found {len(members):,} members of {size:,} bytes in all: "
            "unpacking it could fill the disk. If it is as it should be, unpack it by hand and give the folder's path."
        )
    for member in members:
        if reason := _reason_to_refuse(member):
            raise IntegrityError(
                f"expected files in {path}, found {reason} {member.filename!r}: unpacking it could write outside its "
                "folder. Make the archive without it."
            )
    return members


def _reason_to_refuse(member: zipfile.ZipInfo) -> str:
    name = member.filename.replace("\\", "/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "the absolute path"
    if ".." in PurePosixPath(name).parts:
        return "the path with '..'"
    kind = stat.S_IFMT(member.external_attr >> 16)
    return "" if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "the link or device"


def _publish(partial: Path, directory: Path) -> None:
    try:
        partial.rename(directory)
    except OSError:
        if not directory.is_dir():  # else another process was faster
            raise
