"""What is kept of what a stage tells."""

from __future__ import annotations

import math

from pipcook_provider.runtime.messages import Log, Metric
from pipcook_provider.stages.listening import Recorder


def test_metrics_of_the_run_come_before_those_of_its_steps(heard) -> None:
    """The last value of each step counts only where nothing was said of the run; what is not finite is nothing."""
    recorder = Recorder(heard)
    for step in range(3):
        recorder.message(Metric("loss", 1 / (step + 1), step))
    assert recorder.metrics == {"loss": 1 / 3}
    recorder.message(Metric("accuracy", math.nan))
    assert recorder.metrics == {"accuracy": None}


def test_endless_names_are_not_kept(heard) -> None:
    """A script that makes a new name at every step fills neither memory nor database; it is told once, and all is heard."""
    recorder = Recorder(heard)
    for step in range(3_000):
        recorder.message(Metric(f"loss of {step}", 1.0, step))
    recorder.message(Metric("loss of 7", 2.0, 7))
    assert len(recorder.metrics) == 1_000
    assert recorder.metrics["loss of 7"] == 2.0
    told = [message for message in heard.messages if isinstance(message, Log)]
    assert [message.level for message in told] == ["warning"]
    assert "expected at most 1,000 metrics by name, found more, 'loss of 1000' among them" in told[0].text
    assert len(heard.messages) == 3_002
