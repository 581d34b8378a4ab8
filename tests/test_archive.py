from __future__ import annotations

import os
import stat
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import pytest

from pipcook_provider.archive import Limits, extract_zip
from pipcook_provider.errors import IntegrityError

Entry = tuple[str, bytes, int]


def pack(path: Path, *entries: Entry) -> Path:
    """Write a zip of (name, content, mode)."""
    with ZipFile(path, "w", ZIP_DEFLATED) as bundle:
        for name, content, mode in entries:
            info = ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = ZIP_DEFLATED
            bundle.writestr(info, content)
    return path


def file(name: str, content: bytes = b"x", mode: int = 0o644) -> Entry:
    return name, content, stat.S_IFREG | mode


def link(name: str, target: str) -> Entry:
    return name, target.encode(), stat.S_IFLNK | 0o777


def test_extract(tmp_path: Path) -> None:
    """Files, empty folders and executable bits come out as they went in; special bits do not."""
    archive = pack(
        tmp_path / "a.zip",
        file("a/b.txt", b"text"),
        file("bin/run", mode=0o4755),
        ("empty/", b"", stat.S_IFDIR | 0o755),
    )
    target = tmp_path / "out"
    extract_zip(archive, target)
    assert (target / "a/b.txt").read_bytes() == b"text"
    assert (target / "empty").is_dir()
    assert os.access(target / "bin/run", os.X_OK)
    assert not (target / "bin/run").stat().st_mode & stat.S_ISUID
    assert not (target / "a/b.txt").stat().st_mode & stat.S_IXUSR


def test_inner_links(tmp_path: Path) -> None:
    """Links that stay inside are kept, also through one another."""
    archive = pack(tmp_path / "a.zip", link("so", "lib/so.2"), link("lib/again", "../so"), file("lib/so.2", b"lib"))
    extract_zip(archive, tmp_path / "out")
    assert (tmp_path / "out/so").is_symlink()
    assert (tmp_path / "out/lib/again").read_bytes() == b"lib"


UNSAFE = {
    "parent": [file("../evil")],
    "inner parent": [file("a/../../evil")],
    "absolute": [file("/evil")],
    "drive": [file("C:/evil")],
    "backslash": [file("..\\evil")],
    "link out": [link("l", "../evil")],
    "absolute link": [link("l", "/etc")],
    "link through a link": [("p/q/", b"", stat.S_IFDIR | 0o755), link("p/q/x", "../.."), link("y", "p/q/x/..")],
    "file through a link": [link("l", "/tmp"), file("l/evil")],
    "file over a link": [link("l", "/tmp/evil"), file("l")],
    "file over a file": [file("a"), file("./a")],
    "file as a folder": [file("a"), file("a/b")],
    "device": [("null", b"", stat.S_IFCHR | 0o666)],
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("entries", UNSAFE.values(), ids=UNSAFE.keys())
def test_unsafe(tmp_path: Path, entries: list[Entry]) -> None:
    """An archive that reaches out of its folder is refused, and nothing is written outside."""
    room = tmp_path / "room"
    room.mkdir()
    with pytest.raises(IntegrityError, match="refused"):
        extract_zip(pack(tmp_path / "a.zip", *entries), room / "out")
    assert [path.name for path in room.iterdir()] in ([], ["out"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "room"]


def test_encrypted(tmp_path: Path) -> None:
    """An encrypted member is named."""
    archive = pack(tmp_path / "a.zip", file("a"))
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(IntegrityError, match="encrypted"):
        extract_zip(archive, tmp_path / "out")


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(members=1), "2 members"),
        (Limits(size=1000), "unpack to 100,001 bytes"),
        (Limits(ratio_from=1000), "more than 200 times"),
    ],
)
def test_limits(tmp_path: Path, limits: Limits, message: str) -> None:
    """Too many members, too many bytes, and packed too well are each refused before anything is written."""
    archive = pack(tmp_path / "a.zip", file("a", b"0" * 100_000), file("b"))
    with pytest.raises(IntegrityError, match=message):
        extract_zip(archive, tmp_path / "out", limits=limits)
    assert not (tmp_path / "out").exists()


def test_damaged(tmp_path: Path) -> None:
    """What is no zip, a zip that was cut off, and one with a changed byte are refused as damaged."""
    archive = pack(tmp_path / "a.zip", file("a", os.urandom(10_000)))
    whole = archive.read_bytes()
    changed = bytearray(whole)
    changed[5000] ^= 0xFF
    for number, content in enumerate((b"<html>", whole[:-100], whole[:5000], bytes(changed))):
        archive.write_bytes(content)
        with pytest.raises(IntegrityError, match="whole zip archive"):
            extract_zip(archive, tmp_path / f"out{number}")
