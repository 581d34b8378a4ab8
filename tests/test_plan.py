"""What a document's stages are, and what a run of them may change."""

from __future__ import annotations

import json
from typing import Any

from pipcook_provider.plan import RunParameter, dag_id_of, model_asset, plan, run_parameters, stage_options
from pipcook_provider.spec import PipelineSpec, StageOptions, parse_pipeline


def spec_of(**document: Any) -> PipelineSpec:
    parts = {"specVersion": "2.0", "datasource": "d.py?b=2&a=1", "dataflow": ["f.py"], "model": "m.py?x"}
    return parse_pipeline(json.dumps({**parts, **document}), "/dags/p.json")


def test_run_parameters_are_values_of_the_document() -> None:
    """Training parameters, queries in the order of the stages, and the framework; each with its place."""
    spec = spec_of(options={"train": {"epochs": 1, "optimizer": {"rate": 2, "more": {}}}, "framework": "a@1"})
    source, model = "datasource: d.py", "model: m.py"
    assert list(run_parameters(spec)) == [
        RunParameter("epochs", None, 1, ("options", "train", "epochs")),
        RunParameter("optimizer.rate", None, 2, ("options", "train", "optimizer", "rate")),
        RunParameter("optimizer.more", None, {}, ("options", "train", "optimizer", "more")),
        RunParameter("datasource.a", source, "1", ("datasource",), "a"),
        RunParameter("datasource.b", source, "2", ("datasource",), "b"),
        RunParameter("model.x", model, None, ("model",), "x"),
        RunParameter("framework", "Framework", "a@1", ("options", "framework")),
    ]


def test_names_of_run_parameters_are_unique() -> None:
    """However training parameters are called, none has the name of another field."""
    train = {"framework": 1, "train": {"framework": 2}, "model": {"x": 3}, "a.b": 4, "a": {"b": 5}}
    parameters = list(run_parameters(spec_of(options={"train": train})))
    names = {parameter.name: parameter.value for parameter in parameters}
    assert len(names) == len(parameters)
    assert names["train.framework"] == 1
    assert names["train.train.framework"] == 2
    assert (names["train.model.x"], names["model.x"]) == (3, None)
    assert (names["a.b"], names["train.a.b"]) == (4, 5)


def test_scripts_have_places_in_their_document() -> None:
    """The document tells where the URI of each script stands, in both spellings."""
    assert spec_of().script_paths == (("datasource",), ("dataflow", 0), ("model",))
    document = {"specVersion": "2.0", "dataSource": "d.py", "model": "m.py"}
    other = parse_pipeline(json.dumps(document), "/p.json")
    assert other.script_paths == (("dataSource",), ("model",))


def test_titles_fit_airflows_database() -> None:
    """Of a script's name as long as an address may have, the title shows the beginning."""
    title = plan(spec_of(datasource=f"https://example.com/{'x' * 3000}.py"))[0].title
    assert title == f"datasource: {'x' * 250}"


def test_options_of_stages_are_overlaid() -> None:
    """All that Airflow knows of a task may stand at the pipeline, a role or a task id; the last goes first."""
    knobs = {
        "queue": "q",
        "executor": "e",
        "priority_weight": 1,
        "retries": 2,
        "retry_delay": 3,
        "execution_timeout": 4,
    }
    stages = {"dataflow": {"retries": 0, "queue": "r"}, "dataflow_1": {"queue": "s", "retry_delay": 0}}
    spec = spec_of(options={"airflow": {**knobs, "stages": stages}})
    found = {stage.task_id: stage_options(spec, stage) for stage in plan(spec)}
    assert found["datasource"] == found["model"] == StageOptions(**knobs)
    assert found["dataflow_1"] == StageOptions(**{**knobs, "retries": 0, "queue": "s", "retry_delay": 0})


def test_model_is_named_after_its_dag() -> None:
    """The asset's name is a URI whatever the dag_id is."""
    assert model_asset(dag_id_of("team x/digits.json")) == "pipcook://models/team_x.digits"
    assert model_asset("数字/a b") == "pipcook://models/%E6%95%B0%E5%AD%97%2Fa%20b"
