"""Registry builds: a recipe and the Python packages that it names become a framework.

The installer is uv, else pip. uv does not read pip's configuration, so where uv fails, pip is tried as well: a
machine whose index is configured for pip only is served too. Wheels only: no build runs on a worker.

Packages are compiled to byte-code here (``unchecked-hash``: valid wherever the files are copied, whatever their times),
since the framework is read-only later. For TensorFlow that costs 4 s once; without it, each import costs 4 s more.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipcook_provider.errors import FrameworkBuildError
from pipcook_provider.frameworks.framework import MANIFEST, Package
from pipcook_provider.frameworks.mirror import Report
from pipcook_provider.frameworks.platform import Platform
from pipcook_provider.frameworks.recipes import Recipe

_LAST_LINES = 15


@dataclass(frozen=True, slots=True)
class Installer:
    """A program that installs wheels into a folder.

    :param command: without the folder and the requirements.
    :param environment: laid over the environment of this process.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def installers() -> Iterator[Installer]:
    """Yield the installers that this machine has, the preferred one first."""
    if uv := _find_uv():
        options = ("--only-binary", ":all:", "--compile-bytecode", "--no-progress", "--color", "never")
        yield Installer(
            "uv",
            (uv, "pip", "install", "--python", sys.executable, *options),
            {"PYC_INVALIDATION_MODE": "UNCHECKED_HASH"},
        )
    if importlib.util.find_spec("pip"):
        options = ("--only-binary", ":all:", "--no-compile", "--no-input", "--progress-bar", "off")
        yield Installer(
            "pip",
            (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *options),
            {"PIP_USER": "0"},
        )


def build_from_recipe(recipe: Recipe, variant: str | None, directory: Path, report: Report) -> None:
    """Make a framework of a recipe in an empty directory.

    :param variant: ``cpu`` or ``gpu`` where the recipe tells them apart.
    :raises FrameworkBuildError: the packages cannot be installed.
    """
    manifest = recipe.manifest
    packages = manifest.packages_for(variant)
    if foreign := [package.name for package in packages if package.type != "python"]:
        raise FrameworkBuildError(
            f"{manifest.name}@{manifest.version} was expected to consist of Python packages, but it names {foreign}, "
            "which cannot be built here. Fetch it from a mirror, or give the URL or path of its zip.",
        )
    shutil.copytree(recipe.directory, directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    site_packages = directory / "site-packages"
    if packages:
        report(f"Building {manifest.name}@{manifest.version}{f' ({variant})' if variant else ''} from a package index")
        install(packages, site_packages, report)
    document = {
        **manifest.document,
        "packages": [package for package in manifest.document["packages"] if package.get("variant") in (None, variant)],
        "variant": variant,
        "platform": Platform.current().key,
        "installed": installed(site_packages),
    }
    (directory / MANIFEST).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def install(packages: tuple[Package, ...], site_packages: Path, report: Report) -> None:
    """Install packages into a folder with the first installer that can.

    :raises FrameworkBuildError: none can; the message holds the last lines of each.
    """
    failures = []
    for installer in installers():
        shutil.rmtree(site_packages, ignore_errors=True)
        failure = _run(installer, packages, site_packages, report)
        if failure is None:
            return
        failures.append(f"{installer.name} {failure}")
        report(failures[-1])
    raise FrameworkBuildError(
        "The framework's packages were expected to be installed, but "
        + ("\n".join(failures) or "neither uv nor pip is here")
        + "\nNothing of it was kept. Check that a package index can be reached (UV_DEFAULT_INDEX, PIP_INDEX_URL, a "
        "proxy) and has wheels of these versions for this platform and Python, or name a framework mirror."
    )


def installed(site_packages: Path) -> list[dict[str, str]]:
    """Return name and version of each distribution in a folder, ordered by name."""
    found = importlib.metadata.distributions(path=[str(site_packages)])
    versions = {distribution.name: distribution.version for distribution in found}
    return [{"name": name, "version": versions[name]} for name in sorted(versions, key=str.lower)]


def _run(installer: Installer, packages: tuple[Package, ...], site_packages: Path, report: Report) -> str | None:
    """Return None, or why it failed."""
    command = [*installer.command, "--target", str(site_packages), *(package.requirement for package in packages)]
    lines: deque[str] = deque(maxlen=_LAST_LINES)
    with subprocess.Popen(
        command,
        # Not where the caller happens to stand: a project there must not configure what all projects share.
        cwd=site_packages.parent,
        env={**os.environ, **installer.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line.rstrip())
                if line.startswith(("Resolved", "Prepared", "Installed", "Bytecode", "Collecting", "Downloading")):
                    report(line.rstrip())
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        return f"ended with exit code {process.returncode}:\n" + "\n".join(f"    {line}" for line in lines)
    if installer.name == "pip":
        _compile(site_packages)
    return None


def _compile(site_packages: Path) -> None:
    # Files that are no valid Python of this version (templates, tests) stay as they are.
    options = ("-q", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash")
    subprocess.run([sys.executable, "-m", "compileall", *options, str(site_packages)], check=False)


def _find_uv() -> str | None:
    try:
        import uv

        return uv.find_uv_bin()
    except (ImportError, FileNotFoundError):
        return shutil.which("uv")
