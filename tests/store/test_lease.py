from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from forks import Say, forked

from pipcook_provider.store import lease


def other_host(path: Path) -> Path:
    """Turn a lease of a process that is gone into one of another host."""
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{'host=elsewhere' if line.startswith('host=') else line}\n" for line in lines))
    return path


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A lease whose owner was killed."""
    path = tmp_path / "folder" / "lease"

    def take(say: Say) -> None:
        taken = lease.acquire(path)
        say(taken is not None)
        time.sleep(600)

    with forked(take) as owner:
        assert owner.line() == "True"
        assert not lease.is_dead(path)
        assert lease.acquire(path) is None
        owner.kill()
    return path


def test_dead_owner(left: Path) -> None:
    """What a killed process held is dead at once, and asking does not change it."""
    text = left.read_text()
    assert lease.is_dead(left)
    assert left.read_text() == text
    taken = lease.acquire(left)
    assert taken is not None
    assert not lease.is_dead(left)
    taken.release()
    assert not left.exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not tell what ended without a wait")
def test_unreaped_owner(tmp_path: Path) -> None:
    """An owner that ended, but that its parent does not wait for, is dead."""
    path = tmp_path / "lease"
    with forked(lambda say: _hold(path, say)) as owner:
        assert owner.line() == "held"
        os.kill(owner.pid, signal.SIGKILL)
        os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
        assert lease.is_dead(path)
        with lease.hold(path, pytest.fail):
            pass


def test_clear(left: Path) -> None:
    """Of the dead a lease is removed, whatever the file system can do; of the living it is not."""
    assert lease.clear(left)
    assert not list(left.parent.iterdir())
    with lease.hold(left, pytest.fail):
        assert not lease.clear(left)
        assert left.exists()


def test_other_host(left: Path) -> None:
    """A lease of another host is alive until it has been silent for long, by the clock of the file system."""
    other_host(left)
    assert not lease.is_dead(left)
    assert not lease.clear(left)
    os.utime(left, (0, time.time() - 1000))
    assert lease.is_dead(left)
    assert lease.clear(left)


def test_recycled_process_id(left: Path) -> None:
    """A process that merely has the same id as the owner had is not the owner."""
    lines = left.read_text().splitlines()
    left.write_text("".join(f"{f'pid={os.getpid()}' if line.startswith('pid=') else line}\n" for line in lines))
    assert lease.is_dead(left)


@pytest.mark.parametrize("text", ["", "filelock/2\npid=1"])
def test_unwritten(tmp_path: Path, text: str) -> None:
    """A lease whose owner died before it had written its name holds nobody up."""
    path = tmp_path / "lease"
    path.write_text(text)
    with lease.hold(path, lambda: None):
        assert not lease.is_dead(path)
    path.write_text(text)
    assert lease.is_dead(path)


def test_waiting(tmp_path: Path) -> None:
    """A waiter is told so once, and has its turn after the holder."""
    path = tmp_path / "lease"

    def wait(say: Say) -> None:
        with lease.hold(path, lambda: say("waiting")):
            say("held")

    taken = lease.acquire(path)
    assert taken is not None
    taken.release()
    with forked(lambda say: _hold(path, say)) as holder:
        assert holder.line() == "held"
        with forked(wait) as waiter:
            assert waiter.line() == "waiting"
            holder.kill()
            assert waiter.line() == "held"


def _hold(path: Path, say: Say) -> None:
    with lease.hold(path, pytest.fail):
        say("held")
        time.sleep(600)


def test_unwritable(tmp_path: Path) -> None:
    """A lease that cannot be made is an error of the system."""
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        lease.acquire(tmp_path / "file" / "lease")
