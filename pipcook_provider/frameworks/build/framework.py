"""From a recipe to a framework's directory."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipcook_provider.errors import FrameworkError, FrameworkNotFound
from pipcook_provider.frameworks.build.modules import Module, install_modules, resolve_modules
from pipcook_provider.frameworks.build.records import recorded_digests
from pipcook_provider.frameworks.build.target import Target
from pipcook_provider.frameworks.build.wheels import Wheel, install_wheels, plain_name, resolve_wheels
from pipcook_provider.frameworks.framework import MANIFEST, Manifest, Package
from pipcook_provider.frameworks.platform import Platform
from pipcook_provider.frameworks.recipes import Recipe
from pipcook_provider.frameworks.report import Report
from pipcook_provider.store.cache import Built

_RELEASE = re.compile(r"\d+(\.\d+)*")


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a recipe stands for on one platform: an exact version, made of exact packages.

    :param version: of the framework.
    :param variant: ``cpu`` or ``gpu``; None where the recipe does not tell them apart.
    :param platform: what the packages are for.
    """

    recipe: Recipe
    version: str
    variant: str | None
    platform: Platform
    wheels: tuple[Wheel, ...]
    modules: tuple[Module, ...]

    @property
    def document(self) -> dict[str, Any]:
        """The ``framework.json`` of a framework that is built so."""
        manifest = self.recipe.manifest
        return {
            "name": manifest.name,
            "version": self.version,
            **{key: value for key, value in manifest.document.items() if key not in {"name", "version"}},
            "packages": list(self._packages()),
            "variant": self.variant,
            "platform": self.platform.key,
            "installed": [*(wheel.record for wheel in self.wheels), *(module.record for module in self.modules)],
        }

    def __str__(self) -> str:
        return f"{self.recipe.manifest.name}@{self.version}" + (f" ({self.variant})" if self.variant else "")

    def _packages(self) -> Iterator[dict[str, Any]]:
        manifest = self.recipe.manifest
        for package, entry in zip(manifest.packages, manifest.document.get("packages", []), strict=True):
            if package.variant in {None, self.variant}:
                yield {**entry, "version": self.version} if package.is_carrier else entry


def resolve(
    recipe: Recipe, asked: str | None, wanted: str, report: Report, platform: Platform | None = None
) -> Resolution:
    """Return what a recipe stands for on one platform; nothing is installed.

    A recipe that is the record of a build, with digests, stands for exactly that: no registry is asked.

    :param asked: the version, or the beginning of one; None for the newest. A recipe's own version goes before it.
    :param wanted: ``cpu`` or ``gpu``.
    :param platform: by default this process's.
    :raises FrameworkNotFound: the registries answered, and have no such version for the platform.
    :raises FrameworkBuildError: the registries cannot be asked.
    :raises FrameworkError: it is a record of another platform or variant, nothing can be built here for the platform, or a
        program is missing.
    """
    manifest = recipe.manifest
    platform = platform or Platform.current()
    if manifest.has_javascript:
        platform = platform.with_node()
    if _is_record(manifest):
        return _recorded(recipe, wanted, platform)
    variant = recipe.variant(wanted)
    packages = [package for package in manifest.packages_for(variant) if _is_for(package, platform)]
    if recipe.version:
        packages = [replace(package, version=recipe.version) if package.is_carrier else package for package in packages]
    what = f"The framework {manifest.name}" + (f"@{recipe.version or asked}" if recipe.version or asked else "")
    requirements = [_requirement(package, asked) for package in packages if package.type == "python"]
    wheels = resolve_wheels(requirements, what, report, platform)
    dependencies = {package.name: _range(package, asked) for package in packages if package.type == "js"}
    modules = resolve_modules(dependencies, what, report)
    exact = recipe.version or _version_of(packages, wheels, modules, what)
    return Resolution(recipe, exact, variant, platform, wheels, modules)


def newest_version(recipe: Recipe, asked: str | None, wanted: str, report: Report) -> str:
    """Return the newest version that a recipe stands for on this platform; as :func:`resolve`.

    No registry is asked where the recipe names its version.
    """
    return recipe.version or resolve(recipe, asked, wanted, report).version


def build_from_recipe(resolution: Resolution, directory: Path, report: Report, *, repair: bool = False) -> Built:
    """Make a framework in an empty directory.

    :param repair: whether to distrust the installer's cache, which shares files with the frameworks made of it: what was
        installed is compared with the wheels' own records, and downloaded again where it differs.
    :raises FrameworkBuildError: the packages cannot be installed.
    :raises FrameworkError: a program is missing.
    """
    recipe = resolution.recipe

    def ignored(folder: str, names: list[str]) -> set[str]:
        # Of a recipe that is a whole framework, its packages stay where they are.
        at_top = {"site-packages", "node_modules", MANIFEST} if Path(folder) == recipe.directory else set[str]()
        return {"__pycache__", *at_top}.intersection(names)

    shutil.copytree(recipe.directory, directory, dirs_exist_ok=True, ignore=ignored)
    site_packages = directory / "site-packages"
    if resolution.wheels or resolution.modules:
        place = "" if resolution.platform.is_current else f" for {resolution.platform.key}"
        report.info(f"Building {resolution}{place} from the package registries")
    unrecorded = install_wheels(
        resolution.wheels, site_packages, str(resolution), report, resolution.platform, repair=repair
    )
    install_modules(resolution.modules, directory / "node_modules", str(resolution), report)
    (directory / MANIFEST).write_text(
        json.dumps(resolution.document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    recorded = recorded_digests(site_packages)
    digests = {f"site-packages/{path}": recorded[path] for path in recorded.keys() - set(unrecorded)}
    return Built(f"registry (recipe {recipe.directory.name})", None, digests)


def _is_record(manifest: Manifest) -> bool:
    return bool(manifest.installed) and all("sha256" in item or "integrity" in item for item in manifest.installed)


def _recorded(recipe: Recipe, wanted: str, platform: Platform) -> Resolution:
    manifest = recipe.manifest
    if manifest.platform != platform.key or manifest.variant not in {None, wanted}:
        found = f"{manifest.platform}" + (f" ({manifest.variant})" if manifest.variant else "")
        raise FrameworkError(
            f"The record of {manifest.name}@{manifest.version} was expected to be for {platform.key} ({wanted}), but it is of "
            f"a build for {found}, whose packages would not load there. Build it from its recipe for that platform, and "
            "record that too."
        )
    try:
        modules = tuple(Module.read(item) for item in manifest.installed if "integrity" in item)
        wheels = tuple(Wheel.read(item) for item in manifest.installed if "integrity" not in item)
    except ValueError as exc:
        raise FrameworkError(
            f"The record of {manifest.name}@{manifest.version} was expected to have name, version and sha256, or path and "
            f"integrity, of each package, but it does not: {exc}. Build it again from its recipe."
        ) from exc
    return Resolution(recipe, manifest.version, manifest.variant, platform, wheels, modules)


def _is_for(package: Package, platform: Platform) -> bool:
    from packaging.markers import InvalidMarker, Marker

    target = Target.of(platform)
    try:
        return not package.marker or Marker(package.marker).evaluate(target.markers if target else None)
    except InvalidMarker as exc:
        raise FrameworkError(
            f"The marker of the package {package.name} was expected to be an environment marker (PEP 508) such as "
            f"sys_platform == 'linux', but it is not: {exc}. Correct the recipe."
        ) from exc


def _requirement(package: Package, version: str | None) -> str:
    """Return a Python package as a PEP 508 requirement.

    :param version: that of the framework, or the beginning of one.
    """
    wanted = version if package.is_carrier else package.version
    specifier = wanted or ""
    if specifier[:1].isdigit():
        is_beginning = package.is_carrier and _RELEASE.fullmatch(specifier)
        specifier = f"=={specifier}.*" if is_beginning else f"=={specifier}"
    return f"{package.name}{specifier}"


def _range(package: Package, version: str | None) -> str:
    """Return the versions of a JavaScript package, as npm understands them: ``3.8`` is any 3.8.x."""
    return (version if package.is_carrier else package.version) or "latest"


def _version_of(packages: Sequence[Package], wheels: Sequence[Wheel], modules: Sequence[Module], what: str) -> str:
    """Return the version that those packages got whose version is the framework's."""
    versions = {("python", wheel.name): wheel.version for wheel in wheels}
    versions |= {("js", module.place[1]): module.version for module in modules if not module.place[0]}
    carriers = [package for package in packages if package.is_carrier]
    keys = [(p.type, plain_name(p.name) if p.type == "python" else p.name) for p in carriers]
    found = {versions[key] for key in keys if key in versions}
    if len(found) == 1:
        return found.pop()
    if found:
        raise FrameworkNotFound(
            f"{what} was expected to be of one version, but its packages {', '.join(p.name for p in carriers)} have "
            f"different newest ones: {', '.join(sorted(found))}. Ask for an exact version, or correct the recipe."
        )
    raise FrameworkError(
        f"{what} was expected to get its version from one of its packages, but none of those that the platform needs "
        'has "version": "{version}". Correct the recipe: give it a version, or that line to a package.'
    )
