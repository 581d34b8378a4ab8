"""What templates become."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from pipcook_provider.errors import TemplateError
from pipcook_provider.templating import NAMES, ConnectionFields, Templates, is_template
from pipcook_provider.templating.day import values_of_day

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DATABASE = ConnectionFields(
    host="db.example.com", port=5432, login="me", password="sesame", extra='{"key": "k3y"}', extra_dejson={"key": "k3y"}
)


def templates(**more: Any) -> Templates:
    """Return what renders templates of a run of MOMENT, with one connection."""
    values = {**values_of_day(MOMENT, "digits", {"epochs": 5, "optimizer.rate": 0.5, "tags": ["a", "b"]}), **more}
    return Templates(values.get, {"db": DATABASE, "my-db": ConnectionFields(host="here")}.__getitem__)


def rendered(text: str, *, secrets: bool = False, **more: Any) -> str:
    return templates(**more).render(text, "The parameter x", secrets=secrets)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ ds }}", "2026-01-02"),
        ("{{ ds_nodash }}", "20260102"),
        ("{{ ts }}", "2026-01-02T03:04:05+00:00"),
        ("{{ ts_nodash }}", "20260102T030405"),
        ("{{ ts_nodash_with_tz }}", "20260102T030405+0000"),
        ("{{ logical_date }}", "2026-01-02 03:04:05+00:00"),
        ("{{ data_interval_start | ds }}/{{ data_interval_end | ds_nodash }}", "2026-01-02/20260103"),
        ("{{ data_interval_end | ts }}", "2026-01-03T03:04:05+00:00"),
        ("{{ data_interval_end | ts_nodash }}", "20260103T030405"),
        ("{{ data_interval_end | ts_nodash_with_tz }}", "20260103T030405+0000"),
        ("{{ (data_interval_end - data_interval_start).days }}", "1"),
        ("{{ run_id }}", "manual__2026-01-02T03:04:05+00:00"),
        ("{{ dag_run.dag_id }}, {{ dag_run.run_type }}", "digits, manual"),
        ("{{ dag_run.run_after | ds }}", "2026-01-02"),
        ("{{ dag_run.conf.get('day', ds) }}", "2026-01-02"),
        ("{{ macros.ds_add(ds, -7) }}", "2025-12-26"),
        ("{{ macros.ds_format(ds, '%Y-%m-%d', '%d.%m.%y') }}", "02.01.26"),
        ("{{ (logical_date - macros.timedelta(days=1)) | ds }}", "2026-01-01"),
        ("{{ macros.datetime.strptime(ds, '%Y-%m-%d').year }}", "2026"),
        ("{{ macros.datetime(2026, 5, 4).strftime('%d/%m') }}", "04/05"),
        ("{{ logical_date.strftime('%Y/%m/%d') }}", "2026/01/02"),
        ("{{ logical_date.subtract(months=1).start_of('month') | ds }}", "2025-12-01"),
        ("{{ logical_date.in_timezone('Asia/Shanghai').format('YYYY-MM-DD HH') }}", "2026-01-02 11"),
        ("{{ ds.replace('-', '/') }}", "2026/01/02"),
        ("{{ ds[:4] }}-{{ ds | replace('-', '') }}", "2026-20260102"),
        ("{{ ds.split('-')[1] | int + 1 }}", "2"),
        ("{{ params.epochs * 2 }}, {{ params['optimizer.rate'] }}", "10, 0.5"),
        ("{{ params.tags | join('+') }} {{ params.tags | tojson }}", 'a+b ["a", "b"]'),
        ("{{ 'big' if params.epochs > 3 else 'small' }}", "big"),
        ("{{ params.depth | default(3) }} {{ params.depth or 4 }}", "3 4"),
        ("{{ 'new' if prev_start_date_success is undefined else 'old' }}", "new"),
        ("{{ partition_key | default('whole') }}", "whole"),
        ("{{ conn.db.host }}:{{ conn.db.port }} as {{ conn['db']['login'] }}", "db.example.com:5432 as me"),
        ("{{ conn['my-db'].port or 80 }}", "80"),
        ("{# why #}{{ '{{' }} ds }}", "{{ ds }}"),
        ("{% raw %}{{ ds }}{% endraw %}", "{{ ds }}"),
        (
            "{{ 7 // 2 }} {{ 7 % 4 }} {{ 1.5 - 1 }} {{ -params.epochs }} {{ 'a' ~ 1 }} {{ 'a' + 'b' }}",
            "3 3 0.5 -5 a1 ab",
        ),
        ("第 {{ ds }} 天\n", "第 2026-01-02 天\n"),
    ],
)
def test_template_becomes(text: str, expected: str) -> None:
    """Names, filters, macros and arithmetic are those that Airflow's users know."""
    assert rendered(text) == expected


@pytest.mark.parametrize("text", ["", "a{b}", "100 %}", "{#1}", '{"a": {"b": 1}}'])
def test_other_texts_stay(text: str) -> None:
    """A text without a template's braces is taken as it is, and needs no value."""
    assert not is_template(text)
    assert Templates().render(text, "The parameter x") == text


def test_jinja_is_loaded_for_templates_only() -> None:
    """A document without templates costs nothing."""
    program = (
        "import sys\nfrom pipcook_provider.templating import Templates\n"
        "Templates().render('plain', '')\nassert not {'jinja2', 'pendulum', 'airflow'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_secrets_are_for_variables() -> None:
    """Passwords and extras reach environment variables, and the error elsewhere says so."""
    text = "{{ conn.db.login }}:{{ conn.db.password | urlencode }}:{{ conn.db.extra_dejson.key }}:{{ conn.db.extra }}"
    assert rendered(text, secrets=True) == 'me:sesame:k3y:{"key": "k3y"}'
    for name in ("password", "extra", "extra_dejson"):
        with pytest.raises(TemplateError, match=rf"found '{name}' of a connection.+belong into options\.airflow\.env"):
            rendered(f"{{{{ conn.db.{name} }}}}")


def test_what_has_secrets_is_masked() -> None:
    """Logs are told to hide what a password became, and nothing else."""
    hidden: list[str] = []
    told = Templates({"ds": "2026-01-02"}.get, {"db": DATABASE}.__getitem__, hidden.append)
    for text in ("{{ conn.db.host }}", "{{ ds }}", "{{ conn.db.password.upper() }}@"):
        told.render(text, "x", secrets=True)
    assert hidden == ["SESAME@"]


def test_values_are_asked_for_when_named() -> None:
    """A value or connection that no template names is not looked up: Airflow would ask its server."""
    asked: list[str] = []

    def value(name: str) -> str:
        asked.append(name)
        return "v"

    assert Templates(value).render("{{ ds }}{{ ts | default('x') }}{{ macros.ds_add('2026-01-01', 1) }}", "x")
    assert sorted(asked) == ["ds", "ts"]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("macros", "conn")])
def test_value_that_the_run_does_not_have(name: str) -> None:
    """A known name without a value is an error that says why, unless the template says what stands in."""
    with pytest.raises(
        TemplateError, match=rf"^The parameter x is the template '{{{{ {name} }}}}', .*of '{name}', found none"
    ):
        Templates().render(f"{{{{ {name} }}}}", "The parameter x")
    assert Templates().render(f"{{{{ {name} | default('none') }}}}", "The parameter x") == "none"
    assert Templates().render(f"{{{{ {name} or 'none' }}}}", "The parameter x") == "none"


def test_run_without_a_date_has_a_remedy() -> None:
    """The error of a run without a logical date names what such a run has."""
    with pytest.raises(TemplateError, match=r"no logical date.*dag_run\.run_after \| ds.*default"):
        rendered("{{ macros.ds_add(ds, 1) }}", ds=None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ dss }}", r"expected one of the names .*run_id.*found 'dss'\. Did you mean 'ds'\?"),
        ("{{ ds | upcase }}", r"expected one of the filters .*upper.*found 'upcase'"),
        ("{{ ds is even }}", r"expected one of the tests .*found 'even'"),
        ("{{ ds", r"a mistake in line 1: unexpected end of template.*that are no template"),
        ("{{ params.rate }}", r"found 'rate'.*default\('\.\.\.'\)"),
        ("{{ params.tags[7] }}", "expected a place within the 2 of a list"),
        ("{{ dag_run }}", "expected a text, a number or a time to write, found Namespace"),
        ("{{ none }}", "found nothing"),
        ("{{ params.epochs + 'a' }}", r"found int \+ str.*~ joins"),
        ("{{ macros.ds_add('tomorrow', 1) }}", "ValueError: time data 'tomorrow'"),
        ("{{ conn.db.uri }}", "expected one of the fields conn_type, host.*found 'uri'"),
        ("{{ conn }}", r"expected conn\.ID\.FIELD"),
    ],
)
def test_mistakes_are_explained(text: str, expected: str) -> None:
    """An error says where the template stands, what it is, what was expected and what to do."""
    with pytest.raises(TemplateError, match=expected) as raised:
        rendered(text)
    assert str(raised.value).startswith("The parameter x is the template ")
    assert not raised.value.retryable


def test_errors_show_no_secret() -> None:
    """What goes wrong with a password is told without it."""
    for text in (
        "{{ macros.ds_add(conn.db.password, 1) }}",
        "{{ params[conn.db.password] }}",
        "{{ conn.db.password.sesame }}",
        "{{ conn.db.password * 2 }}",
        "{{ {'a': 1}[conn.db.password] }}",
    ):
        with pytest.raises(TemplateError) as raised:
            rendered(text.replace(".sesame", ".secret"), secrets=True)
        assert "sesame" not in str(raised.value)


def test_no_connections_outside_airflow() -> None:
    """Where there is no Airflow the error says what has connections."""
    with pytest.raises(TemplateError, match=r"without Airflow, found 'db'.*airflow pipcook train"):
        Templates().render("{{ conn.db.host }}", "The parameter x")


def test_long_templates_are_shown_in_part() -> None:
    """An error does not repeat pages."""
    with pytest.raises(TemplateError) as raised:
        rendered("{{ dss }}" + "x" * 9000)
    assert len(str(raised.value)) < 1000
