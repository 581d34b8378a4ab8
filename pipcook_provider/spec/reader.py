"""Text to JSON value, with errors that say what is likely wrong and where."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, Final, NoReturn

from pipcook_provider.errors import Problem, SpecError
from pipcook_provider.masking import masked
from pipcook_provider.spec.places import line_column, tokens

_EXAMPLE: Final = '{"specVersion": "2.0", "datasource": ..., "model": ...}'
_LONGEST_INTEGER: Final = 20
#: PostgreSQL, where Airflow keeps DAGs, cannot hold it: one document would end the DAG processor.
#: Lists and objects in each other: Airflow's tasks can tell each other of some hundred, Python reads some thousand.
_DEEPEST: Final = 100
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*(\\u0000)")
_SURROGATE: Final = re.compile(r"(?P<pair>\\u[dD][89abAB]..\\u[dD][c-fC-F]..)|\\u[dD][89a-fA-F]..")

# What stands at the place of the error -> what is likely wrong. The first that matches wins.
_LIKELY: Final = tuple(
    (re.compile(pattern), message)
    for pattern, message in (
        (r"//|/\*|#", "found a comment, which JSON has no room for. Remove it."),
        ("'", "found a single quote. Put keys and strings in double quotes."),
        ("[“”‘’„«»＂]", "found a typographic quote. Put keys and strings in straight double quotes."),
        ("[，：；｛｝［］、]", "found full-width punctuation. Write it in ASCII."),
        ("True|False", "found a literal of Python. Write true and false in small letters."),
        ("None|undefined", "found {word}, which JSON does not know. Write null, or leave the key out."),
        (r"-?(NaN|Infinity)", "found {word}, which JSON does not know. Write a number or null."),
        ("=", 'found "=". Write ":" between a key and its value.'),
        (";", 'found ";". Write "," between two entries.'),
        (r"[A-Za-z_$][\w$-]*", "found the bare word {word}. Put keys and strings in double quotes."),
    )
)


class _NumberError(ValueError):
    """A number that JSON, or a float, cannot carry; its argument is the literal."""


def read_file(path: Path, what: str = "a pipeline document") -> str:
    """Return the text of a document, without its byte order mark.

    :param what: what it is, as errors name it.
    :raises SpecError: the file cannot be read, or is not UTF-8.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        _fail(str(path), "", 0, f"Expected {what}, but the file cannot be read: {exc.strerror}.", exc)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        before = "" if utf16 else data[: exc.start].decode("utf-8-sig")
        found = "UTF-16" if utf16 else f"the byte 0x{data[exc.start]:02x}, which is no UTF-8"
        _fail(str(path), before, len(before), f"Expected UTF-8, found {found}. Save the file as UTF-8.", exc)


def read(text: str, origin: str) -> Any:
    """Parse JSON strictly: no ``NaN``, no number that overflows.

    :param text: the document; a byte order mark is ignored.
    :param origin: path or URL of the document, for errors.
    :raises SpecError: the text is not JSON.
    """
    text = text.removeprefix("\ufeff")
    try:
        value = _DECODER.decode(text)
        if text.count("[") + text.count("{") > _DEEPEST and _is_deep(value):
            raise too_deep(origin)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
        if "\\u0000" in text and (found := _NUL.search(text)):
            message = (
                "Expected characters that Airflow's database can hold, found \\u0000, the character NUL. Remove it."
            )
            _fail(origin, text, found.start(1), message)
        return value
    except UnicodeEncodeError as exc:
        offset = next((found.start() for found in _SURROGATE.finditer(text) if not found["pair"]), 0)
        _fail(origin, text, offset, "Expected a character, found half of one. Write the character itself.", exc)
    except json.JSONDecodeError as exc:
        _fail(origin, text, *_explain(text, exc), exc)
    except _NumberError as exc:
        literal = exc.args[0]
        offset = next((token.start() for token in tokens(text) if token[0] == literal), 0)
        shown = literal if len(literal) <= 40 else f"{literal[:40]}..."
        _fail(
            origin,
            text,
            offset,
            f"Expected a number that 64 bits can hold, found {shown}. Write another one, or null.",
            exc,
        )
    except RecursionError as exc:
        raise too_deep(origin) from exc


def _is_deep(value: Any) -> bool:
    """Tell whether lists and objects stand in each other more than the allowed number of times."""
    level = [value]
    for _ in range(_DEEPEST + 1):
        found = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        level = [entry for entries in found for entry in entries]
    return bool(level)


def too_deep(origin: str) -> SpecError:
    """Return the error about a document that is nested too deeply to be worked on."""
    message = "Expected a pipeline document, found lists or objects nested too deeply to read. Write it flatter."
    return SpecError(masked(origin), (Problem.of_document(message),))


def _fail(origin: str, text: str, offset: int, message: str, cause: BaseException | None = None) -> NoReturn:
    raise SpecError(masked(origin), (Problem(masked(message), "$", *line_column(text, offset)),)) from cause


def _number(literal: str) -> float:
    value = float(literal)
    if not math.isfinite(value):
        raise _NumberError(literal)
    return value


def _integer(literal: str) -> int:
    # Neither Airflow's metadata nor a dataset can hold more than 64 bits.
    if len(literal) > _LONGEST_INTEGER or not -(2**63) <= (value := int(literal)) < 2**63:
        raise _NumberError(literal)
    return value


_DECODER: Final = json.JSONDecoder(parse_constant=_number, parse_float=_number, parse_int=_integer)


def _explain(text: str, error: json.JSONDecodeError) -> tuple[int, str]:
    """Return the offset of what is wrong and the whole message."""
    if not text.strip():
        return 0, f"Expected a pipeline document such as {_EXAMPLE}, found nothing. Was the file written completely?"
    if text.lstrip().startswith("<"):
        return error.pos, (
            "Expected JSON, found HTML or XML. Is the address right, or did a login or error page come instead?"
        )
    offset, reason = _in_string(text, error) or _between(text, error)
    return offset, f"Not JSON: {reason}"


def _in_string(text: str, error: json.JSONDecodeError) -> tuple[int, str] | None:
    if error.msg.startswith("Invalid \\"):
        offset = text.rfind("\\", 0, error.pos + 1)
        return offset, f'"{text[offset : offset + 2]}" is no escape. Write "\\\\" for a backslash, and "/" in paths.'
    if error.msg.startswith("Invalid control character"):
        shown = json.dumps(text[error.pos])
        return (
            error.pos,
            f"a string holds a line break or control character. Close its quote, or write {shown[1:-1]}.",
        )
    if error.msg.startswith("Unterminated string"):
        return error.pos, "the string that begins here is never closed. Add the closing quote; was the file cut off?"
    return None


def _between(text: str, error: json.JSONDecodeError) -> tuple[int, str]:
    offset = error.pos
    rest = text[offset:]
    before = text[:offset].rstrip()
    if not rest.strip():
        return len(before), _cut_off(before)
    # Python up to 3.12 points behind a trailing comma, later ones at it.
    comma = offset if rest[0] == "," else len(before) - 1
    if text[comma] == "," and text[comma + 1 :].lstrip()[:1] in {"}", "]"}:
        return comma, "a comma stands behind the last entry. Remove it."
    for pattern, message in _LIKELY[: 1 if error.msg == "Extra data" else None]:
        if match := pattern.match(rest):
            return offset, message.format(word=match[0])
    return offset, _grammar(error.msg, rest[0])


def _grammar(message: str, found: str) -> str:
    if message == "Extra data":
        return f"the document ends before this {found!r}. Remove what follows, or the bracket that closes it too early."
    if message.startswith("Expecting ',' delimiter"):
        return f'expected "," or a closing bracket, found {found!r}. Add the comma that is missing before it.'
    if message.startswith("Expecting ':' delimiter"):
        return f'expected ":" behind the key, found {found!r}. Add the colon.'
    if message.startswith("Expecting property name"):
        return f"expected a key in double quotes, found {found!r}."
    return f"expected a value, found {found!r}. Add the value."


def _cut_off(text: str) -> str:
    opened: list[re.Match[str]] = []
    for token in tokens(text):
        if token[0] in {"{", "["}:
            opened.append(token)
        elif token[0] in {"}", "]"} and opened:
            opened.pop()
    if not opened:
        return "the document ends too early. Was the file cut off?"
    line, column = line_column(text, opened[-1].start())
    return (
        f'the document ends before the "{opened[-1][0]}" of line {line}, column {column} is closed. '
        "Close it; was the file cut off?"
    )
