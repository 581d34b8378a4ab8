from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipcook_provider.errors import FetchError, IntegrityError
from pipcook_provider.runtime.download import download

BODY = b"data " * 1000
DIGEST = hashlib.sha256(BODY).hexdigest()
AT_ONCE = (0.0, 0.0)
CREDENTIALS = base64.b64encode(b"reader:sesame").decode()


class DataServer(ThreadingHTTPServer):
    """Serves one body at any path; what a path is called decides how the server misbehaves."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = BODY
        self.statuses: list[int] = []  # of each answer
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: DataServer

    def do_GET(self) -> None:
        tag = hashlib.md5(self.server.body).hexdigest()
        if self.path == "/gone" or (self.path == "/flaky" and len(self.server.statuses) < 2):
            return self.answer(404 if self.path == "/gone" else 503)
        if self.path == "/private" and self.headers["Authorization"] != f"Basic {CREDENTIALS}":
            return self.answer(401, **{"WWW-Authenticate": 'Basic realm="data"'})
        if self.path.startswith("/moved"):
            target = "file:///etc/passwd" if self.path == "/moved-away" else "/data%20set.zip"
            return self.answer(302, Location=target)
        if self.headers["If-None-Match"] == tag:
            return self.answer(304)
        length = len(self.server.body) + (1 if self.path == "/short" else 0)
        self.answer(200, ETag=tag, **{"Content-Length": str(length)})
        self.wfile.write(self.server.body)
        return None

    def answer(self, status: int, **headers: str) -> None:
        self.server.statuses.append(status)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[DataServer]:
    with DataServer() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield running
        running.shutdown()


def leftovers(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.name.startswith(".")]


def test_file_is_downloaded_once(server: DataServer, tmp_path: Path) -> None:
    """A second download asks the server and keeps what is there; a changed file is another one."""
    first = download(f"{server.url}/data.zip?key=1", tmp_path)
    assert first.read_bytes() == BODY
    assert first.name.endswith("-data.zip")
    assert download(f"{server.url}/data.zip?key=1", tmp_path) == first
    assert server.statuses == [200, 304]
    server.body = b"new"
    assert download(f"{server.url}/data.zip?key=1", tmp_path).read_bytes() == b"new"
    assert first.read_bytes() == BODY
    assert leftovers(tmp_path) == []


def test_damaged_copy_is_downloaded_again(server: DataServer, tmp_path: Path) -> None:
    """A file that was cut short on disk is not taken for what the server gave."""
    path = download(f"{server.url}/data.zip", tmp_path)
    path.write_bytes(b"")
    assert download(f"{server.url}/data.zip", tmp_path).read_bytes() == BODY


def test_stated_digest_spares_the_question(server: DataServer, tmp_path: Path) -> None:
    """A file whose digest is stated and known is not asked for again."""
    url = f"{server.url}/data.zip#sha256={DIGEST}"
    assert download(url, tmp_path) == download(url, tmp_path)
    assert server.statuses == [200]


def test_other_digest_is_refused(server: DataServer, tmp_path: Path) -> None:
    """A file with another digest than stated is not kept, and the message tells both."""
    with pytest.raises(IntegrityError, match=f"{'0' * 64}, found {DIGEST}") as caught:
        download(f"{server.url}/data.zip#sha256={'0' * 64}", tmp_path, back_off=AT_ONCE)
    assert not caught.value.retryable
    assert list(tmp_path.iterdir()) == []
    assert server.statuses == [200]


def test_server_trouble_is_waited_out(server: DataServer, tmp_path: Path) -> None:
    """An answer of the 5xx kind is followed by another attempt."""
    assert download(f"{server.url}/flaky", tmp_path, back_off=AT_ONCE).read_bytes() == BODY
    assert server.statuses == [503, 503, 200]


def test_missing_file_is_not_asked_for_twice(server: DataServer, tmp_path: Path) -> None:
    """An answer of the 4xx kind is final."""
    with pytest.raises(FetchError, match="404") as caught:
        download(f"{server.url}/gone", tmp_path, back_off=AT_ONCE)
    assert not caught.value.retryable
    assert server.statuses == [404]


def test_broken_off_download_is_never_kept(server: DataServer, tmp_path: Path) -> None:
    """A body shorter than announced is tried again and then refused."""
    with pytest.raises(FetchError, match=f"{server.url}/short") as caught:
        download(f"{server.url}/short", tmp_path, timeout=0.3, back_off=AT_ONCE)
    assert caught.value.retryable
    assert server.statuses == [200, 200, 200]
    assert list(tmp_path.iterdir()) == []


def test_redirect_is_followed_on_the_web_only(server: DataServer, tmp_path: Path) -> None:
    """A redirect to another address is followed, one to a local file is not."""
    assert download(f"{server.url}/moved", tmp_path).read_bytes() == BODY
    with pytest.raises(FetchError):
        download(f"{server.url}/moved-away", tmp_path, back_off=AT_ONCE)


def test_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A refused connection is a FetchError that names the address and may be retried."""
    with pytest.raises(FetchError, match=r"127\.0\.0\.1:1/data") as caught:
        download("http://127.0.0.1:1/data", tmp_path, back_off=())
    assert caught.value.retryable


def test_processes_share_a_folder(server: DataServer, tmp_path: Path) -> None:
    """Several processes that download the same at once all get the whole file."""
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}; from pathlib import Path;"
        "from pipcook_provider.runtime.download import download;"
        "print(len(download(sys.argv[1], Path(sys.argv[2])).read_bytes()))"
    )
    command = [sys.executable, "-c", code, f"{server.url}/data.zip", tmp_path / "downloads"]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [child.communicate()[0] for child in children] == [f"{len(BODY)}\n"] * 4
    assert leftovers(tmp_path / "downloads") == []


def test_file_url_is_its_own_path(tmp_path: Path) -> None:
    """A file: URL is not copied; its digest is looked at, and a missing file named."""
    path = tmp_path / "a b.bin"
    path.write_bytes(BODY)
    assert download(path.as_uri(), tmp_path / "downloads") == path
    assert download(f"{path.as_uri()}#sha256={DIGEST}", tmp_path / "downloads") == path
    with pytest.raises(IntegrityError):
        download(f"{path.as_uri()}#sha256={'0' * 64}", tmp_path / "downloads")
    with pytest.raises(FetchError, match="nothing"):
        download((tmp_path / "none").as_uri(), tmp_path / "downloads")


@pytest.mark.parametrize("url", ["ftp://host/file", "data.zip", "http://host/file#sha256=xyz"])
def test_url_that_cannot_work_is_refused(url: str, tmp_path: Path) -> None:
    """Other schemes and digests that are none are refused before anything is asked."""
    with pytest.raises(FetchError) as caught:
        download(url, tmp_path)
    assert not caught.value.retryable


def test_user_and_password_come_from_netrc(server: DataServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that asks for a user and password gets those of ~/.netrc; without them the answer is told."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FetchError, match="401"):
        download(f"{server.url}/private", tmp_path / "downloads", back_off=AT_ONCE)
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login reader password sesame\n", encoding="utf-8")
    (tmp_path / ".netrc").chmod(0o600)
    assert download(f"{server.url}/private", tmp_path / "downloads", back_off=AT_ONCE).read_bytes() == BODY


def test_password_in_an_address_is_refused(tmp_path: Path) -> None:
    """An address with a password in it is refused at once, and the password is not repeated."""
    with pytest.raises(FetchError, match=r"~/\.netrc") as caught:
        download("http://reader:sesame@127.0.0.1:1/x", tmp_path)
    assert "sesame" not in str(caught.value)


def test_copy_serves_while_the_server_is_away(
    server: DataServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that cannot be reached does not fail a run whose data is here already; it is told."""
    first = download(f"{server.url}/x", tmp_path, back_off=AT_ONCE)
    server.shutdown()
    server.server_close()
    assert download(f"{server.url}/x", tmp_path, back_off=AT_ONCE) == first
    assert "The copy that an earlier run downloaded is used" in capsys.readouterr().err
    with pytest.raises(FetchError):
        download(f"{server.url}/another", tmp_path, back_off=AT_ONCE)


def test_long_names_fit_the_file_system(server: DataServer, tmp_path: Path) -> None:
    """A name of many bytes is cut to what a file system takes."""
    assert download(f"{server.url}/{'%E6%95%B0' * 80}.zip", tmp_path, back_off=AT_ONCE).read_bytes() == BODY


def test_disk_that_cannot_be_written_is_not_blamed_on_the_network(server: DataServer, tmp_path: Path) -> None:
    """A folder that cannot be written is told as such, and not tried again."""
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    with pytest.raises(FetchError, match=r"expected to write into .*taken") as caught:
        download(f"{server.url}/x", tmp_path / "taken", back_off=AT_ONCE)
    assert not caught.value.retryable
