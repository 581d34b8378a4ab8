from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from http_server import Server

from pipcook_provider.errors import FetchError, FetchNotFound, IntegrityError
from pipcook_provider.settings import Settings
from pipcook_provider.store.fetch import download, read_text

BODY = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(BODY).hexdigest()
OTHER = bytes(reversed(BODY))
PART = 300_000

TAGGED = {"ETag": '"1"'}
DATED = {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}


def partials(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def interrupt(server: Server, settings: Settings, target: Path) -> str:
    """Let a resumable download fail after a part of the body, and return its URL."""
    url = server.put("/a", BODY, ranges=True, headers=TAGGED, breaks_after=PART)
    server.then("/a", status=503)
    with pytest.raises(FetchError, match=r"3 attempts.*300,000 bytes that arrived are kept"):
        download(url, target, settings, resumable=True)
    assert partials(target) == ["a.part", "a.part.json"]
    return url


@pytest.mark.parametrize("headers", [TAGGED, DATED, {"ETag": 'W/"1"', **DATED}, {}])
def test_continued(server: Server, settings: Settings, tmp_path: Path, headers: dict[str, str]) -> None:
    """An attempt that breaks off is continued, so that each byte is sent once and progress never goes back."""
    told: list[tuple[int, int | None]] = []
    url = server.put("/a", BODY, ranges=True, headers=headers, breaks_after=400_000)
    progress = lambda done, total: told.append((done, total))  # noqa: E731
    assert download(url, tmp_path / "a", settings, on_progress=progress) == DIGEST
    assert server.ranges("/a") == [None, "bytes=400000-", "bytes=800000-"]
    assert sum(request.sent for request in server.requests) == len(BODY)
    assert told == sorted(told)
    assert told[-1] == (len(BODY), len(BODY))


def test_text_continued(server: Server, settings: Settings) -> None:
    """A text, too, is continued where it broke off."""
    url = server.put("/a", b"one two", ranges=True, breaks_after=4)
    assert read_text(url, settings) == "one two"
    assert server.ranges("/a") == [None, "bytes=4-"]


def test_patience(server: Server, settings: Settings, tmp_path: Path) -> None:
    """As long as each attempt brings much more of the file, their number is not limited."""
    body = BODY * 8
    url = server.put("/a", body, ranges=True, breaks_after=2**20)
    assert download(url, tmp_path / "a", settings) == hashlib.sha256(body).hexdigest()
    assert server.hits["/a"] == 8


@pytest.mark.parametrize("headers", [TAGGED, {}])
def test_changed_meanwhile(server: Server, settings: Settings, tmp_path: Path, headers: dict[str, str]) -> None:
    """A file that changes between two attempts is fetched anew; without a validator its size tells."""
    url = server.put("/a", BODY, ranges=True, headers=headers, breaks_after=PART)
    server.then("/a", OTHER + b"!", ranges=True, headers={"ETag": '"2"'} if headers else {})
    assert download(url, tmp_path / "a", settings) == hashlib.sha256(OTHER + b"!").hexdigest()


@pytest.mark.parametrize(
    ("status", "answered"),
    [
        (206, {"Content-Range": "bytes 7-99/1024000"}),
        (206, {"Content-Range": f"bytes {PART}-1023998/1023999"}),
        (206, {"Content-Range": f"bytes {PART}-1023999/1024000", "ETag": '"2"'}),
        (206, {"Content-Range": f"bytes {PART}-1023999/1024000", "Content-Encoding": "gzip"}),
        (206, {}),
        (416, {"Content-Range": "bytes */5"}),
        (416, {"Content-Type": "text/html"}),
    ],
)
def test_unfit_range(server: Server, settings: Settings, tmp_path: Path, status: int, answered: dict[str, str]) -> None:
    """An answer that does not continue what had arrived is not used, and the file is fetched anew."""
    url = server.put("/a.zip", BODY, ranges=True, headers=TAGGED, breaks_after=PART)
    server.then("/a.zip", BODY[PART:], status=status, headers=answered)
    server.then("/a.zip", BODY)
    assert download(url, tmp_path / "a", settings) == DIGEST
    assert server.ranges("/a.zip") == [None, f"bytes={PART}-", None]


def test_range_beyond(server: Server, settings: Settings, tmp_path: Path) -> None:
    """A range that brings more than the file is said to have is not believed."""
    url = server.put("/a", BODY, ranges=True, headers=TAGGED, breaks_after=PART)
    server.then("/a", BODY, status=206, headers={"Content-Range": f"bytes {PART}-1023999/1024000"})
    server.then("/a", BODY)
    assert download(url, tmp_path / "a", settings) == DIGEST


def test_unasked_range(server: Server, settings: Settings, tmp_path: Path) -> None:
    """A part of a file is not taken for the file."""
    url = server.put("/a", BODY[5:], status=206, headers={"Content-Range": "bytes 5-1023999/1024000"})
    with pytest.raises(FetchError, match="206"):
        download(url, tmp_path / "a", settings)


def test_next_call(server: Server, settings: Settings, tmp_path: Path) -> None:
    """What arrived before an error is continued by the next call, with the digest of the whole; then nothing is left."""
    url = interrupt(server, settings, tmp_path / "a")
    server.put("/a", BODY, ranges=True, headers=TAGGED)
    told: list[tuple[int, int | None]] = []
    progress = lambda done, total: told.append((done, total))  # noqa: E731
    stated = f"{url}#sha256={DIGEST}"
    assert download(stated, tmp_path / "a", settings, resumable=True, on_progress=progress) == DIGEST
    assert server.requests[-1].headers["if-range"] == '"1"'
    assert server.requests[-1].sent == len(BODY) - PART
    assert told[0] == (PART, len(BODY))
    assert partials(tmp_path / "a") == ["a"]


def test_complete_part(server: Server, settings: Settings, tmp_path: Path) -> None:
    """A part that is the whole file already is not sent again."""
    url = interrupt(server, settings, tmp_path / "a")
    (tmp_path / "a.part").write_bytes(BODY)
    server.put("/a", BODY, ranges=True, headers=TAGGED)
    assert download(url, tmp_path / "a", settings, resumable=True) == DIGEST
    assert server.requests[-1].status == 416


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("url", "http://127.0.0.1/other"),
        ("etag", '"0"'),
        ("etag", None),
        ("etag", 5),
        ("total", 5),
    ],
)
def test_unfit_record(server: Server, settings: Settings, tmp_path: Path, name: str, content: object) -> None:
    """A part of another address, of another version or with a record that cannot be used starts anew."""
    url = interrupt(server, settings, tmp_path / "a")
    record = tmp_path / "a.part.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), name: content}))
    (tmp_path / "a.part").write_bytes(OTHER[:PART])
    server.put("/a", BODY, ranges=True, headers=TAGGED)
    assert download(url, tmp_path / "a", settings, resumable=True) == DIGEST
    assert partials(tmp_path / "a") == ["a"]


def test_no_record(server: Server, settings: Settings, tmp_path: Path) -> None:
    """A part of which nothing is known starts anew."""
    (tmp_path / "a.part").write_bytes(OTHER[:PART])
    assert download(server.put("/a", BODY, ranges=True), tmp_path / "a", settings, resumable=True) == DIGEST
    assert server.ranges("/a") == [None]


def test_no_validator(server: Server, settings: Settings, tmp_path: Path) -> None:
    """What no server can vouch for later is not continued by the next call."""
    url = server.put("/a", BODY, ranges=True, headers={"ETag": 'W/"1"'}, breaks_after=PART)
    server.then("/a", status=503)
    with pytest.raises(FetchError, match="Nothing was kept"):
        download(url, tmp_path / "a", settings, resumable=True)
    server.put("/a", BODY, ranges=True)
    assert download(url, tmp_path / "a", settings, resumable=True) == DIGEST
    assert server.ranges("/a")[-1] is None


@pytest.mark.parametrize("status", [404, 403])
def test_kept(server: Server, settings: Settings, tmp_path: Path, status: int) -> None:
    """What arrived outlives an answer that says nothing about it."""
    url = interrupt(server, settings, tmp_path / "a")
    server.put("/a", status=status)
    with pytest.raises(FetchNotFound if status == 404 else FetchError):
        download(url, tmp_path / "a", settings, resumable=True)
    assert (tmp_path / "a.part").read_bytes() == BODY[:PART]


def test_wrong(server: Server, settings: Settings, tmp_path: Path) -> None:
    """What turns out to be wrong is deleted, so that the next call starts anew."""
    url = interrupt(server, settings, tmp_path / "a")
    (tmp_path / "a.part").write_bytes(OTHER[:PART])
    server.put("/a", BODY, ranges=True, headers=TAGGED)
    with pytest.raises(IntegrityError, match=DIGEST):
        download(f"{url}#sha256={DIGEST}", tmp_path / "a", settings, resumable=True)
    assert partials(tmp_path / "a") == []
    assert download(f"{url}#sha256={DIGEST}", tmp_path / "a", settings, resumable=True) == DIGEST


def test_secret_not_kept(server: Server, settings: Settings, tmp_path: Path) -> None:
    """The record beside a part holds no password."""
    server.put("/a", BODY, ranges=True, headers=TAGGED, breaks_after=PART)
    server.then("/a", status=403)
    with pytest.raises(FetchError):
        download(f"http://me:sesame@{server.address}/a", tmp_path / "a", settings, resumable=True)
    assert "sesame" not in (tmp_path / "a.part.json").read_text()


KILLED = """
import sys
from pathlib import Path
from pipcook_provider.settings import Settings
from pipcook_provider.store.fetch import download

def progress(done, total):
    if done == int(sys.argv[3]):
        print("there", flush=True)

download(sys.argv[1], Path(sys.argv[2]), Settings(), resumable=True, on_progress=progress)
"""


def test_killed(server: Server, settings: Settings, tmp_path: Path) -> None:
    """What a killed process had received is continued by the next one."""
    url = server.put("/a", BODY, ranges=True, headers=TAGGED, breaks_after=PART, stalls=True)
    command = [sys.executable, "-c", KILLED, url, str(tmp_path / "a"), str(PART)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    kept = (tmp_path / "a.part").stat().st_size
    assert kept > PART // 2
    server.put("/a", BODY, ranges=True, headers=TAGGED)
    assert download(url, tmp_path / "a", settings, resumable=True) == DIGEST
    assert server.requests[-1].sent == len(BODY) - kept
