from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import threading
from pathlib import Path
from zipfile import ZipFile

import pytest

from pipcook_provider.archive import extract_zip
from pipcook_provider.errors import FrameworkError
from pipcook_provider.frameworks import pack as packing
from pipcook_provider.frameworks.framework import Framework
from pipcook_provider.frameworks.pack import pack
from pipcook_provider.frameworks.platform import Platform
from pipcook_provider.frameworks.report import LogReport

HERE = Platform.current()
BINARIES = f"{HERE.os}-{HERE.arch}"
REPORT = LogReport()


def write_framework(directory: Path, version: str = "1.2.3", **more: object) -> Framework:
    """Write a framework with a file of each kind."""
    site_packages = directory / "site-packages"
    site_packages.mkdir(parents=True)
    (directory / "framework.json").write_text(json.dumps({"name": "toy", "version": version, **more}))
    # Larger than a block, and such that it matters what came before a block.
    (site_packages / "large.bin").write_bytes(random.Random(1).randbytes(20_000) * 150)
    (site_packages / "toy.py").write_text("answer = 42\n" * 1000)
    (site_packages / "größe.txt").write_text("ü")
    (site_packages / "__init__.py").touch()
    program = site_packages / "program"
    program.write_text("#!/bin/sh\necho runs\n")
    program.chmod(0o744)
    (site_packages / "library.so").symlink_to("large.bin")
    (directory / "empty").mkdir()
    return Framework.load(directory)


def contents(directory: Path) -> dict[str, object]:
    return {
        path.relative_to(directory).as_posix(): path.readlink()
        if path.is_symlink()
        else (path.read_bytes(), os.access(path, os.X_OK))
        if path.is_file()
        else None
        for path in directory.rglob("*")
    }


def test_whole(tmp_path: Path) -> None:
    """A framework comes out of its zip as it went in: files, executable bits, links, empty folders."""
    framework = write_framework(tmp_path / "toy")
    path = pack(framework, tmp_path / "mirror", REPORT)
    assert path == tmp_path / "mirror" / HERE.python / f"toy@1.2.3-{BINARIES}.zip"
    extract_zip(path, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(framework.path)
    with ZipFile(path) as bundle:
        names = bundle.namelist()
        assert bundle.testzip() is None
        assert bundle.getinfo("site-packages/large.bin").compress_size < 300_000
    assert names == sorted(names)
    assert "framework.json" in names


def test_same_bytes(tmp_path: Path) -> None:
    """The same contents give the same bytes, whatever their times."""
    framework = write_framework(tmp_path / "toy")
    first = pack(framework, tmp_path / "mirror", REPORT).read_bytes()
    for path in framework.path.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    assert pack(framework, tmp_path / "mirror", REPORT).read_bytes() == first


def test_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files beyond the old limits of the format are written in its 64-bit form."""
    monkeypatch.setattr(packing, "_ZIP64_FROM", 10_000)
    framework = write_framework(tmp_path / "toy")
    extract_zip(pack(framework, tmp_path / "mirror", REPORT), tmp_path / "again")
    assert contents(tmp_path / "again") == contents(framework.path)


def test_digest_and_index(tmp_path: Path) -> None:
    """Beside the zip are its digest, as sha256sum takes it, and an index of all that the folder has."""
    mirror = tmp_path / "mirror"
    pack(write_framework(tmp_path / "old", "1.2.2"), mirror, REPORT)
    path = pack(write_framework(tmp_path / "new", "1.10.0+local", variant="gpu"), mirror, REPORT)
    assert path.name == f"toy@1.10.0+local-{BINARIES}-gpu.zip"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (path.parent / f"{path.name}.sha256").read_text() == f"{digest}  {path.name}\n"
    listed = json.loads((path.parent / "index.json").read_text())["frameworks"]
    assert listed[0] == {
        "name": "toy",
        "version": "1.10.0+local",
        "platform": BINARIES,
        "variant": "gpu",
        "file": path.name,
        "sha256": digest,
        "size": path.stat().st_size,
    }
    assert [(entry["version"], entry["variant"]) for entry in listed[1:]] == [("1.2.2", None)]
    assert {file.suffix for file in path.parent.iterdir()} == {".zip", ".sha256", ".json"}


def test_index_of_many(tmp_path: Path) -> None:
    """Several that pack into a folder at once leave an index of all."""
    frameworks = [write_framework(tmp_path / str(number), f"1.{number}") for number in range(8)]
    threads = [threading.Thread(target=pack, args=(framework, tmp_path / "m", REPORT)) for framework in frameworks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    listed = json.loads((tmp_path / "m" / HERE.python / "index.json").read_text())["frameworks"]
    assert [entry["version"] for entry in listed] == [f"1.{number}" for number in range(8)]


def test_javascript(tmp_path: Path) -> None:
    """A framework with JavaScript packages goes to the folder of this Node.js."""
    packages = [{"name": "is-odd", "type": "js"}]
    path = pack(write_framework(tmp_path / "toy", packages=packages), tmp_path / "mirror", REPORT)
    node = Platform.current().with_node().node
    assert node is not None
    assert path.parent.name == f"node{node.major}-{HERE.python}"
    assert path.name == f"toy@1.2.3-{BINARIES}-v{node.napi}.zip"
    [entry] = json.loads((path.parent / "index.json").read_text())["frameworks"]
    assert (entry["version"], entry["platform"]) == ("1.2.3", f"{BINARIES}-v{node.napi}")


def test_failure(tmp_path: Path) -> None:
    """A framework that cannot be packed leaves what was there before, and nothing half-done."""
    framework = write_framework(tmp_path / "toy")
    path = pack(framework, tmp_path / "mirror", REPORT)
    before = path.read_bytes()
    os.mkfifo(framework.path / "pipe")
    with pytest.raises(FrameworkError, match=r"toy@1\.2\.3 was expected to be packed.*pipe"):
        pack(framework, tmp_path / "mirror", REPORT)
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 3


def test_progress(tmp_path: Path) -> None:
    """Progress is told in bytes of the framework, up to all of them."""
    steps: list[tuple[str, int, int | None]] = []

    class Steps(LogReport):
        def progress(self, label: str, done: int, total: int | None) -> None:
            steps.append((label, done, total))

    framework = write_framework(tmp_path / "toy")
    pack(framework, tmp_path / "mirror", Steps())
    assert steps == sorted(steps)
    assert steps[-1][1] == steps[-1][2] > 3_000_000


def test_other_programs(tmp_path: Path) -> None:
    """Other programs can read the zip and check the digest."""
    path = pack(write_framework(tmp_path / "toy"), tmp_path / "mirror", REPORT)
    subprocess.run(["sha256sum", "--check", "--quiet", f"{path.name}.sha256"], cwd=path.parent, check=True)
