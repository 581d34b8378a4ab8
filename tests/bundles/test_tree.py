"""The tree of DAG files over a folder: what lies in it, and how it follows the folder."""

from __future__ import annotations

import json
import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.utils.file import list_py_file_paths
from bundles.conftest import MakeBundle
from forks import Fork, Say

from pipcook_provider.bundles import overlay
from pipcook_provider.bundles import tree as trees
from pipcook_provider.bundles.overlay import BYTECODE, STUB, Folder
from pipcook_provider.bundles.stub import load
from pipcook_provider.bundles.tree import Tree
from pipcook_provider.errors import PipcookError
from pipcook_provider.run_marker import RUN_MARKER

DOCUMENT = json.dumps({"specVersion": "2.0", "datasource": "datasource.py", "model": "model.py"})


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "trees" / "latest", tmp_path / "trees")


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each look come long after the changes before it."""
    monkeypatch.setattr(trees.time, "time_ns", lambda: int((time.time() + 60) * 10**9))


def write(folder: Path, *names: str, text: str = DOCUMENT) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def shape(folder: Path) -> list[str]:
    """Return all that lies in a tree: links with an arrow, folders with a slash."""
    found = []
    for current, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = Path(current, name)
            kind = "@" if path.is_symlink() else "/" if path.is_dir() else ""
            found.append(f"{path.relative_to(folder)}{kind}")
    return sorted(name for name in found if BYTECODE not in name)


def test_documents_get_stubs_and_all_else_is_linked(source: Path, tree: Tree) -> None:
    """Folders with documents are real ones with a stub a document; all else in them leads to the original."""
    write(source, "digits.json", "team/spam.json", "team/deep/er/faces.json")
    write(source, "dag.py", "data/set.csv", "team/scripts/model.py", "team/pipcook.defaults.json", text="")
    write(source, "package.json", text='{"name": "x"}')
    tree.update(source, ())
    assert shape(tree.dags) == [
        "dag.py@",
        "data@",
        "digits.json.py",
        "digits.json@",
        "package.json@",
        "team/",
        "team/deep/",
        "team/deep/er/",
        "team/deep/er/faces.json.py",
        "team/deep/er/faces.json@",
        "team/pipcook.defaults.json@",
        "team/scripts@",
        "team/spam.json.py",
        "team/spam.json@",
    ]
    assert (tree.dags / "team/scripts/model.py").samefile(source / "team/scripts/model.py")
    assert (tree.dags / "digits.json").readlink() == source / "digits.json"
    assert (tree.dags / "digits.json.py").read_bytes() == STUB


def test_stub_is_as_old_as_its_document_or_its_defaults(source: Path, tree: Tree) -> None:
    """Airflow parses first what was modified last: a document, or the defaults that hold for it."""
    write(
        source,
        "old.json",
        "team/new.json",
        "team/deep/newer.json",
        "pipcook.defaults.json",
        "team/pipcook.defaults.json",
    )
    times = {"old.json": 100, "team/new.json": 300, "team/deep/newer.json": 100}
    times |= {"pipcook.defaults.json": 50, "team/pipcook.defaults.json": 200}
    for name, seconds in times.items():
        os.utime(source / name, (seconds, seconds))
    tree.update(source, ())
    stubs = {path.name: path.stat().st_mtime for path in tree.dags.rglob("*.json.py")}
    assert stubs == {"old.json.py": 100, "new.json.py": 300, "newer.json.py": 200}


@pytest.mark.parametrize("name", [".git", "__pycache__", "__tests", "node_modules"])
def test_folders_of_tools_hold_no_documents(source: Path, tree: Tree, name: str) -> None:
    """Hidden folders, those with two underscores and node_modules are not looked into; hidden ones are left out."""
    write(source, "digits.json", f"{name}/package.json")
    tree.update(source, ())
    linked = [] if name in (BYTECODE, ".git") else [f"{name}@"]
    assert shape(tree.dags) == sorted([*linked, "digits.json.py", "digits.json@"])


def test_links_to_folders_are_followed(source: Path, tmp_path: Path, tree: Tree) -> None:
    """A linked folder with documents is a folder of the tree, under the name of the link."""
    write(tmp_path / "elsewhere", "spam.json", "model.py")
    (source / "shared").symlink_to(tmp_path / "elsewhere")
    tree.update(source, ())
    assert shape(tree.dags) == ["shared/", "shared/model.py@", "shared/spam.json.py", "shared/spam.json@"]
    assert (tree.dags / "shared/spam.json").readlink() == source / "shared/spam.json"


def test_mounted_configmap_is_a_folder_of_documents(source: Path, tree: Tree) -> None:
    """Kubernetes keeps its files in a hidden folder, and a link to that: Airflow would refuse to see them twice."""

    def mount(number: int, *names: str) -> None:
        write(source / f"..{number}", *names)
        (source / "new").symlink_to(f"..{number}")
        (source / "new").rename(source / "..data")
        for name in {name.partition("/")[0] for name in names}:
            if not (source / name).is_symlink():
                (source / name).symlink_to(f"..data/{name}")

    mount(1, "digits.json", "team/spam.json", "team/lib/code.py")
    tree.update(source, ())
    mount(2, "digits.json", "team/spam.json", "team/lib/code.py", "cats.json")
    shutil.rmtree(source / "..1")
    tree.update(source, ())
    assert sorted(name for name in shape(tree.dags) if "@" not in name) == [
        *("cats.json.py", "digits.json.py", "team/", "team/spam.json.py")
    ]
    assert len(list_py_file_paths(tree.dags)) == 3


def test_circles_and_broken_links_do_no_harm(source: Path, tree: Tree) -> None:
    """A way back up is left out, a folder is looked into once, and a link to nowhere stays one."""
    write(source, "team/spam.json")
    (source / "team/up").symlink_to(source)
    (source / "team/self").symlink_to("self")
    (source / "again").symlink_to(source / "team")
    (source / "gone").symlink_to(source / "nowhere")
    (source / "gone.json").symlink_to(source / "nowhere.json")
    tree.update(source, ())
    assert shape(tree.dags) == [
        "again/",
        "again/self@",
        "again/spam.json.py",
        "again/spam.json@",
        "gone.json@",
        "gone@",
        "team@",
    ]


def test_tree_in_its_own_folder_is_left_out(source: Path) -> None:
    """Where Airflow keeps bundles in the very folder, the trees there are not part of it."""
    write(source, "digits.json")
    tree = Tree(source / "trees" / "latest", source / "trees")
    tree.update(source, ())
    tree.update(source, ())
    assert shape(tree.dags) == ["digits.json.py", "digits.json@"]


def test_stub_makes_way_for_a_real_file(source: Path, tree: Tree) -> None:
    """A file of the stub's name is linked as any other, and the stub gets another name."""
    write(source, "digits.json")
    tree.update(source, ())
    write(source, "digits.json.py", text="# mine")
    tree.update(source, ())
    assert shape(tree.dags) == ["digits.json.2.py", "digits.json.py@", "digits.json@"]
    assert (tree.dags / "digits.json.py").read_text() == "# mine"


def test_long_names_harm_nobody(source: Path, tree: Tree) -> None:
    """A document's name may be as long as files' names can be: its stub gets a shorter one, and goes with it."""
    names = ["x" * 250 + ".json", "x" * 249 + "y.json", "\u65e5" * 83 + ".json", "y" * 195 + ".json"]
    write(source, *names)
    tree.update(source, ())
    stubs = [name for name in shape(tree.dags) if name.endswith(".py")]
    assert len(stubs) == len(names)
    assert "y" * 195 + ".json.py" in stubs
    for stub in stubs:
        assert load(str(tree.dags / stub)) is not None
    for name in names:
        (source / name).unlink()
    tree.update(source, ())
    assert shape(tree.dags) == []


def test_document_too_far_down_has_its_stub_above(source: Path, tree: Tree) -> None:
    """A path that Airflow's database has no room for would end its DAG processors: the error is filed under another."""
    far = "/".join([*("x" * 200 for _ in range(5)), "far.json"])
    write(source, "digits.json", far)
    tree.update(source, ())
    stub = next(name for name in shape(tree.dags) if name.startswith("xxx") and name.endswith(".py"))
    assert len(stub) < 100
    with pytest.raises(PipcookError, match="less than 250 characters"):
        load(str(tree.dags / stub))
    before = (tree.dags / stub).stat()
    tree.update(source, ())
    assert (tree.dags / stub).stat() == before
    os.utime(source / far, (1, 1))
    tree.update(source, ())
    assert (tree.dags / stub).stat().st_mtime == 1
    shutil.rmtree(source / ("x" * 200))
    tree.update(source, ())
    assert shape(tree.dags) == ["digits.json.py", "digits.json@"]


def test_names_that_are_no_text_are_no_documents(source: Path, tree: Tree) -> None:
    """A name that is no UTF-8 would end Airflow's DAG processor; the file is there all the same."""
    write(source, "digits.json", "caf\udce9.json", "caf\udce9/digits.json")
    tree.update(source, ())
    assert shape(tree.dags) == ["caf\udce9.json@", "caf\udce9@", "digits.json.py", "digits.json@"]


def test_folders_of_runs_hold_no_documents(source: Path, tree: Tree) -> None:
    """Whoever trains in the folder gets no DAG of what was trained; a run's folder is linked as a whole."""
    write(source, "digits.json", "run/pipeline-config.json", "run/model/pipeline.json")
    (source / "run" / RUN_MARKER).touch()
    tree.update(source, ())
    assert shape(tree.dags) == ["digits.json.py", "digits.json@", "run@"]
    (source / RUN_MARKER).touch()
    tree.update(source, ())
    assert shape(tree.dags) == [f"{RUN_MARKER}@", "digits.json@", "run@"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_folder_harms_no_other(source: Path, tree: Tree) -> None:
    """What cannot be looked into is linked as a whole."""
    write(source, "digits.json", "secret/spam.json")
    (source / "secret").chmod(0)
    tree.update(source, ())
    (source / "secret").chmod(0o700)
    assert shape(tree.dags) == ["digits.json.py", "digits.json@", "secret@"]


def test_file_becomes_and_ceases_to_be_a_document(source: Path, tree: Tree, settled: None) -> None:
    """What a JSON file holds is looked at anew when it changed in place."""
    write(source, "digits.json", text="{}")
    tree.update(source, ())
    assert shape(tree.dags) == ["digits.json@"]
    write(source, "digits.json")
    assert not tree.is_current(source, ())
    tree.update(source, ())
    assert shape(tree.dags) == ["digits.json.py", "digits.json@"]
    write(source, "digits.json", text="{}")
    tree.update(source, ())
    assert shape(tree.dags) == ["digits.json@"]


def test_unchanged_folder_costs_no_reading(
    source: Path, tree: Tree, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many files only the one that changed is read again, and no stub but its own is touched."""
    write(source, *(f"{number}.json" for number in range(5)), "team/other.json")
    write(source, "package.json", text="{}")
    tree.update(source, ())
    before = {path: path.stat().st_ino for path in tree.dags.rglob("*.json.py")}
    read: list[str] = []
    is_pipeline_file: Callable[[Path], bool] = overlay.is_pipeline_file
    monkeypatch.setattr(overlay, "is_pipeline_file", lambda path: (read.append(path.name), is_pipeline_file(path))[1])
    os.utime(source / "3.json", (5, 5))
    tree.update(source, ())
    assert read == ["3.json"]
    assert {path: path.stat().st_ino for path in tree.dags.rglob("*.json.py")} == before
    assert (tree.dags / "3.json.py").stat().st_mtime == 5


def test_settled_tree_is_current_until_something_comes_or_goes(source: Path, tree: Tree, settled: None) -> None:
    """A folder's mark tells of a new or removed file; a document that is edited leaves its stub as it is."""
    write(source, "digits.json", "team/spam.json")
    assert not tree.is_current(source, ())
    tree.update(source, ())
    assert tree.is_current(source, ())
    write(source, "digits.json", text=DOCUMENT + "\n")
    assert tree.is_current(source, ())
    write(source, "team/new.json")
    assert not tree.is_current(source, ())
    tree.update(source, ())
    assert tree.is_current(source, ())
    (source / "digits.json").unlink()
    assert not tree.is_current(source, ())


def test_recent_change_is_not_trusted(source: Path, tree: Tree) -> None:
    """A folder that changed just before the look may change again without showing it: the next look is thorough."""
    write(source, "digits.json")
    tree.update(source, ())
    assert not tree.is_current(source, ())


def test_damaged_tree_is_mended(source: Path, tree: Tree, settled: None) -> None:
    """What somebody removed from, added to or changed in the tree does not stay so."""
    write(source, "digits.json", "spam.json", "team/faces.json", "model.py")
    tree.update(source, ())
    whole = shape(tree.dags)
    (tree.dags / "digits.json.py").unlink()
    assert not tree.is_current(source, ())
    (tree.dags / "spam.json.py").write_text("changed")
    (tree.dags / "model.py").unlink()
    (tree.dags / "model.py").symlink_to("/nowhere")
    (tree.dags / "stray.py").write_text("")
    shutil.rmtree(tree.dags / "team")
    tree.update(source, ())
    assert shape(tree.dags) == whole
    assert (tree.dags / "spam.json.py").read_bytes() == STUB
    assert (tree.dags / "model.py").samefile(source / "model.py")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"form": 0}', '{"form": 1, "marks": 3}'])
def test_damaged_index_is_made_anew(source: Path, tree: Tree, settled: None, text: str) -> None:
    """A tree whose index cannot be read is looked at from scratch."""
    write(source, "digits.json", "spam.json")
    tree.update(source, ())
    index = tree.dags.parent / trees.INDEX_NAME
    index.write_text(text)
    write(source, "spam.json", text="{}")
    assert not tree.is_current(source, ())
    tree.update(source, ())
    assert tree.is_current(source, ())
    assert shape(tree.dags) == ["digits.json.py", "digits.json@", "spam.json@"]


def test_update_that_was_cut_off_is_finished_by_the_next(
    source: Path, tree: Tree, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies in between leaves a tree that the next one completes."""
    write(source, "digits.json", "team/spam.json")
    tree.update(source, ())
    write(source, "a.json", "b.json", "team/c.json")
    with monkeypatch.context() as patch:
        patch.setattr(trees, "_date", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            tree.update(source, ())
    assert not tree.is_current(source, ())
    tree.update(source, ())
    names = ("a.json", "b.json", "digits.json", "team/c.json", "team/spam.json")
    assert shape(tree.dags) == sorted(["team/", *(f"{name}.py" for name in names), *(f"{name}@" for name in names)])


def test_any_order_of_changes_ends_as_a_fresh_tree(source: Path, tmp_path: Path, tree: Tree, settled: None) -> None:
    """After any changes an update leaves what a new tree would be; in a current one no stub was missing."""
    dice = random.Random(20)
    for turn in range(120):
        time.sleep(0.012)  # so that the file system's clock goes on
        change(source, tmp_path, dice)
        current = tree.is_current(source, ())
        before = set(tree.dags.rglob("*.py"))
        tree.update(source, ())
        fresh = Tree(tmp_path / "fresh" / str(turn), tmp_path / "trees")
        fresh.update(source, ())
        assert Folder.read(tree.dags) == Folder.read(fresh.dags), turn
        assert notes(tree) == notes(fresh), turn
        assert not current or before.issuperset(tree.dags.rglob("*.py")), turn


def notes(tree: Tree) -> dict[str, str]:
    return {path.name: path.read_text() for path in (tree.dags.parent / "notes").iterdir()}


def change(source: Path, outside: Path, dice: random.Random) -> None:
    """Do one of the things that people do in a folder."""
    folders = [source, *(source / name for name in ("a", "b", "a/c", "a.x"))]
    folder = dice.choice([path for path in folders if path.is_dir()])
    path = folder / dice.choice(["x.json", "y.json", "c.x.json", "x.json.py", "z.txt", "pipcook.defaults.json"])
    others = [found for found in source.rglob("*") if found.is_symlink() or found.is_file()]
    kind = dice.randrange(10)
    if kind < 4:
        if path.is_symlink():
            path.unlink()
        path.write_text(dice.choice([DOCUMENT, DOCUMENT, "{}", '{"datasource": ']), encoding="utf-8")
    elif kind == 4 and others:
        dice.choice(others).unlink()
    elif kind == 5 and others:
        dice.choice(others).rename(path)
    elif kind == 6:
        dice.choice(folders).mkdir(parents=True, exist_ok=True)
    elif kind == 7 and folder != source:
        shutil.rmtree(folder)
    elif kind == 8 and not path.exists() and not path.is_symlink():
        (outside / "shared").mkdir(exist_ok=True)
        path = path.with_suffix("")
        if not path.exists() and not path.is_symlink():
            path.symlink_to(dice.choice([outside / "shared", source, source / "a", outside / "nowhere"]))
    elif kind == 9 and others:
        seconds = dice.randrange(1, 5)
        os.utime(dice.choice(others), (seconds, seconds), follow_symlinks=False)


def test_readers_never_see_half_a_stub(source: Path, tree: Tree) -> None:
    """While documents come and go, a stub that is there is whole and has its document beside it."""
    write(source, "stays.json")
    tree.update(source, ())
    torn: list[str] = []
    looks = 0
    done = threading.Event()

    def read() -> None:
        nonlocal looks
        while not done.is_set():
            looks += 1
            for path in tree.dags.glob("*.json.py"):
                try:
                    text = path.read_bytes()
                    beside = path.with_suffix("").is_symlink()
                except FileNotFoundError:
                    continue
                if text != STUB or not (beside or not path.exists()):
                    torn.append(path.name)

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(60):
        write(source, f"{turn % 7}.json")
        (source / f"{(turn + 3) % 7}.json").unlink(missing_ok=True)
        tree.update(source, ())
    done.set()
    reader.join()
    assert looks > 1
    assert torn == []


def test_processes_make_one_tree_together(source: Path, make_bundle: MakeBundle) -> None:
    """Workers that begin at the same time end with the same, whole tree."""
    write(source, *(f"team{number % 5}/{number}.json" for number in range(200)))

    def begin(say: Say) -> None:
        bundle = make_bundle()
        bundle.initialize()
        say(len(shape(bundle.path)))

    workers = [Fork(begin) for _ in range(6)]
    assert [worker.line() for worker in workers] == [str(5 + 2 * 200)] * 6
    assert [worker.wait() for worker in workers] == [0] * 6
