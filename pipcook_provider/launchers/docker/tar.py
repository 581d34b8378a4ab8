"""Files as tar archives, the form in which an engine takes and gives them; nothing is held in memory as a whole."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tarfile import TarInfo

_CHUNK = 2**20
_BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose files are once they are unpacked, by numbers."""

    user: int = 0
    group: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """What is packed; nothing, where it does not exist.

    :param name: its name in the archive.
    :param path: a file, link or folder.
    :param contents: whether a folder is packed with what is in it.
    """

    name: str
    path: Path
    contents: bool = True


def pack(sources: Iterable[Source], owner: Owner) -> Iterator[bytes]:
    """Yield an archive."""
    headers = tarfile.TarFile(fileobj=io.BytesIO(), mode="w")
    for source in sources:
        for path in _walk(source):
            place = path.relative_to(source.path).as_posix()
            info = headers.gettarinfo(path, source.name if place == "." else f"{source.name}/{place}")
            if info is not None:
                yield from _member(info, path, owner)
    yield bytes(2 * _BLOCK)


def pack_text(name: str, text: str) -> bytes:
    """Return an archive of one file."""
    content = text.encode("utf-8")
    info = TarInfo(name)
    info.size = len(content)
    return info.tobuf() + content + bytes(-len(content) % _BLOCK + 2 * _BLOCK)


def unpack(chunks: Iterable[bytes], folder: Path, kept: Collection[Path] = ()) -> None:
    """Write what an archive holds into a folder; nothing outside it, and nothing but files, folders and links in it.

    :param kept: files and folders that stay as they are, whatever the archive has in their place.
    :raises tarfile.TarError: the archive is damaged, or holds something else.
    :raises OSError: the folder cannot be written, or the disk is full.
    """
    with tarfile.open(fileobj=_Readable(chunks), mode="r|") as archive:
        archive.extractall(folder, filter=partial(_past_links, kept))  # noqa: S202 - the filter lets nothing out


def read_text(chunks: Iterable[bytes]) -> str:
    """Return the text of the one file that an archive holds."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        file = archive.extractfile(archive.getmembers()[0])
        return file.read().decode("utf-8", errors="replace") if file else ""


def _past_links(kept: Collection[Path], member: TarInfo, folder: str) -> TarInfo | None:
    """Apply the filter ``data``, and write through no link that lies in the folder from before: it may lead anywhere in it."""
    accepted = tarfile.data_filter(member, folder)
    if any(Path(folder, accepted.name).is_relative_to(path) for path in kept):
        return None
    target = Path(folder).resolve() / accepted.name
    if target.parent.resolve() != target.parent:
        raise tarfile.OutsideDestinationError(member, str(target.resolve()))
    if target.is_symlink():
        target.unlink()
    return accepted


def _walk(source: Source) -> Iterator[Path]:
    path = source.path
    if path.is_symlink() or path.exists():
        yield path
    if source.contents and path.is_dir() and not path.is_symlink():
        yield from sorted(path.rglob("*"))


def _member(info: TarInfo, path: Path, owner: Owner) -> Iterator[bytes]:
    info.uid, info.gid, info.uname, info.gname = owner.user, owner.group, "", ""
    yield info.tobuf(tarfile.PAX_FORMAT)
    if not info.isreg():
        return
    left = info.size
    with path.open("rb") as file:
        while left and (chunk := file.read(min(left, _CHUNK))):
            left -= len(chunk)
            yield chunk
    if left:
        raise OSError(f"{path} became shorter while it was read")
    yield bytes(-info.size % _BLOCK)


class _Readable(io.RawIOBase):
    """Pieces as a file."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._rest = chunk
        taken, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return taken
