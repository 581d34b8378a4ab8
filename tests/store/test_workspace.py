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
    assert run_folder(Path("/workspaces"), "digits", run_id) == Path("/workspaces/digits") / expected


@pytest.mark.parametrize("run_ids", [("a:b", "a+b", "a_b"), ("数据", "数字", "__"), ("a b", "a_b", " a b")])
def test_runs_that_read_alike_have_folders_of_their_own(run_ids: tuple[str, ...]) -> None:
    """Two runs never share a folder."""
    assert len({run_folder(Path("/workspaces"), "digits", run_id) for run_id in run_ids}) == len(run_ids)


@pytest.mark.parametrize("run_id", ["../../etc", "a/b", "..", ".", "x" * 500, "数据", "a b"])
def test_strange_run_ids_stay_inside_and_apart(run_id: str) -> None:
    """No run id leaves the DAG's folder, names a folder too long for a file system, or shares one with another run."""
    folder = run_folder(Path("/workspaces"), "digits", run_id)
    assert folder.parent == Path("/workspaces/digits")
    assert folder.name not in ("", ".", "..")
    assert len(folder.name) < 255
    assert folder != run_folder(Path("/workspaces"), "digits", run_id + "_")


def test_missing_workspace_names_the_host_that_made_it(tmp_path: Path) -> None:
    """A worker that does not find a run's folder says which host made it, and what to do."""
    with pytest.raises(
        WorkspaceError, match=rf"made on host 'worker-7'; this is '{socket.gethostname()}'.*workspace_root"
    ):
        Workspace.open(tmp_path / "nowhere", made_by="worker-7")


def test_later_attempt_starts_clean(tmp_path: Path) -> None:
    """What an earlier attempt left stays while the next one is prepared, and is gone when that one begins."""
    first = Workspace.create(tmp_path / "run")
    first.begin_preparation()
    first.commit({})
    (first.model / "old").write_text("", encoding="utf-8")
    (first.data / "old").write_text("", encoding="utf-8")
    second = Workspace.create(tmp_path / "run")
    (second.begin_preparation() / "0-a.py").write_text("", encoding="utf-8")
    assert (second.model / "old").exists()
    second.commit({"specVersion": "2.0"})
    assert list(second.data.iterdir()) == []
    assert (second.model / "old").exists(), "the model gives way to the next one only"
    assert [path.name for path in second.scripts.iterdir()] == ["0-a.py"]
    assert not second.prepared.exists()


def test_folder_of_a_project_is_refused(tmp_path: Path) -> None:
    """A folder with a pipeline-config.json, scripts/ and model/ of somebody's own is no workspace, and stays as it is."""
    for name in ("pipeline-config.json", "scripts/mine.py", "model/mine.keras"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine", encoding="utf-8")
    with pytest.raises(WorkspaceError, match=r"to be empty or the folder of an earlier run"):
        Workspace.create(tmp_path)
    assert (tmp_path / "scripts" / "mine.py").read_text(encoding="utf-8") == "mine"


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    """Whoever comes second is told, and can have the folder when the first has ended."""
    workspace = Workspace.create(tmp_path / "run")
    with workspace.alone(), pytest.raises(WorkspaceError, match=r"another run works in"), workspace.alone():
        pass
    with workspace.alone():
        assert Workspace.create(tmp_path / "run") == workspace


def test_vanished_folder_is_told_as_such(tmp_path: Path) -> None:
    """When somebody has removed what a stage is to write into, the message says so."""
    workspace = Workspace.create(tmp_path / "run")
    with pytest.raises(WorkspaceError, match=r"cannot be written: .*if a script has removed"):
        workspace.publish("datasource")


OWN = ["cache", "data", "model", "scripts", "pipeline-config.json", ".prepare", ".pipcook-workspace", ".pipcook-lock"]


@pytest.mark.parametrize("name", [*OWN, "cache/stages", "cache/stages/model.partial", "cache/stages/datasource"])
@pytest.mark.parametrize("target", ["victim", "nowhere"])
def test_links_in_the_place_of_the_runs_own(tmp_path: Path, name: str, target: str) -> None:
    """What a script has made into a link is refused before anything is written, with both ends of the link."""
    victim = tmp_path / "victim" / "scripts"
    victim.mkdir(parents=True)
    (victim / "precious").touch()
    workspace = Workspace.create(tmp_path / "run")
    workspace.check_folders()
    place = workspace.root / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(tmp_path / target)
    with pytest.raises(
        WorkspaceError, match=rf"expected {place} to be the run's own, found a link to {tmp_path / target}"
    ):
        workspace.check_folders()
    if (workspace.root / ".pipcook-workspace").exists():
        with pytest.raises(WorkspaceError, match="Mend the script, and start a new run"):
            Workspace.create(tmp_path / "run")
    assert (victim / "precious").exists()
    assert not (tmp_path / "nowhere").exists()


def test_framework_is_a_link(tmp_path: Path) -> None:
    """The link to the framework is the run's own, and what scripts link elsewhere is theirs."""
    workspace = Workspace.create(tmp_path / "run")
    workspace.show_framework(tmp_path)
    (workspace.root / "cache").mkdir()
    for name in ("latest", "cache/latest"):
        (workspace.root / name).symlink_to(tmp_path)
    workspace.check_folders()
    assert Workspace.create(workspace.root) == workspace


def test_what_scripts_have_kept(tmp_path: Path) -> None:
    """What scripts keep in cache is known by name, links to nowhere among it; what stages hand on is no part of it."""
    workspace = Workspace.create(tmp_path / "run")
    assert workspace.kept() == ()
    (workspace.root / "cache" / "stages").mkdir(parents=True)
    (workspace.root / "cache" / "downloads").mkdir()
    (workspace.root / "cache" / "a").symlink_to("nowhere")
    assert workspace.kept() == ("cache/a", "cache/downloads")


def test_path_without_dots(tmp_path: Path) -> None:
    """A folder that is named through its parent is meant as the kernel means it; its path leads there by itself."""
    (tmp_path / "real" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/inner")
    workspace = Workspace.create(tmp_path / "link" / ".." / "run")
    assert workspace.root == tmp_path.resolve() / "real" / "run"
    assert Workspace.create(tmp_path / "link" / "run").root == tmp_path / "link" / "run"
