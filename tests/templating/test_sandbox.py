"""What hostile templates can do: nothing."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from pipcook_provider.errors import TemplateError
from pipcook_provider.templating import ConnectionFields, Namespace, Templates
from pipcook_provider.templating.day import values_of_day

PARAMS = {"x": "ab", "n": 3, "big": "a" * 8000, "list": ["a" * 8000] * 50, "nested": {"a": [1]}}
VALUES = values_of_day(datetime(2026, 1, 2, tzinfo=UTC), "digits", PARAMS)


def rendered(text: str, *, secrets: bool = True) -> str:
    connection = ConnectionFields(host="h", password="sesame", extra_dejson={"a": "b"})
    return Templates(VALUES.get, lambda _: connection).render(text, "The parameter x", secrets=secrets)


ESCAPES = [
    # From a value to its class, and from there to everything.
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ds.__class__ }}",
    "{{ ds['__class__'] }}",
    "{{ ds['__cl' ~ 'ass__'] }}",
    "{{ [].__class__ }}",
    "{{ ().__class__.__bases__ }}",
    "{{ {}.__class__ }}",
    "{{ none.__class__ }}",
    "{{ true.__class__ }}",
    "{{ 1.__class__ }}",
    "{{ (1).real }}",
    "{{ params.__class__.__init__.__globals__ }}",
    "{{ params.get.__self__ }}",
    "{{ ds.upper.__self__ }}",
    "{{ logical_date.__class__ }}",
    "{{ logical_date.__reduce__() }}",
    "{{ logical_date.tzinfo }}",
    "{{ logical_date.timezone.__init__.__globals__ }}",
    "{{ logical_date.now() }}",
    "{{ logical_date._formatter }}",
    "{{ (data_interval_end - data_interval_start).__class__ }}",
    "{{ dag_run.__class__ }}",
    "{{ dag_run.members }}",
    "{{ dag_run._sa_instance_state }}",
    # Airflow's own macros are modules, which import others.
    "{{ macros.uuid.os.system('id') }}",
    "{{ macros.json.codecs.open('/etc/passwd').read() }}",
    "{{ macros.time.sys.modules }}",
    "{{ macros.dateutil.parser }}",
    "{{ macros.yaml.load('!!python/object/apply:os.system [id]') }}",
    "{{ macros.random() }}",
    "{{ macros.__class__ }}",
    "{{ macros.members }}",
    "{{ macros.ds_add.__globals__ }}",
    "{{ macros.ds_add.__code__ }}",
    "{{ macros.datetime.__subclasses__() }}",
    "{{ macros.datetime.mro() }}",
    "{{ macros.datetime.now() }}",
    "{{ macros.timedelta.__base__ }}",
    # Names of Airflow's and of Jinja's that lead on.
    "{{ ti.task.dag.fileloc }}",
    "{{ task_instance.xcom_pull() }}",
    "{{ task }}",
    "{{ dag.folder }}",
    "{{ var.value.secret }}",
    "{{ conf.get('core', 'fernet_key') }}",
    "{{ self }}",
    "{{ self.__init__.__globals__.__builtins__ }}",
    "{{ self._TemplateReference__context.cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ range(3) }}",
    "{{ dict(a=1) }}",
    "{{ super() }}",
    "{{ caller() }}",
    "{{ loop }}",
    "{{ varargs }}",
    "{{ config }}",
    "{{ request.application.__globals__ }}",
    "{{ __builtins__ }}",
    "{{ environment }}",
    # Attributes by filters and by format strings, those of CVE-2019-10906, CVE-2024-56326 and CVE-2025-27516 among them.
    "{{ ds | attr('__class__') }}",
    "{{ ds | map(attribute='__class__') | list }}",
    "{{ params.list | map('upper') | list }}",
    "{{ params.list | select('callable') }}",
    "{{ params.list | groupby('__class__') }}",
    "{{ params.list | sort(attribute='__class__') }}",
    "{{ params.list | sum(attribute='__class__') }}",
    "{{ params.list | join(attribute='__class__') }}",
    "{{ params.list | first }}",
    "{{ '{0.__class__}'.format(ds) }}",
    "{{ '{a.__class__}'.format_map({'a': ds}) }}",
    "{{ '{a.__class__}'.format_map(params) }}",
    "{{ '{0.__class__}' | format(ds) }}",
    "{{ '%s' | format(ds) }}",
    "{{ ('{0.__class__}' | attr('format'))(ds) }}",
    "{{ '{0.__class__}'['format'](ds) }}",
    "{{ ds | pprint }}",
    "{{ params | xmlattr }}",
    "{{ ds | safe }}",
    "{{ params | items }}",
    "{{ ds is filter }}",
    "{{ ds is callable }}",
    "{{ ds is sameas ds }}",
    # Changes of values.
    "{{ params.update({'x': 1}) }}",
    "{{ params.pop('x') }}",
    "{{ params.list.append(1) }}",
    "{{ params.clear() }}",
    # Statements.
    "{% for a in range(3) %}{{ a }}{% endfor %}",
    "{% set a = 1 %}",
    "{% set a %}b{% endset %}",
    "{% if 1 %}a{% endif %}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% from 'os' import system %}",
    "{% extends '/etc/passwd' %}",
    "{% macro a() %}{% endmacro %}",
    "{% call(a) params.get('x') %}{% endcall %}",
    "{% filter upper %}a{% endfilter %}",
    "{% block a %}{% endblock %}",
    "{% with a = 1 %}{% endwith %}",
    "{% autoescape true %}{% endautoescape %}",
    "{% do params.clear() %}",
    "{% print ds %}{% debug %}",
    # Connections, other than one field of one that stands there by its id.
    "{{ conn }}",
    "{{ conn | string }}",
    "{{ conn | tojson }}",
    "{{ conn ~ '' }}",
    "{{ conn.db }}",
    "{{ conn.db ~ '' }}",
    "{{ conn.db | tojson }}",
    "{{ conn[params.x].host }}",
    "{{ conn[ds ~ ''].host }}",
    "{{ conn.get('db').host }}",
    "{{ conn.db.get_uri() }}",
    "{{ conn.db.get('password') }}",
    "{{ conn.db['pass' ~ 'word'] }}",
    "{{ conn.db.__class__ }}",
    "{{ (conn or 1).db.host }}",
    "{{ (conn.db if 1 else 2).password }}",
    "{{ conn['db':].host }}",
    # What cannot be written without telling of the inside.
    "{{ macros }}",
    "{{ macros.ds_add }}",
    "{{ macros.datetime }}",
    "{{ ds.upper }}",
    "{{ dag_run }}",
]


@pytest.mark.parametrize("text", ESCAPES)
def test_way_out_is_refused(text: str) -> None:
    """Every known way out of Jinja's sandbox, and of Airflow's templates, ends with an error."""
    with pytest.raises(TemplateError) as raised:
        rendered(text)
    told = str(raised.value).partition("rendered: ")[2]
    assert "<" not in told
    assert "sesame" not in told


BOMBS = [
    "{{ 'x' * 10000000000 }}",
    "{{ 10 ** 10 ** 10 }}",
    "{{ 9 ** 9 }}",
    "{{ params.list * 1000000000 }}",
    "{{ params.list + params.list }}",
    "{{ 'x'.ljust(10000000000) }}",
    "{{ 'x'.center(10000000000) }}",
    "{{ 'x'.zfill(10000000000) }}",
    "{{ 'x'.expandtabs(10000000000) }}",
    "{{ 'x' | center(10000000000) }}",
    "{{ 'x' | indent(10000000000) }}",
    "{{ '%10000000000d' % 1 }}",
    "{{ '{:>10000000000}'.format(1) }}",
    "{{ range(1000000000) | list }}",
    "{{ lipsum(n=1000000000) }}",
    "{{ 1.5 | round(10000000000, 'ceil') }}",
    "{{ params.big.replace('a', 'aaaaaaaa').replace('a', 'aaaaaaaa').replace('a', 'aaaaaaaa') }}",
    "{{ params.big | replace('a', params.big) }}",
    "{{ (params.big ~ params.big) | upper }}",
    "{{ params.list | join(params.big) }}",
    "{{ params.big }}" * 10,
    "{{ 9999999999 * 9999999999 }}",
    "{{ '" + "f" * 5000 + "' | int(0, 16) }}",
    "{{ " + "9" * 30000 + " }}",
    "{{ '1e400' | float | int }}",
    "{{ logical_date.add(months=1000000000000) }}",
    "{{ macros.timedelta(days=999999999) + macros.timedelta(days=999999999) }}",
    "{{ logical_date.strftime('" + "%c" * 3000 + "') }}",
    "{{ logical_date.format('" + "L" * 8000 + "') }}",
    "{{ macros.datetime.strptime('1', '%Y%Y') }}",
    "{{ logical_date.in_timezone('../../../etc/passwd') }}",
    "{{ logical_date.in_timezone('" + "a" * 5000 + "') }}",
    "{{ ds[::0] }}",
    "{{ " + "(" * 15000 + "1" + ")" * 15000 + " }}",
    "{{ " + "-" * 30000 + "1 }}",
    "{{ " + "1+" * 15000 + "1 }}",
    "{{ " + "not " * 7000 + "1 }}",
    "{{ ds" + " | upper" * 3000 + " }}",
    "{{ ds" + ".upper()" * 3000 + " }}",
    "{{ " + "params.big ~ " * 2000 + "'' }}",
    "{{" * 16000,
    "{#" * 16000 + "{{ ds }}",
    "{{ ds }}" + "x" * 40000,
]


@pytest.mark.parametrize("text", BOMBS, ids=[text[:40] for text in BOMBS])
def test_bomb_is_refused(text: str) -> None:
    """What would grow, or nest, without end costs neither time nor memory."""
    tracemalloc.start()
    try:
        with pytest.raises(TemplateError):
            rendered(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 * 2**20


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logical_date", VALUES["logical_date"]),
        ("logical_date.date()", date(2026, 1, 2)),
        ("(logical_date - logical_date)", timedelta()),
        ("macros.datetime(2026, 1, 1)", datetime(2026, 1, 1, tzinfo=UTC)),
        ("macros.datetime", datetime),
        ("macros.timedelta", timedelta),
        ("macros.ds_add", rendered),
        ("ds", ""),
        ("ds.upper", "".upper),
        ("params", {}),
        ("params.list", []),
        ("params.n", 0),
        ("dag_run", Namespace({})),
        ("dag_run.conf", {}),
    ],
)
def test_attributes_lead_nowhere(name: str, value: Any) -> None:
    """Of all that Python offers of a value, nothing private is had, and what is written is a plain text."""
    names = sorted({*dir(value), *dir(type(value)), "_x", "__x__"})
    for attribute in names:
        try:
            text = rendered(f"{{{{ {name}.{attribute} }}}}")
        except TemplateError:
            continue
        assert not attribute.startswith("_")
        assert "<" not in text


def test_values_stay_as_they_are() -> None:
    """Nothing that templates do changes what the next one gets."""
    before = repr(VALUES)
    for text in [*ESCAPES, "{{ params.nested.a }}", "{{ logical_date.add(days=1) }}"]:
        try:
            rendered(text)
        except TemplateError:
            continue
    assert repr(VALUES) == before
