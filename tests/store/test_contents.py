from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pipcook_provider.store.contents import Damage, find_damage, parse_sums, read_contents

ODD_NAMES = [
    "plain",
    "with space",
    "new\nline",
    "back\\slash",
    "back\\nslash",
    "return\r",
    "中",
    os.fsdecode(b"\xff"),
    "#link x",
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    directory = tmp_path / "content"
    (directory / "folder" / "deeper").mkdir(parents=True)
    for number, name in enumerate(ODD_NAMES):
        (directory / "folder" / name).write_text(str(number))
    (directory / "folder" / "deeper" / "large").write_bytes(bytes(3 * 2**20 + 1))
    (directory / "empty").touch()
    (directory / "link").symlink_to("folder/plain")
    (directory / "dangling").symlink_to("nowhere")
    return directory


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_digests(tree: Path) -> None:
    """Every file has the digest of its bytes, every link that of its target's text."""
    contents = read_contents(tree, {})
    files = {path: sha256(path.read_bytes()) for path in tree.rglob("*") if path.is_file() and not path.is_symlink()}
    assert contents.digests == {
        **{path.relative_to(tree).as_posix(): digest for path, digest in files.items()},
        "link": sha256(b"folder/plain"),
        "dangling": sha256(b"nowhere"),
    }
    assert contents.size == sum(path.stat().st_size for path in files)


def test_known_digests(tree: Path) -> None:
    """Digests that are known are taken as they are; one of a file that is not there is an error."""
    assert read_contents(tree, {"empty": "f" * 64}).digests["empty"] == "f" * 64
    with pytest.raises(FileNotFoundError, match="ghost"):
        read_contents(tree, {"ghost": "f" * 64})


def test_round_trip(tree: Path) -> None:
    """What is written is read again, whatever the names are."""
    contents = read_contents(tree, {})
    assert parse_sums(contents.sums) == contents.digests


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="the command sha256sum is missing")
def test_command(tree: Path) -> None:
    """The command ``sha256sum -c`` reads the record and checks the files."""
    (tree.parent / "SHA256SUMS").write_bytes(read_contents(tree, {}).sums)
    command = ["sha256sum", "-c", "--strict", "--quiet", "../SHA256SUMS"]
    assert subprocess.run(command, cwd=tree, check=True, capture_output=True).stdout == b""
    (tree / "folder" / "plain").write_text("changed")
    assert subprocess.run(command, cwd=tree, check=False, capture_output=True).returncode == 1


@pytest.mark.parametrize(
    "text", [b"no digest\n", b"0" * 64 + b"  cut off", b"0" * 63 + b"  short\n", b"\n", b"0" * 64 + b"  \n"]
)
def test_damaged_record(text: bytes) -> None:
    """A record that is no record is an error."""
    with pytest.raises(ValueError, match=r"not a line|cut off"):
        parse_sums(text)


def test_damage(tree: Path) -> None:
    """Files that are gone, changed or turned into something else are found; progress ends with all bytes."""
    digests = read_contents(tree, {}).digests
    seen: list[tuple[int, int]] = []
    assert find_damage(tree, digests, lambda done, total: seen.append((done, total))) == []
    assert seen[-1][0] == seen[-1][1] > 3 * 2**20
    (tree / "empty").write_text("no more")
    (tree / "link").unlink()
    (tree / "link").symlink_to("empty")
    (tree / "dangling").unlink()
    (tree / "dangling").mkdir()
    shutil.rmtree(tree / "folder" / "deeper")
    (tree / "folder" / "deeper").touch()
    (tree / "folder" / "plain").unlink()
    (tree / "folder" / "plain").symlink_to("with space")
    assert find_damage(tree, digests) == [
        Damage("dangling", "changed"),
        Damage("empty", "changed"),
        Damage("folder/deeper/large", "missing"),
        Damage("folder/plain", "changed"),
        Damage("link", "changed"),
    ]


def test_nothing(tmp_path: Path) -> None:
    """An empty directory has an empty record."""
    contents = read_contents(tmp_path, {})
    assert (contents.sums, contents.size, parse_sums(b"")) == (b"", 0, {})
