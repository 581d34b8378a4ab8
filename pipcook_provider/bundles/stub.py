"""What the DAG file of a pipeline document calls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipcook_provider.bundles.notes import Note, read_note
from pipcook_provider.bundles.tree import INDEX_NAME
from pipcook_provider.errors import PipcookError
from pipcook_provider.plan import dag_id_of
from pipcook_provider.spec.folder import is_pipeline_file

if TYPE_CHECKING:
    from airflow.sdk import DAG


def load(stub: str) -> DAG | None:
    """Build the DAG of the document that a stub stands for.

    :param stub: the stub's file.
    :returns: None when the document is no pipeline any more.
    :raises PipcookError: it cannot be a DAG; the message ends what Airflow shows as the import error.
    """
    try:
        return _load(Path(stub).absolute())
    except PipcookError as exc:
        # Airflow shows the traceback, whose reader is to see what is wrong with the document.
        raise exc.with_traceback(None) from None


def _load(stub: Path) -> DAG | None:
    from pipcook_provider.dag_factory import DocumentSource, load_pipeline

    note = _note(stub)
    if note.problem is not None:
        raise PipcookError(note.problem)
    path = Path(note.path)
    source = DocumentSource(note.origin, note.origin or note.name)
    try:
        return load_pipeline(path, dag_id_of(note.name), source=source)
    except PipcookError:
        if note.origin is None and _is_none(path):
            return None
        raise


def _is_none(path: Path) -> bool:
    """Tell whether a file is no pipeline document any more."""
    try:
        return not is_pipeline_file(path)
    except OSError:
        return False


def _note(stub: Path) -> Note:
    """Return what a stub stands for.

    :raises PipcookError: it does not lie in a tree, or nothing is left of its document.
    """
    root = next((folder for folder in stub.parents if (folder.parent / INDEX_NAME).is_file()), None)
    if root is None:
        raise PipcookError(
            f"{stub} was expected to lie in a tree of a Pipcook DAG bundle; it does not, so its document is not known. "
            "Delete it, and have the bundle refreshed."
        )
    name = stub.relative_to(root).as_posix()
    note = read_note(root.parent / "notes", name)
    if note is not None:
        return note
    link = stub.with_suffix("")
    try:
        return Note(name.removesuffix(".py"), str(link.readlink()))
    except OSError as exc:
        raise PipcookError(
            f"{link} was expected to be a link to a pipeline document; there is none ({exc.strerror}), so there is no DAG. "
            "Airflow mends it when it refreshes the bundle next."
        ) from exc
