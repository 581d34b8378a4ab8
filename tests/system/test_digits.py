"""The digits pipeline with a real TensorFlow on real images."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path

import pytest

from pipcook_provider.cli import main

DIGITS = Path(__file__).resolve().parents[2] / "dags" / "digits-image-classification.json"


def test_digits_are_learnt(
    tensorflow_framework: Path, framework_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    """The shipped pipeline reads 95 of 100 digits it has never seen, beside a TensorFlow that the worker does not have."""
    monkeypatch.setenv("PIPCOOK_HOME", str(framework_home))
    assert main(["train", str(DIGITS), "-o", str(tmp_path / "run"), "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["metrics"]["accuracy"] >= 0.95
    assert f"framework tensorflow@2.21.0 at {tensorflow_framework}" in err
    assert tensorflow_framework.is_relative_to(framework_home / "framework")
    assert importlib.util.find_spec("tensorflow") is None
    assert (tmp_path / "run" / "framework").resolve() == tensorflow_framework
    with zipfile.ZipFile(tmp_path / "run" / "digits-model.zip") as archive:
        assert {"model.keras", "categories.json", "pipeline.json"} <= set(archive.namelist())
        assert json.loads(archive.read("categories.json")) == [str(digit) for digit in range(10)]
