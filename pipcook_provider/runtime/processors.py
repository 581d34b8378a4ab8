"""Finding artifact processors: packages offer theirs by the entry point group ``pipcook.artifacts``.

A processor is an object, or a class without arguments, with two methods, called in the run's workspace::

    class Processor:
        def initialize(self, options: Mapping[str, Any]) -> None: ...
        def build(self, model_dir: Path, options: Mapping[str, Any]) -> Path | None: ...

``initialize`` runs before anything is trained and refuses options that cannot work; ``build`` runs on the trained
model. ``options`` is the whole entry of the document's ``artifact`` list, ``processor`` included; relative paths in it
mean places in the workspace.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from pipcook_provider.errors import ArtifactError

GROUP = "pipcook.artifacts"


class Processor(Protocol):
    """What a package registers under :data:`GROUP`."""

    def initialize(self, options: Mapping[str, Any]) -> None:
        """Refuse options that cannot work, by raising."""

    def build(self, model_dir: Path, options: Mapping[str, Any]) -> Path | None:
        """Make something of the trained model; return the path of what was made."""


def find_processor(processor: str) -> EntryPoint:
    """Find the entry point for ``name@version``. The name decides; which version answers is the installation's choice.

    :raises ArtifactError: no installed package offers it.
    """
    known = {entry.name: entry for entry in entry_points(group=GROUP)}
    at = processor.rfind("@")
    name = processor[:at] if at > 0 else processor
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    raise ArtifactError(
        f"no installed package offers the artifact processor {processor!r}."
        + (f" Did you mean {near[0]!r}?" if near else "")
        + f" Known here: {', '.join(sorted(known)) or 'none'}. Packages add theirs by the entry point group {GROUP!r}."
    )


def processor_files(processor: str) -> tuple[str, list[Path]]:
    """Return the package that offers ``name@version`` and its Python files, in order; nothing of it is imported.

    The files are those of the package, in Python's sense, that the entry point's module lies in.

    :raises ArtifactError: no installed package offers it.
    """
    entry = find_processor(processor)
    top, *inner = entry.module.split(".")
    spec = find_spec(top)
    package = entry.dist.name if entry.dist else top
    if spec is None or spec.origin is None:
        raise ArtifactError(
            f"the artifact processor {processor!r} was expected in the module {entry.module!r}, but there is no "
            f"{top!r} here: the installation of {package} is damaged. Install it again."
        )
    if not spec.submodule_search_locations:
        return package, [Path(spec.origin)]
    folder = Path(spec.submodule_search_locations[0]).joinpath(*inner[:-1])
    if inner and (folder / inner[-1]).is_dir():
        folder /= inner[-1]
    return package, sorted(file for file in folder.rglob("*.py"))


def load_processor(processor: str) -> Processor:
    """Load the processor for ``name@version``.

    :raises ArtifactError: no installed package offers it.
    """
    loaded: Any = find_processor(processor).load()
    found: Processor = loaded() if isinstance(loaded, type) else loaded
    return found
