from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest
from http_server import Server, serving

from pipcook_provider.errors import FetchError, FetchNotFound, IntegrityError
from pipcook_provider.settings import Settings
from pipcook_provider.store.fetch import download, read_text

BODY = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(BODY).hexdigest()


def test_download_http(server: Server, settings: Settings, tmp_path: Path) -> None:
    """A file arrives whole, in a folder made for it, with its progress told to the last byte."""
    told: list[tuple[int, int | None]] = []
    target = tmp_path / "new" / "file.bin"
    progress = lambda done, total: told.append((done, total))  # noqa: E731
    assert download(server.put("/a.bin", BODY), target, settings, on_progress=progress) == DIGEST
    assert target.read_bytes() == BODY
    assert told[-1] == (len(BODY), len(BODY))
    assert [path.name for path in target.parent.iterdir()] == ["file.bin"]


def test_download_file(settings: Settings, tmp_path: Path) -> None:
    """A file URI is copied, percent-encoding and all, and verified like any other."""
    source = tmp_path / "with space.bin"
    source.write_bytes(BODY)
    assert download(f"{source.as_uri()}#sha256={DIGEST}", tmp_path / "copy", settings) == DIGEST
    assert (tmp_path / "copy").read_bytes() == BODY


def test_missing_file(settings: Settings, tmp_path: Path) -> None:
    """A file URI without a file, or with a folder there, is not found."""
    for uri in ((tmp_path / "none").as_uri(), tmp_path.as_uri(), "file://elsewhere/etc/hostname"):
        with pytest.raises(FetchNotFound):
            read_text(uri, settings)


def test_digest_mismatch(server: Server, settings: Settings, tmp_path: Path) -> None:
    """Another digest than stated says expected and got, and leaves the old file and nothing else."""
    target = tmp_path / "folder" / "file"
    target.parent.mkdir()
    target.write_text("old")
    with pytest.raises(IntegrityError, match=f"(?s){'0' * 64}.*{DIGEST}"):
        download(f"{server.put('/a', BODY)}#sha256={'0' * 64}", target, settings)
    assert target.read_text() == "old"
    assert list(target.parent.iterdir()) == [target]


def test_malformed_digest(server: Server, settings: Settings, tmp_path: Path) -> None:
    """A digest that cannot be one is refused before anything is asked."""
    with pytest.raises(FetchError, match="64 hexadecimal digits"):
        download(f"{server.put('/a', BODY)}#sha256=abc", tmp_path / "a", settings)
    assert not server.hits


@pytest.mark.parametrize("status", [429, 500, 503])
def test_retry(server: Server, settings: Settings, tmp_path: Path, status: int) -> None:
    """An answer that may change is asked for again."""
    url = server.put("/a", BODY, failures=2, failure=status)
    assert download(url, tmp_path / "a", settings) == DIGEST
    assert server.hits["/a"] == 3


def test_retries_end(server: Server, settings: Settings, tmp_path: Path) -> None:
    """A server that keeps failing is given up with its last answer, and a later task may try again."""
    with pytest.raises(FetchError, match=r"3 attempts.*503") as caught:
        download(server.put("/a", status=503), tmp_path / "a", settings)
    assert caught.value.retryable
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("status", "error"), [(404, FetchNotFound), (410, FetchNotFound), (403, FetchError)])
def test_no_retry(server: Server, settings: Settings, tmp_path: Path, status: int, error: type[FetchError]) -> None:
    """An answer that will not change is asked for once."""
    with pytest.raises(error, match=str(status)) as caught:
        download(server.put("/a", status=status), tmp_path / "a", settings)
    assert server.hits["/a"] == 1
    assert not caught.value.retryable


def test_unannounced_size(server: Server, settings: Settings, tmp_path: Path) -> None:
    """A server that does not say the size is believed when it closes the connection."""
    assert download(server.put("/a", BODY, announced=-1), tmp_path / "a", settings) == DIGEST


def test_content_encoding(server: Server, settings: Settings, tmp_path: Path) -> None:
    """A server that compresses although it was asked not to is understood."""
    url = server.put("/a", gzip.compress(BODY), headers={"Content-Encoding": "gzip"})
    assert download(f"{url}#sha256={DIGEST}", tmp_path / "a", settings) == DIGEST


def test_nobody_listens(settings: Settings, tmp_path: Path) -> None:
    """A refused connection is told as such."""
    with serving() as server:
        url = server.url
    with pytest.raises(FetchError, match="could not be fetched in 3 attempts"):
        download(f"{url}/a", tmp_path / "a", settings)


def test_login_page(server: Server, settings: Settings, tmp_path: Path) -> None:
    """A web page in the place of a script is refused."""
    url = server.put("/script.py", b"<html>Log in</html>", headers={"Content-Type": "text/html; charset=utf-8"})
    with pytest.raises(IntegrityError, match="a web page was served"):
        download(url, tmp_path / "a", settings)


def test_redirect(server: Server, settings: Settings, tmp_path: Path) -> None:
    """Redirects are followed, relative ones too, and the digest is that of what is at their end."""
    server.put("/a", status=302, headers={"Location": "b?x=1"})
    server.put("/b", status=301, headers={"Location": server.url + "/c"})
    server.put("/c", BODY)
    url = f"{server.url}/a#sha256={DIGEST}"
    assert download(url, tmp_path / "a", settings) == DIGEST


def test_endless_redirect(server: Server, settings: Settings, tmp_path: Path) -> None:
    """A circle of redirects ends."""
    url = server.put("/a", status=302, headers={"Location": "/a"})
    with pytest.raises(FetchError, match="redirected more than 10 times"):
        download(url, tmp_path / "a", settings)


def test_unwritable(server: Server, settings: Settings, tmp_path: Path) -> None:
    """A target that cannot be written is told as such, not as a trouble of the network."""
    (tmp_path / "file").write_text("")
    with pytest.raises(FetchError, match="could not be written"):
        download(server.put("/a", BODY), tmp_path / "file" / "a", settings)


def test_read_text(server: Server, settings: Settings) -> None:
    """Text is UTF-8 without its byte order mark, and of bounded size."""
    assert read_text(server.put("/a", "\ufeff中文".encode()), settings) == "中文"
    with pytest.raises(FetchError, match="at most 5 bytes"):
        read_text(server.put("/b", b"123456"), settings, limit=5)
    with pytest.raises(FetchError, match="byte 1 is not"):
        read_text(server.put("/c", b"a\xff"), settings)


@pytest.mark.parametrize("uri", ["ftp://h/a", "a.py", "http:///a", "http://h:99999/", "http://e\\@h/", "http://h/a b"])
def test_unusable_uri(settings: Settings, uri: str) -> None:
    """What is no plain http, https or file URI is refused without asking anybody."""
    with pytest.raises(FetchError) as caught:
        read_text(uri, settings)
    assert not caught.value.retryable
