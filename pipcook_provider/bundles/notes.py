"""What a stub has to know that does not show from where it lies: few stubs have any."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pipcook_provider.store.atomic import write_atomically


@dataclass(frozen=True, slots=True)
class Note:
    """Which document a stub stands for, or why for none.

    :param name: the document's path below the bundle's folder, with ``/``; its DAG is named after it.
    :param path: the document's file.
    :param origin: the URL that it came from.
    :param problem: why it cannot be a DAG, for a person.
    """

    name: str
    path: str
    origin: str | None = None
    problem: str | None = None


def read_note(folder: Path, stub: str) -> Note | None:
    """Return the note of a stub; None where there is none, or none that can be read.

    :param stub: the stub's path below the tree, with ``/``.
    """
    try:
        return Note(**json.loads(_path(folder, stub).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def write_note(folder: Path, stub: str, note: Note) -> None:
    """Write the note of a stub.

    :raises OSError: it cannot be written.
    """
    write_atomically(_path(folder, stub), json.dumps(asdict(note)).encode())


def remove_other_notes(folder: Path, stubs: frozenset[str]) -> None:
    """Remove the notes of stubs other than these."""
    kept = {_path(folder, stub) for stub in stubs}
    for path in folder.iterdir():
        if path not in kept:
            path.unlink(missing_ok=True)


def _path(folder: Path, stub: str) -> Path:
    return folder / f"{hashlib.sha256(stub.encode()).hexdigest()[:32]}.json"
