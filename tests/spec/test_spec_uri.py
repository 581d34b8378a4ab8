"""Script URIs: what they resolve to, what their query means, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipcook_provider.masking import holds_credentials, masked
from pipcook_provider.spec.uri import absolute_origin, parse_query, resolve_script

DIGEST = "sha256=" + "0a" * 32


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        # Compared with npm query-string 6.14.1, which the existing implementation uses.
        ("", {}),
        ("size=3&size=4", {"size": ["3", "4"]}),
        ("size=3&size=4&size", {"size": ["3", "4", None]}),
        ("a=&a=1", {"a": ["", "1"]}),
        ("a&a", {"a": [None, None]}),
        ("flag", {"flag": None}),
        ("empty=", {"empty": ""}),
        ("normalize=false", {"normalize": "false"}),
        ("a=b+c&d+e=1", {"a": "b c", "d e": "1"}),
        ("a=%2B", {"a": "+"}),
        ("a=%E4%BD%A0&%61b=1", {"a": "你", "ab": "1"}),
        ("a=x%26y&b%3Dc=d", {"a": "x&y", "b=c": "d"}),
        ("arr[]=1&arr[]=2", {"arr[]": ["1", "2"]}),
        ("a[0]=x&a[1]=y", {"a[0]": "x", "a[1]": "y"}),
        ("a=b=c", {"a": "b=c"}),
        ("a==", {"a": "="}),
        ("=x", {"": "x"}),
        ("&&a=1&", {"a": "1"}),
        ("?a=1", {"a": "1"}),
        ("a=1;b=2", {"a": "1;b=2"}),
        ("url=http://h/z.zip?k=v&n=1", {"url": "http://h/z.zip?k=v", "n": "1"}),
        ("a=%zz&b=%&c=%25zz", {"a": "%zz", "b": "%", "c": "%zz"}),
        ("a=%E4&b=%E4%BD%zz%20&c=%C3%28", {"a": "%E4", "b": "%E4%BD%zz ", "c": "%C3("}),
        ("__proto__=1&constructor=2", {"__proto__": "1", "constructor": "2"}),
    ],
)
def test_query(query: str, parameters: dict[str, object]) -> None:
    """A query means what it means to the existing implementation."""
    assert parse_query(query) == parameters


def test_query_keys_are_sorted() -> None:
    """Parameters come in the order of their names, however they were written."""
    assert list(parse_query("z=1&B=2&a=3&A=4")) == ["A", "B", "a", "z"]


@pytest.mark.parametrize(
    ("reference", "origin", "uri", "basename"),
    [
        ("a.py", "/dags/p.json", "file:///dags/a.py", "a.py"),
        ("./sub/../a.py", "/dags/p.json", "file:///dags/a.py", "a.py"),
        ("../s/a.py?x=1", "/dags/vision/p.json", "file:///dags/s/a.py", "a.py"),
        ("/abs/a.py", "/dags/p.json", "file:///abs/a.py", "a.py"),
        ("a b.py", "/da gs/p.json", "file:///da%20gs/a%20b.py", "a b.py"),
        ("a%20b%3F%23.py", "/dags/p.json", "file:///dags/a%20b%3F%23.py", "a b?#.py"),
        ("脚本.py", "/dags/p.json", "file:///dags/%E8%84%9A%E6%9C%AC.py", "脚本.py"),
        ("./a:b@1.py", "/dags/p.json", "file:///dags/a:b@1.py", "a:b@1.py"),
        (" a.py ", "/dags/p.json", "file:///dags/a.py", "a.py"),
        ("file:///abs/a%20b.py", "/dags/p.json", "file:///abs/a%20b.py", "a b.py"),
        ("file://localhost/abs/a.py", "https://h/p.json", "file:///abs/a.py", "a.py"),
        ("file:s/a.py", "/dags/p.json", "file:///dags/s/a.py", "a.py"),
        ("https://h:8080/s@1/a%20b.js?u=http://x/y#" + DIGEST, "/p.json", "https://h:8080/s@1/a%20b.js", "a b.js"),
        ("HTTP://h/a.py", "/p.json", "http://h/a.py", "a.py"),
        ("http://h/..%2F..%2Fa.py", "/p.json", "http://h/..%2F..%2Fa.py", "a.py"),
        ("../s/a.py?x=1", "https://h/d/p.json?token=1", "https://h/s/a.py", "a.py"),
        ("/s/a.py", "https://h/d/p.json", "https://h/s/a.py", "a.py"),
        ("//other/a.py", "https://h/d/p.json", "https://other/a.py", "a.py"),
    ],
)
def test_resolution(reference: str, origin: str, uri: str, basename: str) -> None:
    """A reference becomes an absolute URI, relative to the document's own place."""
    script = resolve_script(reference, origin)
    assert (script.uri, script.basename) == (uri, basename)
    assert script.scheme == uri.split(":", maxsplit=1)[0]


def test_path_of_a_file_uri() -> None:
    """A file script knows its path, decoded; a remote one has none."""
    assert resolve_script("a%20b%3F.py?x=1", "/dags/p.json").path == Path("/dags/a b?.py")
    assert resolve_script("https://h/a.py", "/dags/p.json").path is None


def test_reference_keeps_query_and_digest() -> None:
    """What a download needs survives: the query of a signed address and the stated digest."""
    script = resolve_script(f"a.py?token=%2B1&x#{DIGEST}", "https://h/d/p.json")
    assert script.reference == f"https://h/d/a.py?token=%2B1&x#{DIGEST}"
    assert script.parameters == {"token": "+1", "x": None}
    assert resolve_script(f"a.py#{DIGEST}", "/d/p.json").reference == f"file:///d/a.py#{DIGEST}"


@pytest.mark.parametrize(
    ("reference", "origin", "expected"),
    [
        ("https://h/a.py?name=my data.zip", "/p.json", "https://h/a.py?name=my%20data.zip"),
        ("https://h/a.py?name=my%20data.zip", "/p.json", "https://h/a.py?name=my%20data.zip"),
        ("https://h/a.py?a=100%&b=%zz&c=%41", "/p.json", "https://h/a.py?a=100%25&b=%25zz&c=%41"),
        (
            'https://h/a.py?a="x"\\<y>&b[]=^|`{}',
            "/p.json",
            "https://h/a.py?a=%22x%22%5C%3Cy%3E&b%5B%5D=%5E%7C%60%7B%7D",
        ),
        ("https://h/a b/数.py?q=数+1", "/p.json", "https://h/a%20b/%E6%95%B0.py?q=%E6%95%B0+1"),
        ("a b.py?q=r s", "https://h/my dir/p.json", "https://h/my%20dir/a%20b.py?q=r%20s"),
        ("a b.py?q=r s", "/d d/p.json", "file:///d%20d/a%20b.py"),
        ("/a.py?q=1#" + DIGEST, "/p.json", "file:///a.py#" + DIGEST),
        ("https://h/s@1/a.py?u=http://x/y?z&t=~(*)'!$,;", "/p.json", "https://h/s@1/a.py?u=http://x/y?z&t=~(*)'!$,;"),
    ],
)
def test_reference_is_a_valid_uri(reference: str, origin: str, expected: str) -> None:
    """What is fetched is escaped once, whatever was written, and a file carries no query."""
    assert resolve_script(reference, origin).reference == expected
    assert resolve_script(expected, origin).reference == expected


def test_escaping_changes_no_parameter() -> None:
    """Parameters are what was written, decoded, for files and addresses alike."""
    for place in ("", "https://h/"):
        assert resolve_script(f"{place}d.py?name=my data.zip&p=5%", "/p.json").parameters == {
            "name": "my data.zip",
            "p": "5%",
        }


@pytest.mark.parametrize(
    "reference",
    [
        *("https://me:s3cret@h/a.py", "http://s3cret@h/a.py?x=1", "HTTPS://:s3cret@h:1/a.py", "https://s3cret:@h/a.py"),
        *("//me:s3cret@h/a.py", "file://me:s3cret@localhost/a.py", "ftp://me:s3cret@h/a.py", " https://s3cret@h/a.py"),
        *(
            "https:/me:s3cret@h/a.py",
            "https://me:s3cret/1@h/a.py",
            "https://me:s3cret?@h/a.py",
            "https://me:a s3cret@h/",
        ),
    ],
)
def test_credentials_are_refused(reference: str) -> None:
    """A user or password in an address is refused without being repeated, and the message says where it belongs."""
    for origin in ("/p.json", "https://h/p.json"):
        with pytest.raises(ValueError, match="netrc") as caught:
            resolve_script(reference, origin)
        assert "s3cret" not in str(caught.value)
        assert "s3cret" not in masked(f'found "{reference}", and more')


@pytest.mark.parametrize(
    "text",
    [
        *(
            "https://cdn.example/npm/pkg@1.0/a.py",
            "tensorflow@2.21",
            "./a@1.py",
            "https://h/?to=a@b",
            "https://[::1]:8/a@1",
        ),
        *('["https://h", "x@1"]', "https://h:8080/a@1.py", '{"processor": "zip@1"}', "a b@c"),
    ],
)
def test_other_at_signs_stay(text: str) -> None:
    """An ``@`` that belongs to a version, a path or a query is neither refused nor masked."""
    assert not holds_credentials(text)
    assert masked(text) == text


@pytest.mark.parametrize(
    ("reference", "origin", "words"),
    [
        ("s3://bucket/a.py", "/p.json", ['"s3:"', "http, https or file"]),
        ("javascript:a.py", "/p.json", ['"javascript:"', '"./javascript:a.py"']),
        ("C:\\dags\\a.py", "/p.json", ["drive letter", "file:///C:/"]),
        ("https:///a.py", "/p.json", ["names no host"]),
        ("https://h:port/a.py", "/p.json", ["port"]),
        ("http://[h/a.py", "/p.json", ["http://[h/a.py"]),
        ("https://h", "/p.json", ["names no file"]),
        ("scripts/", "/p.json", ["names no file"]),
        ("scripts/..", "/p.json", ["names no file"]),
        ("s/%2E%2E", "/p.json", ["names no file"]),
        ("?size=1", "/p.json", ["names no file"]),
        ("   ", "/p.json", ["names no file"]),
        ("a.py#main", "/p.json", ['"#main"', "sha256", "%23"]),
        ("a.py#sha256=123", "/p.json", ["64 hex digits"]),
        ("file://./a.py", "/p.json", ['the host "."', "relative to this document"]),
        ("//host/a.py", "/p.json", ['the host "host"']),
        ("file:a.py", "https://h/p.json", ["https://h/p.json", 'Drop "file:"']),
        ("https://h h/a.py", "/p.json", ['" "', "in the host"]),
        ("https://h/a.py?x=%00", "/p.json", [r"\u0000"]),
        ("a\n.py", "/p.json", [r"\n", "Remove it"]),
        ("a%00.py", "/p.json", [r"\u0000"]),
        ("a\ud800.py", "/p.json", [r"\ud800"]),
    ],
)
def test_refusal(reference: str, origin: str, words: list[str]) -> None:
    """A reference that names no fetchable file is refused, and the message says why."""
    with pytest.raises(ValueError, match="Expected") as caught:
        resolve_script(reference, origin)
    assert [word for word in words if word not in str(caught.value)] == []


def test_absolute_origin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A document's place is an absolute path or a URL, whatever form it was given in."""
    monkeypatch.chdir(tmp_path)
    assert absolute_origin("p.json") == str(tmp_path / "p.json")
    assert absolute_origin("file:///a%20b/p.json") == "/a b/p.json"
    assert absolute_origin("https://h/p.json") == "https://h/p.json"
    assert absolute_origin("../q.json", "/dags/x/p.json") == "/dags/q.json"
    assert absolute_origin("../q.json", "https://h/x/p.json") == "https://h/q.json"
