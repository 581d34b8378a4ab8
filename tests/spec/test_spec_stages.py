"""What a document says of single stages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipcook_provider.plan import plan, stage_options
from pipcook_provider.spec import PipelineSpec, StageOptions, parse_pipeline
from pipcook_provider.spec.stages import PREPARE, check_any_stage, check_stage, stage_names

DOCUMENT: dict[str, Any] = {
    "specVersion": "2.0",
    "datasource": "d.py",
    "dataflow": ["a.py", "b.py"],
    "model": "m.py",
    "artifacts": [{"processor": "zip"}],
}


def parse(airflow: dict[str, Any]) -> PipelineSpec:
    return parse_pipeline(json.dumps({**DOCUMENT, "options": {"airflow": airflow}}), "/p.json")


def options_by_stage(airflow: dict[str, Any]) -> dict[str, StageOptions]:
    spec = parse(airflow)
    return {stage.task_id: stage_options(spec, stage) for stage in plan(spec)}


def test_names_are_those_of_the_plan() -> None:
    """Options can name every task id and every role of the pipeline, and nothing else."""
    stages = plan(parse({}))
    assert set(stage_names(DOCUMENT)) == {name for stage in stages for name in (stage.task_id, stage.role)}
    assert stage_names({"dataflow": "a.py", "artifact": None}) == ("datasource", "model")
    for name in stage_names(DOCUMENT):
        check_any_stage(name)
    for name in ("modle", "model_1", "dataflow_0", "dataflow_01", "artifact_", "prepare", ""):
        with pytest.raises(ValueError, match="which no document has"):
            check_any_stage(name)


def test_nothing_stated() -> None:
    """Without options every stage is left to the settings."""
    assert all(options == StageOptions() for options in options_by_stage({"owner": "web"}).values())


def test_task_id_goes_before_role_before_pipeline() -> None:
    """Each field is taken from the most special place that states it."""
    found = options_by_stage(
        {
            "image": {"cpu": "p", "gpu": "p-gpu"},
            "network": False,
            "memory": "1GB",
            "pool": "pool",
            "queue": "queue",
            "stages": {
                "dataflow": {"memory": "2GB", "image": "f", "network": "net"},
                "dataflow_2": {"memory": "3GB", "image": {"gpu": "f2-gpu"}, "gpu": True},
                "model": {"pool": "cards", "queue": None, "network": True},
                "datasource": None,
            },
        }
    )
    pipeline = StageOptions(image={"cpu": "p", "gpu": "p-gpu"}, network=False, memory=10**9, pool="pool", queue="queue")
    assert found["datasource"] == found["artifact_1"] == pipeline
    assert found["dataflow_1"] == StageOptions(
        image={"cpu": "f", "gpu": "f"}, network="net", memory=2 * 10**9, pool="pool", queue="queue"
    )
    assert found["dataflow_2"] == StageOptions(
        image={"cpu": "f", "gpu": "f2-gpu"}, network="net", memory=3 * 10**9, gpu=True, pool="pool", queue="queue"
    )
    assert found["model"] == StageOptions(
        image={"cpu": "p", "gpu": "p-gpu"}, network=True, memory=10**9, pool="cards", queue="queue"
    )


def test_prepare_is_no_stage() -> None:
    """Whoever names the task before the stages learns where its options stand, in documents as in defaults."""
    told = "The task prepare has what options.airflow says of the whole pipeline. Write it there."
    with pytest.raises(ValueError, match="Expected a stage that this document has") as found:
        check_stage(PREPARE, stage_names({}))
    assert str(found.value).endswith(told)
    with pytest.raises(ValueError, match="which no document has") as found:
        check_any_stage(PREPARE)
    assert str(found.value).endswith(told)
