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
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from pipcook_provider.errors import ArtifactError

GROUP = "pipcook.artifacts"

_OWN = __name__.partition(".")[0]


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


def processor_files(processor: str) -> tuple[str, dict[str, Path]]:
    """Return the package that offers ``name@version``, and its Python files by their names relative to it, in order.

    The files are all those of the top-level package that the entry point's module lies in, since any of them may have a
    part in it: below namespace packages that is the first regular package, or the module. Of pipcook_provider, of which
    the version is the installation's choice, they are those of the module's own folder. Nothing of them is imported.

    :returns: the distribution's name; files by posix path relative to the package's folder, ordered by that path.
    :raises ArtifactError: no installed package offers it, or its module's package is not there.
    """
    entry = find_processor(processor)
    top = entry.module.partition(".")[0]
    package = entry.dist.name if entry.dist else top
    found = _package_spec(entry.module)
    if found is None:
        raise ArtifactError(
            f"the artifact processor {processor!r} was expected in the module {entry.module!r}, but there is no such "
            f"module here: the installation of {package} is damaged. Install it again."
        )
    if not found.submodule_search_locations:
        assert found.origin is not None
        return package, {Path(found.origin).name: Path(found.origin)}
    folders = [Path(folder) for folder in found.submodule_search_locations]
    if top == _OWN:
        folders = [_module_folder(folders[0], entry.module)]
    # The first folder of a package goes before the others, as for imports.
    files = {file.relative_to(folder).as_posix(): file for folder in folders[::-1] for file in folder.rglob("*.py")}
    return package, dict(sorted(files.items()))


def _package_spec(module: str) -> ModuleSpec | None:
    """Find the outermost package around a module, or module, that is no namespace package; nothing is imported."""
    name, *inner = module.split(".")
    spec = find_spec(name)
    for part in inner:
        if spec is None or spec.origin is not None:
            break
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations or ()))
    return spec


def _module_folder(top: Path, module: str) -> Path:
    path = top.joinpath(*module.split(".")[1:])
    return path if path.is_dir() else path.parent


def load_processor(processor: str) -> Processor:
    """Load the processor for ``name@version``.

    :raises ArtifactError: no installed package offers it.
    """
    loaded: Any = find_processor(processor).load()
    found: Processor = loaded() if isinstance(loaded, type) else loaded
    return found
