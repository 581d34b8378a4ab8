"""Which files of a folder are pipeline documents: the same for Airflow, lint, and whoever looks."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pipcook_provider.run_marker import RUN_MARKER

#: Larger files in a dags folder are data, not pipeline documents; they are not even read.
MAXIMUM_BYTES: Final = 1024 * 1024

#: Folder-wide defaults, which are no document of their own.
DEFAULTS_NAME: Final = "pipcook.defaults.json"

#: Characters of a path under which Airflow's database can file an import error: its DAG processors would end at more. No
#: dag_id is as long, so that there is always an error.
LONGEST_PATH: Final = 1000

_GONE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def find_json_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the JSON files in a folder and those below it that may be pipeline documents, in a stable order.

    Links to folders are followed, as Airflow does. Hidden folders and files, ``node_modules``, folder defaults, the folders
    of runs, and names that are no UTF-8 are left out. Only names are read: whoever wants one document among thousands does
    not touch the others.

    :returns: pairs of the path relative to ``folder`` (with ``/``) and the path.
    """
    seen: set[tuple[int, int]] = set()
    for current, folders, names in os.walk(folder, followlinks=True):
        identity = _identity(current)
        if identity is None or identity in seen or RUN_MARKER in names:
            folders.clear()
            continue
        seen.add(identity)
        folders[:] = sorted(filter(is_looked_into, folders))
        prefix = "".join(f"{part}/" for part in Path(current).relative_to(folder).parts)
        for name in sorted(names):
            if is_document_name(name):
                yield prefix + name, Path(current, name)


def _identity(folder: str) -> tuple[int, int] | None:
    """Return by what a folder is known under any of its names; None for one that is gone."""
    try:
        status = os.stat(folder)  # noqa: PTH116 - of thousands of folders
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_looked_into(name: str) -> bool:
    """Tell whether a folder of that name may hold pipeline documents."""
    return not name.startswith((".", "__")) and name != "node_modules" and _is_text(name)


def is_document_name(name: str) -> bool:
    """Tell whether a file of that name may be a pipeline document."""
    return name.endswith(".json") and not name.startswith(".") and name != DEFAULTS_NAME and _is_text(name)


def _is_text(name: str) -> bool:
    """Tell whether a name is UTF-8: Airflow's processes could not tell each other of any other."""
    return name.isascii() or name.encode(errors="ignore").decode() == name


def has_dag_file(path: Path) -> bool:
    """Tell whether a document has a DAG file of its own beside it, ``NAME.json.py``, as Pipcook's DAG bundle makes them."""
    return path.with_name(f"{path.name}.py").exists()


def is_pipeline_file(path: Path) -> bool:
    """Tell whether a file holds a pipeline document, however broken.

    :raises OSError: it cannot be read; what is gone meanwhile, or a link to nowhere, is simply none.
    """
    from pipcook_provider.spec.parse import is_pipeline_document

    if path.name == DEFAULTS_NAME:
        return False
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAXIMUM_BYTES:
            return False
        return is_pipeline_document(path.read_text(encoding="utf-8", errors="replace"))
    except OSError as exc:
        if exc.errno in _GONE:
            return False
        raise
