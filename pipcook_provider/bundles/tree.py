"""A tree of DAG files on disk, which readers never see half made.

In the folder of a tree::

    dags/               what Airflow reads, described in overlay.py
    notes/              of stubs whose place does not say all, described in notes.py
    pipcook-tree.json   what the tree was made of
    staging/            what is about to appear in ``dags`` by a rename

A link appears before the stub that needs it, and goes after it.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any, Final, Self

from pipcook_provider.bundles.documents import RemoteDocument
from pipcook_provider.bundles.notes import Note, read_note, remove_other_notes, write_note
from pipcook_provider.bundles.overlay import BYTECODE, EMPTY, STUB, Document, Folder, Mark, mark_of, overlay, stub_name
from pipcook_provider.errors import Problem
from pipcook_provider.plan import dag_id_of, dag_id_taken
from pipcook_provider.store.atomic import write_atomically

#: Beside the folder with the stubs, by which a stub finds where that begins.
INDEX_NAME: Final = "pipcook-tree.json"

#: Raised when stubs, notes or the index change their form: a tree of another form is made anew.
_FORM: Final = 1


@dataclass(frozen=True, slots=True)
class _Index:
    """What a tree was made of.

    :param source: the folder.
    :param remote: when each document from the web changed last, by its URL (nanoseconds since 1970).
    :param marks: of files and folders, the tree's own too, that tell by their marks whether it has to be made anew.
    """

    form: int
    source: str
    remote: Mapping[str, int]
    marks: Mapping[str, Mark]

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return an index; None where there is none of this form."""
        try:
            found = json.loads(path.read_bytes())
            if found["form"] != _FORM:
                return None
            marks = {name: Mark(*mark) for name, mark in found["marks"].items()}
            return cls(_FORM, found["source"], found["remote"], marks)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, path: Path) -> None:
        fields: dict[str, Any] = {"form": self.form, "source": self.source, "remote": self.remote, "marks": self.marks}
        write_atomically(path, json.dumps(fields).encode())


class Tree:
    """The tree over one folder, as it is at one version.

    :param folder: where it lies.
    :param area: the folder of all trees.
    """

    def __init__(self, folder: Path, area: Path) -> None:
        self.dags = folder / "dags"
        self._notes = folder / "notes"
        self._index = folder / INDEX_NAME
        self._staging = folder / "staging"
        self._area = area

    def is_current(self, source: Path, remote: Sequence[RemoteDocument]) -> bool:
        """Tell whether the tree is as it should be; what that costs depends on the number of folders, not of documents.

        Documents that became others in place are not noticed: their DAG files stay the same.
        """
        index = _Index.read(self._index)
        return (
            index is not None
            and index.source == str(source)
            and index.remote == _changes(remote)
            and all(mark_of(path) == mark for path, mark in index.marks.items())
        )

    def update(self, source: Path, remote: Sequence[RemoteDocument]) -> None:
        """Bring the tree up to date; only one process at a time may do so.

        :param source: the folder that it is made over.
        :param remote: the documents from the web, which lie beside those of the folder.
        :raises OSError: the folder cannot be read, or the tree cannot be written.
        """
        index = _Index.read(self._index)
        trusted = index is not None and index.source == str(source)
        shutil.rmtree(self._staging, ignore_errors=True)
        for folder in (self.dags, self._notes, self._staging):
            folder.mkdir(parents=True, exist_ok=True)
        present = Folder.read(self.dags, trusted=trusted)
        known = index.marks if index is not None and trusted else {}
        wanted = overlay(source, present if trusted else EMPTY, known, now=time.time_ns(), area=self._area)
        root, added = _with_remote(wanted.root, remote)
        notes = dict(_notes([*wanted.documents, *added], {str(document.path): document for document in remote}))
        for stub, note in notes.items():
            if read_note(self._notes, stub) != note:
                write_note(self._notes, stub, note)
        _Change(self._staging).bring(self.dags, root, present)
        remove_other_notes(self._notes, frozenset(notes))
        own = {str(path): mark_of(path) for path in (self._notes, *root.walk(self.dags))}
        new = _Index(_FORM, str(source), _changes(remote), {**wanted.marks, **own})
        if new != index:
            new.write(self._index)

    def source(self) -> Path | None:
        """Return the folder that the tree was made over; None where that is not known."""
        index = _Index.read(self._index)
        return None if index is None else Path(index.source)


def _changes(remote: Sequence[RemoteDocument]) -> dict[str, int]:
    return {document.url: document.changed for document in remote}


def _with_remote(root: Folder, remote: Sequence[RemoteDocument]) -> tuple[Folder, list[Document]]:
    """Return a tree with the stubs of documents from the web in its uppermost folder, and what these stand for."""
    stubs, added = dict(root.stubs), []
    for document in remote:
        stub = stub_name(document.name, {*root.links, *root.folders, *stubs})
        stubs[stub] = document.changed
        added.append(Document(document.name, stub, str(document.path)))
    return Folder(root.links, stubs, root.folders), added


def _notes(documents: Sequence[Document], remote: Mapping[str, RemoteDocument]) -> Iterator[tuple[str, Note]]:
    """Yield the stubs that need a note, each with its note.

    :param remote: documents from the web by the path of their copy.
    """
    owners: dict[str, str] = {}
    for document in documents:
        dag_id = dag_id_of(document.name)
        fetched = remote.get(document.path)
        place = fetched.shown if fetched else document.path
        problem = fetched.problem if fetched else None
        if dag_id in owners:
            problem = Problem.of_document(dag_id_taken(dag_id, owners[dag_id])).render(place)
        owners.setdefault(dag_id, place)
        if fetched or problem or document.stub != f"{document.name}.py":
            yield document.stub, Note(document.name, document.path, fetched.url if fetched else None, problem)


class _Change:
    """Brings a tree from what it is to what it should be.

    :param staging: an empty folder on the same file system.
    """

    def __init__(self, staging: Path) -> None:
        self._staged = (staging / str(number) for number in itertools.count())

    def bring(self, path: Path, wanted: Folder, present: Folder) -> None:
        """Change a folder and those below it.

        :raises OSError: it cannot be written.
        """
        for name in present.stubs.keys() - wanted.stubs.keys():
            (path / name).unlink(missing_ok=True)
            Path(cache_from_source(path / name)).unlink(missing_ok=True)
        for name in present.links.keys() - wanted.links.keys() - wanted.folders.keys():
            (path / name).unlink(missing_ok=True)
        for name in present.folders.keys() - wanted.folders.keys():
            self._discard(path / name)
        (path / BYTECODE).mkdir(exist_ok=True)  # now, since Python's making it would look like a change of the folder
        for name, target in wanted.links.items():
            if present.links.get(name) != target:
                self._link(path / name, target)
        for name, folder in wanted.folders.items():
            if name in present.folders:
                self.bring(path / name, folder, present.folders[name])
            else:
                self._add(path / name, folder)
        for name, modified in wanted.stubs.items():
            if present.stubs.get(name) is None:
                self._write(path / name, modified)
            elif present.stubs[name] != modified:
                _date(path / name, modified)

    def _link(self, path: Path, target: str) -> None:
        staged = next(self._staged)
        staged.symlink_to(target)
        staged.replace(path)

    def _write(self, path: Path, modified: int | None) -> None:
        staged = next(self._staged)
        staged.write_bytes(STUB)
        _date(staged, modified)
        staged.replace(path)

    def _add(self, path: Path, folder: Folder) -> None:
        staged = next(self._staged)
        staged.mkdir()
        self.bring(staged, folder, EMPTY)
        path.unlink(missing_ok=True)  # a link to the folder as a whole
        staged.rename(path)

    def _discard(self, path: Path) -> None:
        staged = next(self._staged)
        path.rename(staged)
        shutil.rmtree(staged, ignore_errors=True)  # a process that parses may still write bytecode into it


def _date(stub: Path, modified: int | None) -> None:
    if modified is not None:
        os.utime(stub, ns=(modified, modified))
