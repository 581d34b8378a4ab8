"""Recipes: frameworks without their packages, from which a registry build makes whole ones.

A recipe is a folder with ``framework.json`` and ``index.py``: ``name`` where it serves any version, ``name@version`` where
its ``framework.json`` names one. Ours are beside this module; the folders of ``[pipcook] framework_recipes`` are searched
first. A recipe for any version has no ``version`` in its ``framework.json``, and those packages that carry the framework's
version ask for ``{version}``::

    {
      "name": "pytorch",
      "packages": [
        {"name": "torch", "version": "{version}", "type": "python"},
        {"name": "pillow", "version": ">=11", "type": "python"}
      ]
    }

The package registries are those that uv, pip and npm are configured for, by their own files and variables: so
``UV_TORCH_BACKEND=cpu`` gives a PyTorch without CUDA on Linux, which is a tenth in size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipcook_provider.errors import FrameworkError
from pipcook_provider.frameworks.framework import MANIFEST, Manifest
from pipcook_provider.frameworks.reference import NameReference, version_key

SHIPPED = Path(__file__).parent / "recipes"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe: its folder, and what its ``framework.json`` says.

    A record takes the manifest's place to build the same again: ``replace(recipe, manifest=Manifest.parse(record))``.
    """

    directory: Path
    manifest: Manifest

    @property
    def version(self) -> str | None:
        """The only version that it serves; None where it serves any."""
        return self.manifest.version or None

    def variant(self, wanted: str) -> str | None:
        """Return the variant to build where ``cpu`` or ``gpu`` is wanted: None where it does not tell them apart."""
        return wanted if self.manifest.has_variants else None


def find_recipe(asked: NameReference, folders: tuple[Path, ...]) -> Recipe | None:
    """Return the recipe that answers to the name, from the first folder that has one.

    In a folder, the newest that names a version is preferred to one that serves any.

    :raises FrameworkError: a recipe of that name cannot be read.
    """
    for folder in (*folders, SHIPPED):
        found = [
            recipe
            for pattern in (asked.name, f"{asked.name}@*")
            for recipe in _recipes(folder, pattern)
            if recipe.version is None or asked.accepts(recipe.version)
        ]
        if found:
            return max(found, key=lambda recipe: version_key(recipe.manifest.version))
    return None


def known_names(folders: tuple[Path, ...]) -> Iterator[str]:
    """Yield ``name`` or ``name@version`` of every recipe, as its folder is called."""
    for folder in (*folders, SHIPPED):
        yield from sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}"))


def names_with_package(package: str, folders: tuple[Path, ...]) -> Iterator[str]:
    """Yield the names of the recipes whose version is that of a package: ``pytorch`` for ``torch``."""
    for folder in (*folders, SHIPPED):
        for path in sorted(folder.glob(f"*/{MANIFEST}")):
            try:
                recipe = Recipe(path.parent, Manifest.read(path.parent, recipe=True))
            except FrameworkError:  # told when it is asked for
                continue
            names = {_plain_name(entry.name) for entry in recipe.manifest.packages if entry.is_carrier}
            if _plain_name(package) in names:
                yield recipe.manifest.name


def _recipes(folder: Path, pattern: str) -> Iterator[Recipe]:
    for path in sorted(folder.glob(f"{pattern}/{MANIFEST}")):
        recipe = Recipe(path.parent, Manifest.read(path.parent, recipe=True))
        if recipe.manifest.name != path.parent.name.partition("@")[0]:
            raise FrameworkError(
                f"{path} was expected to be the recipe that its folder is called after, but its name is "
                f"{recipe.manifest.name!r}, so neither is found. Call the folder and the recipe alike."
            )
        yield recipe


def _plain_name(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package.partition("[")[0]).lower()
