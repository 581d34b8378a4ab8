from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import psutil
import pytest
from http_server import Server

from pipcook_provider.errors import FrameworkBuildError, FrameworkError, FrameworkNotFound
from pipcook_provider.frameworks.build import build_from_recipe, newest_version, resolve, wheels
from pipcook_provider.frameworks.build.installer import run
from pipcook_provider.frameworks.framework import Framework, Manifest
from pipcook_provider.frameworks.platform import Platform
from pipcook_provider.frameworks.recipes import Recipe, find_recipe
from pipcook_provider.frameworks.reference import NameReference

NOWHERE = "http://127.0.0.1:9/"
SIX = {"name": "six", "version": "{version}"}
VOLATILE = re.compile(r"__pycache__|\.pyc$|/bin/|/(RECORD|INSTALLER|REQUESTED|direct_url\.json|uv_cache\.json)$")


class Told:
    """A report that keeps what it is told."""

    def __init__(self) -> None:
        self.infos: list[str] = []
        self.warnings: list[str] = []

    def info(self, text: str) -> None:
        self.infos.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def progress(self, label: str, done: int, total: int | None) -> None:
        pass


@pytest.fixture
def told() -> Told:
    return Told()


def write_recipe(folder: Path, *packages: dict[str, str], **more: Any) -> Recipe:
    """Write a recipe ``toy`` and return it."""
    recipe = folder / "toy"
    recipe.mkdir(parents=True)
    (recipe / "framework.json").write_text(json.dumps({"name": "toy", **more, "packages": packages}))
    (recipe / "index.py").write_text("def initialize(options): ...\n")
    return Recipe(recipe, Manifest.read(recipe, recipe=True))


def build(recipe: Recipe, directory: Path, told: Told, *, asked: str | None = None, repair: bool = False) -> Path:
    directory.mkdir()
    build_from_recipe(resolve(recipe, asked, "cpu", told), directory, told, repair=repair)
    return directory


def digests(directory: Path) -> dict[str, str]:
    """Return the digests of all files but those that may differ between two builds of the same."""
    files = ((path.relative_to(directory).as_posix(), path) for path in directory.rglob("*") if path.is_file())
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files if not VOLATILE.search(name)}


def read_manifest(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "framework.json").read_text())


def close_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no registry be reached; each program gives up at once."""
    for name in ("UV_DEFAULT_INDEX", "PIP_INDEX_URL", "NPM_CONFIG_REGISTRY"):
        monkeypatch.setenv(name, NOWHERE)
    for name in ("UV_HTTP_RETRIES", "PIP_RETRIES", "NPM_CONFIG_FETCH_RETRIES"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


@pytest.mark.parametrize(
    ("asked", "found"), [("1.16", "1.16.0"), ("1.16.0", "1.16.0"), ("1", r"1\.\d+\.0"), (None, r".+")]
)
def test_version(tmp_path: Path, told: Told, asked: str | None, found: str) -> None:
    """A recipe for any version stands for the newest one in the registry that begins as asked."""
    recipe = write_recipe(tmp_path, SIX)
    assert re.fullmatch(found, newest_version(recipe, asked, "cpu", told))


def test_exact_pre_release(tmp_path: Path, told: Told) -> None:
    """A pre-release is taken where it is written, and only there."""
    recipe = write_recipe(tmp_path, {"name": "scikit-learn", "version": "{version}"})
    assert newest_version(recipe, "1.7.0rc1", "cpu", told) == "1.7.0rc1"
    assert newest_version(recipe, "1.7.0", "cpu", told) == "1.7.0"


def test_fixed_version(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe that names its version asks nobody for it."""
    close_network(monkeypatch)
    assert newest_version(write_recipe(tmp_path, SIX, version="1.17.0"), None, "cpu", told) == "1.17.0"


def test_unknown_version(tmp_path: Path, told: Told) -> None:
    """A version that the registry does not have is not found, and the installers' words tell why."""
    with pytest.raises(FrameworkNotFound, match=r"(?s)toy@99 .*six==99\.\*.*uv ended.*six.*pip ended"):
        resolve(write_recipe(tmp_path, SIX), "99", "cpu", told)


def test_unreachable_registry(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that does not answer says nothing about versions: trying again may help."""
    close_network(monkeypatch)
    with pytest.raises(FrameworkBuildError, match=r"(?s)uv ended.*pip ended.*UV_DEFAULT_INDEX") as caught:
        resolve(write_recipe(tmp_path, SIX), "1", "cpu", told)
    assert caught.value.retryable


def test_other_versions(tmp_path: Path, told: Told) -> None:
    """A recipe whose packages cannot tell the framework's version is a mistake that is named."""
    with pytest.raises(FrameworkError, match="expected to get its version"):
        resolve(write_recipe(tmp_path / "none", {"name": "six"}), None, "cpu", told)
    two = write_recipe(tmp_path / "two", SIX, {"name": "idna", "version": "{version}"})
    with pytest.raises(FrameworkNotFound, match=r"packages six, idna have different newest ones"):
        resolve(two, None, "cpu", told)
    broken = write_recipe(tmp_path / "broken", {**SIX, "marker": "sys_platform is linux"})
    with pytest.raises(FrameworkError, match="marker of the package six"):
        resolve(broken, None, "cpu", told)


def test_build(tmp_path: Path, told: Told) -> None:
    """A framework holds its packages, compiled, its script, and the record of both; digests come with it."""
    other = {"name": "no-such-package-here", "variant": "gpu"}
    elsewhere = {"name": "no-such-package-here", "marker": "sys_platform == 'amiga'"}
    resolution = resolve(write_recipe(tmp_path, SIX, other, elsewhere, note="kept"), "1.17", "cpu", told)
    directory = tmp_path / "built"
    directory.mkdir()
    built = build_from_recipe(resolution, directory, told)
    digest = "4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274"
    assert read_manifest(directory) == {
        "name": "toy",
        "version": "1.17.0",
        "note": "kept",
        "packages": [{"name": "six", "version": "1.17.0"}, elsewhere],
        "variant": "cpu",
        "platform": Platform.current().key,
        "installed": [{"name": "six", "version": "1.17.0", "sha256": digest}],
    }
    assert Framework.load(directory).reference == "toy@1.17.0"
    [compiled] = directory.glob("site-packages/__pycache__/six.*.pyc")
    assert int.from_bytes(compiled.read_bytes()[4:8], "little") == 1, "unchecked-hash (PEP 552)"
    assert sorted(path.name for path in directory.iterdir()) == ["framework.json", "index.py", "site-packages"]
    assert built.source == "registry (recipe toy)"
    assert "site-packages/six.py" in built.digests
    assert built.digests.items() <= digests(directory).items() | {
        (name, value) for name, value in built.digests.items() if VOLATILE.search(name)
    }
    assert told.infos[0] == "Building toy@1.17.0 (cpu) from the package registries"
    assert not told.warnings


def test_same_again(tmp_path: Path, told: Told) -> None:
    """From the record of a build the same is built again, byte for byte, however a registry went on meanwhile."""
    recipe = write_recipe(
        tmp_path, {"name": "scikit-learn", "version": "{version}"}, {"name": "numpy", "version": "<2.3"}
    )
    first = build(recipe, tmp_path / "first", told, asked="1.7.1")
    record = replace(recipe, manifest=Manifest.read(first))
    second = build(record, tmp_path / "second", told, asked="1.8")
    assert digests(first) == digests(second)
    names = [item["name"] for item in read_manifest(first)["installed"]]
    assert names == sorted(names)
    assert {"scikit-learn", "numpy", "scipy", "joblib", "threadpoolctl"} <= set(names)
    assert all(re.fullmatch("[0-9a-f]{64}", item["sha256"]) for item in read_manifest(first)["installed"])


def test_other_bytes(tmp_path: Path, told: Told) -> None:
    """A record whose digest no wheel in the registry has is not built."""
    packages = [{"name": "six", "version": "1.17.0", "sha256": "0" * 64}]
    recipe = write_recipe(tmp_path, SIX, version="1.17.0", platform=Platform.current().key, installed=packages)
    with pytest.raises(FrameworkBuildError, match=r"(?s)uv ended.*pip ended"):
        build(recipe, tmp_path / "built", told)


def test_record_of_another_platform(tmp_path: Path, told: Told) -> None:
    """A record tells which platform and variant it is for, and is of no use on others."""
    packages = [{"name": "six", "version": "1.17.0", "sha256": "0" * 64}]
    foreign = write_recipe(tmp_path / "a", SIX, version="1.17.0", platform="py27-amiga-m68k", installed=packages)
    with pytest.raises(FrameworkError, match=r"build for py27-amiga-m68k, whose packages would not load"):
        resolve(foreign, None, "cpu", told)
    here = Platform.current().key
    gpu = write_recipe(tmp_path / "b", SIX, version="1.17.0", platform=here, variant="gpu", installed=packages)
    with pytest.raises(FrameworkError, match=rf"for {here} \(cpu\), but .* {here} \(gpu\)"):
        resolve(gpu, None, "cpu", told)


@pytest.mark.parametrize(
    "record",
    [
        {"name": "six\n--index-url http://elsewhere.example", "version": "1.17.0", "sha256": "0" * 64},
        {"name": "six", "version": "1.17.0 --hash=sha256:00", "sha256": "0" * 64},
        {"name": "six", "version": "1.17.0", "sha256": "0", "path": "."},
        {"name": "is-odd", "version": "3.0.1", "path": "node_modules/../../x", "integrity": "sha512-AAAA"},
        {"name": "is-odd", "version": "file:../x", "path": "node_modules/is-odd", "integrity": "sha512-AAAA"},
    ],
)
def test_unusual_record(tmp_path: Path, told: Told, record: dict[str, str]) -> None:
    """A record says which packages, and nothing else to an installer."""
    here = Platform.current().key
    recipe = write_recipe(tmp_path, SIX, version="1.17.0", platform=here, installed=[record])
    with pytest.raises(FrameworkError, match=r"record of toy@1\.17\.0 was expected to have name, version and sha256"):
        resolve(recipe, None, "cpu", told)


def test_without_uv(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no uv, pip resolves, installs and records the same, compiled."""
    recipe = write_recipe(tmp_path, SIX)
    by_uv = build(recipe, tmp_path / "uv", told, asked="1.17")
    monkeypatch.setattr(wheels, "_find_uv", lambda: None)
    by_pip = build(recipe, tmp_path / "pip", told, asked="1.17")
    assert digests(by_pip) == digests(by_uv)
    assert list(by_pip.glob("site-packages/__pycache__/six.*.pyc"))


def test_same_choice(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the many wheels of a package for one platform, the same is chosen whoever resolves."""
    versions = {"charset-normalizer": "3.4.4", "cryptography": "46.0.3", "protobuf": "6.33.0"}
    recipe = write_recipe(tmp_path, *({"name": name, "version": versions[name]} for name in versions), version="1")
    by_uv = resolve(recipe, None, "cpu", told).wheels
    monkeypatch.setattr(wheels, "_find_uv", lambda: None)
    by_pip = resolve(recipe, None, "cpu", told).wheels
    chosen = [[wheel for wheel in found if wheel.name in versions] for found in (by_uv, by_pip)]
    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == 3


def test_uv_fails(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where uv cannot reach its index, pip is tried with its own, and both is told."""
    monkeypatch.setenv("UV_DEFAULT_INDEX", NOWHERE)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    directory = build(write_recipe(tmp_path, SIX), tmp_path / "built", told, asked="1.17")
    assert (directory / "site-packages" / "six.py").is_file()
    assert len(told.warnings) == 2, "resolving and installing"
    assert all(text.startswith("uv ended with exit code") for text in told.warnings)


def test_no_installer(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any installer the error says what is missing."""
    monkeypatch.setattr(wheels, "_find_uv", lambda: None)
    monkeypatch.setattr(wheels, "find_spec", lambda _name: None)
    with pytest.raises(FrameworkBuildError, match="there is no program here that could"):
        resolve(write_recipe(tmp_path, SIX), None, "cpu", told)


def test_project_around(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration of a project around the framework, or where the caller stands, plays no part."""
    (tmp_path / "uv.toml").write_text(f'index-url = "{NOWHERE}"\n')
    (tmp_path / ".npmrc").write_text(f"registry={NOWHERE}\n")
    (tmp_path / "package.json").write_text('{"workspaces": ["*"]}')
    monkeypatch.chdir(tmp_path)
    recipe = write_recipe(tmp_path / "recipes", SIX, {"name": "is-odd", "version": "3.0.1", "type": "js"})
    directory = build(recipe, tmp_path / "built", told, asked="1.17")
    assert not told.warnings
    assert (directory / "node_modules" / "is-odd" / "index.js").is_file()


def test_repair(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of uv's with a changed file does not bring the damage back into a framework that is repaired."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    recipe = write_recipe(tmp_path, SIX, {"name": "idna", "version": "3.10"})
    whole = build(recipe, tmp_path / "whole", told, asked="1.17")
    expected = digests(whole)
    for shared in [*(tmp_path / "uv").rglob("six.py"), *whole.rglob("six.py")]:
        shared.write_text("damaged = True\n")
    damaged = build(recipe, tmp_path / "damaged", told, asked="1.17")
    assert digests(damaged) != expected, "uv's cache trusts its files"
    assert not told.warnings
    repaired = build(recipe, tmp_path / "repaired", told, asked="1.17", repair=True)
    assert digests(repaired) == expected
    [warning] = told.warnings
    assert "1 of the files that uv's cache supplied, such as six.py" in warning


def write_wheel(folder: Path, record: str) -> None:
    """Write a wheel whose RECORD says this about its only module."""
    info = "toymodule-1.0.dist-info"
    with ZipFile(folder / "toymodule-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("toymodule.py", "answer = 42\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: toymodule\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(
            f"{info}/RECORD", f"toymodule.py,{record},12\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )


def test_wrong_record(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel that tells wrong digests of its files can be installed; a repair tells none of them on."""
    write_wheel(tmp_path, "sha256=AAAA")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    recipe = write_recipe(tmp_path, {"name": "toymodule", "version": "{version}"})
    resolution = resolve(recipe, None, "cpu", told)
    assert [wheel.sha256 for wheel in resolution.wheels] == [
        hashlib.sha256((tmp_path / "toymodule-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    ]
    (tmp_path / "built").mkdir()
    built = build_from_recipe(resolution, tmp_path / "built", told, repair=True)
    assert "site-packages/toymodule.py" not in built.digests
    assert len(told.warnings) == 1


KILLED = """
import sys
from pathlib import Path
from pipcook_provider.frameworks.build import resolve, wheels
from pipcook_provider.frameworks.framework import Manifest
from pipcook_provider.frameworks.recipes import Recipe
from pipcook_provider.frameworks.report import LogReport

if sys.argv[2] == "pip":
    wheels._find_uv = lambda: None
recipe = Path(sys.argv[1])
resolve(Recipe(recipe, Manifest.read(recipe, recipe=True)), "1", "cpu", LogReport())
"""


@pytest.mark.parametrize("program", ["uv", "pip", "npm"])
def test_killed(tmp_path: Path, server: Server, program: str) -> None:
    """No installer outlives the process that builds, also when that is killed from outside."""
    for path in ("/six/", "/six"):
        server.put(path, headers={"Content-Type": "text/html"}, announced=1000, stalls=True)
    recipe = write_recipe(tmp_path, {**SIX, "type": "js" if program == "npm" else "python"})
    registries = dict.fromkeys(("UV_DEFAULT_INDEX", "PIP_INDEX_URL", "NPM_CONFIG_REGISTRY"), f"{server.url}/")
    environment = {**os.environ, **registries, "UV_NO_CACHE": "1", "PIP_CONFIG_FILE": os.devnull}
    with subprocess.Popen([sys.executable, "-c", KILLED, str(recipe.directory), program], env=environment) as builder:
        wait_for(lambda: server.hits.total() > 0)
        installers = psutil.Process(builder.pid).children(recursive=True)
        assert len(installers) >= 2, f"the supervisor and {program}"
        builder.kill()
    wait_for(lambda: not any(map(is_alive, installers)))


def wait_for(condition: Any, patience: float = 60) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.02)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_interrupted(tmp_path: Path) -> None:
    """An exception in the middle of a build, such as Ctrl-C, ends the installer and its children at once."""
    started: list[psutil.Process] = []

    class Interrupting(Told):
        def info(self, text: str) -> None:
            super().info(text)
            started.extend(psutil.Process().children(recursive=True))
            raise KeyboardInterrupt

    report = Interrupting()
    command = ("sh", "-c", "sleep 1000 & echo Resolved; wait")
    with pytest.raises(KeyboardInterrupt):
        run("a shell", command, tmp_path, {}, report)
    assert report.infos == ["a shell: Resolved"]
    assert len(started) == 3
    wait_for(lambda: not any(map(is_alive, started)))


def test_javascript(tmp_path: Path, told: Told) -> None:
    """JavaScript packages are installed by npm without running their scripts, beside Python ones, and record the same way."""
    packages = (
        {"name": "is-odd", "version": "{version}", "type": "js"},
        {"name": "is-number", "version": "7", "type": "js"},
        {"name": "six", "version": "1.17.0", "type": "python"},
    )
    recipe = write_recipe(tmp_path, *packages)
    first = build(recipe, tmp_path / "first", told, asked="3")
    framework = Framework.load(first)
    assert framework.reference == "toy@3.0.1"
    assert framework.node_modules == first / "node_modules"
    assert framework.site_packages == first / "site-packages"
    manifest = read_manifest(first)
    assert manifest["platform"] == Platform.current().with_node().key
    found = {item["path"]: item for item in manifest["installed"] if "path" in item}
    nested = "node_modules/is-odd/node_modules/is-number"
    assert {path: item["version"] for path, item in found.items()} == {
        "node_modules/is-number": "7.0.0",
        "node_modules/is-odd": "3.0.1",
        nested: "6.0.0",
    }
    assert found[nested]["integrity"].startswith("sha512-")
    used = subprocess.run(["node", "-p", "require('is-odd')(3)"], cwd=first, capture_output=True, text=True, check=True)
    assert used.stdout == "true\n"
    second = build(replace(recipe, manifest=Manifest.read(first)), tmp_path / "second", told)
    assert digests(first) == digests(second)


def test_unknown_javascript(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """npm's answers are told apart as well: no such version, and no answer."""
    recipe = write_recipe(tmp_path, {"name": "is-odd", "version": "{version}", "type": "js"})
    with pytest.raises(FrameworkNotFound, match=r"(?s)is-odd@99.*npm ended.*No matching version"):
        resolve(recipe, "99", "cpu", told)
    close_network(monkeypatch)
    monkeypatch.setenv("NPM_CONFIG_CACHE", str(tmp_path / "npm"))
    with pytest.raises(FrameworkBuildError, match=r"(?s)npm ended.*ECONNREFUSED"):
        resolve(recipe, "3", "cpu", told)


def test_without_npm(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Node.js, or with a node alone, the error says what to install."""
    recipe = write_recipe(tmp_path, {"name": "is-odd", "version": "{version}", "type": "js"})
    node = shutil.which("node")
    assert node is not None
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(FrameworkError, match=r"no program node.*Install Node\.js"):
        resolve(recipe, None, "cpu", told)
    (tmp_path / "bin" / "node").symlink_to(node)
    with pytest.raises(FrameworkError, match=r"no program npm.*Install Node\.js"):
        resolve(recipe, None, "cpu", told)


def test_shipped_scikit_learn(tmp_path: Path, told: Told) -> None:
    """The shipped recipe of scikit-learn gives a framework that can be used."""
    recipe = find_recipe(NameReference("scikit-learn", "1.7"), ())
    assert recipe is not None
    directory = build(recipe, tmp_path / "built", told, asked="1.7")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import sklearn, PIL; print(sklearn.__version__, sklearn.__file__)"
    )
    command = [sys.executable, "-I", "-S", "-c", code, str(directory / "site-packages")]
    version, file = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert version.startswith("1.7.")
    assert Path(file).is_relative_to(directory)


def test_shipped_pytorch(told: Told) -> None:
    """The shipped recipe of PyTorch finds wheels for this platform."""
    recipe = find_recipe(NameReference("pytorch", None), ())
    assert recipe is not None
    resolution = resolve(recipe, None, "cpu", told)
    assert {"torch", "numpy", "pillow"} <= {wheel.name for wheel in resolution.wheels}
    assert resolution.variant is None
