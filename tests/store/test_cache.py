from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipcook_provider.errors import CacheError
from pipcook_provider.store.cache import Cache, safe_name

# Appends a line to a log for each build, so that builds can be counted; then writes an entry of two files.
BUILDER = """
import sys
from pathlib import Path
from pipcook_provider.store.cache import Cache

root, log, hang = Path(sys.argv[1]), Path(sys.argv[2]), len(sys.argv) > 3

def build(directory):
    with log.open("a") as stream:
        stream.write("built\\n")
    (directory / "first").write_text("1")
    if hang:
        print("half", flush=True)
        sys.stdin.read()
    (directory / "second").write_text("2")

print(Cache(root).ensure("key", build))
"""


def builder(root: Path, log: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILDER, str(root), str(log), *options]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def content(entry: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in entry.iterdir()}


def fill(directory: Path) -> None:
    (directory / "first").write_text("1")
    (directory / "second").write_text("2")


def fail(directory: Path) -> None:
    (directory / "first").write_text("1")
    raise ValueError("no second")


def test_built_once(tmp_path: Path) -> None:
    """A complete entry is returned without building again."""
    cache = Cache(tmp_path)
    entry = cache.ensure("key", fill)
    assert cache.ensure("key", fail) == entry == cache.path("key")
    assert content(entry) == {"first": "1", "second": "2"}
    assert list(cache.entries()) == [entry]


def test_failing_build(tmp_path: Path) -> None:
    """A build that fails passes its error on and leaves no entry, and the next one succeeds."""
    cache = Cache(tmp_path)
    with pytest.raises(ValueError, match="no second"):
        cache.ensure("key", fail)
    assert not list(cache.entries())
    assert not list((tmp_path / ".building").rglob("first"))
    assert content(cache.ensure("key", fill)) == {"first": "1", "second": "2"}


def test_refresh(tmp_path: Path) -> None:
    """A refresh replaces an entry by a complete one, and keeps the old one when it fails."""
    cache = Cache(tmp_path)
    entry = cache.ensure("key", fill)
    with pytest.raises(ValueError, match="no second"):
        cache.ensure("key", fail, refresh=True)
    assert content(entry) == {"first": "1", "second": "2"}
    cache.ensure("key", lambda directory: (directory / "third").touch(), refresh=True)
    assert content(entry) == {"third": ""}


def test_many_processes(tmp_path: Path) -> None:
    """Processes that ask for the same entry at once build it once and all get it whole."""
    log = tmp_path / "log"
    processes = [builder(tmp_path / "cache", log) for _ in range(6)]
    entries = {process.communicate()[0].strip() for process in processes}
    assert log.read_text() == "built\n"
    assert [content(Path(entry)) for entry in entries] == [{"first": "1", "second": "2"}]


def test_killed_builder(tmp_path: Path) -> None:
    """What a killed builder leaves is no entry, holds no lock, and is swept by the next one."""
    root, log = tmp_path / "cache", tmp_path / "log"
    with builder(root, log, "hang") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        os.kill(process.pid, signal.SIGKILL)
    cache = Cache(root)
    assert len(list((root / ".building").rglob("first"))) == 1
    assert not list(cache.entries())
    assert content(cache.ensure("key", fill)) == {"first": "1", "second": "2"}
    assert not list((root / ".building").rglob("first"))


def test_waiting(tmp_path: Path) -> None:
    """Who waits for another builder is told so, once, and gets the other's entry."""
    cache, told = Cache(tmp_path / "cache"), []
    with builder(cache.root, tmp_path / "log", "hang") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        waiting = threading.Event()

        def on_wait() -> None:
            told.append("waiting")
            waiting.set()

        waiter = threading.Thread(target=cache.ensure, args=("key", fail), kwargs={"on_wait": on_wait})
        waiter.start()
        assert waiting.wait(30)
        process.stdin.close()
        waiter.join()
    assert told == ["waiting"]
    assert content(cache.path("key")) == {"first": "1", "second": "2"}


def test_unhonoured_lock(tmp_path: Path) -> None:
    """Where somebody else publishes in spite of the lock, the entry that was first stays, whole."""
    cache = Cache(tmp_path)

    def build(directory: Path) -> None:
        (directory / "mine").touch()
        (cache.path("key") / "theirs").mkdir(parents=True)

    assert [path.name for path in cache.ensure("key", build).iterdir()] == ["theirs"]


def test_unwritable(tmp_path: Path) -> None:
    """A root that cannot be a folder is an error that names the setting."""
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match="PIPCOOK_HOME"):
        Cache(tmp_path / "file").ensure("key", fill)


def test_names() -> None:
    """Plain keys are their own names; others get names that are safe and differ wherever the keys do."""
    assert safe_name("tensorflow@2.21.0-py311-linux-x64") == "tensorflow@2.21.0-py311-linux-x64"
    odd = ["", ".", "..", "a/b", "a:b", "A", "a" * 300, ".locks", "https://h/a.zip?x=1", "https://h/a.zip?x=2", "中"]
    names = [safe_name(key) for key in odd]
    assert len({name.lower() for name in names}) == len(odd)
    assert all(len(name) < 140 and not name.startswith(".") and not set(name) & set("/\\: ?") for name in names)
