"""What a stage does around the user's function: what it accepts, reports and hands on."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from helpers import prepared

from pipcook_provider.errors import ScriptError
from pipcook_provider.runtime.messages import Metric, Progress
from pipcook_provider.stages import StageResult, StageRunner


def run_model(runner: StageRunner, write_pipeline, tmp_path: Path, body: str) -> StageResult:
    """Run a pipeline up to its model, whose ``train`` has this body and then saves something."""
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    script = f"import numpy as np\ndef train(runtime, options, context):\n{lines}    runtime.save_model(b'', 'model')\n"
    workspace = prepared(runner, write_pipeline(scripts={"model.py": script}), tmp_path / "run")
    return [runner.run(workspace, stage) for stage in ("datasource", "dataflow_1", "model")][-1]


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        ("DatasetPool()", "no split at all"),
        ("DatasetPool.from_samples(train=[])", "train with 0 samples"),
        ("DatasetPool.from_samples(train=[], test=[])", "train with 0 samples, test with 0 samples"),
    ],
)
@pytest.mark.parametrize("role", ["datasource", "dataflow"])
def test_pool_without_samples_fails_its_stage(
    runner, write_pipeline, tmp_path, role: str, returned: str, found
) -> None:
    """A stage that hands on no sample in any split fails at once, not the stage after it."""
    script = f"from pipcook_provider.runtime import DatasetPool\ndef {role}(*arguments):\n    return {returned}\n"
    workspace = prepared(runner, write_pipeline(scripts={f"{role}.py": script}), tmp_path / "run")
    if role == "dataflow":
        runner.run(workspace, "datasource")
    with pytest.raises(ScriptError, match=rf"expected {role}\(\) to return .* with samples, found {found}:") as caught:
        runner.run(workspace, "datasource" if role == "datasource" else "dataflow_1")
    assert not caught.value.retryable
    assert caught.value.details == ""


def test_one_split_with_samples_is_enough(runner, write_pipeline, tmp_path) -> None:
    """A split may be empty as long as another is not."""
    script = """
from pipcook_provider.runtime import DatasetPool, Sample
def datasource(options, context):
    return DatasetPool.from_samples(train=[], predicted=[Sample(1.0)])
"""
    workspace = prepared(runner, write_pipeline(scripts={"datasource.py": script}), tmp_path / "run")
    assert runner.run(workspace, "datasource").value == {"samples": {"train": 0, "predicted": 1}}


def test_metric_may_be_any_number(runner, heard, write_pipeline, tmp_path) -> None:
    """numpy's numbers are numbers, as values and as steps; NaN and infinity arrive as such."""
    body = """
runtime.log_metric("loss", np.float32(0.5), np.int64(3))
runtime.log_metric("accuracy", np.array([1]), np.array(4))
runtime.log_metric("nan", np.float64("nan"))
runtime.log_metric("infinity", -np.inf, step=np.uint8(5))
"""
    run_model(runner, write_pipeline, tmp_path, body)
    loss, accuracy, nan, infinity = (message for message in heard.messages if isinstance(message, Metric))
    assert (loss, accuracy) == (Metric("loss", 0.5, 3), Metric("accuracy", 1.0, 4))
    assert math.isnan(nan.value)
    assert infinity == Metric("infinity", -math.inf, 5)


def test_figures_beside_progress_may_be_anything(runner, heard, write_pipeline, tmp_path) -> None:
    """Figures become Python's numbers where they are numbers, and their text where JSON cannot hold them."""
    body = """
class Silent:
    def __str__(self):
        raise RuntimeError
runtime.notify_progress(
    np.float32(0.5), epoch=np.int64(3), loss=np.float32(0.25), one=np.array([7]), done=np.bool_(True), nan=np.nan,
    many=np.arange(3), root=1j, numpys=np.complex64(2j), some=np.array([object]), when=np.datetime64("2026-01-02"),
    silent=Silent(), nothing=None, text="x",
)
runtime.notify_progress(np.nan)
"""
    run_model(runner, write_pipeline, tmp_path, body)
    progress, unknown = (message for message in heard.messages if isinstance(message, Progress))
    figures = dict(progress.extend_data)
    assert (progress.value, unknown.value) == (0.5, 0.0)
    assert math.isnan(figures.pop("nan"))
    assert figures == {
        "epoch": 3,
        "loss": 0.25,
        "one": 7,
        "done": True,
        "many": "[0 1 2]",
        "root": "1j",
        "numpys": "2j",
        "some": "<class 'object'>",
        "when": "2026-01-02",
        "silent": "a Silent",
        "nothing": None,
        "text": "x",
    }
