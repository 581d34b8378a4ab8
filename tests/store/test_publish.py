"""Putting what was made elsewhere into its place."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from pipcook_provider.errors import WorkspaceError
from pipcook_provider.store.publish import check_publishable, publish


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder with what was made: a file, and a folder."""
    folder = tmp_path / "made"
    (folder / "web" / "deep").mkdir(parents=True)
    (folder / "model.zip").write_text("new", encoding="utf-8")
    (folder / "web" / "deep" / "index.html").write_text("new", encoding="utf-8")
    return folder


def content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in files}


NEW = {"model.zip": "new", "web/deep/index.html": "new"}


def test_all_is_put_there(made: Path, tmp_path: Path) -> None:
    """Files and folders arrive in a folder that is made for them, and nothing else."""
    publish(made.iterdir(), tmp_path / "new" / "place")
    assert content(tmp_path / "new" / "place") == NEW
    assert sorted(path.name for path in (tmp_path / "new" / "place").iterdir()) == ["model.zip", "web"]


def test_what_was_there_is_replaced(made: Path, tmp_path: Path) -> None:
    """What has the same name gives way as a whole, a folder too; what has another name stays."""
    place = tmp_path / "place"
    (place / "web" / "old").mkdir(parents=True)
    (place / "web" / "old" / "index.html").write_text("old", encoding="utf-8")
    for name in ("model.zip", "other.zip"):
        (place / name).write_text("old", encoding="utf-8")
    publish(made.iterdir(), place)
    assert content(place) == {**NEW, "other.zip": "old"}
    assert sorted(path.name for path in place.iterdir()) == ["model.zip", "other.zip", "web"]


@pytest.mark.parametrize("is_folder", [True, False])
def test_kinds_may_change(made: Path, tmp_path: Path, is_folder: bool) -> None:
    """A file gives way to a folder of its name, and a folder to a file."""
    place = tmp_path / "place"
    (place / ("model.zip" if is_folder else "here")).mkdir(parents=True)
    (place / ("here" if is_folder else "web")).touch()
    if is_folder:
        publish(made.iterdir(), place)
    else:
        with pytest.raises(
            WorkspaceError, match=r"expected to take what the artifact processor made, .* clear the task"
        ):
            publish(made.iterdir(), place)
        assert (place / "web").is_file()
    assert {path.name for path in place.iterdir()} >= {"here", "web"}


def test_links_are_left_out(made: Path, tmp_path: Path) -> None:
    """A link among what was made is not put anywhere, and not followed; nor is one within a folder that was made."""
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    (made / "planted").symlink_to(tmp_path / "secret")
    (made / "folder").symlink_to(tmp_path)
    (made / "web" / "inside").symlink_to(tmp_path / "secret")
    publish(made.iterdir(), tmp_path / "place")
    assert sorted(path.name for path in (tmp_path / "place").iterdir()) == ["model.zip", "web"]
    assert "secret" not in {
        path.read_text() for path in (tmp_path / "place").rglob("*") if path.is_file() and not path.is_symlink()
    }


def test_link_at_the_target_gives_way(made: Path, tmp_path: Path) -> None:
    """What a link at the target leads to is left alone: the link itself is replaced."""
    place = tmp_path / "place"
    place.mkdir()
    (tmp_path / "precious").write_text("precious", encoding="utf-8")
    (place / "model.zip").symlink_to(tmp_path / "precious")
    publish(made.iterdir(), place)
    assert (tmp_path / "precious").read_text(encoding="utf-8") == "precious"
    assert (place / "model.zip").read_text(encoding="utf-8") == "new"
    assert not (place / "model.zip").is_symlink()


def test_pipes_are_refused(made: Path, tmp_path: Path) -> None:
    """A pipe among what was made is an error, not a wait for ever."""
    os.mkfifo(made / "pipe")
    with pytest.raises(WorkspaceError, match="named pipe"):
        publish(made.iterdir(), tmp_path / "place")
    assert "pipe" not in {path.name for path in (tmp_path / "place").iterdir()}


def test_failure_leaves_what_was_there(made: Path, tmp_path: Path) -> None:
    """When it cannot be written, the former is whole, nothing half-made stays, and the message says what to do."""
    place = tmp_path / "place"
    place.write_text("a file", encoding="utf-8")
    with pytest.raises(
        WorkspaceError, match=rf"{place} was expected to take .* it cannot be written: .*Make room there"
    ):
        publish(made.iterdir(), place)
    assert place.read_text(encoding="utf-8") == "a file"


def test_readers_see_old_or_new(made: Path, tmp_path: Path) -> None:
    """Whoever reads while it is replaced, again and again, sees a whole file each time."""
    place = tmp_path / "place"
    sizes = (1, 300_000)
    (made / "model.zip").write_text("0" * sizes[0], encoding="utf-8")
    publish(made.iterdir(), place)
    seen: set[int] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(len((place / "model.zip").read_bytes()))

    reading = threading.Thread(target=read)
    reading.start()
    for number in range(40):
        (made / "model.zip").write_text("0" * sizes[number % 2], encoding="utf-8")
        publish(made.iterdir(), place)
    done.set()
    reading.join()
    assert seen <= set(sizes)
    assert len(list(place.iterdir())) == 2


def test_what_can_be_published(tmp_path: Path) -> None:
    """A target in a folder that is there, or that can be made, is fine; nothing is made by asking."""
    check_publishable(tmp_path / "model.zip")
    check_publishable(tmp_path / "new" / "folder" / "model.zip")
    (tmp_path / "model.zip").touch()
    check_publishable(tmp_path / "model.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["model.zip"]


def test_what_cannot_be_published(tmp_path: Path) -> None:
    """A folder, and what lies below a file, is refused by name."""
    (tmp_path / "file").touch()
    with pytest.raises(WorkspaceError, match=rf"{tmp_path} was expected to be a file, but is a folder"):
        check_publishable(tmp_path)
    with pytest.raises(WorkspaceError, match=rf"but {tmp_path / 'file'} is not"):
        check_publishable(tmp_path / "file" / "a" / "model.zip")
