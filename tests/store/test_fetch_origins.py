from __future__ import annotations

import base64
import hashlib
import traceback
from dataclasses import replace
from pathlib import Path

import pytest
from http_server import Server, serving

from pipcook_provider.errors import FetchError, FetchNotFound, IntegrityError, OriginError
from pipcook_provider.settings import Credential, Settings
from pipcook_provider.store.fetch import check_origin, download, read_text, shown
from pipcook_provider.store.origins import authentication, locate


def test_shown() -> None:
    """What is shown of a URI lacks user and password, and nothing else."""
    assert shown("https://u:p@h/x@y?z=a@b") == "https://h/x@y?z=a@b"
    assert shown("https://h/x@y") == "https://h/x@y"


ALLOWED = ("https://cdn.example/gh/org/scripts", "https://mirror.example:8443/", "/opt/dags")


@pytest.mark.parametrize(
    "uri",
    [
        "https://cdn.example/gh/org/scripts/a.py?x=1",
        "https://CDN.example:443/gh/org/scripts@4b3d60c/a.py",
        "https://cdn.example/gh/x/../org/scripts/a.py",
        "https://mirror.example:8443/anything",
        "file:///opt/dags/a.py",
    ],
)
def test_allowed(settings: Settings, uri: str) -> None:
    """An allowed origin covers what lies below it, however it is spelled."""
    check_origin(uri, replace(settings, allowed_origins=ALLOWED))


@pytest.mark.parametrize(
    "uri",
    [
        "http://cdn.example/gh/org/scripts/a.py",
        "https://cdn.example.evil.example/gh/org/scripts/a.py",
        "https://cdn.example@evil.example/gh/org/scripts/a.py",
        "https://cdn.example/gh/org/scripts-evil/a.py",
        "https://cdn.example/gh/org/scripts/../../evil/a.py",
        "https://cdn.example/gh/org/scripts/%2e%2e/%2e%2e/evil/a.py",
        "https://mirror.example/a",
        "file:///opt/dags/../secret",
        "file:///opt/dags%2f..%2fsecret",
    ],
)
def test_not_allowed(settings: Settings, uri: str) -> None:
    """Nothing beside an allowed origin passes for it."""
    with pytest.raises(OriginError, match="allowed_origins"):
        check_origin(uri, replace(settings, allowed_origins=ALLOWED))


def test_all_allowed(settings: Settings) -> None:
    """Without a list every origin is allowed."""
    check_origin("https://anywhere.example/a", settings)


def test_credentials(server: Server, settings: Settings, tmp_path: Path) -> None:
    """User and password go to their host only, and no message shows them."""
    with serving() as other:
        server.put("/a", status=302, headers={"Location": "/b"})
        server.put("/b", status=302, headers={"Location": other.url + "/c"})
        with pytest.raises(FetchNotFound) as caught:
            download(f"http://me:s%40crt@{server.address}/a", tmp_path / "a", settings)
        expected = "Basic " + base64.b64encode(b"me:s@crt").decode()
        assert server.authorizations == {"/a": expected, "/b": expected}
        assert other.authorizations == {"/c": None}
    assert "crt" not in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        *("http://user:pa/s3cret@host/x", "http://user:s3cret?@host/x", "http://user:s3cret#1@host/x"),
        *("http://me@corp:pa/s3cret@host/x", "http://:s3cret/1@host/x", 'http://user:a "b/s3cret@host/x'),
        *("http://user:s3cret\u2100@host/x", "http://user:[s3cret@host/x", "http://user:s3cret@host:port/x"),
    ],
)
def test_slipped_password(settings: Settings, uri: str) -> None:
    """A password with what should have been percent-encoded is in no message and no traceback."""
    assert "s3cret" not in shown(uri)
    with pytest.raises(FetchError) as caught:
        read_text(uri, settings)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "uri",
    [
        *("https://cdn.example/gh/owner/repo@2232184/x.js", "https://h:8080/a:b@1/x", "https://h/?to=a:b@c#x:y@1"),
        *("https://[::1]:8/a@1", "file:///a:b@1", "folder/a@1.py", "/a:b@1"),
    ],
)
def test_shown_whole(uri: str) -> None:
    """An ``@`` behind the host stays, with and without a password before it."""
    assert shown(uri) == uri
    assert shown(uri.replace("https://", "https://me:s3cret@")) == uri


def test_redirect_to_password(server: Server, settings: Settings) -> None:
    """What a redirect's unreadable target holds is not shown."""
    for location in ("http://user:pa/s3cret@host/", "http://user:s3cret\u2100@host/"):
        url = server.put("/a", status=302, headers={"Location": location.encode().decode("latin-1")})
        with pytest.raises(FetchError) as caught:
            read_text(url, settings)
        assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_password_of_proxy(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy's address that cannot be read is shown without its password."""
    monkeypatch.setenv("http_proxy", "http://user:s3cret/1@proxy.example")
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(FetchError, match="http_proxy") as caught:
        read_text("http://host.example/a", settings)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("location", ["http://127.0.0.1:1/a", "file:///etc/hostname"])
def test_redirect_out(server: Server, settings: Settings, tmp_path: Path, location: str) -> None:
    """A redirect cannot lead out of the allowed origins, nor to a local file."""
    url = server.put("/a", status=302, headers={"Location": location})
    with pytest.raises(FetchError) as caught:
        download(url, tmp_path / "a", replace(settings, allowed_origins=(server.url,)))
    assert not caught.value.retryable
    assert server.hits == {"/a": 1}


def test_rewritten(server: Server, settings: Settings, tmp_path: Path) -> None:
    """The longest prefix that fits is replaced, and what the address states about the content still holds."""
    server.put("/npm/a.py", b"mirrored")
    rewriting = replace(
        settings,
        url_rewrites=(("https://cdn.example/npm/", f"{server.url}/npm/"), ("https://cdn.example/", "file:///none/")),
        allowed_origins=("https://cdn.example/npm",),
    )
    digest = hashlib.sha256(b"mirrored").hexdigest()
    assert download(f"https://CDN.example:443/npm/a.py?x=1#sha256={digest}", tmp_path / "a", rewriting) == digest
    with pytest.raises(
        IntegrityError, match=rf"https://cdn\.example/npm/a\.py \(fetched from {server.url}/npm/a\.py\)"
    ):
        read_text(f"https://cdn.example/npm/a.py#sha256={'0' * 64}", rewriting)


def test_rewritten_to_files(settings: Settings, tmp_path: Path) -> None:
    """A mirror may be a folder, out of which no address leads."""
    (tmp_path / "mirror" / "org").mkdir(parents=True)
    (tmp_path / "mirror" / "org" / "a b.py").write_text("text")
    (tmp_path / "secret").write_text("secret")
    rewriting = replace(settings, url_rewrites=(("https://cdn.example/", f"{(tmp_path / 'mirror').as_uri()}/"),))
    assert read_text("https://cdn.example/org/a%20b.py", rewriting) == "text"
    with pytest.raises(FetchNotFound, match=r"https://cdn\.example/none \(fetched from file://"):
        read_text("https://cdn.example/none", rewriting)
    for uri in (
        "https://cdn.example/../secret",
        "https://cdn.example/..%2fsecret",
        "https://cdn.example/%2e%2e/secret",
    ):
        with pytest.raises(FetchError, match=r"'\.\.'"):
            read_text(uri, rewriting)


def test_rewritten_outside(server: Server, settings: Settings) -> None:
    """Allowed origins speak of addresses as they are written: a rewrite makes nothing allowed, nor the mirror itself."""
    strict = replace(
        settings,
        url_rewrites=(("https://cdn.example/", f"{server.url}/"),),
        allowed_origins=("https://cdn.example/org",),
    )
    for uri in ("https://cdn.example/other/a.py", f"{server.url}/org/a.py"):
        with pytest.raises(OriginError):
            read_text(uri, strict)
    assert not server.requests


def test_rewritten_redirects(server: Server, settings: Settings) -> None:
    """A redirect is judged as it is written, then rewritten; a mirror may redirect within itself, and nowhere else."""
    server.put("/m/a", status=302, headers={"Location": "/m/b"})
    server.put("/m/b", status=302, headers={"Location": "https://files.example/c"})
    server.put("/f/c", b"text")
    server.put("/m/out", status=302, headers={"Location": "/elsewhere"})
    strict = replace(
        settings,
        url_rewrites=(("https://files.example/", f"{server.url}/f/"), ("https://cdn.example/", f"{server.url}/m/")),
        allowed_origins=("https://cdn.example/", "https://files.example/"),
    )
    assert read_text("https://cdn.example/a", strict) == "text"
    with pytest.raises(OriginError, match="redirects to"):
        read_text("https://cdn.example/out", strict)
    assert "/elsewhere" not in server.hits


def test_rewritten_authentication(server: Server, settings: Settings) -> None:
    """User and password of an address stay away from its mirror, which has its own."""
    server.put("/a", b"text")
    for mirror, expected in ((server.url, None), (f"http://me:pw@{server.address}", "Basic bWU6cHc=")):
        rewriting = replace(settings, url_rewrites=(("https://cdn.example/", f"{mirror}/"),))
        assert read_text("https://you:sesame@cdn.example/a", rewriting) == "text"
        assert server.authorizations["/a"] == expected


@pytest.mark.parametrize("host", ["cdn.example.evil.example", "cdn.example:1", "cdn.exampleevil"])
def test_rewritten_host(server: Server, settings: Settings, host: str) -> None:
    """A prefix that ends within a host's name does not lead to another host than the mirror, with its password."""
    rewriting = replace(
        settings,
        url_rewrites=(("https://cdn.example", "https://me:pw@mirror.example"),),
        credentials=(Credential("https://mirror.example", {"Authorization": "secret"}),),
    )
    source = locate(f"https://{host}/a", rewriting)
    assert source.url == f"https://{host}/a"
    assert not authentication(source, rewriting)


def test_credential_headers(
    server: Server, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each request carries the headers of the longest prefix that covers it, whatever ~/.netrc says, and no other."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login reader password sesame\n")
    monkeypatch.setenv("NETRC", str(netrc))
    known = replace(
        settings,
        credentials=(
            Credential(server.url, {"Authorization": "Bearer wide"}),
            Credential(f"{server.url}/deep", {"Authorization": "Bearer deep", "X-Token": "t"}),
            Credential(f"https://{server.address}/deep/er", {"Authorization": "Bearer other"}),
        ),
    )
    with serving() as other:
        server.put("/deep/er", status=302, headers={"Location": "/deeper"})
        server.put("/deeper", status=302, headers={"Location": f"{other.url}/end"})
        other.put("/end", b"text")
        assert read_text(f"{server.url}/deep/er", known) == "text"
        assert server.authorizations == {"/deep/er": "Bearer deep", "/deeper": "Bearer wide"}
        assert [request.headers.get("x-token") for request in server.requests] == ["t", None]
        assert other.authorizations["/end"] == "Basic " + base64.b64encode(b"reader:sesame").decode()


def test_url_before_credential(server: Server, settings: Settings) -> None:
    """User and password in an address win over a credential, in any alphabet."""
    server.put("/a", b"text")
    known = replace(settings, credentials=(Credential(server.url, {"Authorization": "Bearer wide"}),))
    assert read_text(f"http://me:密码@{server.address}/a", known) == "text"
    assert server.authorizations["/a"] == "Basic " + base64.b64encode("me:密码".encode()).decode()


def test_credential_for_mirror(server: Server, settings: Settings) -> None:
    """Credentials belong to the place that is asked, not to the one that is written."""
    server.put("/m/a", b"text")
    known = replace(
        settings,
        url_rewrites=(("https://cdn.example/", f"{server.url}/m/"),),
        credentials=(
            Credential("https://cdn.example", {"Authorization": "Bearer origin"}),
            Credential(f"{server.url}/m", {"Authorization": "Bearer mirror"}),
        ),
    )
    assert read_text("https://cdn.example/a", known) == "text"
    assert server.authorizations["/m/a"] == "Bearer mirror"


@pytest.mark.parametrize(
    "headers", [{"X-Token": "sesame\r\nX: y"}, {"X-Token": " sesame"}, {"X-Token": "密sesame"}, {"X:": "sesame"}]
)
def test_unusable_header(
    server: Server, settings: Settings, caplog: pytest.LogCaptureFixture, headers: dict[str, str]
) -> None:
    """A header that cannot be sent is refused before anything is asked, without showing its value."""
    known = replace(settings, credentials=(Credential(server.url, headers),))
    with caplog.at_level("DEBUG"), pytest.raises(FetchError, match="HTTP headers") as caught:
        read_text(f"{server.url}/a", known)
    assert not server.requests
    assert not caught.value.retryable
    assert "sesame" not in f"{caught.value!r} {caught.value.__context__!r} {known!r} {caplog.text}"


def test_secrets_not_shown(
    server: Server, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No error and no log shows what authenticated a request."""
    known = replace(
        settings,
        url_rewrites=(("https://cdn.example/", f"http://me:sesame@{server.address}/"),),
        credentials=(Credential(server.url, {"X-Token": "sesame"}),),
        allowed_origins=(f"http://you:sesame@{server.address}", "https://cdn.example/"),
    )
    uris = (
        f"{server.url}/a",
        "https://cdn.example/a",
        "http://you:sesame@h/a",
        f"http://you:sesame@{server.address}/a",
    )
    with caplog.at_level("DEBUG"):
        for uri in uris:
            with pytest.raises(FetchError) as caught:
                download(uri, tmp_path / "a", known)
            assert "sesame" not in f"{caught.value!r} {caught.value.__context__!r}"
    assert "sesame" not in caplog.text
