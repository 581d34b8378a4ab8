"""What is imported when: the parse path and the command must stay light, the layers apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pipcook_provider
import pipcook_provider.runtime

HEAVY = ("tensorflow", "numpy", "pyarrow", "docker", "requests", "pandas", "airflow.providers.docker.operators")


def modules_after(program: str) -> set[str]:
    """Return the modules that a fresh interpreter holds after a program."""
    program += "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(told.stdout.splitlines()[-1]))


def test_parsing_a_document_loads_nothing_heavy(write_pipeline) -> None:
    """The DAG-parse path loads neither a framework nor what stages, downloads and containers need."""
    document = write_pipeline()
    loaded = modules_after(
        f"from pipcook_provider import load_pipelines\nassert load_pipelines({str(document.parent)!r})"
    )
    assert [name for name in HEAVY if name in loaded] == []
    assert "airflow.sdk" in loaded
    assert "pipcook_provider.stages" not in loaded
    assert "pipcook_provider.hooks.framework" not in loaded


def test_command_starts_without_airflow(write_pipeline) -> None:
    """pipcook lint checks a document without importing Airflow or any heavy package."""
    document = write_pipeline()
    loaded = modules_after(f"from pipcook_provider.cli import main\nassert main(['lint', {str(document)!r}]) == 0")
    assert [name for name in (*HEAVY, "airflow") if name in loaded] == []


def test_provider_info_is_light() -> None:
    """Every airflow command imports the provider's info: it loads nothing but the settings."""
    loaded = modules_after("from pipcook_provider.provider_info import get_provider_info\nget_provider_info()")
    assert not {"airflow", "jsonschema", *HEAVY} & loaded


def test_public_names() -> None:
    """The surface changes on purpose only."""
    assert pipcook_provider.__all__ == [
        "PipcookArtifactOperator",
        "PipcookDockerOperator",
        "PipcookError",
        "PipcookFrameworkHook",
        "PipcookPrepareOperator",
        "PipcookStageOperator",
        "load_pipeline",
        "load_pipelines",
    ]
    assert all(getattr(pipcook_provider, name) is not None for name in pipcook_provider.__all__)
    assert all(getattr(pipcook_provider.runtime, name) is not None for name in pipcook_provider.runtime.__all__)


def test_every_error_stands_in_the_tree() -> None:
    """The tree in errors.py names every error there is."""
    from pipcook_provider import errors

    text = Path(errors.__file__).read_text(encoding="utf-8").partition('"""')[2].partition('"""')[0]
    defined = [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.PipcookError)
    ]
    assert [name for name in defined if name not in text] == []
