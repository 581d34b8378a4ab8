"""Where artifacts go when their processors cannot see this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipcook_provider.errors import WorkspaceError
from pipcook_provider.stages.targets import as_published, for_initialization, into, made_for, target_path
from pipcook_provider.store.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "run")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("model.zip", "{run}/model.zip"),
        ("deep/model.zip", "{run}/deep/model.zip"),
        ("../model.zip", "{tmp}/model.zip"),
        ("{tmp}/x/../model.zip", "{tmp}/model.zip"),
        ("~nobody/model.zip", "{run}/~nobody/model.zip"),
        ("//[x/model.zip", "//[x/model.zip"),
        ("a:b/model.zip", None),
        ("", None),
        (" ", None),
        (None, None),
        (7, None),
        ("s3://bucket/model.zip", None),
    ],
)
def test_target_is_a_place_of_this_machine(workspace: Workspace, tmp_path: Path, target: object, expected) -> None:
    """A target is relative to the run's folder; what is no path is the processor's own business."""
    given = target.format(tmp=tmp_path) if isinstance(target, str) else target
    path = expected and Path(expected.format(run=workspace.root, tmp=tmp_path))
    assert target_path({"target": given}, workspace) == path
    assert target_path({}, workspace) is None


def test_target_goes_into_a_folder_of_the_run(workspace: Workspace, tmp_path: Path) -> None:
    """What is to be elsewhere is made in the run's folder under its name; all other options stay."""
    folder = workspace.partial_output("artifact_1")
    options = {"target": str(tmp_path / "out" / "model.zip"), "level": 9}
    assert into(folder, options, workspace) == {"target": "cache/stages/artifact_1.partial/model.zip", "level": 9}
    assert into(folder, {"level": 9}, workspace) == {"level": 9}


def test_processor_checks_what_it_can_see(workspace: Workspace, tmp_path: Path) -> None:
    """A target in the run's folder is the processor's to check; one beside it is checked here, and its name there."""
    assert for_initialization({"target": "cache/model.zip"}, workspace) == {"target": "cache/model.zip"}
    outside = {"target": str(tmp_path / "new" / "model.zip"), "level": 9}
    assert for_initialization(outside, workspace) == {"target": "model.zip", "level": 9}
    assert not (tmp_path / "new").exists()
    assert for_initialization({"target": None}, workspace) == {"target": None}


def test_target_that_cannot_be_written(workspace: Workspace, tmp_path: Path) -> None:
    """A target that is a folder, or below a file, is refused before anything is trained."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(WorkspaceError, match="is a folder; name a file in it"):
        for_initialization({"target": str(tmp_path / "folder")}, workspace)
    with pytest.raises(WorkspaceError, match=rf"{tmp_path}/file is not, so the artifact could not be kept"):
        for_initialization({"target": str(tmp_path / "file" / "model.zip")}, workspace)


def test_what_was_built_is_told_where_it_is(tmp_path: Path) -> None:
    """The result names the published file; a place that was not in the folder stays as it was told."""
    folder, target = tmp_path / "partial", tmp_path / "out" / "model.zip"
    assert as_published(str(folder / "model.zip"), folder, target) == str(target)
    assert as_published(str(folder / "deep" / "a"), folder, target) == str(tmp_path / "out" / "deep" / "a")
    assert as_published("s3://bucket/a", folder, target) == "s3://bucket/a"
    assert as_published(None, folder, target) is None


def test_only_what_belongs_to_the_target_is_published(tmp_path: Path) -> None:
    """A processor cannot put a file of any other name beside its target."""
    for name in ("model.zip", "model.zip.sha256", "model.zipped", ".bashrc", "scripts"):
        (tmp_path / name).touch()
    made, others = made_for(Path("/elsewhere/model.zip"), tmp_path)
    assert [path.name for path in made] == ["model.zip", "model.zip.sha256"]
    assert [path.name for path in others] == [".bashrc", "model.zipped", "scripts"]
