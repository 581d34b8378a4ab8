"""Warnings about documents that can be used."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipcook_provider.errors import SpecError
from pipcook_provider.spec import lint_pipeline, parse_pipeline
from pipcook_provider.spec.lint import warnings_of

SMALL: dict[str, Any] = {"specVersion": "2.0", "datasource": "d.py", "model": "m.py"}


def warnings(document: Any) -> list[tuple[str, str]]:
    return [(found.path, found.message) for found in lint_pipeline(json.dumps(document, indent=1), "p.json")]


def test_nothing_to_say() -> None:
    """A document with known keys, scripts' own parameters and artifact options has no warnings."""
    document = {
        **SMALL,
        "$schema": "s.json",
        "model": "m.py?epochs=3",
        "artifact": [{"processor": "p", "bucket": "b"}],
        "options": {"train": {"alpha": 1, "batchSize": 2}, "airflow": {"schedule": "@daily"}},
    }
    assert warnings(document) == []


@pytest.mark.parametrize(
    ("document", "path", "words"),
    [
        ({**SMALL, "note": 1}, "$.note", ["nothing reads it"]),
        ({**SMALL, "artifact": None, "artefacts": 1}, "$.artefacts", ['Did you mean "artifacts"?']),
        ({**SMALL, "options": {"verbose": 1}}, "$.options.verbose", ["nothing reads it"]),
        ({**SMALL, "options": {"airflow": {"sla": 1}}}, "$.options.airflow.sla", ["nothing reads it"]),
        ({**SMALL, "options": {"train": {"batch_size": 1}}}, "$.options.train.batch_size", ['"batchSize"']),
        ({**SMALL, "artifacts": [{"processor": "p", "Target": 1}]}, "$.artifacts[0].Target", ['"target"']),
        (
            {**SMALL, "model": "m.py?epochs=3", "options": {"train": {"epochs": 1}}},
            "$.options.train.epochs",
            ["overruled", "3"],
        ),
        ({**SMALL, "options": {"airflow": {"catchup": True}}}, "$.options.airflow.catchup", ["start_date"]),
        *(
            (
                {**SMALL, "options": {"train": {"gpu": True}, "airflow": {"runner": "process", name: value}}},
                f"$.options.airflow.{name}",
                [f'"{name}" has no effect', 'the runner is "process"'],
            )
            for name, value in {"image": "i", "network": False, "gpus": 2, "memory": "1GB"}.items()
        ),
        (
            {**SMALL, "options": {"airflow": {"runner": "process", "stages": {"model": {"memory": "1GB"}}}}},
            "$.options.airflow.stages.model.memory",
            ["has no effect"],
        ),
        (
            {**SMALL, "options": {"train": {"gpu": False}, "airflow": {"gpus": 2}}},
            "$.options.airflow.gpus",
            ["no stage gets a GPU", "options.train"],
        ),
        (
            {**SMALL, "options": {"airflow": {"stages": {"model": {"sla": 1}}}}},
            "$.options.airflow.stages.model.sla",
            ["nothing reads it"],
        ),
        ({**SMALL, "datasource": "d.py?url=http%3A%2F%2Fu:pw@h/a.zip"}, "$.datasource", ["user or password"]),
        ({**SMALL, "options": {"train": {"modelUrl": "https://u@h/m"}}}, "$.options.train.modelUrl", ["zip"]),
    ],
)
def test_warning(document: Any, path: str, words: list[str]) -> None:
    """What is allowed but most likely not meant is named."""
    ((found, message),) = warnings(document)
    assert found == path
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    "options",
    [
        {"airflow": {"runner": "docker", "image": "i", "network": True, "memory": "1GB"}},
        {"airflow": {"image": "i", "memory": "1GB"}},
        {"train": {"gpu": "auto"}, "airflow": {"gpus": 2}},
        {"airflow": {"gpus": 2, "stages": {"dataflow_1": {"gpu": True}}}},
        {
            "airflow": {
                "runner": "process",
                "image": None,
                "stages": {"model": {"queue": "q", "pool": "p"}, "dataflow": None},
            }
        },
    ],
)
def test_nothing_to_say_of_containers(options: dict[str, Any]) -> None:
    """What a container takes is no warning where the runner is docker, or is left to the settings."""
    assert warnings({**SMALL, "dataflow": ["a.py"], "options": options}) == []


def scheduled(**changes: Any) -> dict[str, Any]:
    """A pipeline that runs every day."""
    airflow = {"schedule": "@daily", **changes.pop("airflow", {})}
    return {**SMALL, "options": {**changes.pop("options", {}), "airflow": airflow}, **changes}


CDN = "https://cdn.jsdelivr.net/gh/o/r@main/m.py"


@pytest.mark.parametrize(
    ("document", "path", "words"),
    [
        (
            scheduled(model=CDN),
            "$.model",
            ['"@main" may be something else', "a commit or an exact version", "pipcook lock"],
        ),
        (scheduled(dataflow=["a.py", f"{CDN}?size=3"]), "$.dataflow[1]", ['"@main"']),
        (scheduled(options={"framework": "tensorflow"}), "$.options.framework", ["tensorflow without a version"]),
        (scheduled(options={"framework": "tensorflow@2"}), "$.options.framework", ['"@2", the beginning of a version']),
        (scheduled(options={"framework": "https://h/latest/f.zip"}), "$.options.framework", ['"latest"']),
        (scheduled(airflow={"image": "r.example.com:5000/stage"}), "$.options.airflow.image", ["without a tag"]),
        (
            scheduled(airflow={"stages": {"model": {"image": {"gpu": "stage:latest", "cpu": "stage:1"}}}}),
            "$.options.airflow.stages.model.image.gpu",
            ['the tag "latest"', "digest"],
        ),
    ],
)
def test_scheduled_pipeline_should_pin(document: Any, path: str, words: list[str]) -> None:
    """What a pipeline that runs by itself names and moves is told, with what to write instead; on demand it may move."""
    ((found, message),) = warnings(document)
    assert found == path
    assert [word for word in words if word not in message] == []
    document["options"]["airflow"]["schedule"] = None
    assert warnings(document) == []


def test_nothing_to_pin() -> None:
    """Versions, commits and digests are pinned, and so is what no name of a branch gives away."""
    document = scheduled(
        datasource="https://cdn.jsdelivr.net/gh/o/r@fe00a8e/d.py",
        dataflow=["https://example.com/a.py", f"https://example.com/latest/a.py#sha256={64 * '0'}", "latest/b.py"],
        options={"framework": "tensorflow@2.21"},
        airflow={"image": {"cpu": f"stage@sha256:{64 * '0'}", "gpu": "r.example.com/stage:1.2-cuda"}},
    )
    assert warnings(document) == []
    for framework in (None, "toy.zip", "./toy", "~/toy", "file:///srv/toy", "tensorflow@2.21.0rc1"):
        assert warnings(scheduled(options={"framework": framework})) == []


@pytest.mark.parametrize(
    ("airflow", "path", "words"),
    [
        ({"catchup": True}, "catchup", ["nothing to catch up with"]),
        ({"catchup": True, "start_date": "2026-01-01"}, "catchup", ["no effect", "missed"]),
        ({"catchup": True, "start_date": "2026-01-01", "schedule": "@once"}, "catchup", ["no effect"]),
        ({"catchup": True, "start_date": "2026-01-01", "schedule": ["digits"]}, "catchup", ["no effect"]),
        ({"timezone": "Asia/Shanghai"}, "timezone", ["no effect", "the zone of"]),
        ({"timezone": "Asia/Shanghai", "schedule": ["digits"]}, "timezone", ["no effect"]),
        ({"timezone": "Asia/Shanghai", "schedule": "@continuous"}, "timezone", ["no effect"]),
        ({"schedule": "@daily", "start_date": "2126-01-01"}, "start_date", ["2126-01-01", "Correct the year"]),
        ({"schedule": "0 0 3 * * *"}, "schedule", ["sixth field", 'the minute "0" of the hour "0"']),
        ({"schedule": "*/90 * * * *"}, "schedule", ['"*/90" never comes', "minute", "after 60"]),
        ({"schedule": {"time": "0 */36 * * *", "assets": ["a"]}}, "schedule.time", ['"*/36"', "hour", "after 24"]),
    ],
)
def test_schedule_that_is_not_meant(airflow: dict[str, Any], path: str, words: list[str]) -> None:
    """What has no effect beside a schedule, or puts it off for a lifetime, is told."""
    ((found, message),) = warnings({**SMALL, "options": {"airflow": airflow}})
    assert found == f"$.options.airflow.{path}"
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    "airflow",
    [
        {"schedule": "0 3 * * *", "timezone": "Asia/Shanghai", "start_date": "2026-01-01", "catchup": True},
        {"schedule": {"time": "P1D", "assets": ["digits"]}, "timezone": "Asia/Shanghai"},
        {"schedule": ["digits", {"uri": "https://example.com/digits.zip", "watch": True, "interval": 60}]},
        {"start_date": "2126-01-01"},
        {"schedule": "*/15 */6 1-31/2 */3 1-5"},
        {"schedule": "*/60 */24 * * *"},
    ],
)
def test_schedule_that_is_meant(airflow: dict[str, Any]) -> None:
    """Schedules that fire are no warning."""
    assert warnings({**SMALL, "options": {"airflow": airflow}}) == []


@pytest.mark.parametrize(
    "image", ["Stage", "stage:", "a b", "https://r.example.com/stage", "stage@sha256:12", "/stage", "stage:-1"]
)
def test_no_image(image: str) -> None:
    """A text that no engine takes for an image is told, whichever stage it is for."""
    ((found, message),) = warnings({**SMALL, "options": {"airflow": {"stages": {"model": {"image": image}}}}})
    assert found == "$.options.airflow.stages.model.image"
    assert f'found "{image}"' in message


@pytest.mark.parametrize(
    "image",
    [
        *("stage", "stage:1-cpu", "library/stage", "r.example.com/team/stage_1:1.0", "localhost:5000/a/b:x"),
        *("R.example.com/stage", f"r.example.com/stage:1@sha256:{64 * 'a'}", f"sha256:{64 * 'a'}"),
    ],
)
def test_image(image: str) -> None:
    """Names with and without registry, tag and digest, and ids, are images."""
    assert warnings({**SMALL, "options": {"airflow": {"image": image}}}) == []


@pytest.mark.parametrize(
    ("document", "path", "words"),
    [
        (
            {**SMALL, "datasource": "d.py?url=${DATA_ROOT}/a.zip"},
            "$.datasource",
            ["${DATA_ROOT} stays", '["DATA_ROOT"]'],
        ),
        ({**SMALL, "options": {"train": {"a": ["${B}"]}}}, "$.options.train.a[0]", ["${B} stays as it is"]),
        ({**SMALL, "datasource": "d.py?day={{ds}"}, "$.datasource", ["cannot be rendered", "mistake"]),
        (
            {**SMALL, "datasource": "d.py?day=%7B%7B%20dss%20%7D%7D"},
            "$.datasource",
            ["found 'dss'", "Did you mean 'ds'"],
        ),
        ({**SMALL, "dataflow": ["a.py?x={{ ti }}"]}, "$.dataflow[0]", ["found 'ti'"]),
        ({**SMALL, "model": "m.py?a=1&a={{ var.value.x }}"}, "$.model", ["found 'var'"]),
        ({**SMALL, "model": "m.py?a={{ conn.a.password }}"}, "$.model", ["expected no secrets"]),
        ({**SMALL, "options": {"airflow": {"env": {"A": "{{ ds"}}}}, "$.options.airflow.env.A", ["cannot be rendered"]),
        ({**SMALL, "options": {"train": {"day": "{{ ds }}"}}}, "$.options.train.day", ["stays as it is", "queries"]),
        ({**SMALL, "artifacts": [{"processor": "p", "target": "{{ ds }}.zip"}]}, "$.artifacts[0].target", ["stays"]),
    ],
)
def test_text_that_stays_or_cannot_be_rendered(document: Any, path: str, words: list[str]) -> None:
    """Variables that nothing stands in for, templates that nobody renders, and those that nobody can, are told."""
    ((found, message),) = warnings(document)
    assert found == path
    assert [word for word in words if word not in message] == []


def test_templates_and_dollars_that_are_fine() -> None:
    """Templates of queries and environment variables are rendered, and a dollar sign is a character."""
    document = {
        **SMALL,
        "datasource": "d.py?day={{ ds }}&price=$5&share=10%25",
        "options": {"airflow": {"env": {"DAY": "{{ macros.ds_add(ds, 1) }}", "KEY": "{{ conn.store.password }}"}}},
    }
    assert warnings(document) == []


def test_escaped_texts_are_looked_at() -> None:
    """It does not matter how the text of a document writes its characters."""
    text = json.dumps({**SMALL, "datasource": "d.py?url=${ROOT}", "b": "http://u:p@h/"})
    escaped = text.replace("$", "\\u0024").replace("@", "\\u0040")
    assert [found.path for found in lint_pipeline(escaped, "p.json")] == ["$.datasource", "$.b", "$.b"]


def test_warnings_of_a_document_that_is_read() -> None:
    """Whoever has read a document already gets the same warnings, a byte order mark or not."""
    text = json.dumps({**SMALL, "note": 1})
    spec = parse_pipeline(text, "p.json")
    assert warnings_of(text, spec) == warnings_of(f"\ufeff{text}", spec) == lint_pipeline(text, "p.json") != ()


@pytest.mark.parametrize(
    ("document", "path", "words"),
    [
        ({"schedule": "@daily"}, "$.schedule", "belongs into options.airflow."),
        ({"options": {"retries": 2}}, "$.options.retries", "belongs into options.airflow."),
        ({"options": {"epochs": 2}}, "$.options.epochs", "belongs into options.train."),
        ({"options": {"airflow": {"framework": "a@1"}}}, "$.options.airflow.framework", "belongs into options."),
        ({"options": {"dataflow": []}}, "$.options.dataflow", "belongs into the document itself."),
        ({"options": {"airflow": {"stages": {"model": {"schedule": 1}}}}}, None, "belongs into options.airflow."),
    ],
)
def test_key_in_the_wrong_place(document: Any, path: str | None, words: str) -> None:
    """Of a key that stands in the wrong section, the right one is told."""
    ((found, message),) = warnings({**SMALL, **document})
    assert found == (path or "$.options.airflow.stages.model.schedule")
    assert message.endswith(words)


def test_repeated_key_and_order() -> None:
    """A repeated key is told at the repetition, among the other warnings in the order of the text."""
    text = '{\n"specVersion": "2.0", "b": 1, "model": "a.py",\n"datasource": "d.py", "model": "m.py", "a": 1}'
    found = lint_pipeline(text, "p.json")
    assert [(problem.path, problem.line, problem.column) for problem in found] == [
        ("$.b", 2, 23),
        ("$.model", 3, 23),
        ("$.a", 3, 40),
    ]
    assert "line 2, column 31" in found[1].message


def test_no_warning_shows_a_password() -> None:
    """A warning about a parameter that holds a password shows its name only."""
    document = {**SMALL, "model": "m.py?modelUrl=https://me:s3cret@h/m", "options": {"train": {"modelUrl": "x"}}}
    found = warnings(document)
    assert {path for path, _ in found} == {"$.model", "$.options.train.modelUrl"}
    assert "s3cret" not in str(found)
    assert "me:" not in str(found)


def test_unusable_document() -> None:
    """Lint does not soften errors."""
    with pytest.raises(SpecError):
        lint_pipeline("{}", "p.json")
