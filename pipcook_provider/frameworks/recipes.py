"""Recipes: frameworks without their packages, from which a registry build makes whole ones.

A recipe is a folder ``name@version`` with ``framework.json`` and ``index.py``. Ours are beside this module; the
folders of ``[pipcook] framework_recipes`` are searched first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipcook_provider.frameworks.framework import MANIFEST, Manifest
from pipcook_provider.frameworks.reference import NameReference, version_key

SHIPPED = Path(__file__).parent / "recipes"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe: its folder, and what its ``framework.json`` says."""

    directory: Path
    manifest: Manifest


def find_recipe(asked: NameReference, folders: tuple[Path, ...]) -> Recipe | None:
    """Return the newest recipe that answers to the name, from the first folder that has one.

    :raises FrameworkError: a recipe of that name cannot be read.
    """
    for folder in (*folders, SHIPPED):
        found = [
            Recipe(path.parent, manifest)
            for path in folder.glob(f"{asked.name}@*/{MANIFEST}")
            if (manifest := Manifest.read(path.parent)).name == asked.name and asked.accepts(manifest.version)
        ]
        if found:
            return max(found, key=lambda recipe: version_key(recipe.manifest.version))
    return None


def known_names(folders: tuple[Path, ...]) -> Iterator[str]:
    """Yield ``name@version`` of every recipe, as its folder is called."""
    for folder in (*folders, SHIPPED):
        yield from (path.parent.name for path in folder.glob(f"*@*/{MANIFEST}"))
