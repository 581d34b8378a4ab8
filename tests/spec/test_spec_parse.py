"""Documents to specs, and everything that is wrong with a document, at once."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pipcook_provider import spec as spec_package
from pipcook_provider.errors import FrameworkError, Problem, SpecError
from pipcook_provider.frameworks.reference import parse_reference
from pipcook_provider.spec import (
    AirflowOptions,
    ArtifactSpec,
    AssetCondition,
    AssetSpec,
    Gpu,
    PipelineSpec,
    Schedule,
    StageOptions,
    is_pipeline_document,
    load_pipeline_spec,
    parse_pipeline,
)

SMALL: dict[str, Any] = {"specVersion": "2.0", "datasource": "d.py", "model": "m.py"}
FULL: dict[str, Any] = {
    **SMALL,
    "type": "TextClassification",
    "datasource": "https://h/s/datasource.js?url=http://h/a.zip",
    "dataflow": ["./flow.py?size=3&size=4", "/abs/flow.py"],
    "model": "model.py?epochs=3",
    "artifact": [{"processor": "zip@1", "target": "/tmp/m.zip"}, {"processor": "upload", "to": {"a": [1]}}],
    "options": {
        "framework": "tensorflow@2.21",
        "train": {"epochs": 20, "gpu": "true"},
        "other": 1,
        "airflow": {
            "schedule": {"time": "0 3 * * *", "assets": {"any": ["digits", {"uri": "https://h/d.zip", "watch": True}]}},
            "timezone": "Asia/Shanghai",
            "start_date": "2026-01-01",
            "catchup": True,
            "retries": 2.0,
            "retry_delay": 30,
            "tags": ["a", "b"],
            "owner": "web",
            "pool": "p",
            "queue": "q",
            "executor": "LocalExecutor",
            "priority_weight": 3,
            "max_active_runs": 1,
            "execution_timeout": 90.5,
            "on_failure": ["team", "on-call", "team"],
            "description": "words",
            "runner": "docker",
            "image": {"gpu": "i:1", "cpu": None},
            "network": "training",
            "gpus": 2.0,
            "memory": "4 GiB",
            "stages": {
                "model": {"image": "m:1", "gpu": True, "memory": "1GB", "queue": "q2"},
                "datasource": {
                    "pool": "p2",
                    "executor": "CeleryExecutor",
                    "priority_weight": -1.0,
                    "retries": 0.0,
                    "retry_delay": 7,
                    "execution_timeout": 8,
                },
                "artifact": None,
            },
            "env": {"KEY": "{{ conn.odps.login }}"},
        },
    },
    "note": "kept",
}


def parse(document: Any, origin: str = "/dags/p.json") -> PipelineSpec:
    return parse_pipeline(json.dumps(document, indent=1), origin)


def problems(document: Any) -> list[tuple[str, str]]:
    """Return path and message of all problems."""
    with pytest.raises(SpecError) as caught:
        parse(document)
    return [(problem.path, problem.message) for problem in caught.value.problems]


def test_full_document() -> None:
    """Every field of a document arrives in its record, resolved and typed."""
    spec = parse(FULL)
    assert spec.origin == "/dags/p.json"
    assert spec.type == "TextClassification"
    assert spec.datasource.uri == "https://h/s/datasource.js"
    assert spec.datasource.parameters == {"url": "http://h/a.zip"}
    assert [script.uri for script in spec.dataflow] == ["file:///dags/flow.py", "file:///abs/flow.py"]
    assert spec.dataflow[0].parameters == {"size": ["3", "4"]}
    assert spec.model.parameters == {"epochs": "3"}
    assert spec.scripts == (spec.datasource, *spec.dataflow, spec.model)
    assert spec.artifacts == (
        ArtifactSpec("zip@1", {"processor": "zip@1", "target": "/tmp/m.zip"}),
        ArtifactSpec("upload", {"processor": "upload", "to": {"a": [1]}}),
    )
    assert spec.framework == "tensorflow@2.21"
    assert spec.train == {"epochs": 20, "gpu": "true"}
    assert spec.options == {"framework": "tensorflow@2.21", "train": {"epochs": 20, "gpu": "true"}, "other": 1}
    assert spec.airflow == AirflowOptions(
        schedule=Schedule(
            time="0 3 * * *",
            assets=AssetCondition(
                "any",
                (
                    AssetSpec(name="digits", uri="digits"),
                    AssetSpec(name="https://h/d.zip", uri="https://h/d.zip", watch=True, interval=300.0),
                ),
            ),
        ),
        timezone="Asia/Shanghai",
        start_date=datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Shanghai")),
        catchup=True,
        retries=2,
        retry_delay=30.0,
        tags=("a", "b"),
        owner="web",
        pool="p",
        queue="q",
        executor="LocalExecutor",
        priority_weight=3,
        max_active_runs=1,
        execution_timeout=90.5,
        on_failure=("team", "on-call"),
        description="words",
        runner="docker",
        image={"gpu": "i:1"},
        network="training",
        gpus=2,
        memory=4 * 2**30,
        stages={
            "model": StageOptions(image={"cpu": "m:1", "gpu": "m:1"}, gpu=True, memory=10**9, queue="q2"),
            "datasource": StageOptions(
                pool="p2",
                executor="CeleryExecutor",
                priority_weight=-1,
                retries=0,
                retry_delay=7.0,
                execution_timeout=8.0,
            ),
            "artifact": StageOptions(),
        },
        env={"KEY": "{{ conn.odps.login }}"},
    )
    assert isinstance(spec.airflow.retries, int)
    assert isinstance(spec.airflow.stages["datasource"].retries, int)
    assert isinstance(spec.airflow.gpus, int)
    assert spec.document == FULL
    assert spec.gpu is Gpu.YES


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"type": None, "dataflow": None, "artifact": None, "options": None},
        {"dataflow": [], "artifacts": [], "options": {}},
        {"options": {"framework": None, "train": None, "airflow": None}},
        {"options": {"train": {}, "airflow": dict.fromkeys(FULL["options"]["airflow"])}},
        {"options": {"airflow": {"on_failure": [], "stages": {}, "tags": []}}},
    ],
)
def test_what_is_absent_is_empty(extra: dict[str, Any]) -> None:
    """Absent, null and empty mean the same."""
    spec = parse({**SMALL, **extra})
    assert (spec.type, spec.dataflow, spec.artifacts, spec.framework, spec.train) == (None, (), (), None, {})
    assert spec.airflow == AirflowOptions()
    assert spec.gpu is Gpu.NO


def test_other_spellings() -> None:
    """``dataSource`` and ``artifacts`` mean ``datasource`` and ``artifact``."""
    spec = parse({"specVersion": "2.0", "dataSource": "d.py", "model": "m.py", "artifacts": [{"processor": "p"}]})
    assert spec.datasource.basename == "d.py"
    assert spec.artifacts[0].processor == "p"


@pytest.mark.parametrize(
    ("gpu", "expected"),
    [
        *((True, Gpu.YES), ("true", Gpu.YES), ("auto", Gpu.AUTO)),
        *((False, Gpu.NO), ("false", Gpu.NO), (None, Gpu.NO)),
    ],
)
def test_gpu(gpu: object, expected: Gpu) -> None:
    """A GPU is required by true or "true", as in the framework's own script, and wanted by "auto"."""
    assert parse({**SMALL, "options": {"train": {"gpu": gpu}}}).gpu is expected


def test_framework_forms_are_those_that_can_be_had() -> None:
    """A reference passes exactly when the frameworks' own reader takes it."""
    texts = [
        "tensorflow",
        "tensorflow@2.21",
        "tf.zip",
        "a/b",
        "..",
        "~/f",
        r"a\b",
        "https://h/f.zip",
        "file:///f",
        "FILE:/f",
    ]
    texts += [
        "TensorFlow 2",
        "tensorflow 2",
        "Tensorflow",
        "s3://b/f.zip",
        "t@",
        "t@v2",
        " tensorflow",
        "x:y",
        "C:\\f",
        "数",
    ]
    verdicts = set()
    for text in texts:
        try:
            parse_reference(text)
            usable = True
        except FrameworkError:
            usable = False
        try:
            assert parse({**SMALL, "options": {"framework": text}}).framework == text
            passed = True
        except SpecError:
            passed = False
        assert passed is usable, text
        verdicts.add(passed)
    assert verdicts == {True, False}


def test_no_message_shows_a_password() -> None:
    """However a document is wrong, its errors repeat neither user nor password of an address in it."""
    secret = "https://someone:s3cret" + "x" * 60 + "@h/a.py"
    documents: list[Any] = [secret, [secret], {**SMALL, "dataflow": secret, "type": secret, "specVersion": secret}]
    documents += [{**SMALL, "options": secret}, {**SMALL, "options": {"airflow": {"schedule": secret, "tags": secret}}}]
    documents += [{**SMALL, "options": {"airflow": {"start_date": secret, "env": {secret: "1"}}}}]
    documents += [{**SMALL, "model": "someone:s3cret@h/m.py"}, {**SMALL, "options": {"framework": secret}}]
    documents += [{**SMALL, "origin": secret, "artifact": [secret]}, {**SMALL, "model": {secret: 1}}]
    for document in documents:
        with pytest.raises(SpecError) as caught:
            parse(document, secret)
        assert "someone" not in f"{caught.value} {caught.value.origin} {caught.value.__cause__}"
        assert "s3cret" not in f"{caught.value} {caught.value.origin} {caught.value.__cause__}"
    with pytest.raises(SpecError, match="netrc") as caught:
        parse(SMALL, secret)
    assert [problem.path for problem in caught.value.problems] == ["$"]


def test_start_date_keeps_its_offset() -> None:
    """A start date is in UTC unless it states an offset."""
    options = {"airflow": {"start_date": "2026-01-01T08:00:00+08:00"}}
    start = parse({**SMALL, "options": options}).airflow.start_date
    assert start == datetime(2026, 1, 1, 8, tzinfo=timezone(timedelta(hours=8)))
    assert start is not None
    assert start.utcoffset() == timedelta(hours=8)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-07-01", datetime(2026, 6, 30, 16, tzinfo=UTC)),
        ("2026-07-01T08:00:00", datetime(2026, 7, 1, 0, tzinfo=UTC)),
        ("2026-07-01T08:00:00+02:00", datetime(2026, 7, 1, 6, tzinfo=UTC)),
        ("2026-07-01T08:00:00Z", datetime(2026, 7, 1, 8, tzinfo=UTC)),
    ],
)
def test_start_date_is_on_the_clock_of_the_timezone(text: str, expected: datetime) -> None:
    """A start date is in the time zone where one is named; an offset of its own says which moment is meant."""
    options = {"airflow": {"start_date": text, "timezone": "Asia/Shanghai"}}
    start = parse({**SMALL, "options": options}).airflow.start_date
    assert start == expected
    assert start is not None
    assert str(start.tzinfo) == "Asia/Shanghai"


def test_cron_runs_on_the_clock_of_the_timezone() -> None:
    """Airflow reads a schedule by the clock of the start date's zone, summer time included."""
    from airflow.sdk import DAG

    airflow = parse(
        {**SMALL, "options": {"airflow": {"start_date": "2026-01-01", "timezone": "Europe/Berlin"}}}
    ).airflow
    dag = DAG("zone", schedule="0 3 * * *", start_date=airflow.start_date)
    assert dag.timezone.name == "Europe/Berlin"
    assert dag.start_date == datetime(2025, 12, 31, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ({"epochs": 0}, ["a number of at least 1", "found 0"]),
        ({"epochs": 0.5}, ["at least 1"]),
        ({"batchSize": -1}, ["at least 1"]),
        ({"learningRate": 0}, ["a number above 0"]),
        ({"learningRate": -1e-3}, ["above 0"]),
        ({"seed": -1}, ["at least 0"]),
        ({"hiddenLayerUnits": 0}, ["at least 1"]),
        ({"patience": -1}, ["at least 0"]),
    ],
)
def test_training_parameter_out_of_range(train: dict[str, Any], words: list[str]) -> None:
    """A number that no script can train with is refused before anything runs."""
    ((path, message),) = problems({**SMALL, "options": {"train": train}})
    assert path == f"$.options.train.{next(iter(train))}"
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize("value", [None, "", "0", "10", True, ["10"], {"from": 0}, 1, 10, 1e300, 2**62])
def test_training_parameters_of_any_type_pass(value: Any) -> None:
    """A script may take whatever it likes: only numbers of the known parameters have a range."""
    names = ("epochs", "batchSize", "learningRate", "seed", "hiddenLayerUnits", "patience", "validationRequired")
    train = dict.fromkeys(names, value) | {"other": -1, "optimizer": {"rate": -1}}
    assert parse({**SMALL, "options": {"train": train}}).train == train


@pytest.mark.parametrize(
    ("stated", "origin", "uri"),
    [
        ("/dags/vision/p.json", "/runs/1/pipeline-config.json", "file:///dags/vision/m.py"),
        ("https://h/dags/p.json", "/runs/1/pipeline-config.json", "https://h/dags/m.py"),
        ("../p.json", "/runs/1/pipeline-config.json", "file:///runs/m.py"),
    ],
)
def test_stated_origin(stated: str, origin: str, uri: str) -> None:
    """A document that states its origin is resolved against that, wherever it lies."""
    spec = parse({**SMALL, "origin": stated}, origin)
    assert spec.model.uri == uri
    assert spec.origin == stated or stated.startswith("..")


def test_records_are_frozen_and_travel() -> None:
    """A spec cannot be changed, and survives a pickle."""
    spec = parse(FULL)
    with pytest.raises(FrozenInstanceError):
        spec.type = "x"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_file(tmp_path: Path) -> None:
    """A file is read as UTF-8, with or without a byte order mark, and is the origin of its scripts."""
    path = tmp_path / "数字 1.json"
    path.write_text(json.dumps(SMALL), encoding="utf-8-sig")
    spec = load_pipeline_spec(path)
    assert spec.origin == str(path)
    assert spec.model.path == tmp_path / "m.py"


def test_copy_of_a_document_from_elsewhere(tmp_path: Path) -> None:
    """A copy of a document from a URL is read as if it lay there: its scripts, and its errors, have that address."""
    path = tmp_path / "copy.json"
    path.write_text(json.dumps(SMALL), encoding="utf-8")
    spec = load_pipeline_spec(path, "https://h/team/p.json?v=1")
    assert (spec.origin, spec.model.uri) == ("https://h/team/p.json?v=1", "https://h/team/m.py")
    path.write_text(json.dumps({**SMALL, "model": ""}), encoding="utf-8")
    with pytest.raises(SpecError, match=r"^https://h/team/p\.json:1:\d+: \$\.model: ") as caught:
        load_pipeline_spec(path, "https://h/team/p.json")
    assert caught.value.origin == "https://h/team/p.json"
    with pytest.raises(SpecError, match="netrc"):
        load_pipeline_spec(path, "https://me:pw@h/p.json")


def test_endless_problems_are_counted() -> None:
    """Of very many problems the first are told, and how many there are: Airflow keeps, and shows, what is told."""
    document = {"specVersion": "2.0", "datasource": "d.py", "model": "m.py", "dataflow": [1] * 5_000}
    with pytest.raises(SpecError) as caught:
        parse_pipeline(json.dumps(document), "dags/p.json")
    problems = caught.value.problems
    assert [problem.path for problem in problems] == [f"$.dataflow[{index}]" for index in range(101)]
    assert "Expected no more problems, found 4,900 from here on." in problems[-1].message


def test_all_problems_at_once_in_order() -> None:
    """Every problem of a document is told, at its place and in the order of the text."""
    text = """{
  "specVersion": 2.0,
  "type": "imageclassification",
  "datasorce": "a.py",
  "dataflow": "b.py?size=1",
  "model": "ftp://h/m.py",
  "artifact": ["zip"],
  "options": {
    "train": "abc",
    "airflow": {"retries": "2", "start_date": "2026-02-30", "schedule": "@dayly", "tagz": [], "runner": "dokcer"}
  }
}
"""
    with pytest.raises(SpecError) as caught:
        parse_pipeline(text, "dags/p.json")
    assert caught.value.origin == "dags/p.json"
    assert [(problem.path, problem.line, problem.column) for problem in caught.value.problems] == [
        ("$.specVersion", 2, 18),
        ("$.type", 3, 11),
        ("$.datasorce", 4, 3),
        ("$.dataflow", 5, 15),
        ("$.model", 6, 12),
        ("$.artifact[0]", 7, 16),
        ("$.options.train", 9, 14),
        ("$.options.airflow.retries", 10, 28),
        ("$.options.airflow.start_date", 10, 47),
        ("$.options.airflow.schedule", 10, 73),
        ("$.options.airflow.tagz", 10, 83),
        ("$.options.airflow.runner", 10, 105),
    ]
    assert str(caught.value).splitlines()[3] == (
        'dags/p.json:5:15: $.dataflow: Expected a list or null, such as ["./resize.py?size=32&size=32"], '
        'found the string "b.py?size=1". Write ["b.py?size=1"].'
    )


@pytest.mark.parametrize(
    ("document", "path", "words"),
    [
        ([SMALL], "$", ["Expected an object", "list"]),
        ("2.0", "$", ["Expected an object", 'string "2.0"']),
        ({"plugins": {"dataCollect": {}}}, "$.plugins", ["1.0", '"datasource", "dataflow" and "model"']),
        ({**SMALL, "specVersion": 2}, "$.specVersion", ["number 2", 'Write "2.0"']),
        ({**SMALL, "specVersion": "99"}, "$.specVersion", ['"99"', "Only 2.0 is understood"]),
        ({"datasource": "d", "model": "m"}, "$", ['the key "specVersion"', 'Add "specVersion": "2.0"']),
        ({"specVersion": "2.0", "model": "m"}, "$", ['the key "datasource"', "supplies the samples", "Add"]),
        ({"specVersion": "2.0", "source": "d", "model": "m"}, "$", ['"datasource"', 'Did you mean it by "source"?']),
        ({"specVersion": "2.0", "datasource": "d"}, "$", ['the key "model"', 'Add "model": "./model.py"']),
        ({**SMALL, "model": ""}, "$.model", ["empty string"]),
        ({**SMALL, "model": " "}, "$.model", ["names no file"]),
        ({**SMALL, "model": None}, "$.model", ["Expected a string", "found null"]),
        ({**SMALL, "model": ["m.py"]}, "$.model", ["Expected a string", 'the list ["m.py"]']),
        ({**SMALL, "dataSource": "d.py"}, "$.dataSource", ["found both"]),
        ({**SMALL, "artifact": [], "artifacts": []}, "$.artifacts", ["found both"]),
        ({**SMALL, "dataflow": ["a.py", 3]}, "$.dataflow[1]", ["the number 3", 'Write "3"']),
        ({**SMALL, "dataflow": ["a.py", ""]}, "$.dataflow[1]", ["empty string"]),
        ({**SMALL, "dataFlow": ["a.py"]}, "$.dataFlow", ["nothing reads", 'Did you mean "dataflow"?']),
        ({**SMALL, "artifact": "zip@1"}, "$.artifact", ['Write [{"processor": "zip@1"}].']),
        ({**SMALL, "artifact": {"processor": "p"}}, "$.artifact", ['Write [{"processor": "p"}].']),
        ({**SMALL, "artifact": ["zip"]}, "$.artifact[0]", ['Write {"processor": "zip"}.']),
        ({**SMALL, "artifact": [{"proccessor": "p"}]}, "$.artifact[0]", ['Did you mean it by "proccessor"?']),
        ({**SMALL, "artifact": [{"processor": ""}]}, "$.artifact[0].processor", ["empty string"]),
        ({**SMALL, "options": "abc"}, "$.options", ["Expected an object or null", 'string "abc"']),
        ({**SMALL, "options": {"train": "abc"}}, "$.options.train", ["Expected an object", "epochs", '"abc"']),
        ({**SMALL, "options": {"train": {"gpu": "yes"}}}, "$.options.train.gpu", ["true, false", '"yes"']),
        ({**SMALL, "options": {"framework": ""}}, "$.options.framework", ["empty string", "write null"]),
        ({**SMALL, "options": {"trian": {}}}, "$.options.trian", ['Did you mean "train"?']),
        ({**SMALL, "type": "objectdetection"}, "$.type", ['Did you mean "ObjectDetection"?']),
        ({**SMALL, "type": "Sound"}, "$.type", ['"ImageClassification", "ObjectDetection"', "or null"]),
        ({**SMALL, "origin": ""}, "$.origin", ["empty string"]),
        ({**SMALL, "origin": "https://me:pw@h/p.json"}, "$.origin", ["netrc"]),
        ({**SMALL, "model": "https://me:pw@h/m.py"}, "$.model", ["netrc", "the zip"]),
        ({**SMALL, "dataflow": ["a.py", "http://me@h/m.py"]}, "$.dataflow[1]", ["netrc"]),
        ({**SMALL, "options": {"framework": "https://me:pw@h/f.zip"}}, "$.options.framework", ["netrc"]),
        (
            {**SMALL, "options": {"framework": "TensorFlow 2"}},
            "$.options.framework",
            ['"tensorflow@2"', "name@version"],
        ),
        ({**SMALL, "options": {"framework": "s3://b/f.zip"}}, "$.options.framework", ['"s3://b/f.zip"']),
    ],
)
def test_one_problem(document: Any, path: str, words: list[str]) -> None:
    """Each mistake has its own message, and only one, at the value or key it is about."""
    ((found, message),) = problems(document)
    assert found == path
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    ("airflow", "key", "words"),
    [
        ({"schedule": ""}, "schedule", ["empty string", "write null"]),
        ({"schedule": "daily"}, "schedule", ["five fields", '"daily"']),
        ({"schedule": "@dayly"}, "schedule", ['Did you mean "@daily"?']),
        ({"schedule": "61 * * * *"}, "schedule", ["cron expression", 'minute, "61"']),
        ({"schedule": "a b c d e"}, "schedule", ['"a b c d e"']),
        ({"schedule": "0 3 * * FRY"}, "schedule", ['day of the week, "FRY"']),
        ({"schedule": "0 0 31 2 *"}, "schedule", ["never fires"]),
        ({"schedule": "0 0 1 1 * 0 2024"}, "schedule", ["some years"]),
        ({"schedule": "0 0 1 1 * 0 2060"}, "schedule", ["some years"]),
        ({"schedule": "@continuous", "max_active_runs": 3}, "max_active_runs", ["Expected 1", "found 3"]),
        ({"start_date": "1969-12-31"}, "start_date", ["between 1970", "1969"]),
        ({"start_date": "0001-01-01T00:00:00+08:00"}, "start_date", ["between 1970"]),
        ({"start_date": "2200-01-02"}, "start_date", ["2200", "Correct the year"]),
        ({"retries": 1000001}, "retries", ["a whole number of at most 1000000"]),
        ({"retries": 10**12}, "retries", ["at most"]),
        ({"retry_delay": 31536001}, "retry_delay", ["a number of at most 31536000"]),
        ({"execution_timeout": 1e300}, "execution_timeout", ["at most 31536000"]),
        ({"priority_weight": 2**31}, "priority_weight", ["at most 2147483647"]),
        ({"priority_weight": -(2**31) - 1}, "priority_weight", ["at least -2147483648"]),
        ({"pool": "x" * 257}, "pool", ["at most 256 characters"]),
        ({"stages": {"model": {"queue": "x" * 257}}}, "stages.model.queue", ["at most 256 characters"]),
        ({"executor": "x" * 1001}, "executor", ["at most 1000 characters"]),
        ({"owner": "x" * 2001}, "owner", ["at most 2000 characters"]),
        ({"max_active_runs": 2**31}, "max_active_runs", ["at most 2147483647"]),
        ({"env": {"1A": "1"}}, "env['1A']", ["letters, digits", '"1A"', "OMP_NUM_THREADS"]),
        ({"env": {"A=B": "1"}}, "env['A=B']", ["environment variable"]),
        ({"env": {"": "1"}}, "env['']", ["environment variable"]),
        ({"env": {"A\n": "1"}}, r"env['A\n']", ["environment variable"]),
        ({"schedule": 86400}, "schedule", ["Expected a string, a list, an object or null", "the number 86400."]),
        ({"timezone": "Asia/Shangai"}, "timezone", ["IANA", 'Did you mean "Asia/Shanghai"?']),
        ({"timezone": "Shanghai"}, "timezone", ['Did you mean "Asia/Shanghai"?']),
        ({"timezone": "America"}, "timezone", ['found "America", which is none']),
        ({"timezone": "GMT+8"}, "timezone", ["An offset knows no summer time"]),
        ({"timezone": "+08:00"}, "timezone", ["name a place of that zone"]),
        ({"timezone": "../../etc/passwd"}, "timezone", ["which is none"]),
        ({"timezone": "/etc/localtime"}, "timezone", ["which is none"]),
        ({"timezone": "x" * 300}, "timezone", ["which is none"]),
        ({"timezone": ""}, "timezone", ["empty string", "write null"]),
        ({"timezone": 8}, "timezone", ["Expected a string or null"]),
        ({"timezone": "Asia/Shangai", "start_date": "2026-01-01"}, "timezone", ["Asia/Shanghai"]),
        ({"executor": ""}, "executor", ["empty string"]),
        ({"executor": ["LocalExecutor"]}, "executor", ["Expected a string or null"]),
        ({"on_failure": ""}, "on_failure", ["empty string"]),
        ({"on_failure": {"name": "team"}}, "on_failure", ["Expected a string, a list or null"]),
        ({"on_failure": ["team", ""]}, "on_failure[1]", ["empty string"]),
        ({"on_failure": [None]}, "on_failure[0]", ["Expected a string", "found null"]),
        ({"onfailure": "team"}, "onfailure", ['Did you mean "on_failure"?']),
        ({"start_date": "01.02.2026"}, "start_date", ['"2026-01-01"', "year, month and day"]),
        ({"start_date": "2026-13-01"}, "start_date", ["month must be in 1..12"]),
        ({"start_date": 20260101}, "start_date", ["Expected a string or null"]),
        ({"catchup": "true"}, "catchup", ["Expected true, false or null", "Write true."]),
        ({"catchup": 1}, "catchup", ["the number 1"]),
        ({"retries": "2"}, "retries", ["whole number", "Write 2."]),
        ({"retries": True}, "retries", ["whole number", "found true"]),
        ({"retries": 1.5}, "retries", ["whole number", "1.5"]),
        ({"retries": -1}, "retries", ["at least 0", "-1"]),
        ({"retry_delay": -0.5}, "retry_delay", ["a number of at least 0"]),
        ({"execution_timeout": 0}, "execution_timeout", ["above 0"]),
        ({"max_active_runs": 0}, "max_active_runs", ["at least 1"]),
        ({"tags": "vision"}, "tags", ['Write ["vision"].']),
        ({"owner": 3}, "owner", ['Write "3".']),
        ({"runner": "dokcer"}, "runner", ['Did you mean "docker"?']),
        ({"image": ""}, "image", ["empty string", "write null"]),
        ({"image": ["i"]}, "image", ["Expected a string, an object or null"]),
        ({"image": {"cuda": "i"}}, "image.cuda", ["cpu or gpu", '"cuda"']),
        ({"image": {"gpu": ""}}, "image.gpu", ["empty string"]),
        ({"network": "true"}, "network", ["true, false, or the name of a container network", 'found "true"']),
        ({"network": "container:other"}, "network", ["name of a container network"]),
        ({"network": "host"}, "network", ["name of a container network"]),
        ({"network": 1}, "network", ["Expected true, false, a string or null", "the number 1"]),
        ({"gpus": 0}, "gpus", ["a whole number of at least 1"]),
        ({"gpus": "2"}, "gpus", ["Write 2."]),
        ({"memory": "4"}, "memory", ["with its unit", '"4GB"', 'found "4"']),
        ({"memory": 4000000000}, "memory", ["Expected a string or null", "the number 4000000000."]),
        ({"memory": "4 apples"}, "memory", ["Expected a size from 6MiB on", '"4 apples"']),
        ({"memory": "4kB"}, "memory", ["Expected a size from 6MiB on", '"4kB"']),
        ({"memory": "9" * 400 + "TB"}, "memory", ["Expected a size from 6MiB on"]),
        ({"memory": "99999999999TB"}, "memory", ["Expected a size from 6MiB on"]),
        ({"stages": ["model"]}, "stages", ["Expected an object or null"]),
        ({"stages": {"model": "gpu"}}, "stages.model", ["Expected an object or null", '"memory": "16GB"']),
        ({"stages": {"modle": {}}}, "stages.modle", ["It has datasource, model.", 'Did you mean "model"?']),
        ({"stages": {"dataflow": {}}}, "stages.dataflow", ["It has datasource, model."]),
        ({"stages": {"prepare": {}}}, "stages.prepare", ["a stage that this document has"]),
        ({"stages": {"model": {"gpu": "auto"}}}, "stages.model.gpu", ["true, false or null"]),
        ({"stages": {"model": {"memory": "1B"}}}, "stages.model.memory", ["6MiB", '"1B"']),
        ({"stages": {"model": {"memroy": "1GB"}}}, "stages.model.memroy", ['Did you mean "memory"?']),
        ({"stages": {"model": {"pool": ""}}}, "stages.model.pool", ["empty string"]),
        ({"stages": {"model": {"executor": 1}}}, "stages.model.executor", ['Write "1".']),
        ({"stages": {"model": {"retries": -1}}}, "stages.model.retries", ["at least 0"]),
        ({"stages": {"model": {"retry_delay": 31536001}}}, "stages.model.retry_delay", ["at most 31536000"]),
        ({"stages": {"model": {"execution_timeout": 0}}}, "stages.model.execution_timeout", ["above 0"]),
        ({"stages": {"model": {"priority_weight": 2**31}}}, "stages.model.priority_weight", ["at most 2147483647"]),
        ({"stages": {"model": {"retires": 1}}}, "stages.model.retires", ['Did you mean "retries"?']),
        ({"env": {"A": 1}}, "env.A", ['Write "1".']),
        ({"env": ["A=1"]}, "env", ["Expected an object or null"]),
        ({"startDate": "2026-01-01"}, "startDate", ['Did you mean "start_date"?']),
    ],
)
def test_airflow_problem(airflow: dict[str, Any], key: str, words: list[str]) -> None:
    """What Airflow could not use is refused in the document, not in Airflow."""
    ((found, message),) = problems({**SMALL, "options": {"airflow": airflow}})
    assert found == f"$.options.airflow.{key}"
    assert [word for word in words if word not in message] == []


def test_messages_have_no_voice_of_jsonschema() -> None:
    """Python reprs and keywords of the validator never reach the user."""
    found = problems({**SMALL, "type": True, "dataflow": {"a": None}, "options": {"train": [], "airflow": {"env": 1}}})
    text = "\n".join(message for _, message in found)
    assert [word for word in ("is not of type", "is not one of", "None", "True", "{'") if word in text] == []


def test_document_of_the_existing_implementation() -> None:
    """A published Pipcook 2.0 document is read as it is."""
    scripts = "https://cdn.jsdelivr.net/gh/imgcook/pipcook-script@2232184/scripts/object-detection-yolo/build"
    document = {
        "specVersion": "2.0",
        "type": "ObjectDetection",
        "datasource": f"{scripts}/datasource.js?url=https://pc-github.oss-us-west-1.aliyuncs.com/dataset/yolo-min.zip",
        "dataflow": [f"{scripts}/dataflow.js?size=416&size=416"],
        "model": f"{scripts}/model.js",
        "artifact": [{"processor": "pipcook-artifact-zip@0.0.2", "target": "./object-detection-yolo-model.zip"}],
        "options": {"framework": "tfjs@3.8", "train": {"epochs": 10, "gpu": True}},
    }
    spec = parse(document)
    assert [script.basename for script in spec.scripts] == ["datasource.js", "dataflow.js", "model.js"]
    assert spec.dataflow[0].uri == f"{scripts}/dataflow.js"
    assert spec.gpu is Gpu.YES


def test_deep_nesting_is_shown_shortened() -> None:
    """However deep the value that stands in the wrong place, there is a message about it."""
    text = json.dumps(SMALL)[:-1] + ', "type": ' + "[" * 99 + "]" * 99 + "}"
    with pytest.raises(SpecError) as caught:
        parse_pipeline(text, "/dags/p.json")
    assert "[[[[" in caught.value.problems[0].message


def test_unknown_keys_are_kept() -> None:
    """A key that resembles no known one is allowed, and stays in the document."""
    document = {**SMALL, "x-note": 1, "options": {"seeds": 3, "airflow": {"max_retry_delay": 1}}}
    assert parse(document).document == document


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (json.dumps(SMALL), True),
        (json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.5", "components": []}), False),
        (json.dumps({"bomFormat": "CycloneDX", "specVersion": "2.0", "components": []}), False),
        (json.dumps([{"bomFormat": "CycloneDX", "specVersion": "1.5"}]), False),
        ('{"bomFormat": "CycloneDX", "specVersion": "1.5",', False),
        (json.dumps({"specVersion": "1.5"}), False),
        (json.dumps({"specVersion": "1.5", "artifacts": []}), True),
        (json.dumps({"specVersion": "2.0", "datasorce": "d.py", "modle": "m.py"}), True),
        (json.dumps({"specVersion": 2}), True),
        (json.dumps({"a": {"specVersion": "2.0"}}), False),
        (json.dumps({"plugins": {"camera": {}}}), False),
        (json.dumps({"dataSource": "d"}), True),
        (json.dumps({"plugins": {"dataCollect": {}}}), True),
        (json.dumps([SMALL]), True),
        ('{"specVersion": "2.0", "datasource"', True),
        ("{'datasource': 'd.py'}", True),
        ("{datasource: 1", True),
        ('{"plugins": {"a": ', True),
        ("", False),
        ("{}", False),
        ('{"a": "specVersion"}', False),
        (json.dumps({"panels": [{"datasource": "prometheus"}]}), False),
        (json.dumps({"compilerOptions": {"plugins": []}, "plugins": ["a"]}), False),
        ('{"options": {"framework": "tensorflow@2.21"}}', False),
    ],
)
def test_sniff(text: str, expected: bool) -> None:
    """A JSON file is taken for a pipeline when it has the keys of one, broken or not, and left alone otherwise."""
    assert is_pipeline_document(text) is expected


def test_light_import() -> None:
    """Reading a good document loads no heavy package, not even jsonschema, nor croniter for a preset."""
    options = FULL["options"]
    light = {**FULL, "options": {**options, "airflow": {**options["airflow"], "schedule": "@daily"}}}
    program = (
        "import sys; from pipcook_provider.spec import parse_pipeline; parse_pipeline(sys.argv[1], '/p.json');"
        "heavy = {'croniter', 'airflow',"
        " 'numpy', 'pyarrow', 'requests', 'docker', 'tensorflow', 'jsonschema'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(light)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_public_names() -> None:
    """The face of the package changes on purpose only, and every name in it exists."""
    assert [name for name in spec_package.__all__ if not hasattr(spec_package, name)] == []
    assert set(spec_package.__all__) == {
        *("AirflowOptions", "ArtifactSpec", "AssetCondition", "AssetSpec", "Duration", "Gpu", "Parameter"),
        *("DEFAULTS_SCHEMA_PATH", "PipelineSpec", "SCHEMA_PATH", "Schedule", "ScriptSpec", "StageOptions"),
        *("is_pipeline_document", "lint_pipeline", "load_pipeline_spec", "parse_pipeline"),
    }


def test_rendered_problem() -> None:
    """A problem is one line that terminals make clickable."""
    assert Problem("m", "$.a", 2, 3).render("p.json") == "p.json:2:3: $.a: m"
