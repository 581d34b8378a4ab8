"""The folder of a run."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pipcook_provider.errors import WorkspaceError
from pipcook_provider.store.workspace import Workspace, run_folder


@pytest.mark.parametrize(
    ("run_id", "expected"),
    [
        ("manual__2026-01-01T00:00:00+00:00", "manual__2026-01-01T00_00_00_00_00"),
        ("plain-1.2", "plain-1.2"),
    ],
)
def test_run_id_becomes_a_folder_name(run_id: str, expected: str) -> None:
    """Characters that split PYTHONPATH are replaced; the rest stays readable."""
    assert run_folder(Path("/root"), "digits", run_id) == Path("/root/digits") / expected


@pytest.mark.parametrize("run_id", ["../../etc", "a/b", "..", ".", "x" * 500, "数据", "a b"])
def test_strange_run_ids_stay_inside_and_apart(run_id: str) -> None:
    """No run id leaves the DAG's folder, names a folder too long for a file system, or shares one with another run."""
    folder = run_folder(Path("/root"), "digits", run_id)
    assert folder.parent == Path("/root/digits")
    assert folder.name not in ("", ".", "..")
    assert len(folder.name) < 255
    assert folder != run_folder(Path("/root"), "digits", run_id + "_")


def test_missing_workspace_names_the_host_that_made_it(tmp_path: Path) -> None:
    """A worker that does not find a run's folder says which host made it, and what to do."""
    with pytest.raises(
        WorkspaceError, match=rf"made on host 'worker-7'; this is '{socket.gethostname()}'.*workspace_root"
    ):
        Workspace.open(tmp_path / "nowhere", made_by="worker-7")


def test_later_attempt_starts_clean(tmp_path: Path) -> None:
    """Preparing the same run again removes what the first attempt left, but for its data."""
    first = Workspace.create(tmp_path / "run")
    first.write_config({})
    (first.model / "old").write_text("", encoding="utf-8")
    (first.data / "download").write_text("", encoding="utf-8")
    second = Workspace.create(tmp_path / "run")
    assert list(second.model.iterdir()) == []
    assert [path.name for path in second.data.iterdir()] == ["download"]
