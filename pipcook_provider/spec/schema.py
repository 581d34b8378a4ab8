"""The JSON Schemas of pipeline documents and of folder defaults, and predicates compiled from them.

``schema.json`` is the only place that says what a document may look like, and ``defaults.schema.json``, which refers to
it, what defaults may. Running it through jsonschema costs more
than building a whole DAG, so the schema is compiled once into closures that answer yes or no in microseconds;
jsonschema is asked only to find out what is wrong with a document that the predicate refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

Check = Callable[[Any], bool]
Schema = Mapping[str, Any]
Key = str | int

SCHEMA_PATH: Final = Path(__file__).with_name("schema.json")
DEFAULTS_SCHEMA_PATH: Final = Path(__file__).with_name("defaults.schema.json")
ANNOTATIONS: Final = frozenset({"$schema", "$comment", "$defs", "title", "description", "examples"})

_ALL: Final[Check] = lambda _: True  # noqa: E731
_NONE: Final[Check] = lambda _: False  # noqa: E731
_TYPES: Final[Mapping[str, Check]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: (
        (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())
    ),
}


@cache
def schema() -> Schema:
    """Return the parsed ``schema.json``."""
    loaded: Schema = json.loads(SCHEMA_PATH.read_bytes())
    return loaded


@cache
def predicate() -> Check:
    """Return the compiled schema: a function that tells whether a parsed document conforms."""
    return compile_schema(schema())


@cache
def defaults_schema() -> Schema:
    """Return the parsed ``defaults.schema.json``, self-contained: what it refers to in ``schema.json`` stands in it."""
    loaded: Schema = json.loads(DEFAULTS_SCHEMA_PATH.read_bytes())
    parts = {name: _dereferenced(part) for name, part in loaded["properties"].items()}
    return {**loaded, "properties": parts, "$defs": schema()["$defs"]}


@cache
def defaults_predicate() -> Check:
    """Return the compiled schema of folder defaults."""
    return compile_schema(defaults_schema())


def at(path: tuple[Key, ...], root: Schema | None = None) -> Schema:
    """Return the part of a schema for the value at ``path``, ``$ref`` resolved; empty where it says nothing.

    :param root: the whole schema; by default that of pipeline documents.
    """
    part = schema() if root is None else root
    for key in path:
        child = part.get("items") if isinstance(key, int) else part.get("properties", {}).get(key)
        child = part.get("additionalProperties") if child is None else child
        part = _dereferenced(child) if isinstance(child, dict) else {}
    return part


@cache
def known_keys(*path: Key) -> tuple[str, ...]:
    """Return the keys that the schema names for the object at ``path``."""
    return tuple(at(path).get("properties", {}))


def compile_schema(part: Schema | bool) -> Check:
    """Turn a schema into a function that tells whether a value conforms to it.

    :raises KeyError: the schema uses a keyword that is not supported here.
    """
    if isinstance(part, bool):
        return _ALL if part else _NONE
    part = _dereferenced(part)
    checks = [_COMPILERS[keyword](part) for keyword in part if keyword not in ANNOTATIONS]
    if not checks:
        return _ALL
    if len(checks) == 1:
        return checks[0]
    first, *rest = checks
    for check in rest:
        first = _both(first, check)
    return first


def _dereferenced(part: Schema) -> Schema:
    reference = part.get("$ref")
    if reference is None:
        return part
    siblings = {keyword: value for keyword, value in part.items() if keyword != "$ref"}
    target = schema()
    for key in reference.partition("#/")[2].split("/"):
        target = target[key]
    return {**target, **siblings}


def _both(first: Check, second: Check) -> Check:
    return lambda value: first(value) and second(value)


def _either(first: Check, second: Check) -> Check:
    return lambda value: first(value) or second(value)


def _type(part: Schema) -> Check:
    names = [part["type"]] if isinstance(part["type"], str) else part["type"]
    first, *others = (_TYPES[name] for name in names)
    for other in others:
        first = _either(first, other)
    return first


def _enum(part: Schema) -> Check:
    # True equals 1 in Python but not in JSON: the types are compared too.
    members = tuple(part["enum"])
    types = frozenset(map(type, members))
    return lambda value: type(value) in types and value in members


def _const(part: Schema) -> Check:
    return _enum({"enum": [part["const"]]})


def _required(part: Schema) -> Check:
    names = frozenset(part["required"])
    return lambda value: not isinstance(value, dict) or names <= value.keys()


def _members(part: Schema) -> Check:
    checks = {name: compile_schema(member) for name, member in part.get("properties", {}).items()}
    others = part.get("additionalProperties", True)
    other = None if others is True else compile_schema(others)

    def check(value: Any) -> bool:
        if not isinstance(value, dict):
            return True
        for name, member in value.items():
            known = checks.get(name, other)
            if known is not None and not known(member):
                return False
        return True

    return check


def _items(part: Schema) -> Check:
    reference = part["items"].get("$ref")
    if reference is None:
        item = compile_schema(part["items"])
        return lambda value: not isinstance(value, list) or all(map(item, value))
    return lambda value: not isinstance(value, list) or all(map(_definition(reference), value))


@cache
def _definition(reference: str) -> Check:
    """Compile a definition when it is first asked for: it may be a list of itself."""
    return compile_schema({"$ref": reference})


def _one_of(part: Schema) -> Check:
    checks = [compile_schema(choice) for choice in part["oneOf"]]
    return lambda value: sum(check(value) for check in checks) == 1


def _not(part: Schema) -> Check:
    check = compile_schema(part["not"])
    return lambda value: not check(value)


def _pattern(part: Schema) -> Check:
    search = re.compile(part["pattern"]).search
    return lambda value: not isinstance(value, str) or search(value) is not None


def _property_names(part: Schema) -> Check:
    fits = compile_schema(part["propertyNames"])
    return lambda value: not isinstance(value, dict) or all(map(fits, value))


def _length(keyword: str, kind: type[str | list[Any]], fits: Callable[[int, int], bool]) -> Callable[[Schema], Check]:
    def compiler(part: Schema) -> Check:
        limit: int = part[keyword]
        return lambda value: not isinstance(value, kind) or fits(len(value), limit)

    return compiler


def _bound(keyword: str, fits: Callable[[float, float], bool]) -> Callable[[Schema], Check]:
    def compiler(part: Schema) -> Check:
        limit: float = part[keyword]
        number = _TYPES["number"]
        return lambda value: not number(value) or fits(value, limit)

    return compiler


_COMPILERS: Final[Mapping[str, Callable[[Schema], Check]]] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "required": _required,
    "properties": _members,
    "additionalProperties": lambda part: _ALL if "properties" in part else _members(part),
    "items": _items,
    "oneOf": _one_of,
    "not": _not,
    "minItems": _length("minItems", list, lambda length, limit: length >= limit),
    "minLength": _length("minLength", str, lambda length, limit: length >= limit),
    "maxLength": _length("maxLength", str, lambda length, limit: length <= limit),
    "pattern": _pattern,
    "propertyNames": _property_names,
    "minimum": _bound("minimum", lambda value, limit: value >= limit),
    "maximum": _bound("maximum", lambda value, limit: value <= limit),
    "exclusiveMinimum": _bound("exclusiveMinimum", lambda value, limit: value > limit),
}
