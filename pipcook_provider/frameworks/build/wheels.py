"""Python packages: from requirements to exact wheels, and from these to a folder that they are installed in.

uv does it, else pip. uv does not read pip's configuration, so where uv fails, pip is tried as well: a machine whose
index is configured for pip only is served too. Wheels only: nothing is compiled on a worker.

First the requirements are resolved to one wheel for each package, known by its digest; then exactly these are installed,
whether they were resolved just now or stand in the record of an earlier build.

Packages are compiled to byte-code here (``unchecked-hash``: valid wherever the files are copied, whatever their times),
since the framework is read-only later. For TensorFlow that costs some seconds once; without it, each import costs them.

For another platform than this process's, uv alone does it: pip judges the conditions of dependencies by its own Python.
Byte-code depends on the minor version of Python only; another one's is not made.
"""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from pipcook_provider.errors import FrameworkError
from pipcook_provider.frameworks.build.installer import InstallerFailed, first_of, run
from pipcook_provider.frameworks.build.records import changed_files, check_record
from pipcook_provider.frameworks.build.target import Target
from pipcook_provider.frameworks.platform import Platform
from pipcook_provider.frameworks.report import Report

_ADVICE = (
    "Nothing of it was kept. Check that a package index can be reached (UV_DEFAULT_INDEX, PIP_INDEX_URL, a proxy) and has "
    "wheels of these versions for this platform and Python, or name a framework mirror."
)
_FOREIGN_ADVICE = (
    "Nothing of it was kept. For another platform than this machine's, only uv installs packages, and only wheels; nothing "
    "can be compiled. Check that there is uv, that its index can be reached (UV_DEFAULT_INDEX, a proxy) and has wheels of "
    "these versions for that platform and Python, or name a framework mirror."
)

_RECORD = {"name": r"[a-z0-9][a-z0-9-]*", "version": r"[0-9][0-9A-Za-z.!+_-]*", "sha256": r"[0-9a-f]{64}"}


@dataclass(frozen=True, slots=True)
class Wheel:
    """One wheel.

    :param name: of the package, in its plain form (PEP 503).
    :param sha256: of the file (hex); empty where an index does not tell it.
    """

    name: str
    version: str
    sha256: str

    @classmethod
    def read(cls, record: Mapping[str, str]) -> Wheel:
        """Read what :attr:`record` tells.

        :raises ValueError: it is something else. It may come from anyone, and ends in files that configure installers.
        """
        check_record(record, _RECORD)
        return cls(**record)

    @property
    def record(self) -> dict[str, str]:
        """The wheel as ``framework.json`` records it."""
        record = {"name": self.name, "version": self.version}
        return {**record, "sha256": self.sha256} if self.sha256 else record


class _Tool(Protocol):
    """An installer of wheels; its folder is empty and of its own."""

    def resolve(self, requirements: Path, folder: Path, report: Report) -> list[Wheel]:
        """Return the wheels that the requirements need."""

    def install(self, requirements: Path, site_packages: Path, folder: Path, report: Report) -> None:
        """Install exactly the wheels of a file of requirements, compiled where this Python can."""


def resolve_wheels(requirements: Sequence[str], what: str, report: Report, platform: Platform) -> tuple[Wheel, ...]:
    """Return the wheels that requirements (PEP 508) need on a platform, ordered by name.

    :param what: the framework, as messages name it.
    :raises FrameworkNotFound: the index answered, and has no wheels that fit.
    :raises FrameworkBuildError: the index cannot be asked.
    :raises FrameworkError: no packages can be chosen here for the platform.
    """
    if not requirements:
        return ()
    target = Target.of(platform)
    place = f" for {platform.key}, for which nothing can be compiled here" if target else ""
    with TemporaryDirectory(prefix="pipcook-") as name:
        path = Path(name) / "requirements.txt"
        path.write_text("".join(f"{requirement}\n" for requirement in requirements), encoding="utf-8")
        wheels = first_of(
            (partial(tool.resolve, path, Path(name), report) for tool in _tools(target)),
            f"{what} was expected to be made of wheels of {', '.join(requirements)}{place}",
            _FOREIGN_ADVICE if target else _ADVICE,
            report,
        )
    return tuple(sorted(wheels, key=lambda wheel: wheel.name))


def install_wheels(
    wheels: Sequence[Wheel],
    site_packages: Path,
    what: str,
    report: Report,
    platform: Platform,
    *,
    repair: bool = False,
) -> list[str]:
    """Install exactly these wheels into a folder.

    :param what: the framework, as messages name it.
    :param platform: what they are for.
    :param repair: whether to compare what was installed with the wheels' own records: uv's cache shares its files with
        the frameworks made of it, and has the same damage.
    :returns: relative paths of the files that differ from these records even so: some wheels have wrong ones.
    :raises FrameworkBuildError: they cannot be installed.
    """
    if not wheels:
        return []
    target = Target.of(platform)
    if target and not target.has_this_python:
        report.warning(
            f"{what} is built for Python {target.version} by another Python, which cannot make byte-code for it, so each "
            f"import of its packages takes longer. To have it, build it by Python {target.version}, and put it on a framework "
            "mirror."
        )
    tools = list(_tools(target))
    # pip takes either digests of all or none of them.
    digests = all(wheel.sha256 for wheel in wheels)
    lines = (
        f"{wheel.name}=={wheel.version}" + (f" --hash=sha256:{wheel.sha256}" if digests else "") for wheel in wheels
    )

    def attempt(tool: _Tool, folder: Path) -> list[str]:
        shutil.rmtree(site_packages, ignore_errors=True)
        tool.install(folder / "requirements.txt", site_packages, folder, report)
        changed = changed_files(site_packages) if repair else []
        if not (changed and isinstance(tool, _Uv) and tool.cached):
            return changed
        report.warning(
            f"{len(changed)} of the files that uv's cache supplied, such as {changed[0]}, differ from the records of their "
            "wheels. The packages are downloaded again, past that cache; clear it by uv cache clean."
        )
        return attempt(replace(tool, cached=False), folder)

    with TemporaryDirectory(prefix="pipcook-") as name:
        (Path(name) / "requirements.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return first_of(
            (partial(attempt, tool, Path(name)) for tool in tools),
            f"The packages of {what} were expected to be installed",
            _FOREIGN_ADVICE if target else _ADVICE,
            report,
        )


def _tools(target: Target | None) -> Iterator[_Tool]:
    """Yield what this machine has, the preferred one first."""
    if uv := _find_uv():
        yield _Uv(uv, target)
    if target is None and find_spec("pip"):
        yield _Pip()


@dataclass(frozen=True, slots=True)
class _Uv:
    program: str
    target: Target | None
    cached: bool = True

    def resolve(self, requirements: Path, folder: Path, report: Report) -> list[Wheel]:
        # The name is prescribed (PEP 751).
        lock = folder / "pylock.toml"
        self._run(
            ("compile", str(requirements), "--format", "pylock.toml", "--output-file", str(lock), "--quiet"),
            folder,
            report,
        )
        packages = tomllib.loads(lock.read_text(encoding="utf-8"))["packages"]
        return [_locked_wheel(package, self.target) for package in packages]

    def install(self, requirements: Path, site_packages: Path, folder: Path, report: Report) -> None:
        compiled = ("--compile-bytecode",) if self.target is None or self.target.has_this_python else ()
        options = ("--target", str(site_packages), "--no-deps", *compiled, "-r", str(requirements))
        if not self.cached:
            self._run(("install", *options, "--no-cache"), folder, report)
        else:
            try:
                # What the cache has is exactly known already: asking the index again would take half as long as installing.
                self._run(("install", *options, "--offline"), folder, report)
            except InstallerFailed:
                shutil.rmtree(site_packages, ignore_errors=True)
                self._run(("install", *options), folder, report)
        (site_packages / ".lock").unlink(missing_ok=True)

    def _run(self, arguments: Sequence[str], folder: Path, report: Report) -> None:
        place = self.target.options if self.target else ()
        common = ("--python", sys.executable, *place, "--only-binary", ":all:", "--no-progress", "--color", "never")
        environment = {"PYC_INVALIDATION_MODE": "UNCHECKED_HASH"}
        run("uv", (self.program, "pip", *arguments, *common), folder, environment, report)


@dataclass(frozen=True, slots=True)
class _Pip:
    def resolve(self, requirements: Path, folder: Path, report: Report) -> list[Wheel]:
        answer = folder / "report.json"
        options = ("--dry-run", "--ignore-installed", "--quiet", "--report", str(answer))
        self._run((*options, "-r", str(requirements)), folder, report)
        found = json.loads(answer.read_text(encoding="utf-8"))["install"]
        return [
            Wheel(plain_name(item["metadata"]["name"]), item["metadata"]["version"], _reported_digest(item))
            for item in found
        ]

    def install(self, requirements: Path, site_packages: Path, folder: Path, report: Report) -> None:
        options = ("--target", str(site_packages), "--no-deps", "--no-compile", "--progress-bar", "off")
        self._run((*options, "-r", str(requirements)), folder, report)
        # Files that are no valid Python of this version (templates, tests) stay as they are, and give an exit code.
        options = ("-q", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash")
        command = (sys.executable, "-m", "compileall", *options, str(site_packages))
        with suppress(InstallerFailed):
            run("compileall", command, folder, {}, report)

    def _run(self, arguments: Sequence[str], folder: Path, report: Report) -> None:
        common = ("--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--no-color")
        command = (sys.executable, "-m", "pip", "install", *common, *arguments)
        run("pip", command, folder, {"PIP_USER": "0"}, report)


def _locked_wheel(package: Mapping[str, Any], target: Target | None) -> Wheel:
    """Choose among the wheels of a package that uv's lock lists: all that the platform could take."""
    wheels = package.get("wheels", [])
    if not wheels:
        raise FrameworkError(
            f"The package {package['name']} {package.get('version', '')} was expected to come as a wheel from an index, "
            "but it does not, so it is not installed. Name a version that has wheels."
        )
    best = wheels[0] if len(wheels) == 1 else min(wheels, key=lambda wheel: _preference(wheel, target))
    return Wheel(plain_name(package["name"]), package["version"], best.get("hashes", {}).get("sha256", ""))


def _preference(wheel: Mapping[str, Any], target: Target | None) -> tuple[int, tuple[int, str]]:
    from packaging.utils import parse_wheel_filename

    place = wheel.get("path") or unquote(urlsplit(wheel["url"]).path)
    _, _, build, tags = parse_wheel_filename(wheel.get("name") or PurePosixPath(place).name)
    number, letter = build or (0, "")
    ranks = _ranks(target)
    return min(ranks.get(tag, len(ranks)) for tag in tags), (-number, letter)


def _ranks(target: Target | None) -> dict[Any, int]:
    from packaging.tags import sys_tags

    return {tag: rank for rank, tag in enumerate(target.tags() if target else sys_tags())}


def _reported_digest(item: Mapping[str, Any]) -> str:
    return str(item["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256", ""))


def plain_name(name: str) -> str:
    """Return the plain form (PEP 503) of a package's name, without extras."""
    from packaging.utils import canonicalize_name

    return canonicalize_name(name.partition("[")[0])


def _find_uv() -> str | None:
    try:
        import uv

        return uv.find_uv_bin()
    except (ImportError, FileNotFoundError):
        return shutil.which("uv")
