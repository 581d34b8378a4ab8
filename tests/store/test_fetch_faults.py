from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from http_server import Server

from pipcook_provider.errors import FetchError, IntegrityError
from pipcook_provider.settings import Settings
from pipcook_provider.store.fetch import download, read_text

BODY = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(BODY).hexdigest()
TAGGED = {"ETag": '"1"'}


@pytest.fixture
def hasty(settings: Settings) -> Settings:
    return replace(settings, fetch_timeout=0.2)


def test_announced_too_much(server: Server, settings: Settings, tmp_path: Path) -> None:
    """Fewer bytes than announced are never taken for the file."""
    with pytest.raises(FetchError, match="3 attempts"):
        download(server.put("/a", BODY, announced=len(BODY) + 1), tmp_path / "a", settings)
    assert not list(tmp_path.iterdir())


def test_announced_too_little(server: Server, settings: Settings, tmp_path: Path) -> None:
    """A file that is longer than announced ends where it was said to, and does not pass for another one."""
    with pytest.raises(IntegrityError, match=DIGEST):
        download(server.put("/a", BODY, announced=5) + f"#sha256={DIGEST}", tmp_path / "a", settings)
    assert not list(tmp_path.iterdir())


def test_silent(server: Server, hasty: Settings, tmp_path: Path) -> None:
    """A server that goes silent is given up and asked again."""
    with pytest.raises(FetchError, match=r"3 attempts.*nothing for 0\.2 s"):
        download(server.put("/a", BODY, stalls=True), tmp_path / "a", hasty)
    assert server.hits["/a"] == 3
    assert not list(tmp_path.iterdir())


def test_silent_in_the_middle(server: Server, hasty: Settings, tmp_path: Path) -> None:
    """A server that goes silent in the middle is asked for the rest."""
    url = server.put("/a", BODY, ranges=True, headers=TAGGED, breaks_after=400_000, stalls=True)
    server.then("/a", BODY, ranges=True, headers=TAGGED)
    assert download(url, tmp_path / "a", hasty) == DIGEST
    assert server.ranges("/a") == [None, "bytes=400000-"]


def test_dribble(server: Server, hasty: Settings, tmp_path: Path) -> None:
    """A server that sends hardly anything, for ever, counts as silent."""
    with pytest.raises(FetchError, match=r"3 attempts.*only \d+ bytes in"):
        download(server.put("/a", dribbles=0.01), tmp_path / "a", hasty)
    assert not list(tmp_path.iterdir())


def test_dripping_headers(server: Server, hasty: Settings, tmp_path: Path) -> None:
    """A server whose headers never end, though it is never silent for long, is asked again, also behind a redirect."""
    url = server.put("/a", status=302, headers={"Location": "/b"})
    server.put("/b", drips=0.01)
    server.then("/b", BODY)
    assert download(url, tmp_path / "a", hasty) == DIGEST
    with pytest.raises(FetchError, match=r"3 attempts.*headers of the server's answer did not end within 0\.4 s"):
        read_text(server.put("/c", drips=0.01), replace(hasty, fetch_timeout=0.1))


def test_left_behind(server: Server, tmp_path: Path) -> None:
    """A request that was given up does not keep a process from ending."""
    url = server.put("/a", drips=0.01)
    command = [sys.executable, "-c", ABANDONED, url, str(tmp_path / "a")]
    assert "did not end" in subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


ABANDONED = """
import sys
from pathlib import Path
from pipcook_provider.errors import FetchError
from pipcook_provider.settings import Settings
from pipcook_provider.store import fetch

fetch.PAUSES = ()
try:
    fetch.download(sys.argv[1], Path(sys.argv[2]), Settings(fetch_timeout=0.2))
except FetchError as exc:
    print(exc)
"""


def test_chunked(server: Server, settings: Settings, tmp_path: Path) -> None:
    """A body in chunks has no length beforehand, and an end that can be told from a break."""
    url = server.put("/a", BODY, chunked=True, ranges=True, headers=TAGGED, breaks_after=400_000)
    server.then("/a", BODY, chunked=True, ranges=True, headers=TAGGED)
    assert download(url, tmp_path / "a", settings) == DIGEST
    assert server.ranges("/a")[1] is not None


def test_too_long(server: Server, settings: Settings, tmp_path: Path) -> None:
    """What is announced to be too long is not read; what proves to be is not read on; nothing of it is kept."""
    server.put("/announced", BODY)
    server.put("/unannounced", BODY, announced=-1)
    for path in ("/announced", "/unannounced"):
        with pytest.raises(FetchError, match="at most 500,000 bytes") as caught:
            download(server.url + path, tmp_path / "a", settings, limit=500_000, resumable=True)
        assert not caught.value.retryable
        assert server.hits[path] == 1
        assert not list(tmp_path.iterdir())


def test_no_room(server: Server, settings: Settings, tmp_path: Path) -> None:
    """What is announced to be larger than the disk is not begun."""
    with pytest.raises(FetchError, match=r"1,000,000,000,000,000 bytes, but only .* free\. Make room") as caught:
        download(server.put("/a", BODY, announced=10**15), tmp_path / "a", settings, limit=10**16)
    assert not caught.value.retryable
    assert server.hits["/a"] == 1


LIMITED = """
import resource, sys
from pathlib import Path
from pipcook_provider.errors import FetchError
from pipcook_provider.settings import Settings
from pipcook_provider.store.fetch import download

resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
try:
    download(sys.argv[1], Path(sys.argv[2]), Settings(), resumable=True)
except FetchError as exc:
    print(exc.retryable, exc)
"""


def test_room_runs_out(server: Server, settings: Settings, tmp_path: Path) -> None:
    """When no room is left the error says how much is needed; what arrived is continued when there is room."""
    url = server.put("/a", BODY, ranges=True, headers=TAGGED)
    command = [sys.executable, "-c", LIMITED, url, str(tmp_path / "a")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.startswith("False ")
    assert "1,024,000 bytes in all" in told
    assert "Make room" in told
    kept = (tmp_path / "a.part").stat().st_size
    assert 0 < kept <= 400_000
    assert download(url, tmp_path / "a", settings, resumable=True) == DIGEST
    assert server.ranges("/a") == [None, f"bytes={kept}-"]


@pytest.mark.parametrize("location", ["http://h:99999/", "/\xff", "http://[/"])
def test_unreadable_redirect(server: Server, settings: Settings, location: str) -> None:
    """A redirect to what is no address is told as such."""
    url = server.put("/a", status=302, headers={"Location": location})
    with pytest.raises(FetchError, match="cannot be") as caught:
        read_text(url, settings)
    assert not caught.value.retryable
