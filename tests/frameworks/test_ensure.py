from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote
from zipfile import ZipFile

import pytest
from http_server import Server

from pipcook_provider.errors import FetchError, FrameworkBuildError, FrameworkError, FrameworkNotFound, IntegrityError
from pipcook_provider.frameworks import Framework, ensure_framework, pin_framework
from pipcook_provider.frameworks.platform import Platform
from pipcook_provider.settings import Settings

HERE = Platform.current()


def zipped(name: str = "toy", version: str = "1.2.3", **more: object) -> bytes:
    """Return a framework's zip with one module in it."""
    buffer = io.BytesIO()
    with ZipFile(buffer, "w") as bundle:
        bundle.writestr("framework.json", json.dumps({"name": name, "version": version, "packages": [], **more}))
        bundle.writestr("index.py", "def initialize(options): ...\n")
        bundle.writestr("site-packages/toy.py", f"version = {version!r}\n")
    return buffer.getvalue()


def mirror_path(version: str, suffix: str = "") -> str:
    return f"/m/{HERE.python}/{quote(f'toy@{version}')}-{HERE.os}-{HERE.arch}{suffix}.zip"


def write_recipe(folder: Path, version: str, packages: list[dict[str, str]]) -> Path:
    recipe = folder / f"toy@{version}"
    recipe.mkdir(parents=True)
    (recipe / "framework.json").write_text(json.dumps({"name": "toy", "version": version, "packages": packages}))
    (recipe / "index.py").write_text("def initialize(options): ...\n")
    return folder


@pytest.fixture
def mirrored(settings: Settings, server: Server) -> Settings:
    return replace(settings, framework_mirror=(f"{server.url}/m/",))


def test_url(server: Server, settings: Settings) -> None:
    """A URL is downloaded once and told as it was given."""
    url = server.put("/toy.zip", zipped())
    first, second = (ensure_framework(url, settings) for _ in range(2))
    assert first == second
    assert (first.reference, first.name, first.version, first.variant) == (url, "toy", "1.2.3", None)
    assert first.site_packages == first.path / "site-packages"
    assert first.init_script == first.path / "index.py"
    assert first.path.is_relative_to(settings.home / "framework")
    assert sorted(path.name for path in first.path.iterdir()) == ["framework.json", "index.py", "site-packages"]
    assert server.hits["/toy.zip"] == 1


def test_refresh(server: Server, settings: Settings) -> None:
    """A refresh downloads again."""
    url = server.put("/toy.zip", zipped())
    ensure_framework(url, settings)
    server.put("/toy.zip", zipped(version="1.2.4"))
    assert ensure_framework(url, settings).version == "1.2.3"
    assert ensure_framework(url, settings, refresh=True).version == "1.2.4"


def test_broken_url(server: Server, settings: Settings) -> None:
    """What is no framework is never cached: the next call asks again."""
    url = server.put("/toy.zip", b"<html>")
    with pytest.raises(IntegrityError):
        ensure_framework(url, settings)
    server.put("/toy.zip", zipped(version=""))
    with pytest.raises(FrameworkError, match="version"):
        ensure_framework(url, settings)
    server.put("/toy.zip", zipped())
    assert ensure_framework(url, settings).version == "1.2.3"


def test_path(settings: Settings, tmp_path: Path) -> None:
    """A zip is unpacked once per content, a directory is used where it is; both may be relative to the document."""
    origin = str(tmp_path / "pipelines" / "a.json")
    archive = tmp_path / "toy.zip"
    archive.write_bytes(zipped())
    unpacked = ensure_framework("../toy.zip", settings, origin=origin)
    assert ensure_framework(archive.as_uri(), settings) == unpacked
    assert unpacked.reference == str(archive)
    assert ensure_framework(str(unpacked.path), settings).path == unpacked.path
    archive.write_bytes(zipped(version="1.2.30"))
    assert ensure_framework("../toy.zip", settings, origin=origin).version == "1.2.30"


def test_unusable_path(settings: Settings, tmp_path: Path) -> None:
    """A path that leads nowhere, and a folder one too high, say what is there."""
    with pytest.raises(FrameworkNotFound, match="relative to the document"):
        ensure_framework(str(tmp_path / "none.zip"), settings)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/framework.json").write_text("{}")
    with pytest.raises(FrameworkError, match="There is one in inner/"):
        ensure_framework(str(tmp_path), settings)


@pytest.mark.parametrize("document", ["[]", "{", '{"name": "toy"}', '{"name":"t","version":"1","packages":[1]}'])
def test_bad_manifest(settings: Settings, tmp_path: Path, document: str) -> None:
    """A framework.json that cannot be used is named."""
    (tmp_path / "framework.json").write_text(document)
    with pytest.raises(FrameworkError, match=r"framework\.json cannot be used: "):
        ensure_framework(str(tmp_path), settings)


def test_other_platform(settings: Settings, tmp_path: Path) -> None:
    """A framework that was built for another platform is refused before its packages fail to load."""
    archive = tmp_path / "toy.zip"
    archive.write_bytes(zipped(platform="py27-amiga-m68k"))
    with pytest.raises(FrameworkError, match="built for py27-amiga-m68k"):
        ensure_framework(str(archive), settings)


@pytest.mark.parametrize("asked", ["toy@1.2.3", "toy@1.2"])
def test_mirror(server: Server, mirrored: Settings, asked: str) -> None:
    """A name is asked of the mirror by its version as written, and pinned to the one that is in the file."""
    version = asked.partition("@")[2]
    server.put(mirror_path(version), zipped())
    framework = ensure_framework(asked, mirrored)
    assert framework.reference == "toy@1.2.3"
    assert pin_framework("toy", mirrored) == pin_framework(asked, mirrored) == "toy@1.2.3"
    hits = server.hits.total()
    assert {ensure_framework(name, mirrored).path for name in ("toy", "toy@1", asked, "toy@1.2.3")} == {framework.path}
    assert server.hits.total() == hits


def test_second_mirror(server: Server, mirrored: Settings, tmp_path: Path) -> None:
    """Mirrors are tried in order; a folder can be one, and a name without a file there goes on to the next."""
    folder = tmp_path / "mirror" / HERE.python
    folder.mkdir(parents=True)
    (folder / f"toy@1.2.3-{HERE.os}-{HERE.arch}.zip").write_bytes(zipped())
    both = replace(mirrored, framework_mirror=(*mirrored.framework_mirror, (tmp_path / "mirror").as_uri()))
    assert ensure_framework("toy@1.2.3", both).reference == "toy@1.2.3"
    assert server.hits[mirror_path("1.2.3")] == 1


def test_allowed_mirror(server: Server, mirrored: Settings) -> None:
    """A configured mirror need not be among the allowed origins as well."""
    server.put(mirror_path("1.2.3"), zipped())
    closed = replace(mirrored, allowed_origins=("https://elsewhere.example/",))
    assert ensure_framework("toy@1.2.3", closed).name == "toy"


def test_gpu_mirror(server: Server, mirrored: Settings) -> None:
    """The GPU variant has a file and a cache entry of its own."""
    server.put(mirror_path("1.2.3", "-gpu"), zipped())
    server.put(mirror_path("1.2.3"), zipped())
    gpu, cpu = (ensure_framework("toy@1.2.3", mirrored, gpu=gpu) for gpu in (True, False))
    assert gpu.path != cpu.path
    assert (gpu.variant, cpu.variant) == ("gpu", None)
    assert ensure_framework("toy@1", mirrored, gpu=True) == gpu
    assert ensure_framework("toy@1", mirrored) == cpu


def test_not_found(server: Server, mirrored: Settings, tmp_path: Path) -> None:
    """A name that nothing answers to lists the addresses tried and the nearest known name."""
    recipes = write_recipe(tmp_path / "recipes", "1.2.3", [])
    server.put(mirror_path("9"), zipped())
    settings = replace(mirrored, framework_recipes=(recipes,))
    with pytest.raises(FrameworkNotFound, match=r"Did you mean toy@1\.2\.3\?") as caught:
        ensure_framework("toy@9", settings)
    assert f"{server.url}{mirror_path('9')} (another framework is in it)" in str(caught.value)
    with pytest.raises(FrameworkNotFound, match="mirrors need a name with a version"):
        pin_framework("unknown", settings)


def test_failing_mirror(server: Server, mirrored: Settings, tmp_path: Path) -> None:
    """A mirror that fails is told as the reason, and no other source silently takes its place."""
    server.put(mirror_path("1.2.3"), status=500)
    settings = replace(mirrored, framework_recipes=(write_recipe(tmp_path, "1.2.3", []),))
    with pytest.raises(FetchError, match="500") as caught:
        ensure_framework("toy@1.2.3", settings)
    assert caught.value.retryable
    assert pin_framework("toy", settings) == "toy@1.2.3"


def test_recipe(settings: Settings, tmp_path: Path) -> None:
    """A recipe of one's own is built from the package index, compiled, and recorded exactly."""
    packages = [
        {"name": "six", "version": "1.17.0", "type": "python"},
        {"name": "no-such-package-here", "variant": "gpu"},
    ]
    built = replace(settings, framework_recipes=(write_recipe(tmp_path, "1.0.0", packages),))  # type: ignore[arg-type]
    told: list[str] = []
    framework = ensure_framework("toy@1", built, report=told.append)
    assert (framework.reference, framework.variant) == ("toy@1.0.0", "cpu")
    manifest = json.loads((framework.path / "framework.json").read_text())
    assert manifest["installed"] == [{"name": "six", "version": "1.17.0"}]
    assert manifest["platform"] == HERE.key
    assert [package["name"] for package in manifest["packages"]] == ["six"]
    [compiled] = framework.path.glob("site-packages/__pycache__/six.*.pyc")
    assert int.from_bytes(compiled.read_bytes()[4:8], "little") == 1, "unchecked-hash (PEP 552)"
    assert told[0] == "Building toy@1.0.0 (cpu) from a package index"
    told.clear()
    assert ensure_framework("toy", built, report=told.append) == framework
    assert not told


def test_newer_recipe(settings: Settings, tmp_path: Path) -> None:
    """A newer recipe is preferred to an older cached version, where the reference leaves the choice."""
    folder = write_recipe(tmp_path, "1.0.0", [])
    both = replace(settings, framework_recipes=(folder,))
    assert ensure_framework("toy", both).version == "1.0.0"
    write_recipe(folder, "1.1.0", [])
    assert pin_framework("toy@1", both) == "toy@1.1.0"
    assert ensure_framework("toy@1", both).version == "1.1.0"
    assert ensure_framework("toy@1.0", both).version == "1.0.0"


def test_failing_build(settings: Settings, tmp_path: Path) -> None:
    """A package that no index has ends with what the installers said, and leaves nothing."""
    recipe = write_recipe(tmp_path / "recipes", "1.0.0", [{"name": "six", "version": "0.0.0.1"}])
    failing = replace(settings, framework_recipes=(recipe,))
    with pytest.raises(FrameworkBuildError, match=r"(?s)uv ended with exit code.*six.*pip ended"):
        ensure_framework("toy", failing)
    assert not list((settings.home / "framework").glob("toy*"))


def test_build_without_uv(monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path) -> None:
    """Where there is no uv, pip installs the same, compiled."""
    monkeypatch.setattr("pipcook_provider.frameworks.build._find_uv", lambda: None)
    recipe = write_recipe(tmp_path / "recipes", "1.0.0", [{"name": "six", "version": "1.17.0"}])
    framework = ensure_framework("toy", replace(settings, framework_recipes=(recipe,)))
    assert framework.site_packages is not None
    assert (framework.site_packages / "six.py").is_file()
    assert list((framework.site_packages / "__pycache__").glob("six.*.pyc"))


def test_gpu_on_macos(monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path) -> None:
    """Where there is no CUDA, asking for the GPU is a warning."""
    monkeypatch.setattr(sys, "platform", "darwin")
    told: list[str] = []
    recipes = (write_recipe(tmp_path, "1.0.0", []),)
    ensure_framework("toy", replace(settings, framework_recipes=recipes), gpu=True, report=told.append)
    assert any("macOS has no CUDA" in line for line in told)


def test_damaged_entry(server: Server, mirrored: Settings) -> None:
    """A cached framework whose framework.json is gone is named, and a refresh repairs it."""
    server.put(mirror_path("1.2.3"), zipped())
    framework = ensure_framework("toy@1.2.3", mirrored)
    (framework.path / "framework.json").unlink()
    with pytest.raises(FrameworkError, match=r"toy@1\.2\.3"):
        ensure_framework("toy@1.2.3", mirrored)
    assert ensure_framework("toy@1.2.3", mirrored, refresh=True) == framework


def test_light_import() -> None:
    """The package is imported without anything heavy."""
    heavy = "{'airflow', 'numpy', 'pyarrow', 'requests', 'filelock'}"
    code = f"import sys, pipcook_provider.frameworks; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"


def test_record(tmp_path: Path) -> None:
    """A framework without packages and script says so."""
    framework = Framework("toy@1", "toy", "1", None, tmp_path)
    assert framework.site_packages is None
    assert framework.init_script is None
