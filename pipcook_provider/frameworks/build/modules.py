"""JavaScript packages: from dependencies to exact packages, and from these to a folder ``node_modules``; by npm.

As with wheels, the dependencies are resolved first, to packages known by their integrity (the digest of the tarball, as
the registry tells it); then exactly these are installed. No script of a package is run.

npm is configured as the user's own (``~/.npmrc``, ``NPM_CONFIG_...``); a project around the framework is no concern of it.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipcook_provider.errors import FrameworkError
from pipcook_provider.frameworks.build.installer import first_of, run
from pipcook_provider.frameworks.build.records import check_record
from pipcook_provider.frameworks.platform import Platform
from pipcook_provider.frameworks.report import Report

_FOLDER = "node_modules/"
_ADVICE = (
    "Nothing of it was kept. Check that the registry can be reached (npm config get registry, a proxy) and has these "
    "versions, or name a framework mirror."
)

_NAME = r"(@[a-z0-9~-][a-z0-9._~-]*/)?[A-Za-z0-9~-][A-Za-z0-9._~-]*"
_RECORD = {
    "name": _NAME,
    "version": r"[0-9][0-9A-Za-z.+-]*",
    "path": rf"node_modules/{_NAME}(/node_modules/{_NAME})*",
    "integrity": r"sha(1|256|384|512)-[0-9A-Za-z+/=]+",
}


@dataclass(frozen=True, slots=True)
class Module:
    """One JavaScript package.

    :param path: where it is installed: ``node_modules/a``, or ``node_modules/a/node_modules/b`` where ``a`` needs another
        version of ``b`` than others do.
    :param integrity: digest of its tarball, as npm writes it: ``sha512-`` and base64.
    """

    name: str
    version: str
    path: str
    integrity: str

    @classmethod
    def read(cls, record: Mapping[str, str]) -> Module:
        """Read what :attr:`record` tells.

        :raises ValueError: it is something else. It may come from anyone, and ends in files that configure npm.
        """
        check_record(record, _RECORD)
        return cls(**record)

    @property
    def record(self) -> dict[str, str]:
        """The package as ``framework.json`` records it."""
        return {"name": self.name, "version": self.version, "path": self.path, "integrity": self.integrity}

    @property
    def place(self) -> tuple[str, str]:
        """The path of the package that it belongs to (empty for none), and the name by which that one requires it."""
        parent, _, alias = self.path.rpartition(_FOLDER)
        return parent.rstrip("/"), alias

    @property
    def requirement(self) -> str:
        """Its exact version, as a dependency states it."""
        return self.version if self.place[1] == self.name else f"npm:{self.name}@{self.version}"


def resolve_modules(dependencies: Mapping[str, str], what: str, report: Report) -> tuple[Module, ...]:
    """Return the packages that dependencies need on this platform, ordered by path.

    :param dependencies: ranges of versions, or tags, by name.
    :param what: the framework, as messages name it.
    :raises FrameworkNotFound: the registry answered, and has no such package or version.
    :raises FrameworkBuildError: there is no npm, or the registry cannot be asked.
    """
    if not dependencies:
        return ()
    asked = ", ".join(f"{name}@{version}" for name, version in dependencies.items())
    with TemporaryDirectory(prefix="pipcook-") as name:
        folder = Path(name)
        _write(folder / "package.json", {"private": True, "dependencies": dependencies})
        first_of(
            [partial(_npm, ("install", "--package-lock-only"), folder, report)],
            f"{what} was expected to be made of the JavaScript packages {asked}",
            _ADVICE,
            report,
        )
        lock = json.loads((folder / "package-lock.json").read_text(encoding="utf-8"))
    return tuple(sorted(_locked(lock["packages"]), key=lambda module: module.path))


def install_modules(modules: Sequence[Module], node_modules: Path, what: str, report: Report) -> None:
    """Install exactly these packages.

    :param node_modules: the folder that is made; it must not be there.
    :param what: the framework, as messages name it.
    :raises FrameworkBuildError: they cannot be installed.
    """
    if not modules:
        return
    # Beside its final place, which may be on another disk than the temporary files.
    with TemporaryDirectory(prefix=".npm-", dir=node_modules.parent) as name:
        folder = Path(name)
        dependencies: dict[str, dict[str, str]] = {"": {}}
        for module in modules:
            parent, alias = module.place
            dependencies.setdefault(parent, {})[alias] = module.requirement
        packages = {
            module.path: {
                "name": module.name,
                "version": module.version,
                "integrity": module.integrity,
                "dependencies": dependencies.get(module.path, {}),
            }
            for module in modules
        }
        root = {"dependencies": dependencies[""]}
        _write(folder / "package.json", {"private": True, **root})
        _write(
            folder / "package-lock.json", {"lockfileVersion": 3, "requires": True, "packages": {"": root, **packages}}
        )
        first_of(
            [partial(_npm, ("ci", "--no-bin-links"), folder, report)],
            f"The JavaScript packages of {what} were expected to be installed",
            _ADVICE,
            report,
        )
        (folder / _FOLDER / ".package-lock.json").unlink(missing_ok=True)
        (folder / _FOLDER).rename(node_modules)


def _npm(arguments: Sequence[str], folder: Path, report: Report) -> None:
    program = shutil.which("npm")
    if program is None:
        raise FrameworkError(
            "npm was expected on this machine, since the framework has JavaScript packages, but PATH leads to no program "
            "npm, so they cannot be installed. Install Node.js, which brings npm along, or name a framework mirror."
        )
    # With a prefix, npm does not look for a project in the folders above.
    common = ("--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", "--no-progress", "--no-color")
    run("npm", (program, *arguments, *common, "--no-update-notifier"), folder, {}, report)


def _locked(packages: Mapping[str, Mapping[str, Any]]) -> Iterator[Module]:
    for path, entry in packages.items():
        # What comes inside another package's tarball is installed with that.
        if not path or entry.get("inBundle") or not _is_for_here(entry):
            continue
        if not isinstance(entry.get("integrity"), str):
            raise FrameworkError(
                f"The JavaScript package {path.rpartition(_FOLDER)[2]} was expected to come from the registry with a digest, "
                f"but it comes from {entry.get('resolved', 'elsewhere')} without one, so that nobody could build the same "
                "again. Name a version that is in the registry."
            )
        yield Module(entry.get("name", path.rpartition(_FOLDER)[2]), entry["version"], path, entry["integrity"])


def _is_for_here(entry: Mapping[str, Any]) -> bool:
    here = Platform.current()
    libc = "glibc" if platform.libc_ver()[0] == "glibc" else "musl"
    wanted = (("os", sys.platform), ("cpu", here.arch), *((("libc", libc),) if sys.platform == "linux" else ()))
    return all(_allows(entry.get(key), value) for key, value in wanted)


def _allows(listed: Any, value: str) -> bool:
    """Judge a list as package.json has it: values that are allowed, and with ``!`` values that are not."""
    listed = [listed] if isinstance(listed, str) else listed or []
    allowed = [item for item in listed if not item.startswith("!")]
    return f"!{value}" not in listed and (not allowed or value in allowed or "any" in allowed)


def _write(path: Path, document: object) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")
