"""A framework's directory, and the ``framework.json`` in it.

Layout (Pipcook's, see the README)::

    framework.json     name, version, packages
    index.py           initialize(options), called before every script
    site-packages/     Python packages

A registry build also records ``variant``, ``platform`` and ``installed``: the exact packages that it put there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipcook_provider.errors import FrameworkError
from pipcook_provider.frameworks.platform import Platform

MANIFEST = "framework.json"
VARIANTS = ("cpu", "gpu")


@dataclass(frozen=True, slots=True)
class Package:
    """A package that a framework is made of.

    :param name: with extras, as the registry's installer takes it: ``tensorflow[and-cuda]``.
    :param version: an exact version, or a specifier such as ``>=11``; any where empty.
    :param type: ``python`` or ``js``.
    :param variant: ``cpu`` or ``gpu`` where only that variant has it.
    :param marker: environment marker (PEP 508) of the platforms that have it; all where empty.
    """

    name: str
    version: str = ""
    type: str = "python"
    variant: str | None = None
    marker: str = ""

    @property
    def requirement(self) -> str:
        """The package as a PEP 508 requirement."""
        version = f"=={self.version}" if self.version[:1].isdigit() else self.version
        return f"{self.name}{version}" + (f" ; {self.marker}" if self.marker else "")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a ``framework.json`` says; ``document`` is all of it, as read."""

    name: str
    version: str
    packages: tuple[Package, ...]
    variant: str | None
    platform: str | None
    document: Mapping[str, Any]

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """Read the ``framework.json`` of a directory.

        :raises FrameworkError: there is none, or it cannot be used.
        """
        path = directory / MANIFEST
        try:
            document = json.loads(path.read_text(encoding="utf-8-sig"))
            return cls._from(document)
        except FileNotFoundError:
            raise FrameworkError(
                f"{directory} was expected to be a framework with a {MANIFEST} at its top, but has none, so it cannot "
                f"be used.{_nested_hint(directory)}"
            ) from None
        except (OSError, ValueError) as exc:
            raise FrameworkError(f"{path} cannot be used: {exc}. Correct it, or delete {directory}.") from exc

    @classmethod
    def _from(cls, document: Any) -> Manifest:
        if not isinstance(document, dict):
            raise ValueError("expected an object with name, version and packages")
        for key in ("name", "version"):
            if not isinstance(document.get(key), str) or not document[key]:
                raise ValueError(f"expected a text as {key}, found {document.get(key)!r}")
        variant, packages = document.get("variant"), document.get("packages", [])
        _check_variant(variant)
        if not isinstance(packages, list):
            raise ValueError(f"expected a list as packages, found {packages!r}")
        found = tuple(map(_package, packages))
        return cls(document["name"], document["version"], found, variant, document.get("platform"), document)

    @property
    def has_variants(self) -> bool:
        """Whether some packages are for the CPU or the GPU variant only."""
        return any(package.variant for package in self.packages)

    def packages_for(self, variant: str | None) -> tuple[Package, ...]:
        """Return the packages of a variant."""
        return tuple(package for package in self.packages if package.variant in {None, variant})


@dataclass(frozen=True, slots=True)
class Framework:
    """A framework that is there, ready to be used.

    :param reference: what finds the same framework again: ``tensorflow@2.21.0``, a URL, or an absolute path.
    :param name: as ``framework.json`` says.
    :param version: exact, as ``framework.json`` says.
    :param variant: ``cpu`` or ``gpu``, or None where the framework does not tell them apart.
    :param path: its directory; shared by all runs, not to be written to.
    """

    reference: str
    name: str
    version: str
    variant: str | None
    path: Path

    @classmethod
    def load(cls, path: Path, reference: str | None = None, variant: str | None = None) -> Framework:
        """Describe the framework in a directory.

        :param reference: by default ``name@version``.
        :param variant: used where ``framework.json`` does not say.
        :raises FrameworkError: it is no framework, or was built for another platform.
        """
        manifest = Manifest.read(path)
        here = Platform.current().key
        if manifest.platform not in (None, here):
            raise FrameworkError(
                f"{reference or path} was expected to be a framework for {here}, but it was built for "
                f"{manifest.platform}, so its packages would not load. Build it on this platform."
            )
        pinned = reference or f"{manifest.name}@{manifest.version}"
        return cls(pinned, manifest.name, manifest.version, manifest.variant or variant, path)

    @property
    def site_packages(self) -> Path | None:
        """Its folder of Python packages, if it has one."""
        path = self.path / "site-packages"
        return path if path.is_dir() else None

    @property
    def init_script(self) -> Path | None:
        """Its ``index.py``, if it has one."""
        path = self.path / "index.py"
        return path if path.is_file() else None


def _package(entry: Any) -> Package:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not entry["name"]:
        raise ValueError(f"expected each of the packages to be an object with a name, found {entry!r}")
    _check_variant(entry.get("variant"))
    texts = {key: entry[key] for key in ("name", "version", "type", "marker") if key in entry}
    for key, value in texts.items():
        if not isinstance(value, str):
            raise ValueError(f"expected a text as {key} of package {entry['name']}, found {value!r}")
    package = Package(**texts, variant=entry.get("variant"))
    if package.type not in {"python", "js"}:
        raise ValueError(f"expected python or js as type of package {package.name}, found {package.type!r}")
    return package


def _check_variant(variant: Any) -> None:
    if variant not in (None, *VARIANTS):
        raise ValueError(f"expected {' or '.join(VARIANTS)} as variant, found {variant!r}")


def _nested_hint(directory: Path) -> str:
    nested = sorted(path.parent.name for path in directory.glob(f"*/{MANIFEST}"))
    return f" There is one in {nested[0]}/: pack the contents of that folder, not the folder." if nested else ""
