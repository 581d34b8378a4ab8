from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from forks import Fork, Say, forked, run_forked

from pipcook_provider.errors import CacheError
from pipcook_provider.store import uses
from pipcook_provider.store.cache import Built, Cache, Entry, Pruned

NOW = timedelta()
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _no_marks_left() -> Iterator[None]:
    yield
    uses.release_all()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def fill(directory: Path) -> Built:
    (directory / "file").write_bytes(bytes(1000))
    return Built("here")


def add(cache: Cache, key: str, *, days: float = 0) -> Path:
    """Build an entry in a process that exits, so many days ago."""
    path = Path(run_forked(lambda: cache.ensure(key, fill, refresh=True).path))
    used = time.time() - days * 86400
    os.utime(cache.root / ".uses" / path.parent.name, (used, used))
    return path


def prune(cache: Cache, *, older_than: timedelta | None = None, keep: int | None = None) -> list[Pruned]:
    """Prune after a dry run, which changes nothing and tells the same."""
    before = snapshot(cache.root)
    told = cache.prune(older_than=older_than, keep=keep, dry_run=True)
    assert snapshot(cache.root) == before
    assert cache.prune(older_than=older_than, keep=keep) == told
    return told


def snapshot(root: Path) -> dict[str, float]:
    return {str(path): path.lstat().st_mtime for path in root.rglob("*")}


def names(cache: Cache) -> list[str]:
    return [entry.name for entry in cache.entries()]


def files(cache: Cache) -> list[Path]:
    return [path for path in cache.root.rglob("*") if not path.is_dir() or path.is_symlink()]


def reader(cache: Cache, key: str) -> Fork:
    """A process that uses an entry until it is killed."""

    def read(say: Say) -> None:
        entry = cache.find(key)
        say(entry and entry.path)
        signal.pause()

    return Fork(read)


def test_by_age(cache: Cache) -> None:
    """Entries whose last use is longer ago than the limit are removed, and nothing else."""
    add(cache, "old", days=3)
    add(cache, "young", days=0.5)
    assert prune(cache) == []
    assert prune(cache, older_than=DAY) == [Pruned("old", "unused", 1000)]
    assert names(cache) == ["young"]
    assert prune(cache, older_than=NOW) == [Pruned("young", "unused", 1000)]
    assert not files(cache)


def test_by_size(cache: Cache) -> None:
    """Entries go, the least recently used first, until the others fit."""
    for days, key in enumerate(["a", "b", "c", "d"]):
        add(cache, key, days=10 - days if key != "a" else 1)
    assert prune(cache, keep=4000) == []
    assert prune(cache, keep=2500) == [Pruned("b", "size", 1000), Pruned("c", "size", 1000)]
    assert names(cache) == ["a", "d"]


def test_use_makes_young(cache: Cache) -> None:
    """An entry that is used is not old, however long ago it was built."""
    add(cache, "key", days=3)
    run_forked(lambda: cache.find("key"))
    assert prune(cache, older_than=DAY) == []


def test_in_use(cache: Cache) -> None:
    """What a process uses stays, whole, until the process is gone; it need not exit on its own."""
    add(cache, "key", days=3)
    fork = reader(cache, "key")
    path = Path(fork.line())
    assert prune(cache, older_than=NOW, keep=0) == []
    assert (path / "file").stat().st_size == 1000
    fork.kill()
    assert [one.reason for one in prune(cache, older_than=NOW)] == ["leftover", "unused"]
    assert not files(cache)


def test_killed_reader_keeps_its_time(cache: Cache) -> None:
    """To remove the mark of a killed reader does not count as a use."""
    add(cache, "key", days=3)
    fork = reader(cache, "key")
    fork.line()
    fork.kill()
    [folder] = (cache.root / ".uses").iterdir()
    [mark] = folder.iterdir()
    for path in (mark, folder):
        os.utime(path, (0, time.time() - 2 * 86400))
    assert [one.name for one in prune(cache)] == [str(mark.relative_to(cache.root))]
    assert [one.name for one in prune(cache, older_than=DAY)] == ["key"]


def keeper(cache: Cache, key: str, seconds: float) -> Fork:
    """A process that started what may outlive it, until it is killed."""

    def keep(say: Say) -> None:
        entry = cache.find(key)
        assert entry
        entry.keep(seconds)
        say(entry.path)
        signal.pause()

    return Fork(keep)


def marks(cache: Cache) -> list[Path]:
    return list((cache.root / ".uses").glob("*/*"))


def silence(cache: Cache, seconds: float) -> None:
    """Let the last sign of life of all marks be so long ago."""
    for mark in marks(cache):
        os.utime(mark, (0, time.time() - seconds))


def test_outlived_by(cache: Cache) -> None:
    """What a killed process started keeps an entry until its time is over, and is told as a user."""
    add(cache, "key", days=3)
    fork = keeper(cache, "key", 3600)
    path = Path(fork.line())
    assert len(marks(cache)) == 1, "one mark for both uses"
    fork.kill()
    [entry] = cache.entries()
    for seconds in (0, 3500):
        silence(cache, seconds)
        assert prune(cache, older_than=NOW, keep=0) == []
        assert cache.last_use(entry)[1]
    assert (path / "file").exists()
    silence(cache, 3601)
    assert not cache.last_use(entry)[1]
    assert [one.reason for one in prune(cache, older_than=NOW)] == ["leftover", "unused"]
    assert not files(cache)


def test_outlived_by_after_exit(cache: Cache) -> None:
    """It is the same for a process that exits on its own: its time counts from then."""
    add(cache, "key", days=3)

    def keep() -> None:
        entry = cache.find("key")
        assert entry
        entry.keep(3600)

    run_forked(keep)
    assert len(marks(cache)) == 1
    assert prune(cache, older_than=NOW) == []
    silence(cache, 3601)
    assert [one.reason for one in prune(cache, older_than=NOW)] == ["leftover", "unused"]


def test_outlived_by_longest(cache: Cache) -> None:
    """Of several times the longest counts; a use for which nothing outlives its process shortens none."""
    add(cache, "key", days=3)

    def keep() -> None:
        for seconds in (60, 3600, 600):
            entry = cache.find("key")
            assert entry
            entry.keep(seconds)
        cache.find("key")

    run_forked(keep)
    silence(cache, 3000)
    assert prune(cache, older_than=NOW) == []


def test_outlived_by_of_the_living(cache: Cache) -> None:
    """A living process uses what it uses, however short the time after it."""
    add(cache, "key", days=3)
    fork = keeper(cache, "key", 0.5)
    fork.line()
    silence(cache, 3600)
    assert prune(cache, older_than=NOW) == []
    fork.kill()
    assert [one.reason for one in prune(cache, older_than=NOW)] == ["leftover", "unused"]


def test_outlived_by_in_a_former_generation(cache: Cache) -> None:
    """A generation that a newer one took the place of stays for what outlived its process."""
    add(cache, "key")
    fork = keeper(cache, "key", 3600)
    former = Path(fork.line())
    fork.kill()
    add(cache, "key")
    assert prune(cache) == []
    assert (former / "file").exists()
    silence(cache, 3601)
    assert [one.reason for one in prune(cache)] == ["leftover", "superseded"]
    assert names(cache) == ["key"]


def test_keep_elsewhere(cache: Cache, tmp_path: Path) -> None:
    """A copy of an entry is no entry of a cache: nothing is written around it."""
    path = add(cache, "key")
    copy = tmp_path / "a" / "b" / path.parent.name
    shutil.copytree(path.parent, copy)
    entry = Entry.around(copy / "content")
    assert entry
    entry.keep(3600)
    assert [one.name for one in (tmp_path / "a").iterdir()] == ["b"]


def test_child_of_reader(cache: Cache) -> None:
    """A fork of a process that uses an entry is a user of its own, after its parent, too."""
    add(cache, "key")

    def parent(say: Say) -> None:
        cache.find("key")
        pid = os.fork()
        if pid == 0:
            entry = cache.find("key")
            say(os.getpid() if entry else "nothing")
            signal.pause()
        os._exit(0)

    with forked(parent) as fork:
        child = int(fork.line())
        assert fork.wait() == 0
        assert [one.reason for one in prune(cache, older_than=NOW)] == ["leftover"], "the parent's mark, not the entry"
        assert names(cache) == ["key"]
        os.kill(child, signal.SIGKILL)
        assert wait_until_pruned(cache, child)


def wait_until_pruned(cache: Cache, pid: int) -> bool:
    # Nobody can wait for a grandchild; its id is free once its new parent has.
    while Path(f"/proc/{pid}").exists() or _alive(pid):
        time.sleep(0.01)
    cache.prune(older_than=NOW, keep=None)
    return not files(cache)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_being_built(cache: Cache) -> None:
    """What somebody builds or refreshes is left alone; what a killed builder left is removed."""
    add(cache, "key", days=3)

    def build(say: Say) -> None:
        def half(directory: Path) -> Built:
            say("half")
            signal.pause()
            return fill(directory)

        cache.ensure("key", half, refresh=True)

    with forked(build) as builder:
        assert builder.line() == "half"
        assert prune(cache, older_than=NOW, keep=0) == []
        builder.kill()
    pruned = prune(cache)
    assert [one.name.split("/")[0] for one in pruned] == [".locks", ".building"]
    assert {one.reason for one in pruned} == {"leftover"}
    assert names(cache) == ["key"]


def test_superseded(cache: Cache) -> None:
    """Generations that a newer one took the place of go when nobody uses them, and count for the size till then."""
    old = add(cache, "key")
    with forked(lambda say: (say(cache.find("key")), signal.pause())) as fork:
        fork.line()
        add(cache, "key")
        assert prune(cache, keep=2500) == []
        assert old.exists()
        fork.kill()
    assert [one.reason for one in prune(cache)] == ["leftover", "superseded"]
    assert names(cache) == ["key"]


def test_other_host(cache: Cache) -> None:
    """A mark of another host counts as long as it is refreshed; nobody waits to find out."""
    add(cache, "key", days=3)
    fork = reader(cache, "key")
    fork.line()
    fork.kill()
    [mark] = (cache.root / ".uses").glob("*/*")
    lines = mark.read_text().splitlines()
    mark.write_text("".join(f"{'host=elsewhere' if line.startswith('host=') else line}\n" for line in lines))
    assert prune(cache, older_than=NOW) == []
    os.utime(mark, (0, time.time() - 1000))
    assert [one.reason for one in prune(cache, older_than=NOW)] == ["leftover", "unused"]


def test_broken_entries(cache: Cache) -> None:
    """Links that lead nowhere and entries without their records are removed."""
    (add(cache, "key").parent / "entry.json").unlink()
    (cache.root / "gone").symlink_to(".entries/gone~1/content")
    assert {one.name: one.reason for one in prune(cache)} == {"key": "leftover", "gone": "leftover"}
    assert not files(cache)


def test_strangers(cache: Cache) -> None:
    """What is not ours is left alone, and so are the directories that earlier versions of the cache made."""
    add(cache, "key")
    (cache.root / "lost+found").mkdir()
    (cache.root / "elsewhere").symlink_to("/")
    assert prune(cache, older_than=NOW) == [Pruned("key", "unused", 1000)]
    assert len(files(cache)) == 1
    assert (cache.root / "lost+found").is_dir()


def test_interrupted_deletion(cache: Cache) -> None:
    """What a killed deletion has not deleted yet is deleted."""
    add(cache, "key")
    trash = cache.root / ".building" / ".trash-1"
    trash.mkdir()
    (trash / "file").write_text("half")
    assert prune(cache) == [Pruned(".building/.trash-1", "leftover", 4)]


def test_downloads(cache: Cache) -> None:
    """Archives that stopped arriving more than a day ago are removed, but not while somebody builds."""
    cache.download("key").parent.mkdir(parents=True)
    for name, days in {"old.zip.part": 2, "old.zip.part.json": 3, "young.zip.part": 0.5}.items():
        (cache.download("key").parent / name).write_text("half")
        os.utime(cache.download("key").parent / name, (0, time.time() - days * 86400))

    def build(say: Say) -> None:
        def half(directory: Path) -> Built:
            say("half")
            signal.pause()
            return fill(directory)

        cache.ensure("key", half)

    with forked(build) as builder:
        assert builder.line() == "half"
        assert prune(cache) == []
        builder.kill()
    assert {one.name for one in prune(cache)} >= {".downloads/old.zip.part", ".downloads/old.zip.part.json"}
    assert [path.name for path in cache.download("key").parent.iterdir()] == ["young.zip.part"]


def test_last_use(cache: Cache) -> None:
    """It is told when an entry was last used, and whether it is in use."""
    add(cache, "key", days=3)
    [entry] = cache.entries()
    used, is_used = cache.last_use(entry)
    assert timedelta(days=2.9) < datetime.now(UTC) - used < timedelta(days=3.1)
    assert not is_used
    fork = reader(cache, "key")
    fork.line()
    used, is_used = cache.last_use(entry)
    assert datetime.now(UTC) - used < timedelta(minutes=5)
    assert is_used
    fork.kill()
    assert not cache.last_use(entry)[1]


def test_nothing_there(tmp_path: Path) -> None:
    """A cache that does not exist is pruned without being made."""
    assert Cache(tmp_path / "none").prune(older_than=NOW, keep=0) == []
    assert not (tmp_path / "none").exists()


def test_unwritable(cache: Cache) -> None:
    """A cache that cannot be written is an error that says what to do."""
    add(cache, "key")
    (cache.root / ".locks").rmdir()
    (cache.root / ".locks").touch()
    with pytest.raises(CacheError, match=r"could not be pruned.*Make the folder writable"):
        cache.prune(older_than=NOW, keep=None)
