"""The compiled schema says the same as jsonschema, and every keyword has words of its own."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource

from pipcook_provider.errors import SpecError
from pipcook_provider.spec import (
    DEFAULTS_SCHEMA_PATH,
    SCHEMA_PATH,
    AirflowOptions,
    StageOptions,
    load_pipeline_spec,
    parse_pipeline,
)
from pipcook_provider.spec.diagnose import _TRANSLATORS
from pipcook_provider.spec.folder import DEFAULTS_NAME
from pipcook_provider.spec.lint import lint_file
from pipcook_provider.spec.schema import (
    ANNOTATIONS,
    at,
    compile_schema,
    defaults_predicate,
    defaults_schema,
    known_keys,
    predicate,
    schema,
)

FULL: dict[str, Any] = {
    "$schema": "schema.json",
    "specVersion": "2.0",
    "type": "ImageClassification",
    "datasource": "datasource.py?url=a.zip",
    "dataflow": ["resize.py?size=32&size=32", "normalize.py"],
    "model": "model.py",
    "artifact": [{"processor": "pipcook-artifact-zip@0.0.2", "target": "model.zip"}],
    "options": {
        "framework": "tensorflow@2.21",
        "train": {"epochs": 20, "gpu": True, "batchSize": 1, "learningRate": 0.1, "seed": 0, "patience": 0},
        "airflow": {
            "schedule": {
                "time": "@daily",
                "assets": {
                    "any": ["a", {"all": ["b", {"name": "c", "uri": "https://h/c", "watch": True, "interval": 60}]}]
                },
            },
            "timezone": "Asia/Shanghai",
            "start_date": "2026-01-01",
            "catchup": False,
            "retries": 2,
            "retry_delay": 1.5,
            "tags": ["vision"],
            "owner": "web",
            "pool": "gpu",
            "queue": "gpu",
            "executor": "LocalExecutor",
            "on_failure": ["team"],
            "priority_weight": -1,
            "max_active_runs": 1,
            "execution_timeout": 60,
            "description": "d",
            "runner": "docker",
            "image": {"cpu": "i", "gpu": None},
            "network": True,
            "gpus": 1,
            "memory": "4GB",
            "stages": {
                "model": {"image": "i", "network": "n", "gpu": True, "memory": "1GB", "pool": "p", "queue": "q"},
                "datasource": {
                    "executor": "e",
                    "retries": 1,
                    "retry_delay": 1,
                    "execution_timeout": 1,
                    "priority_weight": 1,
                },
                "dataflow_2": None,
            },
            "env": {"A": "1"},
        },
    },
    "origin": "/dags/p.json",
}
VALUES: list[Any] = [
    *(None, True, False, 0, 1, 2, -1, 1.0, 1.5, "", "x", "2.0", "true", "x" * 101),
    *(2**31, -(2**31) - 1, 31536001, "\0", {"1": "1"}, {"A\n": "1"}, {"A": "a\0b"}, {"A": "a\n"}),
    *("4GB", "4 apples", "a b", "x\n", {"gpu": "i"}, {"cpu": 1}, {"model": {}}, {"modle": {}}),
    *(["P1D"], "P1D", {"any": ["x", "x"]}, {"all": []}, {"time": "@once", "assets": ["x"]}, {"any": {"all": None}}),
    *([], [1], ["x"], [None], [{}], [{"processor": ""}], [{"processor": "p"}], {}, {"a": 1}, {"processor": "p"}),
]


def containers(value: Any) -> Iterator[Any]:
    """Yield every object and list inside a JSON value."""
    if isinstance(value, dict | list):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from containers(inner)


def mutations() -> Iterator[Any]:
    """Yield the full document with each value replaced, each entry removed, and each alternative spelling added."""
    yield from VALUES
    for index, container in enumerate(containers(FULL)):
        for key in list(container) if isinstance(container, dict) else range(len(container)):
            for value in VALUES:
                changed = copy.deepcopy(FULL)
                list(containers(changed))[index][key] = value
                yield changed
            changed = copy.deepcopy(FULL)
            del list(containers(changed))[index][key]
            yield changed
    for name, value in (("dataSource", "a.py"), ("artifacts", None), ("datasorce", "a.py"), ("note", 1)):
        yield {**FULL, name: value}


PATHS = (SCHEMA_PATH, DEFAULTS_SCHEMA_PATH)


@pytest.mark.parametrize("path", PATHS)
def test_schema_is_valid(path: Path) -> None:
    """Each shipped schema is itself a valid schema of its draft."""
    jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text("utf-8")))


def defaults_as_editors_see_them() -> jsonschema.Draft202012Validator:
    """Return a validator of the shipped file that finds the other one beside it."""
    resources = [(path.name, Resource.from_contents(json.loads(path.read_bytes()))) for path in PATHS]
    registry: Registry[Any] = Registry().with_resources(resources)
    return jsonschema.Draft202012Validator({"$ref": DEFAULTS_SCHEMA_PATH.name}, registry=registry)


def test_compiled_defaults_agree_with_jsonschema() -> None:
    """For any defaults the compiled schema gives the verdict of jsonschema on the two files as they lie there."""
    validator = defaults_as_editors_see_them()
    contents: list[Any] = [*VALUES, {}, {"options": {}, "environment": ["A"]}, {"$schema": 1}, {"note": 1}]
    contents += [{"environment": value} for value in (*VALUES, ["A", "B_1"], ["1A"], ["A\n"], [""])]
    contents += [{"options": mutation.get("options")} for mutation in mutations() if isinstance(mutation, dict)][::7]
    verdicts = [(validator.is_valid(content), defaults_predicate()(content), content) for content in contents]
    assert [content for expected, found, content in verdicts if expected != found] == []
    assert {expected for expected, _, _ in verdicts} == {True, False}


def test_compiled_schema_agrees_with_jsonschema() -> None:
    """For thousands of right and wrong documents the compiled schema gives the verdict of jsonschema."""
    validator = jsonschema.Draft202012Validator(schema())
    verdicts = [(validator.is_valid(document), predicate()(document), document) for document in mutations()]
    assert [document for expected, found, document in verdicts if expected != found] == []
    assert {expected for expected, _, _ in verdicts} == {True, False}


def test_any_document_gives_a_spec_or_problems() -> None:
    """No document makes the parser fall over: it gives a spec, or problems in the order of the text."""
    outcomes = set()
    for document in islice(mutations(), 0, None, 3):
        text = json.dumps(document, indent=1)
        try:
            parse_pipeline(text, "/dags/p.json")
            outcomes.add("spec")
        except SpecError as exc:
            outcomes.add("problems")
            places = [(problem.line, problem.column) for problem in exc.problems]
            assert places
            assert places == sorted(places)
    assert outcomes == {"spec", "problems"}


def test_any_defaults_give_a_spec_or_problems(tmp_path: Path) -> None:
    """No defaults make the reader or lint fall over: a document gets them, or their problems are told."""
    document, defaults = tmp_path / "p.json", tmp_path / DEFAULTS_NAME
    own = {**FULL, "options": {"train": {"epochs": 1}, "airflow": {"stages": {"model": {"gpu": True}}}}}
    del own["origin"]
    document.write_text(json.dumps(own), encoding="utf-8")
    outcomes = set()
    for mutation in islice(mutations(), 0, None, 7):  # of each value replaced, some
        has_options = isinstance(mutation, dict) and "options" in mutation
        content = {"options": mutation["options"]} if has_options else mutation
        defaults.write_text(json.dumps(content, indent=1), encoding="utf-8")
        told = lint_file(document)
        try:
            load_pipeline_spec(document)
            outcome = "spec"
        except SpecError:
            outcome = "problems"
        outcomes.add(outcome)
        assert any(finding.level == "error" for finding in told) is (outcome == "problems")
    assert outcomes == {"spec", "problems"}


def test_cut_and_damaged_texts_give_problems() -> None:
    """A text cut off anywhere, or with any character left out, gives a spec or a SpecError, never another error."""
    text = json.dumps(FULL, indent=1)
    for end in range(len(text)):
        with pytest.raises(SpecError):
            parse_pipeline(text[:end], "/dags/p.json")
    for index in range(len(text)):
        try:
            parse_pipeline(text[:index] + text[index + 1 :], "/dags/p.json")
        except SpecError as exc:
            assert exc.problems  # noqa: PT017 - most but not all of these texts are broken


def test_unsupported_keyword_is_refused() -> None:
    """A keyword that the compiler does not know is an error at once, not a check that is silently left out."""
    with pytest.raises(KeyError, match="multipleOf"):
        compile_schema({"type": "number", "multipleOf": 2})


@pytest.mark.parametrize(
    ("entries", "conforms"), [(["a"], True), (["a", {"any": ["b"]}], True), ([], False), ([1], False), ("a", False)]
)
def test_a_definition_may_hold_itself(entries: Any, conforms: bool) -> None:
    """A definition with lists of itself is checked at every depth."""
    check = compile_schema(at(("options", "airflow", "schedule")))
    for _ in range(10):
        assert check({"any": entries}) is conforms
        entries = [{"all": entries}]


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        (("schedule",), {"any", "all", "time", "assets"}),
        (("schedule", "assets"), {"any", "all"}),
        *(
            (("schedule", *path, 0), {"name", "uri", "watch", "interval", "any", "all"})
            for path in ((), ("any",), ("assets",), ("assets", "any", 1, "all"))
        ),
        (("stages", "model"), {field.name for field in fields(StageOptions)}),
        ((), {field.name for field in fields(AirflowOptions)}),
    ],
)
def test_keys_that_an_editor_completes(path: tuple[str | int, ...], keys: set[str]) -> None:
    """At every place of the options for Airflow the schema names the keys that are read there."""
    assert set(known_keys("options", "airflow", *path)) == keys


def test_every_keyword_is_translated() -> None:
    """Whatever keyword of the schema refuses a document, there are words for it."""
    structure = {"$ref", "properties", "additionalProperties", "items"}
    used: set[str] = set()

    def visit(part: dict[str, Any]) -> None:
        used.update(part)
        for name in ("properties", "$defs"):
            for inner in part.get(name, {}).values():
                visit(inner)
        for name in ("items", "additionalProperties"):
            if isinstance(part.get(name), dict):
                visit(part[name])

    visit(dict(schema()))
    visit(dict(defaults_schema()))
    assert used - ANNOTATIONS - structure <= set(_TRANSLATORS)


def test_every_value_is_described_with_an_example_that_conforms() -> None:
    """An editor can explain and complete every key, and the examples that errors show are right."""

    seen: set[str] = set()

    def visit(path: str, part: dict[str, Any]) -> Iterator[str]:
        resolved = {**schema()["$defs"].get(part.get("$ref", "").removeprefix("#/$defs/"), {}), **part}
        if json.dumps(resolved) in seen:
            return
        seen.add(json.dumps(resolved))
        resolved.pop("$ref", None)
        if not resolved.get("description") or not ({"examples", "oneOf"} & resolved.keys()):
            yield path
        check = compile_schema(resolved)
        if any(not check(example) for example in resolved.get("examples", ())):
            yield f"{path} example"
        for name, inner in resolved.get("properties", {}).items():
            yield from visit(f"{path}.{name}", inner)
        for name in ("items", "additionalProperties"):
            if isinstance(resolved.get(name), dict):
                yield from visit(f"{path}[]", resolved[name])

    assert list(visit("$", dict(schema()))) == []
    assert [
        found for name in ("$schema", "environment") for found in visit(name, defaults_schema()["properties"][name])
    ] == []
