"""The demo's parts that need no Airflow; ``.ci/run`` runs the whole."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from tools.demo import keeper
from tools.demo.errors import DemoError
from tools.demo.run import latest
from tools.demo.standalone import Setup, alone_in, environment, free_port

STUBBORN = """
    import os, pathlib, signal, subprocess, sys, time
    def start(grouped):
        return subprocess.Popen(
            [sys.executable, "-c", "import signal, time; signal.signal(2, signal.SIG_IGN); time.sleep(600)"],
            process_group=0 if grouped else None,
        )
    children = [start(False), start(True)]
    pids = pathlib.Path(sys.argv[1])
    pids.with_suffix(".partial").write_text(" ".join(str(pid) for pid in [os.getpid(), *(c.pid for c in children)]))
    pids.with_suffix(".partial").rename(pids)
    time.sleep(600)
"""


def keep(folder: Path) -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    """Start a keeper over a program with two children, one in a process group of its own; return all processes."""
    pids = folder / "pids"
    program = textwrap.dedent(STUBBORN)
    process = subprocess.Popen(
        [sys.executable, keeper.__file__, folder / "log", sys.executable, "-c", program, pids], stdin=subprocess.PIPE
    )
    while not pids.exists():
        assert process.poll() is None
        time.sleep(0.01)
    return process, [psutil.Process(int(pid)) for pid in pids.read_text().split()]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that have not ended; one that nobody has asked for its exit status has."""
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_keeper_leaves_nothing_behind_when_its_stdin_ends(tmp_path: Path) -> None:
    """The command and all processes of its session end, those too that ignore SIGINT or have their own group."""
    process, kept = keep(tmp_path)
    assert process.stdin is not None
    process.stdin.close()
    process.wait()
    assert alive(kept) == []


def test_keeper_leaves_nothing_behind_when_the_command_dies(tmp_path: Path) -> None:
    """What a command that was killed leaves behind ends as well, and the keeper tells how the command ended."""
    process, kept = keep(tmp_path)
    kept[0].kill()
    assert process.wait() == 256 - signal.SIGKILL
    assert alive(kept) == []


def test_one_demo_a_folder(tmp_path: Path) -> None:
    """A second demo in the same folder is refused, a later one is not."""
    with alone_in(tmp_path), pytest.raises(DemoError, match="already running"), alone_in(tmp_path):
        pass
    with alone_in(tmp_path):
        pass


def test_taken_port_is_passed_over() -> None:
    """The first port that nobody listens on is chosen."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        assert free_port(taken) > taken
    assert free_port(taken) == taken


def test_callers_airflow_does_not_reach_the_demo(tmp_path: Path) -> None:
    """Of the caller's Airflow variables only Pipcook's options and connections pass; a proxy is not used for itself."""
    outer = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://production",
        "AIRFLOW_CONFIG": "/etc/airflow.cfg",
        "AIRFLOW_CONN_PIPCOOK_FRAMEWORK_DEFAULT": "https://mirror",
        "AIRFLOW__PIPCOOK__FRAMEWORK_MIRROR": "https://mirror",
        "NO_PROXY": "intranet",
        "PIPCOOK_HOME": "/frameworks",
    }
    inner = environment(outer, Setup(tmp_path / "home", tmp_path / "dags", tmp_path / "cache"), 8123)
    assert not {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW_CONFIG"} & set(inner)
    assert {"AIRFLOW_CONN_PIPCOOK_FRAMEWORK_DEFAULT", "AIRFLOW__PIPCOOK__FRAMEWORK_MIRROR"} <= set(inner)
    assert inner["NO_PROXY"] == "intranet,127.0.0.1"
    assert inner["PIPCOOK_HOME"] == "/frameworks"
    assert inner["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:8123"


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ([], (None, "")),
        (["::group::Pre Execute", "Filling up the DagBag", "::endgroup::"], (None, "")),
        (
            ["Building tensorflow", "::group::Post Execute", "Pushing xcom", "::endgroup::"],
            (None, "Building tensorflow"),
        ),
        (["progress   0 % ", "progress  45 % epoch 3, loss 0.01235", "hello"], (0.45, "epoch 3, loss 0.01235")),
    ],
)
def test_a_tasks_last_word(log: list[str], expected: tuple[float | None, str]) -> None:
    """A running task is shown with its last progress, else with the last line that it wrote itself."""
    assert latest(log) == expected
