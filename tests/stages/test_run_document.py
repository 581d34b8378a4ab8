"""The document of a run: the pipeline's own, with what the run was triggered with."""

from __future__ import annotations

import json
from typing import Any

import pytest
from helpers import prepared

from pipcook_provider.errors import ParameterError
from pipcook_provider.plan import run_parameters
from pipcook_provider.spec import PipelineSpec, parse_pipeline
from pipcook_provider.stages.document import CHANGED, as_it_runs, without_airflow

DOCUMENT: dict[str, Any] = {
    "specVersion": "2.0",
    "dataSource": "./datasource.py?url=a%20b&size=1&size=2&alone&day={{ ds }}#sha256=" + "0" * 64,
    "dataflow": ["https://example.com/flow.py?size=1", "flow.py?size=2"],
    "model": "model.py",
    "options": {"framework": "tensorflow@2.21", "train": {"epochs": 1, "rate": 1.0, "on": True, "layers": [{"n": 1}]}},
}


def spec_of(**changes: Any) -> PipelineSpec:
    return parse_pipeline(json.dumps({**DOCUMENT, **changes}), "/dags/p.json")


def ran_with(changes: dict[str, Any], **document: Any) -> PipelineSpec:
    """Return what a run with these changes reads."""
    spec = spec_of(**document)
    return parse_pipeline(json.dumps(as_it_runs(spec, changes)), spec.origin)


def test_the_documents_own_values_change_nothing() -> None:
    """A form sends all its fields: those that say what the document says leave it as it is, to the letter."""
    spec = spec_of()
    own = {parameter.name: parameter.value for parameter in run_parameters(spec)}
    assert as_it_runs(spec, own) == {**DOCUMENT, "origin": "/dags/p.json"}
    assert as_it_runs(spec, json.loads(json.dumps({**own, "rate": 1}))) == {**DOCUMENT, "origin": "/dags/p.json"}


def test_what_a_browser_makes_of_numbers_changes_nothing() -> None:
    """A browser writes 1.0 as 1 and rounds 64 bits; true is no 1 all the same."""
    train = {"rate": 1.0, "seed": 2**60 + 1, "on": True, "list": [1.0, True]}
    options = {"train": train}
    own = {"rate": 1, "seed": 2**60, "on": True, "list": [1, True], "framework": None}
    assert CHANGED not in as_it_runs(spec_of(options=options), own)
    for name, value in {"on": 1, "rate": True, "list": [1, 1], "seed": 10**400}.items():
        assert as_it_runs(spec_of(options=options), {name: value})[CHANGED] == {name: [train[name], value]}


def test_queries_of_scripts_are_changed_one_by_one() -> None:
    """A changed parameter replaces the one in its script's URI; the others, the path and the digest stay."""
    changes = {
        "datasource.url": "c&d=é",
        "datasource.size": ["7", None],
        "datasource.alone": "x",
        "dataflow_2.size": None,
    }
    ran = ran_with(changes)
    assert ran.datasource.parameters == {
        "url": "c&d=é",
        "size": ["7", None],
        "alone": "x",
        "day": "{{ ds }}",
    }
    assert ran.datasource.reference.endswith("/datasource.py#sha256=" + "0" * 64)
    assert [script.parameters for script in ran.dataflow] == [{"size": "1"}, {"size": None}]
    assert ran.dataflow[0].reference == "https://example.com/flow.py?size=1"
    assert ran.document["dataSource"].startswith("./datasource.py?")


def test_what_was_changed_is_kept_with_the_run() -> None:
    """The run's document says which parameters are not the document's, and what both say; the model's does not."""
    document = as_it_runs(spec_of(), {"epochs": 3, "datasource.url": "x", "framework": "tensorflow@2.21"})
    assert document[CHANGED] == {"epochs": [1, 3], "datasource.url": ["a b", "x"]}
    assert document["options"]["train"]["epochs"] == 3
    assert not {CHANGED, "origin"} & without_airflow(document).keys()
    again = parse_pipeline(json.dumps(document), "/run/pipeline-config.json")
    assert CHANGED not in as_it_runs(again, {})


@pytest.mark.parametrize("options", [None, {}, {"train": None}])
def test_framework_of_a_document_without_one(options: object) -> None:
    """A run may name a framework where the document names none, and have none where it names one."""
    assert ran_with({"framework": "pytorch@2.9"}, options=options).framework == "pytorch@2.9"
    assert as_it_runs(spec_of(options=options), {"framework": None}).get("options") == options
    assert as_it_runs(spec_of(options=options), {"framework": ""}).get(CHANGED) is None
    assert ran_with({"framework": None}).framework is None


@pytest.mark.parametrize("own", ["https://example.com/f.zip", "./f", "name"])
def test_framework_of_a_document_is_allowed(own: str) -> None:
    """What the document itself says needs no rule."""
    assert ran_with({"framework": own}, options={"framework": own}).framework == own


@pytest.mark.parametrize(
    "value", ["https://evil.example/f.zip", "/tmp/f", "../f", "f.zip", "f.zip\n", "~/f", 1, ["a@1"], False]
)
def test_framework_from_elsewhere_is_refused(value: object) -> None:
    """Whoever triggers a run cannot have it run code from a place that the document does not name."""
    with pytest.raises(ParameterError, match=r"'framework' to be a framework as name@version.*Nothing was run"):
        as_it_runs(spec_of(), {"framework": value})


@pytest.mark.parametrize("value", [1, True, {"a": "b"}, [1], ["a", ["b"]]])
def test_queries_hold_texts(value: object) -> None:
    """The query of a URI has no numbers and no objects."""
    with pytest.raises(ParameterError, match=r"'dataflow_1\.size' to be a text, null, or a list of these"):
        as_it_runs(spec_of(), {"dataflow_1.size": value})


def test_half_a_character_is_refused() -> None:
    """What no URI can carry is refused before anything runs."""
    with pytest.raises(ParameterError, match="cannot be written into its script's URI"):
        as_it_runs(spec_of(), {"dataflow_1.size": "\ud800"})


def test_unknown_names_are_refused() -> None:
    """A name that no parameter has is refused with the nearest one."""
    with pytest.raises(ParameterError, match=r"found 'dataflow_1\.sise'\. Did you mean 'dataflow_1\.size'\?"):
        as_it_runs(spec_of(), {"dataflow_1.sise": "1"})


def test_scripts_get_what_a_run_changed(runner, heard, write_pipeline, tmp_path) -> None:
    """A changed query reaches the script, and the run's folder tells of it."""
    workspace = prepared(runner, write_pipeline(), tmp_path / "run", {"datasource.count": "4", "epochs": 2})
    assert runner.run(workspace, "datasource").value["samples"]["train"] == 4
    config = json.loads(workspace.config.read_text(encoding="utf-8"))
    assert config[CHANGED] == {"datasource.count": ["10", "4"]}
