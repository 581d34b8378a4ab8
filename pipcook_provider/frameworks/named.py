"""Frameworks by name: which version a name stands for, and where it comes from.

The newest version that the cache or the recipes know decides; where neither knows one, the version as written. That one
is asked of the mirrors, and built from its recipe where they do not have it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipcook_provider.errors import FrameworkError, FrameworkNotFound
from pipcook_provider.frameworks.build import build_from_recipe
from pipcook_provider.frameworks.framework import Framework, Manifest
from pipcook_provider.frameworks.mirror import Report, fetch_from_mirrors, mirror_files
from pipcook_provider.frameworks.platform import Platform
from pipcook_provider.frameworks.recipes import Recipe, find_recipe, known_names
from pipcook_provider.frameworks.reference import NameReference, version_key
from pipcook_provider.settings import Settings
from pipcook_provider.store.cache import Cache


@dataclass(frozen=True, slots=True)
class NamedFramework:
    """A name, and what is known about it before anything is fetched.

    :param asked: the reference as written.
    :param exact: the same with the version that was decided on.
    :param wanted: ``cpu`` or ``gpu``.
    :param cached: the framework, where the cache has it.
    :param recipe: how to build it, where there is a recipe.
    """

    asked: NameReference
    exact: NameReference
    wanted: str
    cached: Framework | None
    recipe: Recipe | None
    settings: Settings
    report: Report

    @classmethod
    def look_up(
        cls, asked: NameReference, wanted: str, cache: Cache, settings: Settings, report: Report
    ) -> NamedFramework:
        """Decide on a version, from the cache and the recipes alone.

        :raises FrameworkNotFound: no version was written, and neither knows one.
        """
        recipe = find_recipe(asked, settings.framework_recipes)
        found = _in_cache(asked, wanted, recipe, cache, report)
        cached = max(found, key=lambda framework: version_key(framework.version), default=None)
        if recipe and cached and version_key(cached.version) < version_key(recipe.manifest.version):
            cached = None
        version = cached.version if cached else recipe.manifest.version if recipe else asked.version
        if version is None:
            raise _not_found(asked, settings, ["the cache and the recipes only: mirrors need a name with a version"])
        return cls(asked, NameReference(asked.name, version), wanted, cached, recipe, settings, report)

    @property
    def key(self) -> str:
        """The cache's key of this version, for this platform and variant."""
        suffix = "-gpu" if self._variants[0] == "gpu" else ""
        return f"{self.exact}-{Platform.current().key}{suffix}"

    def load(self, entry: Path) -> Framework:
        """Describe the framework in the cache's entry."""
        return Framework.load(entry, variant=_variant_of(entry, self.recipe))

    def obtain(self, directory: Path) -> None:
        """Put the framework into an empty directory: from a mirror, else from the package registry.

        :raises FrameworkNotFound: no mirror has it and there is no recipe; the message lists what was tried.
        :raises FetchError: no mirror delivered, and one of them failed.
        :raises FrameworkBuildError: its packages cannot be installed.
        """
        tried = fetch_from_mirrors(self._mirror_files(), directory, self.settings, self._is_right, self.report)
        if tried is None:
            return
        if self.recipe is None:
            raise _not_found(self.asked, self.settings, tried or ["no mirror: none is configured"])
        build_from_recipe(self.recipe, self._variants[0], directory, self.report)

    @property
    def _variants(self) -> tuple[str | None, ...]:
        """The variants to look for; None stands for a framework that does not tell them apart."""
        if self.recipe is not None:
            return (self.wanted if self.recipe.manifest.has_variants else None,)
        return ("gpu", None) if self.wanted == "gpu" else (None,)

    def _mirror_files(self) -> list[str]:
        version = self.exact.version or ""
        spellings = [version, self.asked.version or version, ".".join(version.split(".")[:2])]
        return mirror_files(self.asked.name, spellings, Platform.current(), self._variants)

    def _is_right(self, manifest: Manifest) -> bool:
        return (
            manifest.name == self.exact.name
            and self.exact.accepts(manifest.version)
            and manifest.variant in (None, self.wanted)
            and manifest.platform in (None, Platform.current().key)
        )


def _in_cache(
    asked: NameReference, wanted: str, recipe: Recipe | None, cache: Cache, report: Report
) -> Iterator[Framework]:
    platform = Platform.current().key
    for entry in cache.entries():
        name, _, rest = entry.name.partition("@")
        if name != asked.name or not rest.removesuffix("-gpu").endswith(f"-{platform}"):
            continue
        try:
            framework = Framework.load(entry, variant=_variant_of(entry, recipe))
        except FrameworkError as exc:
            report(f"Warning: {entry} is left aside: {exc}")
            continue
        if framework.variant in (None, wanted) and asked.accepts(framework.version):
            yield framework


def _variant_of(entry: Path, recipe: Recipe | None) -> str | None:
    """Return the variant of a cached framework that does not say it itself: mirrors tell it by the file's name."""
    if entry.name.endswith("-gpu"):
        return "gpu"
    return "cpu" if recipe is not None and recipe.manifest.has_variants else None


def _not_found(asked: NameReference, settings: Settings, tried: list[str]) -> FrameworkNotFound:
    known = sorted(set(known_names(settings.framework_recipes)))
    near = difflib.get_close_matches(str(asked), known, n=1, cutoff=0.5)
    lines = "".join(f"\n    {line}" for line in tried)
    return FrameworkNotFound(
        f"The framework {asked} was expected in the cache, on a mirror or among the recipes ({', '.join(known)}), but "
        f"none has it for {Platform.current().key}, so the pipeline cannot run. "
        + (f"Did you mean {near[0]}? " if near else "")
        + "Correct options.framework, or name a mirror ([pipcook] framework_mirror) or a folder with a recipe of it "
        f"([pipcook] framework_recipes). Tried:{lines}"
    )
