"""What is in a directory: the digest of each file, recorded in the form of ``sha256sum``.

``cd content && sha256sum -c ../SHA256SUMS`` checks the files. A symbolic link has the digest of its target's text; as
``sha256sum`` would follow it, its line stands behind ``#link``, a comment to that command.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

#: Called with the bytes done and the bytes in all.
OnProgress = Callable[[int, int], None]

_THREADS = 2
_CHUNK = 2**20
_BATCH_SIZE, _BATCH_FILES = 32 * 2**20, 256
_LINK = "#link "
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}


@dataclass(frozen=True, slots=True)
class Contents:
    """The files of a directory.

    :param digests: sha256 (hex) by path, relative and with ``/``; of a link, that of its target's text.
    :param links: those of the paths that are symbolic links.
    :param size: bytes of all files.
    """

    digests: Mapping[str, str]
    links: frozenset[str]
    size: int

    @property
    def sums(self) -> bytes:
        """The record, a line for each file and link."""
        lines = (
            f"{_LINK if path in self.links else ''}{_line(path, digest)}"
            for path, digest in sorted(self.digests.items())
        )
        return os.fsencode("".join(lines))

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the record: that of the directory."""
        return hashlib.sha256(self.sums).hexdigest()


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that is not what was recorded.

    :param path: relative to the entry's content; ``entry.json`` and ``SHA256SUMS`` lie beside it.
    """

    path: str
    problem: Literal["missing", "changed"]


def read_contents(directory: Path, known: Mapping[str, str]) -> Contents:
    """Return the digests of all files and links below a directory.

    :param known: digests that need not be computed again.
    :raises FileNotFoundError: a file whose digest is known is not there.
    :raises OSError: a file cannot be read.
    """
    sizes: dict[str, int] = {}
    links: dict[str, str] = {}
    for path, entry in _walk(os.fspath(directory)):
        if entry.is_symlink():
            links[path] = _digest_of_link(entry.path)
        else:
            sizes[path] = entry.stat(follow_symlinks=False).st_size
    if lost := next((path for path in known if path not in sizes and path not in links), None):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(directory / lost))
    digests = {path: known[path] for path in sizes if path in known} | links
    unknown = {path: size for path, size in sizes.items() if path not in known}
    for path, digest in _digests(directory, unknown):
        if isinstance(digest, OSError):
            raise digest
        digests[path] = digest
    return Contents(digests, frozenset(links), sum(sizes.values()))


def parse_sums(text: bytes) -> dict[str, str]:
    """Read a record that :attr:`Contents.sums` wrote.

    :raises ValueError: it is damaged.
    """
    if text and not text.endswith(b"\n"):
        raise ValueError("the last line is cut off")
    return dict(_parse_line(line) for line in os.fsdecode(text).split("\n")[:-1])


def find_damage(directory: Path, digests: Mapping[str, str], on_progress: OnProgress | None = None) -> list[Damage]:
    """Compare what is recorded with what is there; what came later is no damage.

    :param on_progress: told the bytes that were read and are to be read.
    :raises OSError: a file cannot be read, for lack of permission.
    """
    sizes: dict[str, int] = {}
    damage = []
    for path in digests:
        try:
            sizes[path] = os.lstat(f"{directory}/{path}").st_size
        except (FileNotFoundError, NotADirectoryError):
            damage.append(Damage(path, "missing"))
    for path, digest in _digests(directory, sizes, on_progress):
        if isinstance(digest, FileNotFoundError | NotADirectoryError):
            damage.append(Damage(path, "missing"))
        elif isinstance(digest, OSError) and digest.errno not in {errno.EIO, errno.EISDIR, errno.EINVAL}:
            raise digest
        elif digest != digests[path]:
            damage.append(Damage(path, "changed"))
    return sorted(damage, key=lambda one: one.path)


def _walk(directory: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    folders = [("", directory)]
    while folders:
        prefix, folder = folders.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append((f"{prefix}{entry.name}/", entry.path))
                elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
                    yield prefix + entry.name, entry


def _digests(
    directory: Path, sizes: Mapping[str, int], on_progress: OnProgress | None = None
) -> Iterator[tuple[str, str | OSError]]:
    """Yield the digest of each file, or the error that reading it raised."""
    if not sizes:
        return
    from concurrent.futures import ThreadPoolExecutor

    done, total = 0, sum(sizes.values())
    pool = ThreadPoolExecutor(_THREADS)
    try:
        for size, digests in pool.map(lambda batch: _digest_batch(f"{directory}/", batch), _batches(sizes)):
            yield from digests
            done += size
            if on_progress:
                on_progress(done, total)
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(sizes: Mapping[str, int]) -> Iterator[list[tuple[str, int]]]:
    """Yield what is worth a thread's turn; the large files first, so that the threads end together."""
    batch: list[tuple[str, int]] = []
    room = _BATCH_SIZE
    for path, size in sorted(sizes.items(), key=lambda item: -item[1]):
        batch.append((path, size))
        room -= size
        if room <= 0 or len(batch) == _BATCH_FILES:
            yield batch
            batch, room = [], _BATCH_SIZE
    if batch:
        yield batch


def _digest_batch(prefix: str, batch: Iterable[tuple[str, int]]) -> tuple[int, list[tuple[str, str | OSError]]]:
    buffer = bytearray(_CHUNK)
    digests: list[tuple[str, str | OSError]] = []
    read = 0
    for path, size in batch:
        try:
            digests.append((path, _digest(prefix + path, buffer)))
        except OSError as exc:
            digests.append((path, exc))
        read += size
    return read, digests


def _digest(path: str, buffer: bytearray) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            return _digest_of_link(path)
        raise
    digest = hashlib.sha256()
    view = memoryview(buffer)
    with contextlib.closing(os.fdopen(descriptor, "rb", buffering=0)) as stream:
        while count := stream.readinto(buffer):
            digest.update(view[:count])
    return digest.hexdigest()


def _digest_of_link(path: str) -> str:
    return hashlib.sha256(os.fsencode(Path(path).readlink())).hexdigest()


def _line(path: str, digest: str) -> str:
    escaped = "".join(_ESCAPES.get(character, character) for character in path) if _needs_escape(path) else path
    return f"{'' if escaped == path else chr(92)}{digest}  {escaped}\n"


def _needs_escape(path: str) -> bool:
    return any(character in path for character in _ESCAPES)


def _parse_line(line: str) -> tuple[str, str]:
    line = line.removeprefix(_LINK)
    escaped = line.startswith("\\")
    digest, separator, path = line.removeprefix("\\").partition("  ")
    if not separator or not path or len(digest) != 64:
        raise ValueError(f"not a line of sha256sum: {line!r}")
    if escaped:
        path = path.replace("\\\\", "\0").replace("\\n", "\n").replace("\\r", "\r").replace("\0", "\\")
    return path, digest
