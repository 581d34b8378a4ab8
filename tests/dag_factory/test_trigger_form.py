"""The trigger form: which fields there are, and what Airflow takes in them."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG
from dag_bags import stored

from pipcook_provider.dag_factory import load_pipeline
from pipcook_provider.errors import SpecError


def schemas(dag: DAG) -> dict[str, dict[str, Any]]:
    """Return the schema of each field."""
    return {name: dag.params.get_param(name).schema for name in dag.params}


def takes(dag: DAG, name: str, value: Any) -> bool:
    """Tell whether Airflow takes a value in a field."""
    try:
        dag.params[name] = value
    except Exception:
        return False
    return True


def test_trigger_form_has_typed_fields(write_pipeline) -> None:
    """Every value of options.train is a field of its own type; nested ones are flattened."""
    train = {
        "epochs": 3,
        "rate": 0.5,
        "gpu": False,
        "name": "x",
        "size": [1, 2],
        "seed": None,
        "optimizer": {"rate": 1},
    }
    dag = load_pipeline(write_pipeline(options={"train": train}))
    types = {name: dag.params.get_param(name).schema["type"] for name in dag.params}
    assert types == {
        "epochs": "integer",
        "rate": "number",
        "gpu": "boolean",
        "name": "string",
        "size": "array",
        "seed": ["integer", "null"],
        "optimizer.rate": "number",
        "datasource.count": "string",
        "framework": ["null", "string"],
    }
    assert dag.params.dump()["epochs"] == 3
    assert dag.params.get_param("epochs").description
    with pytest.raises(Exception, match="'many' is not of type 'integer'"):
        dag.params["epochs"] = "many"


def test_ranges_and_descriptions_come_from_the_schema(write_pipeline) -> None:
    """What the vocabulary knows of a value, the form knows."""
    train = {"epochs": 2, "batchSize": 16, "learningRate": 0.1, "seed": None, "patience": "many"}
    dag = load_pipeline(write_pipeline(options={"train": train}))
    found = schemas(dag)
    assert found["epochs"] == {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}
    assert found["learningRate"] == {"type": "number", "exclusiveMinimum": 0}
    assert found["seed"] == {"type": ["integer", "null"], "minimum": 0, "maximum": 2**63 - 1}
    assert found["patience"] == {"type": "string"}
    assert all(dag.params.get_param(name).description for name in train)
    assert not takes(dag, "epochs", 0)
    assert not takes(dag, "epochs", 1.5)
    assert not takes(dag, "epochs", 10**30)  # which Airflow would accept, and then could not hand to any task
    assert not takes(dag, "learningRate", 0)
    assert takes(dag, "learningRate", 1)


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (True, {"type": "boolean"}),
        ("auto", {"type": "string", "enum": ["true", "false", "auto"]}),
        ("true", {"type": "string", "enum": ["true", "false", "auto"]}),
        (None, {"type": ["boolean", "null"]}),
    ],
)
def test_gpu_is_a_switch_or_a_choice(write_pipeline, value: object, schema: dict) -> None:
    """A document that says true or false gets a switch, one that says a text the texts to choose from."""
    dag = load_pipeline(write_pipeline(options={"train": {"gpu": value}}))
    assert schemas(dag)["gpu"] == schema


def test_queries_are_fields_of_their_scripts(write_pipeline) -> None:
    """Each script's parameters stand in a section of its own, as texts; a key alone may stay without a value."""
    dag = load_pipeline(
        write_pipeline(
            datasource="datasource.py?url=x&empty=&alone",
            dataflow=["dataflow.py?size=1&size=2", "dataflow.py?size=1&size"],
            model="model.py?epochs=3",
            options={"train": {"epochs": 1}},
        )
    )
    assert list(schemas(dag)) == [
        *("epochs", "datasource.alone", "datasource.empty", "datasource.url"),
        *("dataflow_1.size", "dataflow_2.size", "model.epochs", "framework"),
    ]
    found = schemas(dag)
    first, second = "dataflow 1: dataflow.py", "dataflow 2: dataflow.py"
    assert found["datasource.url"] == {"type": "string", "section": "datasource: datasource.py"}
    assert found["datasource.empty"]["type"] == found["datasource.alone"]["type"] == ["string", "null"]
    assert found["dataflow_1.size"] == {"type": "array", "items": {"type": "string"}, "section": first}
    assert found["dataflow_2.size"] == {"type": "array", "items": {"type": ["string", "null"]}, "section": second}
    assert dag.params["dataflow_2.size"] == ["1", None]
    assert "section" not in found["epochs"]
    assert found["framework"]["section"] == "Framework"


@pytest.mark.parametrize("stated", [None, "tensorflow@2.21", "./my framework.zip", "https://example.com/f.zip?a=(b)"])
def test_framework_names_no_place_but_the_documents(write_pipeline, stated: str | None) -> None:
    """A run may name a framework; a URL or path only if it is the one that the document's reviewer has seen."""
    dag = load_pipeline(write_pipeline(options={"framework": stated}))
    assert takes(dag, "framework", stated)
    assert takes(dag, "framework", "pytorch@2.9")
    assert takes(dag, "framework", None) is (stated is None)
    for other in (
        "https://evil.example/f.zip",
        "/tmp/f",
        "./f",
        "f.zip",
        "tensorflow@2.21\n",
        "",
        "a b",
        f"{stated}x/",
    ):
        assert not takes(dag, "framework", other)


def test_names_are_each_of_one_field(write_pipeline) -> None:
    """A training parameter whose name another field has gets a longer one."""
    train = {"framework": "a", "model": {"x": 1}, "a.b": 2, "a": {"b": 3}}
    dag = load_pipeline(write_pipeline(model="model.py?x=0", options={"train": train}))
    assert {name: dag.params[name] for name in dag.params} == {
        "train.framework": "a",
        "train.model.x": 1,
        "a.b": 2,
        "train.a.b": 3,
        "datasource.count": "10",
        "model.x": "0",
        "framework": None,
    }


def test_lists_of_objects_are_no_fields(write_pipeline) -> None:
    """Airflow's form would give back such a list as another one than it was given."""
    dag = load_pipeline(write_pipeline(options={"train": {"layers": [{"units": 3}], "deep": [[{}]], "sizes": [[1]]}}))
    assert list(dag.params) == ["sizes", "datasource.count", "framework"]


ODD = [
    *(None, True, False, 0, 1, -1, 2.0, 2.5, 1e300, 2**63 - 1, -(2**63), "", " ", "x", "auto", "true", "\x00", "💡\n"),
    *([], [None], [1, "a", None, True, 2.5, [], {}], ["a"], [""], [[1]], {}, {"a": {}}, {"": None}, {"a": [1]}),
]
NAMES = [
    "epochs",
    "batchSize",
    "learningRate",
    "gpu",
    "seed",
    "metrics",
    "mode",
    "freeze",
    "other",
    "",
    "a.b",
    "train.x",
]


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_valid_whatever_a_document_says(write_pipeline, name: str) -> None:
    """A document is an error, or every field's default is one that Airflow takes: a scheduled run has no one to ask."""
    usable = 0
    for value in ODD:
        document = write_pipeline(
            datasource="datasource.py?a&a=&b=%22&=&c=1",
            options={"train": {name: value}, "airflow": {"schedule": "@daily"}},
        )
        try:
            dag = load_pipeline(document)
        except SpecError:
            continue
        usable += 1
        assert dag.params.validate() == stored(dag).params.validate() == stored(dag).params.dump()
    assert usable > 3
