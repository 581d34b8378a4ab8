from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, unquote
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import pytest
from helpers import zipped
from http_server import Server

from pipcook_provider.errors import (
    CacheError,
    FetchError,
    FrameworkBuildError,
    FrameworkError,
    FrameworkNotFound,
    IntegrityError,
)
from pipcook_provider.frameworks import (
    Framework,
    FrameworkPin,
    absolute_reference,
    build_framework,
    ensure_framework,
    keep_framework,
    sources,
)
from pipcook_provider.frameworks.housekeeping import list_frameworks, prune_frameworks, verify_frameworks
from pipcook_provider.frameworks.pack import pack
from pipcook_provider.frameworks.platform import Platform
from pipcook_provider.settings import Credential, Settings

HERE = Platform.current()


def mirror_path(version: str, suffix: str = "") -> str:
    return f"/m/{HERE.python}/{quote(f'toy@{version}')}-{HERE.os}-{HERE.arch}{suffix}.zip"


class Told:
    """A report that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []
        self.steps: list[str] = []

    def info(self, text: str) -> None:
        self.lines.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def progress(self, label: str, done: int, total: int | None) -> None:  # noqa: ARG002
        self.steps.append(label)


@pytest.fixture
def told() -> Told:
    return Told()


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
    unpacked = ensure_framework(absolute_reference("../toy.zip", origin), settings)
    assert ensure_framework(archive.as_uri(), settings) == unpacked
    assert unpacked.reference == str(archive)
    assert ensure_framework(str(unpacked.path), settings).path == unpacked.path
    archive.write_bytes(zipped(version="1.2.30"))
    assert ensure_framework(str(archive), settings).version == "1.2.30"


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
    """A name is asked of a mirror without an index by its version as written, and pinned to the one in the file."""
    server.put(mirror_path(asked.partition("@")[2]), zipped())
    framework = ensure_framework(asked, mirrored)
    assert framework.reference == "toy@1.2.3"
    hits = server.hits.total()
    assert {ensure_framework(name, mirrored).path for name in ("toy@1", asked, "toy@1.2.3")} == {framework.path}
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


def test_listed_versions(settings: Settings, tmp_path: Path, told: Told) -> None:
    """What is packed for a mirror is listed in its index: the newest that fits is taken, the digest compared."""
    mirror = tmp_path / "mirror"
    for version in ("1.2.3", "1.10.0", "2.0.0"):
        archive = tmp_path / f"{version}.zip"
        archive.write_bytes(zipped(version=version))
        pack(ensure_framework(str(archive), settings), mirror, told)
    other = replace(settings, home=tmp_path / "other", framework_mirror=(str(mirror),))
    assert ensure_framework("toy@1", other).version == "1.10.0"
    assert ensure_framework("toy@1.2", other).version == "1.2.3"
    assert ensure_framework("toy", other).version == "2.0.0"
    with pytest.raises(FrameworkNotFound, match=r"index\.json \(lists only 1\.2\.3, 1\.10\.0, 2\.0\.0\)"):
        ensure_framework("toy@3", other)
    third = replace(other, home=tmp_path / "third")
    packed = next(mirror.rglob("*2.0.0*.zip"))
    packed.write_bytes(zipped(version="2.0.0", more=1))
    with pytest.raises(IntegrityError, match=r"was expected to have the SHA-256 digest [0-9a-f]{64}"):
        ensure_framework("toy@2", third)
    assert not list_frameworks(third)


def test_stated_digest(server: Server, mirrored: Settings) -> None:
    """A digest beside a file of a mirror is compared, and a file that it does not fit is not kept."""
    server.put(mirror_path("1.2.3"), zipped())
    server.put(f"{mirror_path('1.2.3')}.sha256", f"{'0' * 64}  toy.zip\n".encode())
    with pytest.raises(IntegrityError, match=f"{'0' * 64}.*write them again"):
        ensure_framework("toy@1.2.3", mirrored)
    server.put(f"{mirror_path('1.2.3')}.sha256", hashlib.sha256(zipped()).hexdigest().encode())
    assert ensure_framework("toy@1.2.3", mirrored).version == "1.2.3"


def test_not_found(server: Server, mirrored: Settings, tmp_path: Path) -> None:
    """A name that nothing answers to lists the addresses tried and the nearest known name."""
    recipes = write_recipe(tmp_path / "recipes", "1.2.3", [])
    server.put(mirror_path("9"), zipped())
    settings = replace(mirrored, framework_recipes=(recipes,))
    with pytest.raises(FrameworkNotFound, match=r"Did you mean toy@1\.2\.3\?") as caught:
        ensure_framework("toy@9", settings)
    assert f"{server.url}{mirror_path('9')} (another framework is in it)" in str(caught.value)
    with pytest.raises(FrameworkNotFound, match="Did you mean pytorch"):
        ensure_framework("torch@2", mirrored)


def test_failing_mirror(server: Server, mirrored: Settings, tmp_path: Path) -> None:
    """A mirror that fails is told as the reason, and no other source silently takes its place."""
    server.put(mirror_path("1.2.3"), status=500)
    settings = replace(mirrored, framework_recipes=(write_recipe(tmp_path, "1.2.3", []),))
    with pytest.raises(FetchError, match="500") as caught:
        ensure_framework("toy@1.2.3", settings)
    assert caught.value.retryable


def test_newest(server: Server, mirrored: Settings, told: Told) -> None:
    """A name alone means the newest, which is asked for each time; when nobody answers, the newest cached one."""

    def list_version(version: str) -> None:
        body = zipped(version=version)
        file = Path(mirror_path(version)).name
        server.put(f"/m/{HERE.python}/{file}", body)
        entry = {"name": "toy", "version": version, "platform": HERE.binaries, "variant": None, "file": unquote(file)}
        entry |= {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body)}
        server.put(f"/m/{HERE.python}/index.json", json.dumps({"frameworks": [entry]}).encode())

    list_version("1.2.3")
    assert ensure_framework("toy", mirrored).version == "1.2.3"
    list_version("1.3.0")
    assert ensure_framework("toy@1", mirrored).version == "1.2.3", "cached, so nobody is asked"
    assert ensure_framework("toy", mirrored).version == "1.3.0"
    server.put(f"/m/{HERE.python}/index.json", status=503)
    assert ensure_framework("toy", mirrored, report=told).version == "1.3.0"
    assert any("1.3.0, is used instead" in warning for warning in told.warnings)


def test_recipe(settings: Settings, tmp_path: Path, told: Told) -> None:
    """A recipe of one's own is built from the package index, compiled, and recorded exactly."""
    packages = [
        {"name": "six", "version": "1.17.0", "type": "python"},
        {"name": "no-such-package-here", "variant": "gpu"},
    ]
    built = replace(settings, framework_recipes=(write_recipe(tmp_path, "1.0.0", packages),))  # type: ignore[arg-type]
    framework = ensure_framework("toy@1", built, report=told)
    assert (framework.reference, framework.variant) == ("toy@1.0.0", "cpu")
    manifest = json.loads((framework.path / "framework.json").read_text())
    assert [(package["name"], package["version"]) for package in manifest["installed"]] == [("six", "1.17.0")]
    assert all(len(package["sha256"]) == 64 for package in manifest["installed"])
    assert manifest["platform"] == HERE.key
    assert [package["name"] for package in manifest["packages"]] == ["six"]
    assert told.lines[0] == "Building toy@1.0.0 (cpu) from the package registries"
    told.lines.clear()
    assert ensure_framework("toy@1", built, report=told) == framework
    assert not told.lines


def test_newer_recipe(settings: Settings, tmp_path: Path) -> None:
    """A version that is cached is used; the name alone means the newest recipe."""
    folder = write_recipe(tmp_path, "1.0.0", [])
    both = replace(settings, framework_recipes=(folder,))
    assert ensure_framework("toy", both).version == "1.0.0"
    write_recipe(folder, "1.1.0", [])
    assert ensure_framework("toy@1", both).version == "1.0.0"
    assert ensure_framework("toy", both).version == "1.1.0"
    assert ensure_framework("toy@1", both).version == "1.1.0"
    assert ensure_framework("toy@1.0", both).version == "1.0.0"


def test_failing_build(settings: Settings, tmp_path: Path) -> None:
    """A package that no index has leaves nothing, and its name is told."""
    recipe = write_recipe(tmp_path / "recipes", "1.0.0", [{"name": "six", "version": "0.0.0.1"}])
    failing = replace(settings, framework_recipes=(recipe,))
    with pytest.raises(FrameworkError, match="six"):
        ensure_framework("toy", failing)
    assert not list((settings.home / "framework").glob("toy*"))


def test_build_leaves_mirrors_aside(server: Server, mirrored: Settings, tmp_path: Path) -> None:
    """A framework to be built is built, although a mirror's is cached."""
    server.put(mirror_path("1.2.3"), zipped())
    both = replace(mirrored, framework_recipes=(write_recipe(tmp_path, "1.2.3", []),))
    fetched = ensure_framework("toy@1.2.3", both)
    built = build_framework("toy@1.2.3", both)
    assert (fetched.path / "site-packages").is_dir()
    assert not (built.path / "site-packages").exists()
    assert (fetched.path / "site-packages").is_dir(), "whoever uses the mirror's keeps it"
    assert build_framework("toy", both) == built


@pytest.mark.parametrize("way", ["name", "url", "path"])
def test_repair(server: Server, mirrored: Settings, tmp_path: Path, told: Told, way: str) -> None:
    """A file that was changed or deleted is noticed and repaired; those who read the damaged one are not disturbed."""
    (tmp_path / "toy.zip").write_bytes(zipped())
    server.put(mirror_path("1.2.3"), zipped())
    url = server.put("/toy.zip", zipped())
    reference = {"name": "toy@1.2.3", "url": url, "path": str(tmp_path / "toy.zip")}[way]
    framework = ensure_framework(reference, mirrored)
    (framework.path / "site-packages/toy.py").write_text("version = 'bad'\n")
    (framework.path / "index.py").unlink()
    [damages] = verify_frameworks(mirrored, [], told).values()
    assert [(damage.path, damage.problem) for damage in damages] == [
        ("index.py", "missing"),
        ("site-packages/toy.py", "changed"),
    ]
    assert ensure_framework(reference, mirrored).path == framework.path, "not asked to verify"
    repaired = ensure_framework(reference, mirrored, verify=True, report=told)
    assert any("2 file(s), such as index.py" in warning for warning in told.warnings)
    assert "1.2.3" in (repaired.path / "site-packages/toy.py").read_text()
    assert verify_frameworks(mirrored, ["toy" if way == "name" else ""], told).popitem()[1] == []
    assert ensure_framework(reference, mirrored, verify=True).path == repaired.path


def test_pin(server: Server, mirrored: Settings, tmp_path: Path) -> None:
    """What is pinned stands beside another of the same version; what no source has is refused."""
    server.put(mirror_path("1.2.3"), zipped())
    first = ensure_framework("toy@1.2.3", mirrored)
    pin = FrameworkPin.of(first)
    assert FrameworkPin.read(json.loads(json.dumps(pin.to_json()))) == pin
    other = replace(mirrored, home=tmp_path / "other")
    server.put(mirror_path("1.2.3"), zipped(more=1))
    assert ensure_framework("toy@1.2.3", other).version == "1.2.3"
    with pytest.raises(IntegrityError, match=pin.archive):
        ensure_framework("toy@1.2.3", other, pin=pin)
    server.put(mirror_path("1.2.3"), zipped())
    pinned = ensure_framework("toy@1.2.3", other, pin=pin)
    assert FrameworkPin.of(pinned) == pin
    assert ensure_framework("toy@1.2.3", other, pin=pin) == pinned
    assert ensure_framework("toy@1.2.3", other) != pinned
    with pytest.raises(IntegrityError, match="another"):
        ensure_framework(str(first.path), mirrored, pin=FrameworkPin(archive="0" * 64))


def test_pinned_build(settings: Settings, tmp_path: Path) -> None:
    """What was built is built again from its record, though the recipe would give another by now."""
    folder = write_recipe(tmp_path / "recipes", "1.0.0", [{"name": "six", "version": "1.16.0"}])
    with_recipe = replace(settings, framework_recipes=(folder,))
    pin = FrameworkPin.of(ensure_framework("toy", with_recipe))
    (folder / "toy@1.0.0/framework.json").write_text(
        json.dumps({"name": "toy", "version": "1.0.0", "packages": [{"name": "six", "version": "1.17.0"}]})
    )
    other = replace(with_recipe, home=tmp_path / "other")
    newer = ensure_framework("toy", other)
    again = ensure_framework("toy@1.0.0", other, pin=pin)
    assert FrameworkPin.of(again) == pin != FrameworkPin.of(newer)
    assert '"1.16.0"' in (again.path / "framework.json").read_text()


def test_gpu_on_macos(monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path, told: Told) -> None:
    """Where there is no CUDA, asking for the GPU is a warning."""
    monkeypatch.setattr(sys, "platform", "darwin")
    recipes = (write_recipe(tmp_path, "1.0.0", []),)
    ensure_framework("toy", replace(settings, framework_recipes=recipes), gpu=True, report=told)
    assert any("macOS has no CUDA" in line for line in told.warnings)


def test_damaged_entry(server: Server, mirrored: Settings, told: Told) -> None:
    """A cached framework whose framework.json is gone is left aside with a warning, and got anew."""
    server.put(mirror_path("1.2.3"), zipped())
    framework = ensure_framework("toy@1.2.3", mirrored)
    (framework.path / "framework.json").unlink()
    assert ensure_framework("toy@1.2.3", mirrored, report=told).version == "1.2.3"
    assert any("is left aside" in warning for warning in told.warnings)


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


def ensure_in_processes(count: int, reference: str, home: Path) -> list[str]:
    """Ensure a framework in so many processes at once; return what each printed."""
    code = (
        "import sys; from dataclasses import replace; from pathlib import Path; "
        "from pipcook_provider.frameworks import ensure_framework; "
        "from pipcook_provider.settings import Credential, Settings; "
        "print(ensure_framework(sys.argv[1], replace(Settings.load(), home=Path(sys.argv[2]))).path)"
    )
    command = [sys.executable, "-c", code, reference, str(home)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    return [process.communicate()[0] for process in processes]


def test_keep(server: Server, settings: Settings, tmp_path: Path) -> None:
    """A framework may be used for some time after the process that got it; one outside of the cache needs nothing."""
    url = server.put("/toy.zip", zipped())
    code = (
        "import sys; from dataclasses import replace; from pathlib import Path; "
        "from pipcook_provider.frameworks import ensure_framework, keep_framework; "
        "from pipcook_provider.settings import Settings; "
        "framework = ensure_framework(sys.argv[1], replace(Settings.load(), home=Path(sys.argv[2]))); "
        "keep_framework(framework.path, float(sys.argv[3])); print(framework.path)"
    )

    def ensure(seconds: int) -> None:
        subprocess.run([sys.executable, "-c", code, url, str(settings.home), str(seconds)], check=True)

    ensure(0)
    assert not list_frameworks(settings)[0].is_used
    ensure(3600)
    assert list_frameworks(settings)[0].is_used
    assert prune_frameworks(settings, older_than=timedelta()) == []
    [mark] = (settings.home / "framework/.uses").glob("*/*")
    os.utime(mark, (0, time.time() - 3601))
    assert not list_frameworks(settings)[0].is_used
    assert [one.reason for one in prune_frameworks(settings, older_than=timedelta())] == ["leftover", "unused"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "framework.json").write_text('{"name": "toy", "version": "1"}')
    keep_framework(ensure_framework(str(elsewhere), settings).path, 3600)
    assert [path.name for path in elsewhere.iterdir()] == ["framework.json"]


def test_many_at_once(server: Server, tmp_path: Path) -> None:
    """Eight processes that want the same framework do one download and have the same folder."""
    url = server.put("/toy.zip", zipped(padding="x" * 5_000_000))
    found = ensure_in_processes(8, url, tmp_path)
    assert len(set(found)) == 1
    assert Path(found[0].strip()).is_dir()
    assert server.hits["/toy.zip"] == 1


def test_many_at_once_by_name(
    settings: Settings, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of eight processes that want the same version, one asks the mirror."""
    server.put(mirror_path("1.2"), zipped(padding="x" * 5_000_000))
    monkeypatch.setenv("PIPCOOK_FRAMEWORK_MIRROR", f"{server.url}/m/")
    found = ensure_in_processes(8, "toy@1.2", settings.home)
    assert len(set(found)) == 1
    assert set(server.hits.values()) == {1}


def test_download_goes_on(server: Server, settings: Settings) -> None:
    """A download that failed in one call is continued, not repeated, by the next."""
    body = zipped(padding="".join(chr(97 + number % 26) for number in range(3_000_000)))
    served = {"ranges": True, "headers": {"ETag": '"1"'}}
    url = server.put("/toy.zip", body, breaks_after=1_000_000, **served)
    for _ in range(3):
        server.then("/toy.zip", b"", status=503)
    with pytest.raises(FetchError):
        ensure_framework(url, settings)
    server.put("/toy.zip", body, **served)
    assert ensure_framework(url, settings).version == "1.2.3"
    assert server.ranges("/toy.zip")[-1] == "bytes=1000000-"
    assert not any((settings.home / "framework/.downloads").iterdir())


def test_javascript_mirror(monkeypatch: pytest.MonkeyPatch, server: Server, settings: Settings, tmp_path: Path) -> None:
    """A framework of JavaScript packages is asked of Pipcook's mirror, for this Node.js; it may be gone."""
    recipe = tmp_path / "recipes/toy"
    recipe.mkdir(parents=True)
    packages = [{"name": "is-odd", "version": "{version}", "type": "js"}]
    (recipe / "framework.json").write_text(json.dumps({"name": "toy", "packages": packages}))
    monkeypatch.setattr(sources, "JAVASCRIPT_MIRROR", f"{server.url}/m/")
    with_recipe = replace(settings, framework_recipes=(recipe.parent,))
    path = f"/m/{Platform.current().with_node().mirror_paths('toy', '3.0.1', None)[0]}"
    server.put(path, zipped(version="3.0.1"))
    assert ensure_framework("toy@3.0.1", with_recipe).path.joinpath("site-packages/toy.py").is_file()
    server.put(path, status=500)
    other = replace(with_recipe, home=tmp_path / "other")
    assert ensure_framework("toy@3.0.1", other).path.joinpath("node_modules/is-odd/package.json").is_file()


@pytest.mark.parametrize("wanted", [{"Authorization": "Bearer sesame"}, {"X-Key": "sesame"}])
def test_mirror_with_credentials(server: Server, mirrored: Settings, wanted: dict[str, str]) -> None:
    """A name is asked of a mirror with what authenticates there, and nothing of that is kept or told."""
    server.put(mirror_path("1.2.3"), zipped())
    known = replace(mirrored, credentials=(Credential(f"{server.url}/m", wanted),))
    framework = ensure_framework("toy@1.2.3", known)
    [name] = wanted
    assert {request.headers.get(name.lower()) for request in server.requests} == {wanted[name]}
    kept = [path for path in mirrored.home.rglob("*") if path.is_file() and b"sesame" in path.read_bytes()]
    assert not kept
    assert "sesame" not in str(framework)


def test_password_of_a_url_is_not_kept(server: Server, settings: Settings) -> None:
    """User and password in a URL are used for asking, and stand in no name or record."""
    server.put("/toy.zip", zipped())
    framework = ensure_framework(f"http://anna:sesame@{server.address}/toy.zip", settings)
    assert server.authorizations["/toy.zip"]
    assert "sesame" not in str(framework)
    everything = list(settings.home.rglob("*"))
    assert not [
        path for path in everything if "sesame" in path.name or (path.is_file() and b"sesame" in path.read_bytes())
    ]


def test_no_other_origin(server: Server, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Pipcook's mirror is asked for frameworks of JavaScript packages only, and where the allowed origins cover it."""
    monkeypatch.setattr(sources, "JAVASCRIPT_MIRROR", f"{server.url}/m/")
    with pytest.raises(FrameworkNotFound):
        ensure_framework("toy@1.2.3", settings)
    recipe = tmp_path / "recipes/toy"
    recipe.mkdir(parents=True)
    packages = [{"name": "no-such-package-of-nobody", "version": "{version}", "type": "js"}]
    (recipe / "framework.json").write_text(json.dumps({"name": "toy", "packages": packages}))
    closed = replace(settings, framework_recipes=(recipe.parent,), allowed_origins=("https://elsewhere.example/",))
    with pytest.raises(FrameworkError):
        ensure_framework("toy@1.2.3", closed)
    assert not server.requests


def test_next_mirror(server: Server, mirrored: Settings, tmp_path: Path, told: Told) -> None:
    """A mirror with a badly packed zip, or one that is down, does not hide the next; its failure is told as a warning."""
    server.put(mirror_path("1.2.3"), b"no zip")
    (tmp_path / "mirror" / HERE.python).mkdir(parents=True)
    (tmp_path / "mirror" / HERE.python / f"toy@1.2.3-{HERE.binaries}.zip").write_bytes(zipped())
    down = "http://127.0.0.1:1/m"
    both = replace(mirrored, framework_mirror=(down, *mirrored.framework_mirror, str(tmp_path / "mirror")))
    assert ensure_framework("toy@1.2.3", both, report=told).version == "1.2.3"
    assert [down in told.warnings[0], "whole zip archive" in told.warnings[1]] == [True, True]
    assert server.hits[mirror_path("1.2.3")] == 1


def test_missing_mirror_folder(settings: Settings, tmp_path: Path) -> None:
    """A folder that is not mounted is no mirror without the framework: nothing else silently takes its place."""
    recipes = (write_recipe(tmp_path / "recipes", "1.2.3", []),)
    for address, hint in ((str(tmp_path / "none"), "Mount"), ("127.0.0.1:8080", "Did you mean http://127")):
        with pytest.raises(FetchError, match=hint) as caught:
            ensure_framework("toy@1.2.3", replace(settings, framework_mirror=(address,), framework_recipes=recipes))
        assert "registries were not asked" in str(caught.value)


def test_gpu_after_cpu(server: Server, mirrored: Settings) -> None:
    """A plain framework that is cached does not stand for the GPU variant that a mirror has."""
    server.put(mirror_path("1.2.3"), zipped())
    server.put(mirror_path("1.2.3", "-gpu"), zipped(more=1))
    plain, gpu = (ensure_framework("toy@1.2.3", mirrored, gpu=gpu) for gpu in (False, True))
    assert (plain.variant, gpu.variant) == (None, "gpu")


def test_exact_version_first(settings: Settings, tmp_path: Path) -> None:
    """What a run began with stays, though a version that begins so is cached later."""
    folder = write_recipe(tmp_path, "1.0", [])
    with_recipes = replace(settings, framework_recipes=(folder,))
    assert ensure_framework("toy", with_recipes).reference == "toy@1.0"
    write_recipe(folder, "1.0.1", [])
    assert ensure_framework("toy", with_recipes).version == "1.0.1"
    assert ensure_framework("toy@1.0", with_recipes).version == "1.0"


def test_cached_without_source(settings: Settings, tmp_path: Path, told: Told) -> None:
    """A name alone that nobody can answer for any more is what is cached, with a warning."""
    ensure_framework("toy", replace(settings, framework_recipes=(write_recipe(tmp_path, "1.0.0", []),)))
    assert ensure_framework("toy", settings, report=told).version == "1.0.0"
    assert any("is used instead" in warning for warning in told.warnings)


def test_offline(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that could not be asked is not taken for one that has no such framework."""
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    recipes = (write_recipe(tmp_path / "recipes", "1.0.0", [{"name": "six", "version": "1.17.0"}]),)
    with pytest.raises(FrameworkBuildError, match="index can be reached") as caught:
        ensure_framework("toy", replace(settings, framework_recipes=recipes))
    assert caught.value.retryable


def test_repair_from_record(settings: Settings, tmp_path: Path) -> None:
    """What was built is repaired from its record, though its recipe would give newer packages by now."""
    folder = write_recipe(tmp_path / "recipes", "1.0.0", [{"name": "six", "version": "1.16.0"}])
    with_recipe = replace(settings, framework_recipes=(folder,))
    framework = ensure_framework("toy", with_recipe)
    (folder / "toy@1.0.0/framework.json").write_text(
        json.dumps({"name": "toy", "version": "1.0.0", "packages": [{"name": "six", "version": "1.17.0"}]})
    )
    (framework.path / "site-packages/six.py").unlink()
    repaired = ensure_framework("toy@1.0.0", with_recipe, verify=True)
    assert '__version__ = "1.16.0"' in (repaired.path / "site-packages/six.py").read_text()


def test_other_platform_is_not_kept(server: Server, settings: Settings) -> None:
    """A zip for another platform is not kept: when the server has the right one, that is taken."""
    url = server.put("/toy.zip", zipped(platform="py27-amiga-m68k"))
    with pytest.raises(FrameworkError, match="built for py27-amiga-m68k"):
        ensure_framework(url, settings)
    server.put("/toy.zip", zipped())
    assert ensure_framework(url, settings).version == "1.2.3"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("step", ["download", "unpacking"])
def test_full_disk(server: Server, settings: Settings, small_disk: Path, step: str) -> None:
    """A full disk is told as what it is and leaves nothing that counts; with more room the next call succeeds."""
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", ZIP_STORED if step == "download" else ZIP_DEFLATED) as bundle:
        bundle.writestr("framework.json", '{"name": "toy", "version": "1.2.3"}')
        bundle.writestr("site-packages/large.py", "#" * 12_000_000)
    url = server.put("/toy.zip", buffer.getvalue())
    on_disk = replace(settings, home=small_disk)
    with pytest.raises((FetchError, CacheError), match="Make room") as caught:
        ensure_framework(url, on_disk)
    assert not caught.value.retryable
    assert not list_frameworks(on_disk)
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    assert ensure_framework(url, on_disk).version == "1.2.3"
