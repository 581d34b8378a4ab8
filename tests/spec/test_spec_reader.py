"""Text to JSON value: where the text is broken, and what is likely wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipcook_provider.errors import SpecError
from pipcook_provider.spec.places import Places, json_path, line_column
from pipcook_provider.spec.reader import read, read_file


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("", 1, 1, ["found nothing"]),
        (" \n\t", 1, 1, ["found nothing"]),
        ("<!DOCTYPE html>", 1, 1, ["HTML"]),
        ('{"a": 1,}', 1, 8, ["comma", "last entry"]),
        ('{"a": [1,\n  2,\n]}', 2, 4, ["comma", "last entry"]),
        ("{'a': 1}", 1, 2, ["single quote"]),
        ("{\"a\": 'b'}", 1, 7, ["single quote"]),
        ('{“a”: "b"}', 1, 2, ["typographic quote"]),
        ('{"a"： "b"}', 1, 5, ["full-width"]),
        ('{\n  // note\n  "a": 1}', 2, 3, ["comment"]),
        ('{"a": 1 /* note */}', 1, 9, ["comment"]),
        ('{"a": 1} # note', 1, 10, ["comment"]),
        ('{"a": True}', 1, 7, ["Python", "true"]),
        ('{"a": None}', 1, 7, ["None", "null"]),
        ('{"a": undefined}', 1, 7, ["undefined"]),
        ('{"a": NaN}', 1, 7, ["NaN"]),
        ('{"NaN": -Infinity}', 1, 9, ["-Infinity"]),
        ('{"a": 1e999}', 1, 7, ["1e999"]),
        ('{"a": ' + "9" * 5000 + "}", 1, 7, ["999..."]),
        ('{a: "b"}', 1, 2, ["bare word a", "double quotes"]),
        ('{"a": b-c}', 1, 7, ["bare word b-c"]),
        ('{"a" = 1}', 1, 6, ['found "="']),
        ('{"a" 1}', 1, 6, ["colon"]),
        ('{"a": 1\n "b": 2}', 2, 2, ["comma", "missing"]),
        ('{"a": 1}}', 1, 9, ["document ends before"]),
        ('{"a": 1} {"b": 2}', 1, 10, ["document ends before"]),
        ('{"a": }', 1, 7, ["expected a value"]),
        ("{1: 2}", 1, 2, ["key in double quotes"]),
        ('{"a": "C:\\dags"}', 1, 10, ["escape", r"\d", '"/" in paths']),
        ('{"a": "\\u12x4"}', 1, 8, ["escape"]),
        ('{"a": "b\nc"}', 1, 9, ["line break", r"\n"]),
        ('{"a": "b', 1, 7, ["never closed"]),
        ('{\n "a": [1, {"b": 2}', 2, 19, ['"["', "line 2, column 7", "cut off"]),
        ('{"a": 1\n\n', 1, 8, ['"{"', "line 1, column 1"]),
        ("[" * 100_000, 1, 1, ["nested too deeply"]),
        (f"{'[' * 101}1{']' * 101}", 1, 1, ["nested too deeply"]),
    ],
)
def test_broken_text(text: str, line: int, column: int, words: list[str]) -> None:
    """Broken JSON is reported at its place, with what is likely wrong."""
    with pytest.raises(SpecError) as caught:
        read(text, "p.json")
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (line, column)
    assert [word for word in words if word not in problem.message] == []


def test_deepest_text() -> None:
    """A hundred lists and objects may stand in each other, and any number beside each other."""
    deepest = f"{'[' * 100}1{']' * 100}"
    assert json.dumps(read(deepest, "p.json")) == deepest
    assert len(read(json.dumps([{}] * 1_000), "p.json")) == 1_000


def test_byte_order_mark() -> None:
    """A byte order mark is ignored, and does not shift columns."""
    assert read('\ufeff{"a": 1}', "p.json") == {"a": 1}
    with pytest.raises(SpecError) as caught:
        read('\ufeff{"a": x}', "p.json")
    assert caught.value.problems[0].column == 7


@pytest.mark.parametrize(
    ("data", "line", "column", "words"),
    [
        (b'{\n "a": "\xc4\xe3"}', 2, 8, ["0xc4", "Save the file as UTF-8"]),
        ('{"你": "'.encode() + b'\xff"}', 1, 8, ["0xff"]),
        ('{"a": 1}'.encode("utf-16"), 1, 1, ["UTF-16"]),
    ],
)
def test_other_encodings(tmp_path: Path, data: bytes, line: int, column: int, words: list[str]) -> None:
    """A file that is not UTF-8 is refused at the character where that shows."""
    path = tmp_path / "p.json"
    path.write_bytes(data)
    with pytest.raises(SpecError) as caught:
        read_file(path)
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (line, column)
    assert [word for word in words if word not in problem.message] == []


def test_unreadable_file(tmp_path: Path) -> None:
    """A file that is missing or a folder is a SpecError that names it."""
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(SpecError, match="cannot be read") as caught:
            read_file(path)
        assert caught.value.origin == str(path)


def test_places_of_awkward_texts() -> None:
    """Escapes, brackets in strings, unicode, CRLF and empty containers do not confuse the places."""
    text = '{\r\n "a\\"}]\\u00e9/~": [ {}, [],\r\n\t"{[,:", -1.5e3 ],\n "你好": {"": null}, "e": {} }'
    places = Places.of(text).by_path

    def found(*path: str | int) -> tuple[int, int]:
        return line_column(text, places[path].value)

    assert found() == (1, 1)
    assert line_column(text, places[('a"}]é/~',)].key) == (2, 2)
    assert found('a"}]é/~', 0) == (2, 21)
    assert found('a"}]é/~', 1) == (2, 25)
    assert found('a"}]é/~', 2) == (3, 2)
    assert found('a"}]é/~', 3) == (3, 10)
    assert found("你好", "") == (4, 13)
    assert found("e") == (4, 25)
    assert len(places) == 9


def test_places_of_repeated_keys() -> None:
    """Of a repeated key the last value counts, inner values included; the repetition itself is told once."""
    text = '{"a": {"b": 1, "c": 2}, "a": {"b": 3}}'
    places = Places.of(text)
    assert set(places.by_path) == {(), ("a",), ("a", "b")}
    assert places.by_path["a", "b"].value == text.index("3")
    assert places.repeated == ((("a",), 1, text.rindex('"a"')),)


def test_places_of_many_repeated_keys() -> None:
    """Keys that stand very often are told in a time that grows with their number only; what lies in the last one counts."""
    count = 20_000
    others = ", ".join(f'"{number}": 1' for number in range(count))
    repeated = ", ".join(['"a": {"b": 1}'] * count)
    places = Places.of(f'{{{others}, {repeated}, "a": {{"c": 1}}}}')
    assert len(places.repeated) == count
    assert len(places.by_path) == 1 + count + 2
    assert ("a", "c") in places.by_path


def test_json_path() -> None:
    """A path is written as JSONPath."""
    assert json_path(()) == "$"
    assert json_path(("options", "train")) == "$.options.train"
    assert json_path(("dataflow", 0, "a b", "1")) == "$.dataflow[0]['a b']['1']"


def test_nul_is_refused() -> None:
    """A text that PostgreSQL cannot hold is told with its place; a backslash before the same letters is none."""
    assert read(r'["a\\u0000", "\\\\u0000"]', "p.json") == [r"a\u0000", r"\\u0000"]
    with pytest.raises(SpecError, match=r"^p\.json:2:6: .*NUL"):
        read('{"a":\n "a\\\\\\u0000b"}', "p.json")
