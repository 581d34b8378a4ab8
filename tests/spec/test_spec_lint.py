"""Warnings about documents that can be used."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipcook_provider.errors import SpecError
from pipcook_provider.spec import lint_pipeline

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
