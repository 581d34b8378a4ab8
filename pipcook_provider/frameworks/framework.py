"""A framework's directory, and the ``framework.json`` in it.

Layout (Pipcook's, see the README)::

    framework.json     name, version, packages
    index.py           initialize(options), called before every script; index.js where scripts are JavaScript
    site-packages/     Python packages
    node_modules/      JavaScript packages

It may name the container images that its scripts run in, where they run in containers: ``images``, by ``cpu`` and ``gpu``.

A registry build also records ``variant``, ``platform`` and ``installed``: the exact packages that it put there, each with
the digest by which the registry knows it, so that the same can be built again::

    {"name": "six", "version": "1.17.0", "sha256": "4721..."}
    {"name": "is-odd", "version": "3.0.1", "path": "node_modules/is-odd", "integrity": "sha512-CQpn..."}
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipcook_provider.errors import FrameworkError
from pipcook_provider.frameworks.platform import Platform

MANIFEST = "framework.json"
VARIANTS = ("cpu", "gpu")
#: Stands as the version of those packages whose version is the framework's.
OPEN_VERSION = "{version}"
_IMAGE = re.compile(r"[A-Za-z0-9][\w.:/@+-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Package:
    """A package that a framework is made of.

    :param name: with extras, as the registry's installer takes it: ``tensorflow[and-cuda]``.
    :param version: an exact version, or a specifier such as ``>=11``; any where empty; ``{version}`` for that of the
        framework.
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
    def is_carrier(self) -> bool:
        """Whether its version is the framework's."""
        return self.version == OPEN_VERSION


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a ``framework.json`` says; ``document`` is all of it, as read.

    :param version: empty in a recipe that leaves it open.
    :param platform: key of the platform that it was built for.
    :param installed: the record of a build, as in ``document``.
    :param images: container images that it is made for, by ``cpu`` and ``gpu``; either may be missing.
    """

    name: str
    version: str
    packages: tuple[Package, ...]
    variant: str | None
    platform: str | None
    installed: tuple[Mapping[str, str], ...]
    images: Mapping[str, str]
    document: Mapping[str, Any]

    @classmethod
    def read(cls, directory: Path, *, recipe: bool = False) -> Manifest:
        """Read the ``framework.json`` of a directory.

        :param recipe: whether it is a recipe's, which may leave the version open.
        :raises FrameworkError: there is none, or it cannot be used.
        """
        path = directory / MANIFEST
        try:
            return cls.parse(json.loads(path.read_text(encoding="utf-8-sig")), recipe=recipe)
        except FileNotFoundError:
            raise FrameworkError(
                f"{directory} was expected to be a framework with a {MANIFEST} at its top, but has none, so it cannot "
                f"be used.{_nested_hint(directory)}"
            ) from None
        except (OSError, ValueError) as exc:
            raise FrameworkError(f"{path} cannot be used: {exc}. Correct it, or delete {directory}.") from exc

    @classmethod
    def parse(cls, document: Any, *, recipe: bool = False) -> Manifest:
        """Return what the JSON of a ``framework.json`` says.

        :param recipe: whether it is a recipe's, which may leave the version open.
        :raises ValueError: it cannot be used.
        """
        if not isinstance(document, dict):
            raise ValueError("expected an object with name, version and packages")
        for key in ("name",) if recipe and "version" not in document else ("name", "version"):
            if not isinstance(document.get(key), str) or not document[key]:
                raise ValueError(f"expected a text as {key}, found {document.get(key)!r}")
        if not isinstance(document.get("platform"), str | None):
            raise ValueError(f"expected a text as platform, found {document['platform']!r}")
        variant, packages = document.get("variant"), document.get("packages", [])
        _check_variant(variant)
        if not isinstance(packages, list):
            raise ValueError(f"expected a list as packages, found {packages!r}")
        return cls(
            name=document["name"],
            version=document.get("version", ""),
            packages=tuple(map(_package, packages)),
            variant=variant,
            platform=document.get("platform"),
            installed=_installed(document.get("installed", [])),
            images=_images(document.get("images", {})),
            document=document,
        )

    @property
    def has_variants(self) -> bool:
        """Whether some packages are for the CPU or the GPU variant only."""
        return any(package.variant for package in self.packages)

    @property
    def has_javascript(self) -> bool:
        """Whether it has JavaScript packages, so that it depends on Node.js."""
        return any(package.type == "js" for package in self.packages)

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
    :param platform: what it is for.
    :param images: container images that it is made for, by ``cpu`` and ``gpu``; either may be missing.
    """

    reference: str
    name: str
    version: str
    variant: str | None
    path: Path
    platform: Platform = field(default_factory=Platform.current)
    images: Mapping[str, str] = field(default_factory=dict, hash=False)

    @classmethod
    def load(
        cls, path: Path, reference: str | None = None, variant: str | None = None, platform: Platform | None = None
    ) -> Framework:
        """Describe the framework in a directory.

        :param reference: by default ``name@version``.
        :param variant: used where ``framework.json`` does not say.
        :param platform: what it must be for; by default this process's.
        :raises FrameworkError: it is no framework, or was built for another platform.
        """
        manifest = Manifest.read(path)
        platform = platform or Platform.current()
        if manifest.platform is not None:
            _check_platform(manifest, platform, reference or str(path))
        pinned = reference or f"{manifest.name}@{manifest.version}"
        variant = manifest.variant or variant
        return cls(pinned, manifest.name, manifest.version, variant, path, platform, manifest.images)

    @property
    def site_packages(self) -> Path | None:
        """Its folder of Python packages, if it has one."""
        path = self.path / "site-packages"
        return path if path.is_dir() else None

    @property
    def node_modules(self) -> Path | None:
        """Its folder of JavaScript packages, if it has one."""
        path = self.path / "node_modules"
        return path if path.is_dir() else None

    @property
    def init_script(self) -> Path | None:
        """Its ``index.py``, else its ``index.js``, if it has one."""
        scripts = (self.path / name for name in ("index.py", "index.js"))
        return next((script for script in scripts if script.is_file()), None)


def _check_platform(manifest: Manifest, platform: Platform, what: str) -> None:
    has_node = manifest.platform is not None and manifest.platform.startswith("node")
    wanted = (platform.with_node() if has_node else platform).key
    if manifest.platform != wanted:
        raise FrameworkError(
            f"{what} was expected to be a framework for {wanted}, but it was built for {manifest.platform}, so its "
            f"packages would not load. Build it for {wanted}."
        )


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


def _installed(entries: Any) -> tuple[Mapping[str, str], ...]:
    if not isinstance(entries, list) or not all(map(_is_record, entries)):
        raise ValueError(f"expected a list of objects with name and version as installed, found {entries!r:.200}")
    return tuple(entries)


def _images(entry: Any) -> Mapping[str, str]:
    if not isinstance(entry, dict) or not entry.keys() <= set(VARIANTS):
        raise ValueError(f"expected an object with {' or '.join(VARIANTS)}, or both, as images, found {entry!r:.200}")
    for variant, image in entry.items():
        if not isinstance(image, str) or not _IMAGE.fullmatch(image):
            raise ValueError(
                f"expected the name of a container image, such as registry.example/name:1, as {variant} of images, found "
                f"{image!r:.200}"
            )
    return entry


def _is_record(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and {"name", "version"} <= entry.keys()
        and all(isinstance(v, str) for v in entry.values())
    )


def _check_variant(variant: Any) -> None:
    if variant not in (None, *VARIANTS):
        raise ValueError(f"expected {' or '.join(VARIANTS)} as variant, found {variant!r}")


def _nested_hint(directory: Path) -> str:
    nested = sorted(path.parent.name for path in directory.glob(f"*/{MANIFEST}"))
    return f" There is one in {nested[0]}/: pack the contents of that folder, not the folder." if nested else ""
