from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from http_server import Server
from packaging.markers import default_environment
from packaging.tags import sys_tags
from test_build import SIX, Told, close_network, write_recipe

from pipcook_provider.errors import FrameworkBuildError, FrameworkError, FrameworkNotFound, IntegrityError
from pipcook_provider.frameworks import (
    Framework,
    FrameworkPin,
    Platform,
    build_framework,
    ensure_framework,
    platform_key,
)
from pipcook_provider.frameworks.build import build_from_recipe, resolve, wheels
from pipcook_provider.frameworks.build.target import Target
from pipcook_provider.frameworks.framework import Manifest
from pipcook_provider.frameworks.pack import pack
from pipcook_provider.frameworks.recipes import Recipe
from pipcook_provider.settings import Settings
from pipcook_provider.store.cache import Entry

HERE = Platform.current()
OTHER_PYTHON = Platform("linux", "x64", "py312" if sys.version_info[:2] != (3, 12) else "py313")
OTHER_MACHINE = Platform("linux", "arm64" if HERE.arch == "x64" else "x64", HERE.python)
MARKUPSAFE = {"name": "markupsafe", "version": "{version}"}
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="compares with what packaging finds out about a Linux")


@pytest.fixture
def told() -> Told:
    return Told()


def with_recipe(settings: Settings, recipe: Recipe) -> Settings:
    return replace(settings, framework_recipes=(recipe.directory.parent,))


def build(recipe: Recipe, directory: Path, told: Told, platform: Platform, *, asked: str | None = None) -> Path:
    directory.mkdir()
    build_from_recipe(resolve(recipe, asked, "cpu", told, platform), directory, told)
    return directory


def compiled(directory: Path) -> list[Path]:
    return [*directory.rglob("*.pyc"), *directory.rglob("__pycache__")]


def test_none_for_here() -> None:
    """For this process's platform nothing is said to an installer, whether Node.js belongs to it or not."""
    assert Target.of(HERE) is None
    assert Target.of(HERE.with_node()) is None
    assert HERE.is_current
    assert not OTHER_PYTHON.is_current
    assert not OTHER_MACHINE.is_current


@pytest.mark.parametrize(
    "platform",
    [
        Platform("linux", "riscv64", "py312"),
        Platform("win32", "x64", "py312"),
        Platform("linux", "x64", "pypy310"),
    ],
)
def test_impossible(tmp_path: Path, told: Told, platform: Platform) -> None:
    """A platform that no container image of stages has is named, and what can be done."""
    with pytest.raises(FrameworkError, match=f"A framework for {platform.key} cannot be built on another platform"):
        resolve(write_recipe(tmp_path, SIX), None, "cpu", told, platform)


@on_linux
def test_tags() -> None:
    """Wheels are preferred as on a Linux of that kind, up to the glibc that all images have."""
    target = Target(sys.version_info[:2], {"x64": "x86_64", "arm64": "aarch64"}[HERE.arch])
    oldest = 5 if HERE.arch == "x64" else 17

    def is_common(platform: str) -> bool:
        glibc = platform.split("_")[2] if platform.startswith("manylinux_") else "17"
        return not platform.startswith("musllinux") and oldest <= int(glibc) <= 28

    ours = [str(tag) for tag in target.tags() if is_common(tag.platform)]
    theirs = [str(tag) for tag in sys_tags() if is_common(tag.platform)]
    if HERE.arch != "x64":
        ours = [tag for tag in ours if "manylinux1_" not in tag and "manylinux2010_" not in tag]
    assert ours == theirs


@on_linux
def test_markers() -> None:
    """All variables of markers are told, those of this machine but for its kernel and the patch of its Python."""
    target = Target(sys.version_info[:2], {"x64": "x86_64", "arm64": "aarch64"}[HERE.arch])
    own = default_environment()
    vague = {"platform_release", "platform_version", "python_full_version", "implementation_version"}
    assert target.markers.keys() == own.keys()
    assert {key: target.markers[key] for key in own.keys() - vague} == {key: own[key] for key in own.keys() - vague}


def test_markers_of_packages(tmp_path: Path, told: Told) -> None:
    """Which packages a recipe needs is judged by the platform that they are for."""
    other = Target.of(OTHER_MACHINE)
    assert other
    recipe = write_recipe(
        tmp_path,
        SIX,
        {"name": "idna", "marker": f"platform_machine == '{other.machine}' and sys_platform == 'linux'"},
        {"name": "no-such-package-here", "marker": f"python_version != '{other.version}'"},
    )
    found = resolve(recipe, "1.17", "cpu", told, OTHER_MACHINE)
    assert [wheel.name for wheel in found.wheels] == ["idna", "six"]


def test_markers_of_dependencies(tmp_path: Path, told: Told) -> None:
    """Which packages a package needs is judged by the platform that they are for."""
    recipe = write_recipe(tmp_path, {"name": "anyio", "version": "{version}"})
    found = {
        python: {
            wheel.name for wheel in resolve(recipe, "4.9.0", "cpu", told, Platform("linux", "arm64", python)).wheels
        }
        for python in ("py312", "py313")
    }
    assert found["py312"] - found["py313"] == {"typing-extensions"}


def test_other_python(tmp_path: Path, told: Told) -> None:
    """For another Python, its binaries are installed, without byte-code, which is told."""
    directory = build(write_recipe(tmp_path, MARKUPSAFE), tmp_path / "built", told, OTHER_PYTHON, asked="3.0")
    [library] = directory.rglob("_speedups*.so")
    assert library.name == f"_speedups.cpython-3{OTHER_PYTHON.python[3:]}-x86_64-linux-gnu.so"
    assert not compiled(directory)
    [warning] = told.warnings
    assert f"is built for Python 3.{OTHER_PYTHON.python[3:]} by another Python" in warning
    assert told.infos[0].startswith("Building toy@3.0.")
    assert told.infos[0].endswith(f" for {OTHER_PYTHON.key} from the package registries")
    assert Framework.load(directory, platform=OTHER_PYTHON).platform == OTHER_PYTHON
    with pytest.raises(FrameworkError, match=f"for {HERE.key}, but it was built for {OTHER_PYTHON.key}"):
        Framework.load(directory)


def test_other_machine(tmp_path: Path, told: Told) -> None:
    """For another architecture, its binaries are installed; byte-code is the same on all."""
    directory = build(write_recipe(tmp_path, MARKUPSAFE), tmp_path / "built", told, OTHER_MACHINE, asked="3.0")
    target = Target.of(OTHER_MACHINE)
    assert target
    [library] = directory.rglob("_speedups*.so")
    assert library.name.endswith(f"-{target.machine}-linux-gnu.so")
    assert list(directory.glob("site-packages/markupsafe/__pycache__/__init__.*.pyc"))
    assert not told.warnings


def test_same_again(tmp_path: Path, told: Told) -> None:
    """From the record of a build the same is built again, for that platform only; no other wheels are taken."""
    recipe = write_recipe(tmp_path, MARKUPSAFE)
    first = build(recipe, tmp_path / "first", told, OTHER_MACHINE, asked="3.0")
    record = replace(recipe, manifest=Manifest.read(first))
    second = build(record, tmp_path / "second", told, OTHER_MACHINE)
    assert (first / "framework.json").read_text() == (second / "framework.json").read_text()
    assert [path.name for path in second.rglob("*.so")] == [path.name for path in first.rglob("*.so")]
    with pytest.raises(FrameworkError, match=f"for {HERE.key} .* build for {OTHER_MACHINE.key}, whose packages"):
        resolve(record, None, "cpu", told)


def test_no_wheels(tmp_path: Path, told: Told) -> None:
    """Where only a source distribution would do, the error says that none is built for another platform."""
    recipe = write_recipe(tmp_path, {"name": "markupsafe", "version": "1.0"}, version="1")
    with pytest.raises(FrameworkNotFound, match=f"for {OTHER_PYTHON.key}, for which nothing can be compiled here"):
        resolve(recipe, None, "cpu", told, OTHER_PYTHON)


def test_without_uv(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip would judge by its own Python, so it takes uv's place for this platform only."""
    recipe = write_recipe(tmp_path, SIX)
    monkeypatch.setattr(wheels, "_find_uv", lambda: None)
    assert resolve(recipe, "1.17", "cpu", told).version == "1.17.0"
    with pytest.raises(FrameworkBuildError, match=r"(?s)no program here that could.*only uv installs packages"):
        resolve(recipe, "1.17", "cpu", told, OTHER_PYTHON)


def test_javascript(tmp_path: Path, told: Told) -> None:
    """JavaScript packages are refused: nobody knows of a Node.js there."""
    recipe = write_recipe(tmp_path, {"name": "is-odd", "version": "{version}", "type": "js"})
    with pytest.raises(FrameworkError, match=r"of Python packages only.*Node\.js, which container images do not have"):
        resolve(recipe, None, "cpu", told, OTHER_PYTHON)


def test_beside_each_other(tmp_path: Path, settings: Settings, told: Told) -> None:
    """A framework is cached for each platform under a key of its own, and found there without asking anybody."""
    known = with_recipe(settings, write_recipe(tmp_path, SIX, version="1.17.0"))
    platforms = (HERE, OTHER_PYTHON, OTHER_MACHINE)
    paths = {one.key: ensure_framework("toy@1.17", known, platform=one, report=told).path for one in platforms}
    entries = {key: Entry.around(path) for key, path in paths.items()}
    assert [entry and entry.key for entry in entries.values()] == [f"toy@1.17.0-{key}" for key in paths]
    with pytest.MonkeyPatch.context() as patch:
        close_network(patch)
        again = {one.key: ensure_framework("toy@1.17", known, platform=one).path for one in platforms}
    assert again == paths
    assert ensure_framework("toy@1.17", known).path == paths[HERE.key]
    assert build_framework("toy@1.17", known, platform=OTHER_PYTHON).path == paths[OTHER_PYTHON.key]


def test_mirror(tmp_path: Path, settings: Settings, server: Server, told: Told) -> None:
    """What is packed for another platform lies where that platform looks for it, and nowhere else."""
    known = with_recipe(settings, write_recipe(tmp_path, SIX, version="1.17.0"))
    path = pack(ensure_framework("toy", known, platform=OTHER_MACHINE), tmp_path / "mirror", told)
    assert path == tmp_path / "mirror" / OTHER_MACHINE.python / f"toy@1.17.0-{OTHER_MACHINE.binaries}.zip"
    [listed] = json.loads((path.parent / "index.json").read_text())["frameworks"]
    assert listed["platform"] == OTHER_MACHINE.binaries
    for asked in (f"file://{path.parents[1]}", f"{server.url}/m"):
        [on_server] = OTHER_MACHINE.mirror_paths("toy", "1.17.0", None)
        server.put(f"/m/{on_server}", path.read_bytes())
        mirrored = Settings(home=tmp_path / asked.partition(":")[0], framework_mirror=(asked,))
        fetched = ensure_framework("toy@1.17.0", mirrored, platform=OTHER_MACHINE)
        assert fetched.platform == OTHER_MACHINE
        with pytest.raises(FrameworkNotFound, match=f"none has it for {HERE.key}"):
            ensure_framework("toy@1.17.0", mirrored)


def test_zip(tmp_path: Path, settings: Settings, told: Told) -> None:
    """A zip is compared with the platform that it is to be for."""
    known = with_recipe(settings, write_recipe(tmp_path, SIX, version="1.17.0"))
    path = pack(ensure_framework("toy", known, platform=OTHER_PYTHON), tmp_path / "mirror", told)
    for reference in (str(path), path.as_uri()):
        with pytest.raises(FrameworkError, match=f"for {HERE.key}, but it was built for {OTHER_PYTHON.key}"):
            ensure_framework(reference, settings)
        framework = ensure_framework(reference, settings, platform=OTHER_PYTHON)
        assert ensure_framework(str(framework.path), settings, platform=OTHER_PYTHON).platform == OTHER_PYTHON
        with pytest.raises(FrameworkError, match=f"but it was built for {OTHER_PYTHON.key}"):
            ensure_framework(reference, settings)


def test_pin(tmp_path: Path, settings: Settings) -> None:
    """What a lock says of another platform is built again for that, and compared; for this one it is refused."""
    recipe = write_recipe(tmp_path, MARKUPSAFE)
    known = with_recipe(settings, recipe)
    first = ensure_framework("toy@3.0", known, platform=OTHER_MACHINE)
    pin = FrameworkPin.of(first)
    other = replace(known, home=tmp_path / "other")
    again = ensure_framework(first.reference, other, platform=OTHER_MACHINE, pin=pin)
    assert again.path != first.path
    assert FrameworkPin.of(again) == pin
    with pytest.raises(FrameworkError, match=f"expected to be for {HERE.key}"):
        ensure_framework(first.reference, other, pin=pin)
    with pytest.raises(IntegrityError, match="is another"):
        ensure_framework(
            first.reference, other, platform=OTHER_MACHINE, pin=FrameworkPin(contents="0" * 64, manifest=pin.manifest)
        )


def test_gpu_from_macos(tmp_path: Path, settings: Settings, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether there can be a GPU is asked of the platform that the framework is for."""
    monkeypatch.setattr(sys, "platform", "darwin")
    there = Platform("linux", HERE.arch, HERE.python)
    known = with_recipe(settings, write_recipe(tmp_path, {**SIX, "variant": "gpu"}, version="1.17.0"))
    framework = ensure_framework("toy", known, gpu=True, platform=there, report=told)
    assert framework.variant == "gpu"
    assert not told.warnings
    assert platform_key(gpu=True, platform=there) == f"{there.key}-gpu"
    assert platform_key(gpu=True) == Platform.current().key
    assert platform_key(gpu=False, platform=there) == there.key
