"""What a tree of DAG files over a folder looks like.

A folder that holds pipeline documents, or has one below it that does, is a folder of the tree. In it lie, for each
document, a stub, which is the document's DAG file, and links to all else that the folder holds, the documents too, so
that code finds beside it what lies beside it; only hidden folders are left out. Any other folder is linked as a whole. The
stub of a document that is too far down lies in the uppermost folder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple

from pipcook_provider.run_marker import RUN_MARKER
from pipcook_provider.spec.folder import DEFAULTS_NAME, LONGEST_PATH, is_document_name, is_looked_into, is_pipeline_file

#: Text of every stub. It says "airflow" and "DAG", by which Airflow knows a DAG file.
STUB: Final = b'''"""The DAG file that pipcook_provider gives Airflow for a pipeline document. Edit the document, not this."""

from pipcook_provider.bundles.stub import load

dag = load(__file__)
'''

#: Python's own; a link to it would have stubs compiled into somebody else's folder.
BYTECODE: Final = "__pycache__"

#: A change that soon before a look may be followed by one that bears the same time (nanoseconds).
_RACY: Final = 2 * 10**9

#: Bytes of a document's name that leave room for what stubs, and Python's own files beside them, add to it.
_LONGEST_NAME: Final = 200

_Identity = tuple[int, int]


class Mark(NamedTuple):
    """By what a changed file or folder is known.

    :param changed: when its content, name, owner or mode changed, in nanoseconds since 1970; nobody can set it.
    """

    changed: int
    inode: int


NOTHING: Final = Mark(0, 0)
#: Equal to no mark that a look brings, so that the next look is a thorough one.
UNSETTLED: Final = Mark(-1, 0)


def mark_of(path: str | Path) -> Mark:
    """Return the mark of a file or folder, links followed; ``NOTHING`` where there is none or it cannot be asked."""
    try:
        return _mark(os.stat(path))  # noqa: PTH116 - of thousands
    except OSError:
        return NOTHING


@dataclass(frozen=True, slots=True)
class Folder:
    """What lies in a folder of a tree, by name.

    :param links: where each link leads.
    :param stubs: when each stub was modified, in nanoseconds since 1970; None for one that has to be written anew.
    """

    links: Mapping[str, str]
    stubs: Mapping[str, int | None]
    folders: Mapping[str, Folder]

    @classmethod
    def read(cls, path: Path, *, trusted: bool = True) -> Folder:
        """Return what lies in a folder; nothing where there is none.

        :param trusted: whether stubs of the right size are taken for stubs.
        """
        links: dict[str, str] = {}
        stubs: dict[str, int | None] = {}
        folders: dict[str, Folder] = {}
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        links[entry.name] = os.readlink(entry.path)  # noqa: PTH115 - of thousands
                    elif not entry.is_dir():
                        status = entry.stat()
                        stubs[entry.name] = status.st_mtime_ns if trusted and status.st_size == len(STUB) else None
                    elif entry.name != BYTECODE:
                        folders[entry.name] = cls.read(path / entry.name, trusted=trusted)
        except FileNotFoundError:
            pass
        return cls(links, stubs, folders)

    def walk(self, path: Path) -> Iterator[Path]:
        """Yield the path of this folder and of those below it.

        :param path: where this one lies.
        """
        yield path
        for name, folder in self.folders.items():
            yield from folder.walk(path / name)


EMPTY: Final = Folder({}, {}, {})


class Document(NamedTuple):
    """A pipeline document and its stub.

    :param name: path of the document below the folder, with ``/``.
    :param stub: path of its stub below the tree, with ``/``.
    :param path: the document's file.
    """

    name: str
    stub: str
    path: str


@dataclass(frozen=True, slots=True)
class Overlay:
    """A tree as it should be.

    :param documents: in the order of :func:`~pipcook_provider.spec.folder.find_json_files`.
    :param marks: of what tells, as long as it keeps its mark, that the tree should still be like this: the folders, the
        JSON files that are no pipelines, and links to nowhere.
    """

    root: Folder
    documents: Sequence[Document]
    marks: Mapping[str, Mark]


def overlay(source: Path, tree: Folder, known: Mapping[str, Mark], *, now: int, area: Path) -> Overlay:
    """Look at a folder; of its files only those are read that changed.

    :param source: the folder.
    :param tree: its tree as it is; a stub as old as its document tells that this is a pipeline.
    :param known: the marks of the last look; a JSON file that has the same is no pipeline.
    :param now: nanoseconds since 1970.
    :param area: a folder that is left out: where trees lie.
    :raises OSError: the folder cannot be read.
    """
    status = source.stat()
    os.scandir(source).close()
    look = _Look(known, now, tree.stubs)
    above = frozenset({_identity(status), _identity(area.stat())})
    root = look.into(_Place(str(source), "", above, 0), tree)
    if root is None:
        raise OSError(f"{source} cannot be read")
    return Overlay(Folder(root.links, {**root.stubs, **look.far}, root.folders), look.documents, look.marks)


def stub_name(document: str, taken: Container[str]) -> str:
    """Return the name of a document's stub: ``NAME.py``, or where that is taken ``NAME.2.py`` and so on.

    A name that is too long to add anything to is cut, and told from others by its digest.
    """
    encoded = document.encode()
    if len(encoded) > _LONGEST_NAME:
        document = f"{document[:40]}-{hashlib.sha256(encoded).hexdigest()[:16]}.json"
    names = (f"{document}.py" if number == 1 else f"{document}.{number}.py" for number in count(1))
    return next(name for name in names if name not in taken)


class _Place(NamedTuple):
    """A folder that is looked into.

    :param prefix: its path below the source, with ``/`` at its end.
    :param above: it and the folders that it lies in.
    :param modified: when the defaults that hold in it were modified last, in nanoseconds since 1970.
    """

    path: str
    prefix: str
    above: frozenset[_Identity]
    modified: int

    def entries(self) -> list[os.DirEntry[str]]:
        """Return what lies in it, by name, but for what must not lie in a tree.

        :raises OSError: it cannot be read.
        """
        with os.scandir(self.path) as entries:
            return sorted(filter(self._belongs, entries), key=lambda entry: entry.name)

    def below(self, entry: os.DirEntry[str]) -> _Place:
        """Return a folder in it."""
        above = self.above | {_identity(entry.stat())}
        return _Place(entry.path, f"{self.prefix}{entry.name}/", above, self.modified)

    def _belongs(self, entry: os.DirEntry[str]) -> bool:
        """Tell whether an entry may lie in a tree.

        A way back up may not: Airflow, which looks into every folder, would refuse the whole bundle. Nor may a hidden
        folder, where Git, and Kubernetes of a mounted ConfigMap, keep the same files a second time.
        """
        if entry.name == BYTECODE:
            return False
        try:
            return not entry.is_dir() or not (entry.name.startswith(".") or _identity(entry.stat()) in self.above)
        except OSError:
            return entry.is_symlink()


class _Look:
    """One walk through a folder and those below it.

    :param stubs: those that the uppermost folder of the tree has.
    """

    def __init__(self, known: Mapping[str, Mark], now: int, stubs: Mapping[str, int | None]) -> None:
        self.documents: list[Document] = []
        self.far: dict[str, int | None] = {}
        self._stubs_above = stubs
        self.marks: dict[str, Mark] = {}
        self._known = known
        self._settled = now - _RACY
        self._seen: set[_Identity] = set()

    def into(self, place: _Place, tree: Folder) -> Folder | None:
        """Return a folder of the tree; None where it is linked as a whole.

        :param tree: what it is now.
        """
        try:
            status = os.stat(place.path)  # noqa: PTH116 - of thousands
            self.marks[place.path] = self._mark(status)
            entries = place.entries()
        except OSError:  # what cannot be read harms no other
            return None
        if _identity(status) in self._seen:
            return None
        self._seen.add(_identity(status))
        links = {entry.name: entry.path for entry in entries}
        if RUN_MARKER in links:
            return None if place.prefix else Folder(links, {}, {})
        place = place._replace(modified=max([place.modified, *_defaults_modified(entries)]))
        stubs = self._stubs(place, entries, tree.stubs)
        folders: dict[str, Folder] = {}
        for entry in entries:
            if is_looked_into(entry.name) and _is_folder(entry):
                folder = self.into(place.below(entry), tree.folders.get(entry.name, EMPTY))
                if folder is not None:
                    folders[entry.name] = folder
                    del links[entry.name]
        return Folder(links, stubs, folders) if stubs or folders or not place.prefix else None

    def _stubs(
        self, place: _Place, entries: Sequence[os.DirEntry[str]], stubs: Mapping[str, int | None]
    ) -> dict[str, int | None]:
        """Return the stubs of the documents in a folder.

        :param stubs: those that it has.
        """
        taken = {entry.name for entry in entries}
        found: dict[str, int | None] = {}
        for entry in entries:
            if _is_dangling(entry):
                self.marks[entry.path] = NOTHING
            elif is_document_name(entry.name) and not _is_folder(entry):
                document, name = place.prefix + entry.name, stub_name(entry.name, taken)
                prefix, present, into = place.prefix, stubs, found
                if len(prefix + name) > LONGEST_PATH:
                    prefix, present, into = "", self._stubs_above, self.far
                    name = stub_name(document.replace("/", "_"), ())
                modified = self._modified(place, entry, present.get(name))
                if modified is not None:
                    into[name] = modified
                    self.documents.append(Document(document, prefix + name, entry.path))
        return found

    def _modified(self, place: _Place, entry: os.DirEntry[str], stub: int | None) -> int | None:
        """Return when a document or its defaults were modified; None of a JSON file that is no pipeline.

        :param stub: when its stub was modified.
        """
        try:
            status = entry.stat()
        except OSError:
            return place.modified
        modified = max(status.st_mtime_ns, place.modified)
        mark = self._mark(status)
        if stub == modified or (self._is_news(entry.path, mark) and _is_pipeline(entry.path)):
            return modified
        self.marks[entry.path] = mark
        return None

    def _is_news(self, path: str, mark: Mark) -> bool:
        return mark == UNSETTLED or self._known.get(path) != mark

    def _mark(self, status: os.stat_result) -> Mark:
        mark = _mark(status)
        return mark if mark.changed < self._settled else UNSETTLED


def _mark(status: os.stat_result) -> Mark:
    return Mark(status.st_ctime_ns, status.st_ino)


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_dangling(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)  # noqa: PTH110 - of thousands


def _defaults_modified(entries: Iterable[os.DirEntry[str]]) -> Iterator[int]:
    for entry in entries:
        if entry.name == DEFAULTS_NAME:
            with suppress(OSError):
                yield entry.stat().st_mtime_ns


def _is_pipeline(path: str) -> bool:
    try:
        return is_pipeline_file(Path(path))
    except OSError:  # the document's DAG file tells what is wrong
        return True
