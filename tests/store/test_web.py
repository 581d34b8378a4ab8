from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from http_server import Server, serving

from pipcook_provider.errors import CacheError, FetchError, FetchNotFound, IntegrityError, OriginError
from pipcook_provider.settings import Settings
from pipcook_provider.store.web import fetch_cached, read_document

TAGGED = {"ETag": '"1"'}
COMMIT = "4b3d60c" + 33 * "a"


def digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


@pytest.mark.parametrize("headers", [TAGGED, {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}])
def test_revalidated(server: Server, settings: Settings, headers: dict[str, str]) -> None:
    """A script is sent once, asked for each time, and sent again when it has changed; earlier paths stay good."""
    url = server.put("/a.py", b"one", ranges=True, headers=headers)
    first = fetch_cached(url, settings)
    assert fetch_cached(url, settings) == first
    assert [(request.status, request.sent) for request in server.requests] == [(200, 3), (304, 0)]
    server.put("/a.py", b"two", ranges=True, headers={"ETag": '"2"'})
    second = fetch_cached(url, settings)
    assert (first.read_bytes(), second.read_bytes()) == (b"one", b"two")


def test_no_validator(server: Server, settings: Settings) -> None:
    """A server that says nothing about versions sends the script each time."""
    url = server.put("/a.py", b"one")
    assert fetch_cached(url, settings) == fetch_cached(url, settings)
    server.put("/a.py", b"two")
    assert fetch_cached(url, settings).read_bytes() == b"two"


@pytest.mark.parametrize("path", ["/gh/org/repo@2232184/a.py", f"/org/repo/{COMMIT}/a.py", "/npm/x@1.2.3/a.py"])
def test_pinned(server: Server, settings: Settings, path: str) -> None:
    """What names one version for ever is asked for once."""
    url = server.put(path, b"text")
    assert fetch_cached(url, settings) == fetch_cached(url, settings)
    assert server.hits[path] == 1


def test_digest(server: Server, settings: Settings) -> None:
    """A stated digest is asked for until there is a copy that has it, wherever that is from."""
    url = server.put("/a.py", b"one", ranges=True, headers=TAGGED)
    fetch_cached(url, settings)
    with pytest.raises(IntegrityError, match=digest(b"one")):
        fetch_cached(f"{url}#sha256={digest(b'two')}", settings)
    assert fetch_cached(f"{url}#sha256={digest(b'one')}", settings).read_bytes() == b"one"
    assert fetch_cached(f"{server.url}/b.py#sha256={digest(b'one')}", settings).read_bytes() == b"one"
    assert server.hits == {"/a.py": 2}


def test_stale(server: Server, settings: Settings) -> None:
    """When the server has trouble or nobody listens, the last copy is used, and that is told."""
    told: list[str] = []
    with serving() as other:
        url = other.put("/a.py", b"one")
        copy = fetch_cached(url, settings, on_stale=told.append)
        other.put("/a.py", status=503)
        assert fetch_cached(url, settings, on_stale=told.append) == copy
    assert fetch_cached(url, settings, on_stale=told.append) == copy
    assert ["503" in text for text in told] == [True, False]
    assert all(text.startswith(f"The copy of {url} that was fetched earlier is used.") for text in told)


def test_stale_logged(server: Server, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """By default a log is told."""
    url = server.put("/a.py", b"one")
    fetch_cached(url, settings)
    server.put("/a.py", status=503)
    fetch_cached(url, settings)
    assert "out of date" in caplog.text


@pytest.mark.parametrize(("status", "error"), [(404, FetchNotFound), (403, FetchError)])
def test_refused(server: Server, settings: Settings, status: int, error: type[FetchError]) -> None:
    """An answer that says no is no trouble: the copy does not stand in."""
    url = server.put("/a.py", b"one")
    fetch_cached(url, settings)
    server.put("/a.py", status=status)
    with pytest.raises(error):
        fetch_cached(url, settings)


def test_login_page(server: Server, settings: Settings) -> None:
    """A web page never takes a script's place, neither where there is a copy nor where there is none."""
    told: list[str] = []
    page = {"Content-Type": "text/html"}
    url = server.put("/a.py", b"<html>", headers=page)
    with pytest.raises(IntegrityError, match="a web page was served"):
        fetch_cached(url, settings)
    server.put("/a.py", b"one")
    copy = fetch_cached(url, settings)
    server.put("/a.py", b"<html>", headers=page)
    assert fetch_cached(url, settings, on_stale=told.append) == copy
    assert copy.read_bytes() == b"one"
    assert "a web page was served" in told[0]


def test_damaged(server: Server, settings: Settings) -> None:
    """A copy that is no longer what was fetched is fetched again, pinned or not; so is one whose record is cut."""
    for path in ("/a.py", "/r@4b3d60c/a.py"):
        url = server.put(path, b"one", ranges=True, headers=TAGGED)
        copy = fetch_cached(url, settings)
        copy.write_bytes(b"on")
        assert fetch_cached(url, settings).read_bytes() == b"one"
        copy.unlink()
        assert fetch_cached(url, settings).read_bytes() == b"one"
        for record in (settings.home / "script" / "url").iterdir():
            record.write_bytes(record.read_bytes()[:-9])
        assert fetch_cached(url, settings).read_bytes() == b"one"
        assert [request.status for request in server.requests if request.path == path] == 4 * [200]


def test_origin_first(server: Server, settings: Settings) -> None:
    """What is no longer allowed is not used, though there is a copy."""
    url = server.put("/r@4b3d60c/a.py", b"one")
    fetch_cached(url, settings)
    with pytest.raises(OriginError):
        fetch_cached(url, replace(settings, allowed_origins=("https://elsewhere.example",)))


def test_local(settings: Settings, tmp_path: Path) -> None:
    """A local file is its own copy, if it is there, of bounded size and with the digest that is stated."""
    script = tmp_path / "a.py"
    script.write_bytes(b"one")
    assert fetch_cached(script.as_uri(), settings) == script
    assert fetch_cached(f"{script.as_uri()}#sha256={digest(b'one')}", settings) == script
    with pytest.raises(IntegrityError):
        fetch_cached(f"{script.as_uri()}#sha256={digest(b'two')}", settings)
    with pytest.raises(FetchError, match="at most 2 bytes"):
        fetch_cached(script.as_uri(), settings, limit=2)
    with pytest.raises(FetchNotFound):
        fetch_cached(f"{script.as_uri()}x", settings)
    with pytest.raises(OriginError):
        fetch_cached(script.as_uri(), replace(settings, allowed_origins=("https://elsewhere.example",)))


def test_rewritten(server: Server, settings: Settings) -> None:
    """A copy belongs to the address as written; what one mirror says about versions is not told to another place."""
    server.put("/one/a.py", b"one", ranges=True, headers=TAGGED)
    server.put("/two/a.py", b"two", ranges=True, headers=TAGGED)
    url = "https://cdn.example/a.py"
    at = lambda folder: replace(settings, url_rewrites=(("https://cdn.example", f"{server.url}/{folder}"),))  # noqa: E731
    assert fetch_cached(url, at("one")).read_bytes() == b"one"
    assert fetch_cached(url, at("two")).read_bytes() == b"two"
    pinned = "https://cdn.example/r@4b3d60c/a.py"
    server.put("/one/r@4b3d60c/a.py", b"three")
    assert fetch_cached(pinned, at("one")) == fetch_cached(pinned, at("two"))


def test_secrets_not_kept(server: Server, settings: Settings) -> None:
    """Neither names nor contents of what is kept hold a password, and the copy is the same with it and without."""
    server.put("/r@4b3d60c/a.py", b"one")
    copy = fetch_cached(f"http://me:sesame@{server.address}/r@4b3d60c/a.py", settings)
    assert fetch_cached(f"{server.url}/r@4b3d60c/a.py#x", settings) == copy
    kept = [path for path in (settings.home / "script").rglob("*") if path.is_file()]
    assert len(kept) == 2
    assert not any(b"sesame" in path.read_bytes() for path in kept)


def test_limit(server: Server, settings: Settings) -> None:
    """A script that is too long is refused, and nothing of it is kept."""
    with pytest.raises(FetchError, match="at most 2 bytes"):
        fetch_cached(server.put("/a.py", b"one", announced=-1), settings, limit=2)
    assert not settings.home.exists()


def test_unwritable(server: Server, settings: Settings) -> None:
    """A home that cannot be written is told as such."""
    settings.home.write_text("")
    with pytest.raises(CacheError, match=r"home to another folder"):
        fetch_cached(server.put("/a.py", b"one"), settings)


CALL = """
import sys
from pathlib import Path
from pipcook_provider.settings import Settings
from pipcook_provider.store.web import fetch_cached

for _ in range(20):
    copy = fetch_cached(sys.argv[1], Settings(home=Path(sys.argv[2])))
    assert copy.read_bytes() in (b"one" * 9999, b"two" * 9999)
"""


def test_concurrent(server: Server, settings: Settings) -> None:
    """Processes that fetch the same script while it changes each get a whole version, and leave nothing behind."""
    url = server.put("/a.py", b"one" * 9999)
    for number in range(99):
        server.then("/a.py", (b"two" if number % 2 else b"one") * 9999)
    command = [sys.executable, "-c", CALL, url, str(settings.home)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    kept = [path for path in (settings.home / "script").rglob("*") if path.is_file()]
    assert len(kept) == 3
    records = [json.loads(path.read_bytes()) for path in kept if path.suffix == ".json"]
    assert [record["url"] for record in records] == [url]


def test_read_document(server: Server, settings: Settings) -> None:
    """A document is text in UTF-8, a byte order mark is dropped."""
    assert read_document(server.put("/a.json", "\ufeff中文".encode()), settings) == "中文"
    with pytest.raises(FetchError, match=r"/b\.json was expected to be text in UTF-8, but its byte 1"):
        read_document(server.put("/b.json", b"a\xff"), settings)
