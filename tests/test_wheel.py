"""The wheel as a user gets it."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def test_wheel_works_alone_in_an_empty_environment(write_pipeline, tmp_path) -> None:
    """Installed without the repository, the wheel trains, lints, and registers with Airflow."""
    from uv import find_uv_bin

    uv = find_uv_bin()
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", tmp_path, REPOSITORY], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    constraints = ["--constraint", REPOSITORY / "constraints.txt"]
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *constraints, wheel], check=True)

    def run(*command: str | Path) -> str:
        environment = {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}"}
        told = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stdout + told.stderr
        return told.stdout

    document = write_pipeline()
    pipcook = python.with_name("pipcook")
    assert "model:" in run(pipcook, "train", document, "-o", tmp_path / "out")
    assert "0 error(s)" in run(pipcook, "lint", document)
    shipped = run(
        python,
        "-c",
        "import pathlib, pipcook_provider as p; root = pathlib.Path(p.__file__).parent;"
        "print(*sorted(f.relative_to(root).as_posix() for f in root.rglob('*') if f.is_file()), sep='\\n')",
    ).splitlines()
    for name in (
        "spec/schema.json",
        "frameworks/build/supervisor.py",
        "frameworks/recipes/tensorflow/framework.json",
        "scripts/image_classification/model.py",
        "py.typed",
    ):
        assert name in shipped
    providers = run(python, "-c", "from airflow.providers_manager import ProvidersManager as M; print(*M().providers)")
    assert "pipcook-provider" in providers.split()
    hooks = run(python, "-c", "from airflow.providers_manager import ProvidersManager as M; print(*M().hooks)")
    assert "pipcook_framework" in hooks.split()
    assert sys.prefix not in shipped[0]
