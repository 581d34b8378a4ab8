"""Which version of something lies at an address, asked of a real server."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from http_server import Server, serving

from pipcook_provider.errors import CacheError, FetchError, FetchNotFound, IntegrityError, OriginError
from pipcook_provider.settings import Credential, Settings
from pipcook_provider.store import watch
from pipcook_provider.store.watch import Baselines, UrlVersion, current_version

MONDAY, TUESDAY = "Mon, 01 Jun 2026 00:00:00 GMT", "Tue, 02 Jun 2026 00:00:00 GMT"


def tagged(tag: str) -> dict[str, object]:
    return {"ranges": True, "headers": {"ETag": tag}}


def dated(date: str) -> dict[str, object]:
    return {"ranges": True, "headers": {"Last-Modified": date}}


def test_etag(server: Server, settings: Settings) -> None:
    """A server that knows the ETag answers without content while it is the same; another one is another version."""
    url = server.put("/data", b"one", **tagged('"1"'))
    first = current_version(url, settings)
    assert first == UrlVersion(etag='"1"', length=3)
    assert current_version(url, settings, first) == first
    assert server.requests[-1].headers["if-none-match"] == '"1"'
    assert server.requests[-1].status == 304
    server.put("/data", b"one", **tagged('"2"'))
    second = current_version(url, settings, first)
    assert second.etag == '"2"'
    assert second.differs(first)


def test_endless_headers_say_nothing(server: Server, settings: Settings) -> None:
    """Headers of many kilobytes, which events would keep and servers refuse to hear again, count as none."""
    url = server.put("/data", b"one", headers={"ETag": f'"{"x" * 60_000}"', "Last-Modified": "y" * 2_000})
    first = current_version(url, settings)
    assert first == UrlVersion(length=3, sha256=hashlib.sha256(b"one").hexdigest())
    server.put("/data", b"one", headers={"ETag": f'"{"x" * 60_000}"', "Last-Modified": MONDAY})
    assert current_version(url, settings, first) == UrlVersion(last_modified=MONDAY, length=3)
    assert "if-none-match" not in server.requests[-1].headers


def test_etag_of_a_server_without_conditions(server: Server, settings: Settings) -> None:
    """Where the server answers conditions with the whole, the ETag itself is compared."""
    url = server.put("/data", b"one", headers={"ETag": '"1"'})
    first = current_version(url, settings)
    assert not current_version(url, settings, first).differs(first)
    assert server.requests[-1].status == 200


def test_last_modified(server: Server, settings: Settings) -> None:
    """Without ETag the date tells, of an older file too, and else the length; so no condition on the date is sent."""
    url = server.put("/data", b"one", **dated(TUESDAY))
    first = current_version(url, settings)
    assert first == UrlVersion(last_modified=TUESDAY, length=3)
    assert not current_version(url, settings, first).differs(first)
    server.put("/data", b"one", **dated(MONDAY))
    assert current_version(url, settings, first).differs(first)
    server.put("/data", b"three", **dated(TUESDAY))
    assert current_version(url, settings, first).differs(first)
    assert {request.headers.get("if-modified-since") for request in server.requests} == {None}


def test_content(server: Server, settings: Settings) -> None:
    """Without either header the content tells."""
    url = server.put("/data", b"one")
    first = current_version(url, settings)
    assert first == UrlVersion(length=3, sha256=hashlib.sha256(b"one").hexdigest())
    assert not current_version(url, settings, first).differs(first)
    server.put("/data", b"two")
    assert current_version(url, settings, first).differs(first)


def test_content_is_not_read_where_the_server_tells(server: Server, settings: Settings) -> None:
    """However long the data are, the answer's headers are enough: here nothing ever follows them."""
    url = server.put("/data", announced=10**12, stalls=True, headers={"ETag": '"1"'})
    assert current_version(url, settings).length == 10**12


def test_content_in_part(server: Server, settings: Settings) -> None:
    """Content that broke off is no version of it."""
    url = server.put("/data", b"x" * 1000, breaks_after=500)
    with pytest.raises(FetchError, match=r"whether it has changed is not known") as raised:
        current_version(url, settings)
    assert raised.value.retryable


@pytest.mark.parametrize("how", [{}, {"chunked": True}])
def test_content_that_is_too_long(server: Server, settings: Settings, how: dict[str, object]) -> None:
    """What could be compared by a long download only is refused, and the message says what would do."""
    url = server.put("/data", b"x" * 1000, **how)
    with pytest.raises(FetchError, match=r"an ETag or Last-Modified header, or to have at most 999 bytes") as raised:
        current_version(url, settings, limit=999)
    assert not raised.value.retryable
    assert current_version(url, settings, limit=1000).length == 1000


def test_content_without_end(server: Server, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content that does not end is left."""
    monkeypatch.setattr(watch, "_PATIENCE", 0.1)
    url = server.put("/data", dribbles=0.01)
    with pytest.raises(FetchError, match=r"its content did not end within 0\.1 s"):
        current_version(url, settings)


@pytest.mark.parametrize(
    ("answer", "error", "retryable"),
    [
        ({"status": 404}, FetchNotFound, False),
        ({"status": 503}, FetchError, True),
        ({"status": 403}, FetchError, False),
        ({"stalls": True, "announced": 5}, FetchError, True),
        ({"body": b"<html>", "headers": {"Content-Type": "text/html", "ETag": '"login"'}}, IntegrityError, True),
    ],
)
def test_what_is_no_version(
    server: Server, settings: Settings, answer: dict[str, object], error: type[FetchError], retryable: bool
) -> None:
    """Nothing there, a server in trouble, one that goes silent and a login page in the place of data are errors."""
    url = server.put("/data.zip", **answer)
    with pytest.raises(error) as raised:
        current_version(url, replace(settings, fetch_timeout=0.2))
    assert raised.value.retryable is retryable
    assert server.hits["/data.zip"] == 1


def test_server_that_is_down(settings: Settings) -> None:
    """A server that does not answer may be back later."""
    with serving() as gone:
        url = gone.put("/data")
    with pytest.raises(FetchError, match=r"the connection failed") as raised:
        current_version(url, settings)
    assert raised.value.retryable


def test_allowed_origins(server: Server, settings: Settings) -> None:
    """Nothing outside the allowed origins is asked, nor where a redirect leads outside."""
    with serving() as other:
        outside = other.put("/data", b"one")
        inside = server.put("/data", status=302, headers={"Location": outside})
        limited = replace(settings, allowed_origins=(server.url,))
        for url in (outside, inside):
            with pytest.raises(OriginError, match="allowed_origins"):
                current_version(url, limited)
        assert not other.hits


def test_redirect(server: Server, settings: Settings) -> None:
    """The version is that of where a redirect leads, and the condition goes along."""
    server.put("/signed", b"one", **tagged('"1"'))
    url = server.put("/data", status=302, headers={"Location": "/signed"})
    first = current_version(url, settings)
    assert current_version(url, settings, first) == first
    assert [request.status for request in server.requests] == [302, 200, 302, 304]


def test_rewrite(server: Server, settings: Settings) -> None:
    """An address that is fetched from a mirror is watched there."""
    server.put("/mirror/data", b"one", **tagged('"1"'))
    mirrored = replace(settings, url_rewrites=(("https://data.example/", f"{server.url}/mirror/"),))
    assert current_version("https://data.example/data", mirrored).etag == '"1"'


def test_credentials(server: Server, settings: Settings) -> None:
    """Connections and addresses authenticate as they do for downloads, and no message shows what they say."""
    trusted = replace(settings, credentials=(Credential(server.url, {"Authorization": "Bearer s3cret"}),))
    current_version(server.put("/data", **tagged('"1"')), trusted)
    assert server.authorizations["/data"] == "Bearer s3cret"
    server.put("/data", status=404)
    with pytest.raises(FetchNotFound) as raised:
        current_version(f"http://me:s3cret@{server.address}/data", settings)
    assert server.authorizations["/data"] == "Basic bWU6czNjcmV0"
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        ({"etag": '"1"'}, {"etag": 'W/"1"'}, False),
        ({"etag": '"1"', "last_modified": MONDAY}, {"etag": '"1"', "last_modified": TUESDAY}, False),
        ({"etag": '"1"', "last_modified": MONDAY}, {"last_modified": MONDAY}, False),
        ({"last_modified": MONDAY, "length": 1}, {"last_modified": MONDAY}, False),
        ({"last_modified": MONDAY, "length": 1}, {"last_modified": MONDAY, "length": 2}, True),
        ({"etag": '"1"'}, {"last_modified": MONDAY}, True),
        ({"etag": '"1"'}, {"sha256": "0"}, True),
        ({"sha256": "0"}, {"sha256": "0"}, False),
    ],
)
def test_comparison(one: dict[str, object], other: dict[str, object], differ: bool) -> None:
    """The first thing that both versions have decides; with nothing in common they are two."""
    assert UrlVersion(**one).differs(UrlVersion(**other)) is differ
    assert UrlVersion(**other).differs(UrlVersion(**one)) is differ


def test_version_as_json() -> None:
    """What is kept is small and read again as it was; what is something else is no version."""
    version = UrlVersion(etag='"1"', length=3)
    assert version.to_json() == {"etag": '"1"', "length": 3}
    assert UrlVersion.read({"uri": "x", **version.to_json()}) == version
    for document in (None, [], {}, {"etag": 3}, {"length": 3}, "text"):
        assert UrlVersion.read(document) is None


def test_baseline(tmp_path: Path) -> None:
    """What was seen last is kept by address, whoever asks with which password, and the password is not."""
    baselines = Baselines(tmp_path / "watch")
    assert baselines.read("https://me:s3cret@data.example/a") is None
    baselines.keep("https://me:s3cret@data.example/a", UrlVersion(etag='"1"'))
    assert baselines.read("https://data.example/a#part") == UrlVersion(etag='"1"')
    assert baselines.read("https://data.example/b") is None
    (path,) = baselines.folder.iterdir()
    assert json.loads(path.read_text()) == {"uri": "https://data.example/a", "etag": '"1"'}
    path.write_text("{", encoding="utf-8")
    assert baselines.read("https://data.example/a") is None


def test_baseline_that_cannot_be_kept(tmp_path: Path) -> None:
    """A folder that cannot be written is told with what to do."""
    (tmp_path / "watch").touch()
    with pytest.raises(CacheError, match=r"seen at https://data\.example/a .*\[pipcook\] home"):
        Baselines(tmp_path / "watch").keep("https://data.example/a", UrlVersion(etag='"1"'))
