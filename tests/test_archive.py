from __future__ import annotations

import hashlib
import os
import resource
import shutil
import stat
import struct
import subprocess
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_LZMA, ZIP_STORED, ZipFile, ZipInfo

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


def test_digests(tmp_path: Path) -> None:
    """The digest of each regular file comes back under its path; folders and links have none."""
    contents = {"a/b": os.urandom(700_000), "empty": b"", **{f"many/{number}": b"%d" % number for number in range(50)}}
    archive = pack(
        tmp_path / "a.zip",
        *(file(name, data) for name, data in contents.items()),
        link("l", "empty"),
        file("./c", b"c"),
    )
    digests = extract_zip(archive, tmp_path / "out")
    assert digests == {name: hashlib.sha256(data).hexdigest() for name, data in {**contents, "c": b"c"}.items()}
    assert {name: (tmp_path / "out" / name).read_bytes() for name in contents} == contents


@pytest.mark.parametrize("method", [ZIP_STORED, ZIP_DEFLATED, ZIP_BZIP2, ZIP_LZMA])
def test_methods(tmp_path: Path, method: int) -> None:
    """Every method of compression that Python knows is read."""
    data = b"abc" * 500_000
    with ZipFile(tmp_path / "a.zip", "w", method) as bundle:
        bundle.writestr("a", data)
    extract_zip(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out/a").read_bytes() == data


@pytest.mark.skipif(shutil.which("zip") is None, reason="zip is not installed")
def test_zip_of_the_tool(tmp_path: Path) -> None:
    """What the tool zip packs, with links or through a pipe, comes out as it was."""
    source = tmp_path / "source"
    (source / "lib").mkdir(parents=True)
    (source / "lib/so.2").write_bytes(os.urandom(100_000))
    (source / "lib/so").symlink_to("so.2")
    (source / "run").write_text("#!/bin/sh")
    (source / "run").chmod(0o755)
    subprocess.run(["zip", "-q", "-r", "-y", tmp_path / "a.zip", "."], cwd=source, check=True)
    assert set(extract_zip(tmp_path / "a.zip", tmp_path / "out")) == {"lib/so.2", "run"}
    assert (tmp_path / "out/lib/so.2").read_bytes() == (source / "lib/so.2").read_bytes()
    assert (tmp_path / "out/lib/so").readlink() == Path("so.2")
    assert os.access(tmp_path / "out/run", os.X_OK)
    piped = ["zip", "-q", "-", "lib/so.2"]
    (tmp_path / "b.zip").write_bytes(subprocess.run(piped, cwd=source, check=True, stdout=subprocess.PIPE).stdout)
    extract_zip(tmp_path / "b.zip", tmp_path / "piped")
    assert (tmp_path / "piped/lib/so.2").read_bytes() == (source / "lib/so.2").read_bytes()


def test_progress(tmp_path: Path) -> None:
    """Progress is told by this thread in bytes that never go back, up to the whole."""
    archive = pack(tmp_path / "a.zip", file("a", b"x" * 1_000_000), file("b", b"y" * 10))
    told: list[tuple[int, int]] = []
    threads: set[int] = set()

    def on_progress(done: int, total: int) -> None:
        told.append((done, total))
        threads.add(threading.get_ident())

    extract_zip(archive, tmp_path / "out", on_progress=on_progress)
    assert told == sorted(told)
    assert told[-1] == (1_000_010, 1_000_010)
    assert threads == {threading.get_ident()}


def test_stopped(tmp_path: Path) -> None:
    """What the listener raises ends the unpacking, and no thread goes on behind."""
    archive = pack(tmp_path / "a.zip", *(file(str(number), b"x" * 100_000) for number in range(100)))

    def on_progress(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_zip(archive, tmp_path / "out", on_progress=on_progress)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("extract_zip")]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A file that is there already stays, and the error says which."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").write_text("mine")
    with pytest.raises(FileExistsError, match="out/a"):
        extract_zip(pack(tmp_path / "a.zip", file("a")), tmp_path / "out")
    assert (tmp_path / "out/a").read_text() == "mine"


def test_full_disk(tmp_path: Path) -> None:
    """A disk that takes no more is an OSError, not a damaged archive."""
    archive = pack(tmp_path / "a.zip", file("a", b"x" * 5_000_000))
    with largest_file(1_000_000), pytest.raises(OSError, match="too large"):
        extract_zip(archive, tmp_path / "out")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


def test_memory(tmp_path: Path) -> None:
    """Members are never held whole."""
    archive = pack(tmp_path / "a.zip", *(file(name, bytes(50_000_000)) for name in "ab"))
    tracemalloc.start()
    try:
        extract_zip(archive, tmp_path / "out", limits=Limits(ratio=10_000))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


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


def test_damaged_member(tmp_path: Path) -> None:
    """One damaged member among many refuses the archive, by its checksum and by its length."""
    entries = [file(str(number), os.urandom(1000)) for number in range(50)]
    whole = pack(tmp_path / "a.zip", *entries).read_bytes()
    checksum, size = 16, 24
    for number, (field, content) in enumerate([(checksum, b"0000"), (size, struct.pack("<L", 1001))]):
        changed = bytearray(whole)
        entry = changed.rindex(b"PK\x01\x02")
        changed[entry + field : entry + field + 4] = content
        (tmp_path / "a.zip").write_bytes(changed)
        with pytest.raises(IntegrityError, match=r"whole zip archive.*'49'"):
            extract_zip(tmp_path / "a.zip", tmp_path / f"out{number}")


def test_no_more_than_declared(tmp_path: Path) -> None:
    """A member that would inflate to more than the archive's directory says is cut there, and refused."""
    whole = bytearray(pack(tmp_path / "a.zip", file("a", b"0" * 10_000_000)).read_bytes())
    entry = whole.index(b"PK\x01\x02")
    whole[entry + 24 : entry + 28] = struct.pack("<L", 10)
    (tmp_path / "a.zip").write_bytes(whole)
    with pytest.raises(IntegrityError, match="expected to have 10 bytes"):
        extract_zip(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out/a").stat().st_size <= 10


def test_overlapping_members(tmp_path: Path) -> None:
    """Two members that share the archive's bytes, as in zip bombs, are refused before anything is written."""
    whole = bytearray(pack(tmp_path / "a.zip", file("a", os.urandom(1000)), file("b")).read_bytes())
    entry = whole.rindex(b"PK\x01\x02")
    whole[entry + 42 : entry + 46] = struct.pack("<L", 0)
    (tmp_path / "a.zip").write_bytes(whole)
    with pytest.raises(IntegrityError, match="overlaps"):
        extract_zip(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()
