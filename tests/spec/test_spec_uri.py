"""Script URIs: what they resolve to, what their query means, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipcook_provider.masking import holds_credentials, masked
from pipcook_provider.spec import Parameter
from pipcook_provider.spec.uri import absolute_origin, parse_query, resolve_script, with_query

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


@pytest.mark.parametrize("part", ["a", "a:", "//a:b", "//a@b", "a:@/", "//\\\\a", ":", "//a:1"])
def test_masking_of_long_texts(part: str) -> None:
    """A text of a megabyte that was written to take long is masked in a time that grows with its length only."""
    text = part * (2**20 // len(part))
    assert "s3cret" not in masked(f"x@y https://me:s3cret@h {text}")
    assert masked(f"{text} https://me:s3cret@h").endswith("***@h")


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
        ("a.py?x=%00", "/p.json", [r"\u0000"]),
        ("a.py?x={{ ds }}&%00=y", "/p.json", [r"\u0000"]),
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


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        (
            "url=data/{{ ds }}.zip&x={{ macros.ds_add(ds, 7) }}",
            {"url": "data/{{ ds }}.zip", "x": "{{ macros.ds_add(ds, 7) }}"},
        ),
        ("a={{ x + y }}&b=1+2", {"a": "{{ x + y }}", "b": "1 2"}),
        ("a={{ x & y }}&b={{ 5 % 3 }}&c=%26", {"a": "{{ x & y }}", "b": "{{ 5 % 3 }}", "c": "&"}),
        ("a={{ '%41?#=' }}=%41", {"a": "{{ '%41?#=' }}=A"}),
        ("a={% if x == 1 %}1&2{% endif %}&b", {"a": "{% if x == 1 %}1", "2{% endif %}": None, "b": None}),
        ("a={% if x == '&' %}1{% endif %}", {"a": "{% if x == '&' %}1{% endif %}"}),
        ("a={# 1 & 2 #}3", {"a": "{# 1 & 2 #}3"}),
        ("a=1&a={{ ds }}&{{ ds }}=1", {"a": ["1", "{{ ds }}"], "{{ ds }}": "1"}),
        ("a={{ ds&b=1", {"a": "{{ ds", "b": "1"}),
        ("a={x}&b={", {"a": "{x}", "b": "{"}),
        ("a=%7B%7B ds %7D%7D", {"a": "{{ ds }}"}),
        ("a={{ '数' }}", {"a": "{{ '数' }}"}),
    ],
)
def test_templates_in_a_query(query: str, parameters: dict[str, object]) -> None:
    """What stands in a template belongs to the template, and the query's rules hold around it."""
    assert parse_query(query) == parameters
    for place in ("", "https://h/", "file:///s/"):
        assert resolve_script(f"{place}d.py?{query}#{DIGEST}", "/dags/p.json").parameters == parameters


def test_no_server_sees_a_template() -> None:
    """An address is fetched with its query once the templates are rendered; until then, without."""
    written = f"https://h/d.py?day={{{{ ds }}}}&token=1#{DIGEST}"
    assert resolve_script(written, "/p.json").reference == f"https://h/d.py#{DIGEST}"
    rendered = with_query(written, {**resolve_script(written, "/p.json").parameters, "day": "2026-01-01"})
    assert resolve_script(rendered, "/p.json").reference == f"https://h/d.py?day=2026-01-01&token=1#{DIGEST}"
    unclosed = resolve_script("https://h/d.py?day={{ ds", "/p.json")
    assert unclosed.reference == "https://h/d.py?day=%7B%7B%20ds"


@pytest.mark.parametrize(
    "reference",
    [
        *(
            "data-{{ ds }}.py",
            "{{ folder }}/d.py?x=1",
            "https://{{ host }}/d.py",
            "https://h/{% if a %}b{% endif %}.py",
        ),
        *("{{ script }}", "d{# a #}.py", "d.py#{{ digest }}", f"d.py?x=1#{{{{ a }}}}{DIGEST}", "{{ '?' }}/d.py"),
    ],
)
def test_templates_belong_to_the_query(reference: str) -> None:
    """Which file runs is known before a run: a template elsewhere than in the query is refused."""
    for origin in ("/p.json", "https://h/p.json"):
        with pytest.raises(ValueError, match=r"templates in the query only, found \{"):
            resolve_script(reference, origin)


@pytest.mark.parametrize(
    ("reference", "parameters", "expected"),
    [
        ("d.py", {}, "d.py"),
        ("d.py?a=1", {}, "d.py"),
        ("d.py?a=1", {"b": "2"}, "d.py?b=2"),
        (
            "./a b/数 %41.py?x",
            {"size": ["32", "32"], "flag": None, "empty": ""},
            "./a b/数 %41.py?size=32&size=32&flag&empty=",
        ),
        (
            f" https://h:8/s@1/d.py?x=1#{DIGEST} ",
            {"u": "http://h/z?k=v&n"},
            f"https://h:8/s@1/d.py?u=http://h/z?k=v%26n#{DIGEST}",
        ),
        (f"d.py#{DIGEST}", {"a": "1"}, f"d.py?a=1#{DIGEST}"),
        ("d.py?x={{ '?#' }}", {"day": "{{ ds + '&' }}.zip"}, "d.py?day={{ ds + '&' }}.zip"),
        ("d.py", {"a": "1 + 2 & 3 % # ="}, "d.py?a=1%20%2B%202%20%26%203%20%25%20%23%20="),
        ("d.py", {"?a=b": "{ {{ x }}{{"}, "d.py?%3Fa%3Db=%7B%20{{ x }}%7B%7B"),
    ],
)
def test_with_query(reference: str, parameters: dict[str, Parameter], expected: str) -> None:
    """A reference gets another query, readable and escaped, and keeps path and digest as they were written."""
    assert with_query(reference, parameters) == expected
    assert resolve_script(expected, "/dags/p.json").parameters == dict(sorted(parameters.items()))


VALUES = (
    *(
        "",
        "a",
        "a b",
        "a+b",
        "a&b=c",
        "100%",
        "%41",
        "%zz",
        "#",
        "?",
        "??",
        "=",
        "数据",
        "\U0001f600",
        "\n\t\x01",
        "{",
        "}}",
    ),
    *(
        "{{ ds }}",
        "{{ a\n}}",
        "{{ '&' }}{% if x %}",
        "{{{ x }}",
        "{{ {'a': 1} }}",
        "{{ ds",
        "'\"{{ '}}' }}\"",
        "{#&#}#",
    ),
    *("{{ ds }}%41{{ ts }}", "{ {{ ds }}", "{{'", "}}{{ ds }}", "%7B%7B ds }}", "a" * 5000),
)


@pytest.mark.parametrize("reference", ["d.py", "./a b.py?old=1", f"https://h/d.py?x#{DIGEST}", "d.py?{{ '#' }}"])
def test_query_round_trip(reference: str) -> None:
    """Whatever parameters hold, taking the written query apart gives them again."""
    for key in VALUES:
        for value in VALUES:
            parameters: dict[str, Parameter] = {key: value, f"{key}x": [value, None, "", value], f"{key}y": None}
            written = with_query(reference, parameters)
            query = written.partition("?")[2].removesuffix(f"#{DIGEST}")
            assert parse_query(query) == dict(sorted(parameters.items()))
            assert with_query(written, parameters) == written


def test_half_a_character_is_no_parameter() -> None:
    """What no URI can carry is refused with the parameter's name."""
    with pytest.raises(ValueError, match='the parameter "a", found half of one'):
        with_query("d.py", {"a": "\ud800"})


@pytest.mark.parametrize("query", ["{{" * 100_000, "a={{}}&" * 100_000, "{" * 400_000, "a={{ '" * 100_000])
def test_hostile_queries(query: str) -> None:
    """However many braces a query has, it is read in one go."""
    assert resolve_script(f"d.py?{query}", "/p.json").parameters
