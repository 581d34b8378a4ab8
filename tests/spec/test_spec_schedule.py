"""Schedules: times, durations, assets, and what is wrong with them."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipcook_provider.errors import SpecError
from pipcook_provider.spec import AssetCondition, AssetSpec, Duration, PipelineSpec, Schedule, parse_pipeline
from pipcook_provider.spec.schedule import parse_duration

SMALL: dict[str, Any] = {"specVersion": "2.0", "datasource": "d.py", "model": "m.py"}
URL = "https://example.com/digits.zip"
A, B, C = (AssetSpec(name=name, uri=name) for name in "abc")


def parse(schedule: Any, **airflow: Any) -> PipelineSpec:
    options = {"airflow": {"schedule": schedule, **airflow}}
    return parse_pipeline(json.dumps({**SMALL, "options": options}, indent=1), "/dags/p.json")


def problems(schedule: Any, **airflow: Any) -> list[tuple[str, str]]:
    """Return path and message of all problems."""
    with pytest.raises(SpecError) as caught:
        parse(schedule, **airflow)
    return [(problem.path, problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize(
    "schedule",
    [
        *("*/5 0-6,12 1 jan MON-FRI", "0 0 29 2 *", "0 0 L * *", "0 0 * * 5#3", " 0 3 * * * ", "0 0 * * * 30"),
        *("0 0 * * * 0 *", "@once", "@quarterly", "@midnight", "@continuous"),
    ],
)
def test_time(schedule: str) -> None:
    """A cron expression or preset that Airflow understands is taken as it is."""
    assert parse(schedule).airflow.schedule == Schedule(time=schedule.strip())
    assert parse({"time": schedule}).airflow.schedule == Schedule(time=schedule.strip())


def test_cron_agrees_with_airflow() -> None:
    """What passes for a schedule, Airflow's timetable accepts, and what is refused, it cannot use."""
    from airflow.exceptions import AirflowTimetableInvalid
    from airflow.timetables.base import TimeRestriction
    from airflow.timetables.trigger import CronTriggerTimetable

    everything = TimeRestriction(earliest=None, latest=None, catchup=False)
    fields = ("*", "5", "0", "99", "x", "*/0", "1-3", "3-1", "mon", "L", "31", "1#6")
    verdicts = set()
    for index in range(5):
        for one in fields:
            expression = " ".join([*["0"] * index, one, *["*"] * (4 - index)])
            try:
                timetable = CronTriggerTimetable(expression, timezone="UTC")
                timetable.validate()
                timetable.next_dagrun_info(last_automated_data_interval=None, restriction=everything)
                usable = True
            except (AirflowTimetableInvalid, ValueError):
                usable = False
            try:
                parse(expression)
                passed = True
            except SpecError:
                passed = False
            assert passed is usable, expression
            verdicts.add(passed)
    assert verdicts == {True, False}


def test_continuous_runs_one_at_a_time() -> None:
    """Airflow takes ``@continuous`` with one active run only, so that is what a document without a number gets."""
    for extra in ({}, {"max_active_runs": None}, {"max_active_runs": 1.0}):
        assert parse("@continuous", **extra).airflow.max_active_runs == 1
        assert parse({"time": "@continuous"}, **extra).airflow.max_active_runs == 1
    assert parse("@daily").airflow.max_active_runs is None
    ((path, message),) = problems({"time": "@continuous"}, max_active_runs=2)
    assert (path, "Expected 1" in message) == ("$.options.airflow.max_active_runs", True)


@pytest.mark.parametrize(
    ("text", "months", "seconds"),
    [
        ("P1D", 0, 86_400.0),
        ("PT6H", 0, 21_600.0),
        ("PT1M", 0, 60.0),
        ("P1M", 1, 0.0),
        ("P2W", 0, 1_209_600.0),
        ("P10Y", 120, 0.0),
        ("P9Y12M", 120, 0.0),
        ("P3653D", 0, 315_619_200.0),
        ("P1Y2M3W4DT5H6M7.5S", 14, 2_178_367.5),
        ("P0.5Y", 6, 0.0),
        ("P1,5D", 0, 129_600.0),
        ("PT90S", 0, 90.0),
        ("P0M7D", 0, 604_800.0),
        ("PT60.000001S", 0, 60.000001),
    ],
)
def test_duration(text: str, months: int, seconds: float) -> None:
    """A duration in ISO 8601 is one of whole months and of seconds; fractions pass where they are exact."""
    assert parse(text).airflow.schedule == Schedule(time=Duration(months=months, seconds=seconds))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *(
            (text, ["ISO 8601", f'"{text}"'])
            for text in ("P", "PT", "P1", "P1DT", "P1H", "P1D1Y", "PT1D", "P1.D", "P٣D")
        ),
        *((text, ["ISO 8601"]) for text in ("P-1D", "P1e3D", "P 1D", "P1D/P2D", "Paris", "P" + "1" * 10 + "D")),
        ("p1d", ['Did you mean "P1D"?']),
        ("P6H", ['Did you mean "PT6H"?']),
        ("pt15m", ['Did you mean "PT15M"?']),
        *((text, ["a minute", "ten years"]) for text in ("PT0S", "PT59.9S", "P0D", "P11Y", "P10YT1M", "P3654D")),
        ("P999999999Y999999999M", ["ten years"]),
        *((text, ["whole months", "smaller units"]) for text in ("P0.5M", "P0.3Y", "PT60.0000001S")),
        *((text, ["five fields", "PT6H"]) for text in ("-P1D", "+P1D", "1d", "24:00:00", "R/P1D")),
    ],
)
def test_unusable_duration(text: str, words: list[str]) -> None:
    """What is no duration, or none that Airflow can reckon with, is refused with what is."""
    ((path, message),) = problems(text)
    assert path == "$.options.airflow.schedule"
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize("text", ["PT1M", "P1D", "P10Y", "P3653D"])
def test_airflow_reckons_with_any_duration(text: str) -> None:
    """Airflow finds the runs of the shortest and of the longest duration, from the first and the last start date on."""
    from airflow.timetables.base import TimeRestriction
    from airflow.timetables.trigger import DeltaTriggerTimetable
    from dateutil.relativedelta import relativedelta
    from pendulum import instance

    duration = parse_duration(text)
    delta = relativedelta(months=duration.months) if duration.months else timedelta(seconds=duration.seconds)
    timetable = DeltaTriggerTimetable(delta)
    timetable.validate()
    for year in (1970, 2200):
        start = instance(datetime(year, 1, 1, tzinfo=UTC))
        restriction = TimeRestriction(earliest=start, latest=None, catchup=True)
        first = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
        assert first is not None
        then = timetable.next_dagrun_info(last_automated_data_interval=first.data_interval, restriction=restriction)
        assert then is not None
        assert then.run_after == first.run_after + delta


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (["a", "b"], Schedule(assets=AssetCondition("all", (A, B)))),
        ({"all": ["a", "b"]}, Schedule(assets=AssetCondition("all", (A, B)))),
        ({"any": ["a", "b"]}, Schedule(assets=AssetCondition("any", (A, B)))),
        ({"any": ["a"], "all": None, "time": None, "assets": None}, Schedule(assets=AssetCondition("any", (A,)))),
        ({"assets": ["a"]}, Schedule(assets=AssetCondition("all", (A,)))),
        ({"assets": {"any": ["a"]}, "time": None}, Schedule(assets=AssetCondition("any", (A,)))),
        ({"time": "PT6H", "assets": None}, Schedule(time=Duration(seconds=21_600.0))),
        ({"time": "@weekly", "assets": ["a", "b"]}, Schedule(time="@weekly", assets=AssetCondition("all", (A, B)))),
        (
            {"time": "P1M", "assets": {"any": ["a", {"all": ["b", "c"]}]}},
            Schedule(time=Duration(months=1), assets=AssetCondition("any", (A, AssetCondition("all", (B, C))))),
        ),
        (
            {"any": [{"all": ["a", "b"]}, {"all": ["a", "c"]}]},
            Schedule(assets=AssetCondition("any", (AssetCondition("all", (A, B)), AssetCondition("all", (A, C))))),
        ),
        (
            [
                {"name": "data", "uri": "s3://bucket/data"},
                {"name": "a", "uri": None, "watch": None, "interval": None},
                {"uri": URL, "watch": True, "interval": 10},
                {"name": "off", "uri": f"{URL}?2", "watch": False, "interval": 60},
                {"name": f"{URL}?3", "watch": True},
            ],
            Schedule(
                assets=AssetCondition(
                    "all",
                    (
                        AssetSpec(name="data", uri="s3://bucket/data"),
                        A,
                        AssetSpec(name=URL, uri=URL, watch=True, interval=10.0),
                        AssetSpec(name="off", uri=f"{URL}?2"),
                        AssetSpec(name=f"{URL}?3", uri=f"{URL}?3", watch=True, interval=300.0),
                    ),
                )
            ),
        ),
    ],
)
def test_assets(schedule: Any, expected: Schedule) -> None:
    """Assets come as a list, under any and all at will, and beside a time; what is null is not said."""
    assert parse(schedule).airflow.schedule == expected


def test_seconds_are_floats() -> None:
    """Seconds are floats, however they were written."""
    schedule = parse([{"uri": URL, "watch": True, "interval": 60}]).airflow.schedule
    assert schedule is not None
    assert schedule.assets is not None
    (asset,) = schedule.assets.entries
    assert isinstance(asset, AssetSpec)
    assert isinstance(asset.interval, float)


@pytest.mark.parametrize(
    ("schedule", "path", "words"),
    [
        ([], "", ["something in it", "an empty list", "write null"]),
        ({"any": []}, ".any", ["something in it"]),
        ({"time": "@daily", "assets": []}, ".assets", ["something in it"]),
        (["a", {"all": []}], "[1].all", ["something in it"]),
        ("* * * *", "", ["It has 4 of the fields: minute"]),
        ("every day", "", ["Write null to run on demand only."]),
        ("none", "", ["Write null, without quotes"]),
        ("1d", "", ['Did you mean "P1D"?']),
        ("30 minutes", "", ['Did you mean "PT30M"?']),
        ("s3://bucket/a", "", ['Assets stand in a list: ["s3://bucket/a"].']),
        ("R 3 * * *", "", ['"R" is another time']),
        ("0 r(1-5) * * *", "", ['"R" is another time']),
        ({"cron": "0 3 * * *"}, "", ["a time alone stands without an object"]),
        ({}, "", ['"any" or "all"', "nothing in it"]),
        ({"any": None, "time": None}, "", ["nothing in it"]),
        ({"any": ["a"], "all": ["b"]}, "", ['"any", "all"', "into the list of the other"]),
        ({"any": ["a"], "time": "@daily"}, "", ['Write {"time": ..., "assets": {"any": [...]}}.']),
        ({"all": ["a"], "assets": ["b"]}, "", ['Keep "all"']),
        ({"uri": URL, "watch": True}, "", ["put it into brackets"]),
        ({"anny": ["a"]}, ".anny", ['Did you mean "any"?']),
        ({"asset": ["a"], "time": "@daily"}, ".asset", ['Did you mean "assets"?']),
        ({"times": "@daily"}, ".times", ['Did you mean "time"?']),
        ({"time": "@dayly"}, ".time", ['Did you mean "@daily"?']),
        ({"time": "P6H", "assets": ["a"]}, ".time", ['Did you mean "PT6H"?']),
        ({"time": ""}, ".time", ["empty string"]),
        ({"time": ["@daily"]}, ".time", ["Expected a string or null"]),
        ({"time": "@once", "assets": ["a"]}, ".time", ["comes again", '"@once"']),
        ({"time": " @continuous ", "assets": ["a"]}, ".time", ["comes again"]),
        ({"assets": "a"}, ".assets", ['Write ["a"].']),
        ({"assets": {}}, ".assets", ["a list of assets", "nothing in it"]),
        ({"assets": {"any": ["a"], "all": ["b"]}}, ".assets", ["into the list of the other"]),
        ({"assets": {"uri": URL}}, ".assets", ["put it into brackets"]),
        ({"assets": {"time": "@daily"}}, ".assets", ['"any" or "all"']),
        ({"any": "a"}, ".any", ['Write ["a"].']),
        ({"any": {"all": ["a"]}}, ".any", ["Expected a list or null", 'Write [{"all": ["a"]}].']),
        ([3], "[0]", ["Expected a string or an object", "the number 3."]),
        ([["a"]], "[0]", ["Expected a string or an object", 'the list ["a"]']),
        ([None], "[0]", ["found null"]),
        ([{}], "[0]", ['"name" or "uri"', "nothing in it"]),
        ([{"name": None, "uri": None}], "[0]", ["nothing in it"]),
        ([{"url": URL}], "[0]", ['Did you mean "uri"?']),
        ([{"nme": "a"}], "[0].nme", ['Did you mean "name"?']),
        ([{"any": ["a"], "all": ["b"]}], "[0]", ["into the list of the other"]),
        ([{"any": ["a"], "name": "b"}], "[0]", ['Keep "any"']),
        ([{"name": "a", "interval": 60}], "[0].interval", ['"watch": true']),
        ([{"name": "a", "time": "@daily"}], "[0]", ['"time"']),
        (["a", "b", "a"], "[2]", ["each asset once", '"a" again']),
        (["a", {"name": "a", "uri": "s3://a"}], "[1]", ["(schedule[0])", "the same in both places"]),
        ({"any": ["s3://a", {"all": [{"name": "a", "uri": "s3://a"}, "b"]}]}, ".any[1].all[0]", ["(schedule.any[0])"]),
        (
            {
                "any": [
                    {"uri": URL, "watch": True, "interval": 60},
                    {"all": [{"uri": URL, "watch": True, "interval": 90}, "b"]},
                ]
            },
            ".any[1].all[0]",
            ["watched every 90 seconds", "watched every 60 seconds"],
        ),
        ({"any": [{"uri": URL, "watch": True}, {"all": [URL, "b"]}]}, ".any[1].all[0]", ["watched every 300 seconds"]),
        ([""], "[0]", ["name or URI of an asset", "Correct it."]),
        ([" \n"], "[0]", ["name or URI of an asset"]),
        (["x" * 1501], "[0]", ["at most 1500 characters, found 1501"]),
        ([{"name": "x" * 1501}], "[0].name", ["at most 1500"]),
        ([{"uri": "x" * 1501, "name": "a"}], "[0].uri", ["at most 1500"]),
        ([{"name": ""}], "[0].name", ["the name of the asset"]),
        ([{"name": 3}], "[0].name", ['Write "3".']),
        (["self"], "[0]", ['"self", which Airflow keeps for itself']),
        ([{"name": "context", "uri": "s3://a"}], "[0].name", ['"context"']),
        (["airflow://a"], "[0]", ["scheme"]),
        (["数据"], "[0]", ["not all ASCII", "percent-encoded"]),
        ([{"name": "数据", "uri": "s3://é"}], "[0].uri", ["not all ASCII"]),
        ([{"uri": "https://h/é", "watch": True}], "[0].uri", ["escaping"]),
        (["x" * 1301], "[0]", ["at most 2,600 bytes", "found 2,602", '"name"']),
        ([{"name": "数" * 500, "uri": "s3://" + "x" * 1100}], "[0]", ["at most 2,600 bytes", "found 2,605"]),
        ([{"name": "a", "uri": "AIRFLOW://a"}], "[0].uri", ["scheme"]),
        (["http://[a"], "[0]", ["no URI"]),
        (["https://me:s3cret@h/a"], "[0]", ["netrc"]),
        ([{"name": "a", "uri": "https://me:s3cret@h/a", "watch": False}], "[0].uri", ["netrc"]),
        ([{"uri": "s3://bucket/a", "watch": True}], "[0].uri", ["http or https", '"s3://bucket/a"']),
        ([{"name": "a", "watch": True}], "[0].name", ["http or https", 'remove "watch"']),
        ([{"uri": "https:///a", "watch": True}], "[0].uri", ["http or https"]),
        ([{"uri": "https://h:port/a", "watch": True}], "[0].uri", ["http or https"]),
        ([{"uri": "https://h/a b", "watch": True}], "[0].uri", ["escaping"]),
        ([{"uri": "https://h/{{ ds }}", "watch": True}], "[0].uri", ["escaping"]),
        ([{"uri": URL, "watch": "true"}], "[0].watch", ["Write true."]),
        ([{"uri": URL, "watch": 1}], "[0].watch", ["Expected true, false or null"]),
        ([{"uri": URL, "watch": True, "interval": 9.9}], "[0].interval", ["at least 10"]),
        ([{"uri": URL, "watch": True, "interval": 10**9}], "[0].interval", ["at most 31536000"]),
        ([{"uri": URL, "watch": True, "interval": "60"}], "[0].interval", ["Write 60."]),
        ([{"uri": URL, "watch": True, "interval": "5m"}], "[0].interval", ["Write 300."]),
        ([{"uri": URL, "watch": True, "interval": "2 h"}], "[0].interval", ["Write 7200."]),
        ([{"uri": URL, "watch": True, "interval": True}], "[0].interval", ["Expected a number"]),
    ],
)
def test_unusable_schedule(schedule: Any, path: str, words: list[str]) -> None:
    """Each mistake in a schedule has its own message, and only one, at the value or key it is about."""
    ((found, message),) = problems(schedule)
    assert found == f"$.options.airflow.schedule{path}"
    assert [word for word in words if word not in message] == []
    assert "s3cret" not in message


def test_all_problems_of_a_schedule_at_once() -> None:
    """Every problem of a schedule is told, at its place and in the order of the text."""
    schedule = {
        "time": "@dayly",
        "assets": {"any": ["self", {"uri": "s3://a", "watch": True}, {"all": ["b", "b"]}, {}]},
    }
    assert [path.removeprefix("$.options.airflow.schedule") for path, _ in problems(schedule)] == [
        ".time",
        ".assets.any[0]",
        ".assets.any[1].uri",
        ".assets.any[2].all[1]",
        ".assets.any[3]",
    ]


def test_place_is_that_of_the_value() -> None:
    """An error deep in a schedule has line and column of its value."""
    text = """{"specVersion": "2.0", "datasource": "d.py", "model": "m.py", "options": {"airflow": {"schedule": {
  "any": ["a",
    {"uri": "https://h/a.zip",
     "watch": true, "interval": 1}]}}}}"""
    with pytest.raises(SpecError) as caught:
        parse_pipeline(text, "p.json")
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (4, 33)


@pytest.mark.parametrize("depth", [1, 5, 15])
def test_nested_conditions(depth: int) -> None:
    """Conditions nest as deep as anybody writes them."""
    schedule: Any = {"any": ["a"]}
    expected = AssetCondition("any", (A,))
    for level in range(depth):
        kind = "all" if level % 2 else "any"
        schedule, expected = {kind: [schedule]}, AssetCondition(kind, (expected,))
    assert parse(schedule).airflow.schedule == Schedule(assets=expected)


@pytest.mark.parametrize("depth", [16, 40, 100, 250, 450, 5_000])
@pytest.mark.parametrize("leaf", [["a"], ["a", "a"], [3], [{"anny": 1}], "a"])
def test_too_deep_conditions(depth: int, leaf: Any) -> None:
    """However deep conditions are nested, and whatever is wrong within, the answer is an error about the document."""
    text = '{"specVersion": "2.0", "datasource": "d.py", "model": "m.py", "options": {"airflow": {"schedule": '
    text += '{"any": [' * depth + json.dumps({"all": leaf}) + "]}" * depth + "}}}"
    with pytest.raises(SpecError) as caught:
        parse_pipeline(text, "/dags/p.json")
    assert caught.value.problems
    limit = sys.getrecursionlimit()
    assert depth < limit or "nested too deeply" in str(caught.value)


@pytest.mark.parametrize("minutes", [60, 30, 1])
@pytest.mark.parametrize("hours", [24, 12, 1])
@pytest.mark.parametrize(
    "others", ["* * *", "1,11,21,31 * *", "1,11,21,31 * 1,2,3,4,5,6", "* 1,2,3,4 sun#1,mon#2,tue#3"]
)
def test_time_that_is_too_long_in_words(minutes: int, hours: int, others: str) -> None:
    """A cron expression of which Airflow tells more than its database can hold is refused: it would end DAG processors."""
    from airflow.timetables.assets import AssetOrTimeSchedule
    from airflow.timetables.trigger import CronTriggerTimetable

    cron = f"{','.join(map(str, range(minutes)))} {','.join(map(str, range(hours)))} {others}"
    timetable = AssetOrTimeSchedule(timetable=CronTriggerTimetable(cron, timezone="UTC"), assets=[])
    schedule = {"time": cron, "assets": ["digits"]}
    if len(timetable.description) <= 1000:
        assert parse(schedule).airflow.schedule is not None
        return
    ((path, message),) = problems(schedule)
    assert path == "$.options.airflow.schedule.time"
    assert "which in words is longer" in message


def test_many_assets_are_read_in_one_go() -> None:
    """A thousand assets are taken, and the one that comes twice is found; of more, Airflow's database knows no answer."""
    names = [f"asset-{number}" for number in range(1_000)]
    schedule = parse({"any": names}).airflow.schedule
    assert schedule is not None
    assert schedule.assets is not None
    assert len(schedule.assets.entries) == 1_000
    ((path, _),) = problems([*names[1:], "asset-7"])
    assert path == "$.options.airflow.schedule[999]"
    for schedule in ([*names, "more"], {"all": [*names[:500], {"any": [f"b{name}" for name in names[:501]]}]}):
        ((path, message),) = problems(schedule)
        assert "at most 1,000 assets" in message


@pytest.mark.parametrize(
    "name",
    [
        *("digits", "s3://bucket/data", "a b", "数据", "x" * 1300, "http://h/x?b=1&a=2#f", "file:///a", "x-y://1"),
        *("self", "context", "airflow://a", "http://[h", "", " ", "\t\n", "x" * 1501, "selfish", "s3://b/é"),
    ],
)
def test_names_are_those_that_airflow_takes(name: str) -> None:
    """What passes for an asset's name or URI, Airflow makes an asset of, and what is refused, it or its database refuses."""
    from airflow.models.asset import AssetModel
    from airflow.sdk import Asset

    try:
        asset = Asset(name)
        AssetModel(name=asset.name, uri=asset.uri)
        usable = True
    except ValueError:
        usable = False
    try:
        parse([name])
        passed = True
    except SpecError:
        passed = False
    assert passed is usable
