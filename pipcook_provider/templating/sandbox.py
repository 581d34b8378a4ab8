"""Jinja for texts that come from elsewhere: what is not listed here is refused.

Jinja's own sandbox is the second line. The first one is that a template is only expressions, without statements, loops, powers
and displays, that names, attributes, filters and tests are those listed here, and that no text or number may grow large:
so a template takes time in proportion to its length, and there is no way from its values to anything else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from difflib import get_close_matches
from functools import cache, partial
from typing import Any, Final

import jinja2
from jinja2 import filters, nodes, tests
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing

from pipcook_provider.errors import TemplateError
from pipcook_provider.templating import NAMES, ConnectionFields, Namespace

_LONGEST_TEMPLATE: Final = 2**15
_LONGEST_TEXT: Final = 2**13
_LONGEST_RESULT: Final = 2**16
_LARGEST_NUMBER: Final = 2**63

_SYNTAX: Final = frozenset(
    {
        *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const),
        *(nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Call, nodes.Keyword, nodes.Filter, nodes.Test),
        *(nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not),
        *(nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Neg, nodes.Pos, nodes.Concat),
    }
)

_SECRET_FIELDS: Final = frozenset({"password", "extra", "extra_dejson"})
_FIELDS: Final = tuple(field.name for field in fields(ConnectionFields))

_OF_DATES: Final = frozenset(
    {
        *("year", "quarter", "month", "day", "day_of_week", "day_of_year", "week_of_month", "week_of_year"),
        *("days_in_month", "weekday", "isoweekday", "isoformat", "strftime", "format", "to_date_string"),
        *("add", "subtract", "start_of", "end_of"),
    }
)
_OF_MOMENTS: Final = _OF_DATES | {
    *("hour", "minute", "second", "microsecond", "timestamp", "int_timestamp", "timezone_name", "date", "in_timezone"),
    *("in_tz", "to_datetime_string", "to_iso8601_string"),
}
_OF_DATETIME: Final = frozenset({"fromisoformat", "strptime"})
_OF_DURATIONS: Final = frozenset({"days", "seconds", "total_seconds"})
_OF_TEXTS: Final = frozenset(
    {
        *("capitalize", "endswith", "isdigit", "lower", "lstrip", "removeprefix", "removesuffix", "replace", "rstrip"),
        *("split", "startswith", "strip", "title", "upper"),
    }
)

#: What templates may have of a value, by its type; the first type that it is counts.
_ATTRIBUTES: Final[tuple[tuple[type, frozenset[str]], ...]] = (
    (str, _OF_TEXTS),
    (datetime, _OF_MOMENTS),
    (date, _OF_DATES),
    (timedelta, _OF_DURATIONS),
)

#: What functions and filters may be given, and may return.
_PLAIN: Final = (str, int, float, type(None), date, timedelta, Mapping, list, tuple, jinja2.Undefined)


@dataclass(frozen=True, slots=True)
class Template:
    """A template that may be rendered.

    :param names: what it names, beside ``conn`` and ``macros``.
    :param fields: the ids of the connections that it names, each with a field.
    """

    names: frozenset[str]
    fields: frozenset[tuple[str, str]]
    _compiled: jinja2.Template

    @classmethod
    def parse(cls, text: str, *, secrets: bool) -> Template:
        """Read a template.

        :param secrets: whether it may name passwords.
        :raises TemplateError: it is none, or not one that documents may have.
        """
        if len(text) > _LONGEST_TEMPLATE:
            raise TemplateError(f"expected at most {_LONGEST_TEMPLATE} characters, found {len(text)}. Shorten it.")
        try:
            tree = _environment().parse(text)
            names = frozenset(_checked_names(tree))
            named = frozenset(_connection_fields(tree))
            compiled = _environment().from_string(tree)
        except TemplateError:
            raise
        except jinja2.TemplateSyntaxError as exc:
            reason = (exc.message or "").rstrip(".")
            raise TemplateError(
                f"expected Jinja, such as {{{{ ds }}}}, found a mistake in line {exc.lineno}: {reason}. Correct it; two braces "
                "that are no template are written {{ '{{' }}."
            ) from None
        except Exception as exc:  # whatever hostile texts bring the parser and the compiler to
            raise TemplateError(
                f"expected Jinja, found what it gives up on ({type(exc).__name__}). Simplify it."
            ) from None
        if forbidden := sorted(field for _, field in named if field in _SECRET_FIELDS and not secrets):
            raise TemplateError(
                f"expected no secrets, found {forbidden[0]!r} of a connection: what it becomes is kept in the run's folder and "
                "shown in the log. Secrets belong into options.airflow.env, which scripts read as environment variables."
            )
        return cls(names - {"conn", "macros"}, named, compiled)

    @property
    def is_secret(self) -> bool:
        """Whether it names a password."""
        return any(field in _SECRET_FIELDS for _, field in self.fields)

    def render(self, values: Mapping[str, Any]) -> str:
        """Return what it becomes.

        :param values: those of ``names`` that there are, and ``conn``: fields by name by id.
        :raises TemplateError: it cannot be rendered.
        """
        try:
            rendered = self._compiled.render({**values, "macros": _MACROS})
        except TemplateError:
            raise
        except jinja2.UndefinedError as exc:
            raise TemplateError(exc.message or "") from None
        except Exception as exc:  # whatever the functions of values raise
            reason = type(exc).__name__ if self.is_secret else f"{type(exc).__name__}: {exc}"
            raise TemplateError(f"expected a value, found an error ({reason}). Correct the template.") from None
        if len(rendered) > _LONGEST_RESULT:
            raise TemplateError(f"expected at most {_LONGEST_RESULT} characters, found {len(rendered)}. Shorten it.")
        return rendered


def _checked_names(tree: nodes.Template) -> Iterator[str]:
    """Yield the names of a template whose every part may be there."""
    for node in tree.find_all(nodes.Node):
        if type(node) not in _SYNTAX:
            raise TemplateError(
                "expected only values, such as {{ ds }}, with filters, arithmetic and 'a if b else c', found what Jinja calls "
                f"{type(node).__name__}, which templates of documents may not have. Leave it out."
            )
        if isinstance(node, nodes.Name):
            _check("name", node.name, NAMES)
            yield node.name
        elif isinstance(node, nodes.Filter):
            _check("filter", node.name, _FILTERS)
        elif isinstance(node, nodes.Test):
            _check("test", node.name, _TESTS)


def _check(kind: str, name: str, known: Mapping[str, Any]) -> None:
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise TemplateError(f"expected one of the {kind}s {', '.join(known)}, found {name!r}.{hint} Correct it.")


def _connection_fields(tree: nodes.Template) -> Iterator[tuple[str, str]]:
    """Yield which fields of which connections a template names; both must stand there as they are."""
    total = sum(name.name == "conn" for name in tree.find_all(nodes.Name))
    found = 0
    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
        match _key(node), node.node:  # type: ignore[attr-defined]
            case str(name), nodes.Getattr() | nodes.Getitem() as owner:
                conn_id = _key(owner)
                if isinstance(owner.node, nodes.Name) and owner.node.name == "conn" and isinstance(conn_id, str):
                    _check("field", name, dict.fromkeys(_FIELDS))
                    found += 1
                    yield conn_id, name
    if found != total:
        raise TemplateError(
            "expected conn.ID.FIELD or conn['ID'].FIELD, with the id of a connection and one of the fields "
            f"{', '.join(_FIELDS)}, found another use of conn. Correct it."
        )


def _key(node: nodes.Node) -> Any:
    """Return what stands behind the dot or in the brackets; None where it is only known later."""
    if isinstance(node, nodes.Getattr):
        return node.attr
    return node.arg.value if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) else None


class _Missing(jinja2.StrictUndefined):
    """What is not there: it can be asked whether it is, and something can stand in for it; all else is an error."""

    __slots__ = ()

    def __init__(
        self,
        hint: str | None = None,
        obj: Any = missing,
        name: str | None = None,
        exc: type[jinja2.TemplateRuntimeError] = jinja2.UndefinedError,
    ) -> None:
        if hint is None and obj is missing and name is not None:
            hint = f"expected a value of {name!r}, found none: {NAMES[name]}"
        super().__init__(hint, obj, name, exc)

    def __bool__(self) -> bool:  # type: ignore[override]
        return False


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return what a template may have of a value by a name."""
        if isinstance(obj, jinja2.Undefined):
            return obj[attribute]  # raises, with what is missing
        found = _part(obj, attribute)
        is_entry = isinstance(obj, Namespace | Mapping)
        if found is not missing and (is_entry or self.is_safe_attribute(obj, attribute, found)):
            return found
        return self.undefined(
            f"expected a part of {_kind(obj)} that templates may have, found {attribute!r}. Correct the name; where it may be "
            "absent, say what stands in: | default('...').",
            obj=obj,
            name=attribute,
        )

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return an entry: of a list or text by its place, of all else by its name."""
        if isinstance(obj, str | list | tuple) and isinstance(argument, int):
            try:
                return obj[argument]
            except IndexError:
                return self.undefined(
                    f"expected a place within the {len(obj)} of a {_kind(obj)}, found none. Correct it."
                )
        found = self.getattr(obj, str(argument))
        if not isinstance(found, jinja2.Undefined):
            return found
        # The name is not shown, as it may have been made of a password.
        return self.undefined(
            f"expected an entry of {_kind(obj)} that templates may have, found none of that name. Correct the name; where it "
            "may be absent, say what stands in: | default('...')."
        )

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as Jinja has it
        """Call a function that a template could get at."""
        return _call(partial(super().call, __context, __obj), *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Reckon with numbers and with times, and join texts."""
        match left, right:
            case (jinja2.Undefined(), _) | (_, jinja2.Undefined()):
                pass  # which raises, with what is missing
            case (int() | float(), int() | float()) if operator != "**":
                pass
            case (str(), str()) if operator == "+":
                pass
            case (date() | timedelta(), date() | timedelta()) if operator in "+-":
                pass
            case _:
                raise TemplateError(
                    f"expected two numbers, texts to join by +, or times to add or subtract, found {_kind(left)} {operator} "
                    f"{_kind(right)}. Correct it; ~ joins values of all kinds."
                )
        value = super().call_binop(context, operator, left, right)
        # Pendulum's intervals are sequences, of as many days as they have.
        return timedelta(seconds=value.total_seconds()) if isinstance(value, timedelta) else _small(value)


def _part(obj: Any, name: str) -> Any:
    """Return what a template may have of a value by a name; ``missing`` where that is nothing."""
    if isinstance(obj, Namespace):
        return obj.members.get(name, missing)
    if isinstance(obj, Mapping):
        return obj.get if name == "get" and name not in obj else obj.get(name, missing)
    if obj is datetime:
        names = _OF_DATETIME
    else:
        names = next((names for kind, names in _ATTRIBUTES if isinstance(obj, kind)), frozenset())
    return getattr(obj, name, missing) if name in names else missing


def _call(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a function with plain values of moderate size only, and to return such a value."""
    for value in (*args, *kwargs.values()):
        _small(value)
    return _small(function(*args, **kwargs))


def _small(value: Any) -> Any:
    if isinstance(value, jinja2.Undefined):
        str(value)  # raises, with what is missing
    if not isinstance(value, _PLAIN):
        raise TemplateError(f"expected a text, a number or a time, found {_kind(value)}. Correct the template.")
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        raise TemplateError(
            f"expected texts of at most {_LONGEST_TEXT} characters, found one of {len(value)}. Shorten it."
        )
    if isinstance(value, int) and abs(value) > _LARGEST_NUMBER:
        raise TemplateError("expected numbers below 2 to the power of 63, found a larger one. Correct the template.")
    return value


def _printable(value: Any) -> Any:
    if isinstance(value, Namespace) or not isinstance(value, _PLAIN) or value is None:
        raise TemplateError(
            f"expected a text, a number or a time to write, found {_kind(value)}. Name what you want of it, or say what stands "
            "in: | default('...', true)."
        )
    return _small(value)


def _kind(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__


def _ds_add(ds: str, days: int) -> str:
    return (datetime.strptime(ds, "%Y-%m-%d") + timedelta(days=days)).strftime("%Y-%m-%d")  # noqa: DTZ007 - a day


def _ds_format(ds: str, input_format: str, output_format: str) -> str:
    return datetime.strptime(ds, input_format).strftime(output_format)  # noqa: DTZ007


def _ds(value: date) -> str:
    return value.strftime("%Y-%m-%d")


def _ds_nodash(value: date) -> str:
    return value.strftime("%Y%m%d")


def _ts(value: date) -> str:
    return value.isoformat()


def _ts_nodash(value: date) -> str:
    return value.strftime("%Y%m%dT%H%M%S")


def _ts_nodash_with_tz(value: date) -> str:
    return value.isoformat().replace("-", "").replace(":", "")


def _replace(value: Any, old: str, new: str, count: int = -1) -> str:
    return str(value).replace(old, new, count)


def _join(values: Any, separator: str = "") -> str:
    if not isinstance(values, list | tuple):
        raise TemplateError(f"expected a list to join, found {_kind(values)}. Correct the template.")
    return separator.join(map(str, values))


def _tojson(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


_MACROS: Final = Namespace({"ds_add": _ds_add, "ds_format": _ds_format, "datetime": datetime, "timedelta": timedelta})

_OF_JINJA: Final[Mapping[str, Callable[..., Any]]] = filters.FILTERS
_FILTERS_OF_JINJA: Final = (
    *("abs", "capitalize", "float", "int", "length", "lower"),
    *("string", "title", "trim", "upper", "urlencode"),
)
_FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    **{name: _OF_JINJA[name] for name in ("d", "default")},  # which take what is missing
    **{name: partial(_call, _OF_JINJA[name]) for name in _FILTERS_OF_JINJA},
    "ds": partial(_call, _ds),
    "ds_nodash": partial(_call, _ds_nodash),
    "join": partial(_call, _join),
    "replace": partial(_call, _replace),
    "tojson": partial(_call, _tojson),
    "ts": partial(_call, _ts),
    "ts_nodash": partial(_call, _ts_nodash),
    "ts_nodash_with_tz": partial(_call, _ts_nodash_with_tz),
}

_TESTS_OF_JINJA: Final[Mapping[str, Any]] = tests.TESTS
_TESTS: Final[Mapping[str, Callable[..., Any]]] = {
    name: _TESTS_OF_JINJA[name]
    for name in ("boolean", "defined", "in", "integer", "mapping", "none", "number", "string", "undefined")
}


@cache
def _environment() -> _Environment:
    environment = _Environment(
        undefined=_Missing, finalize=_printable, keep_trailing_newline=True, optimized=False, cache_size=0
    )
    environment.globals.clear()
    environment.filters = dict(_FILTERS)
    environment.tests = dict(_TESTS)
    return environment
