"""Stages in child processes: outcomes, noise, and what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from helpers import prepared, wait_until

from pipcook_provider.errors import ScriptError, StageCrashed, StageError, StageKilled
from pipcook_provider.runtime.messages import Metric, Progress
from pipcook_provider.settings import Settings
from pipcook_provider.stages import StageResult, StageRunner


def run_datasource(runner: StageRunner, write_pipeline, tmp_path: Path, script: str, **changes) -> StageResult:
    """Run a pipeline's first stage with this datasource script."""
    document = write_pipeline(scripts={"datasource.py": script}, **changes)

    workspace = prepared(runner, document, tmp_path / "run")
    return runner.run(workspace, "datasource")


GOOD_RETURN = """
    from pipcook_provider.runtime import DatasetPool, Sample
    return DatasetPool.from_samples(train=[Sample(1.0, 0)])
"""


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_noise_disturbs_no_message(runner, heard, write_pipeline, tmp_path) -> None:
    """Prints, raw writes to fd 1, other programs' output and forged lines all land in the log; no message is lost."""
    script = f"""
import os, subprocess, sys
def datasource(options, context):
    for number in range(500):
        print("printed", number)
        os.write(1, b"raw\\n")
    sys.stderr.write("to stderr, no line end")
    sys.stderr.flush()
    subprocess.run([sys.executable, "-c", "print('from a program')"], check=True)
    os.write(1, b'\\x1e0000 {{"kind":"result","sequence":0,"value":{{}}}}\\n')
{GOOD_RETURN}
"""
    result = run_datasource(runner, write_pipeline, tmp_path, script)
    assert result.value == {"samples": {"train": 1}}
    assert [line for line in heard.lines if line.startswith("printed")] == [f"printed {n}" for n in range(500)]
    assert heard.lines.count("raw") == 500
    assert any("from a program" in line for line in heard.lines)
    assert any("0000" in line for line in heard.lines)


def test_output_is_decoded_by_lines(runner, heard, write_pipeline, tmp_path) -> None:
    """UTF-8 is never split, what is no UTF-8 is replaced, and a redrawn line shows its last state."""
    script = f"""
import os
def datasource(options, context):
    os.write(1, "数据".encode()[:4]); os.write(1, "数据".encode()[4:] + b"\\n")
    os.write(1, b"\\xff\\xfe\\n")
    os.write(1, b"10%\\r50%\\r100%\\n")
{GOOD_RETURN}
"""
    run_datasource(runner, write_pipeline, tmp_path, script)
    assert "数据" in heard.lines
    assert "��" in heard.lines
    assert "100%" in heard.lines


def test_line_without_end_stays_bounded(runner, heard, write_pipeline, tmp_path) -> None:
    """A line that never ends is passed on in pieces instead of filling the worker's memory."""
    script = f"""
import os
def datasource(options, context):
    for _ in range(100):
        os.write(1, b"x" * 10_000)
{GOOD_RETURN}
"""
    run_datasource(runner, write_pipeline, tmp_path, script)
    pieces = [line for line in heard.lines if set(line) == {"x"}]
    assert sum(map(len, pieces)) == 1_000_000
    assert max(map(len, pieces)) < 200_000


def test_progress_and_metrics_arrive(runner, heard, write_pipeline, tmp_path) -> None:
    """What a model script reports reaches the listener, and the last value of a metric the result."""

    workspace = prepared(runner, write_pipeline(), tmp_path / "run")
    results = [runner.run(workspace, task) for task in ("datasource", "dataflow_1", "model")]
    assert [m.value for m in heard.messages if isinstance(m, Progress)] == [0.5, 1.0]
    assert [(m.value, m.step) for m in heard.messages if isinstance(m, Metric)] == [(1.0, 0), (0.5, 1)]
    assert results[-1].metrics == {"loss": 0.5}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("    os._exit(0)", "ended with exit code 0 without a result"),
        ("    os._exit(7)", "ended with exit code 7 without a result"),
        (
            "    print('last words'); sys.stdout.flush(); os.kill(os.getpid(), 9)",
            "was ended by SIGKILL .*memory.*\n.*\nlast words",
        ),
        ("    import ctypes; ctypes.string_at(0)", "was ended by SIGSEGV"),
    ],
)
def test_crash_is_told_by_how_it_ended(runner, write_pipeline, tmp_path, body: str, expected: str) -> None:
    """A child that dies is a crash, with exit code or signal and its last lines; exit code 0 is no success."""
    with pytest.raises(StageCrashed, match=expected):
        run_datasource(runner, write_pipeline, tmp_path, f"import os, sys\ndef datasource(options, context):\n{body}\n")


def test_environment_is_allow_listed(write_pipeline, tmp_path, heard, monkeypatch) -> None:
    """A stage sees what is listed and what the document declares; not the worker's other variables."""
    from pipcook_provider.launchers.process import ProcessLauncher

    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")
    monkeypatch.setenv("MY_SECRET", "secret")
    monkeypatch.setenv("MY_LISTED", "listed")
    settings = Settings(home=tmp_path / "home", child_environment=("MY_LISTED",))
    runner = StageRunner(settings, ProcessLauncher(settings), heard)
    script = f"""
import os
def datasource(options, context):
    print("names:", *sorted(os.environ))
    print("declared:", os.environ["DECLARED"], os.environ["MY_LISTED"])
{GOOD_RETURN}
"""
    run_datasource(runner, write_pipeline, tmp_path, script, options={"airflow": {"env": {"DECLARED": "here"}}})
    names = next(line for line in heard.lines if line.startswith("names:")).split()[1:]
    assert "declared: here listed" in heard.lines
    assert "PATH" in names
    assert not {"MY_SECRET", "AIRFLOW__CORE__FERNET_KEY", "PIPCOOK_CHANNEL", "AIRFLOW_HOME"} & set(names)


def test_stop_ends_the_whole_group(settings, heard, write_pipeline, tmp_path) -> None:
    """Stopping a stage ends the child and its grandchildren, even when they ignore SIGTERM."""
    from pipcook_provider.launchers.process import ProcessLauncher

    launcher = ProcessLauncher(settings)
    runner = StageRunner(settings, launcher, heard)
    script = """
import os, signal, subprocess, sys, time
def datasource(options, context):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    grandchild = subprocess.Popen([sys.executable, "-c", stubborn])
    print("pids", os.getpid(), grandchild.pid, flush=True)
    time.sleep(600)
"""
    stopper = threading.Thread(target=lambda: wait_until(lambda: "up" in heard.lines) and launcher.stop())
    stopper.start()
    with pytest.raises(StageKilled, match="stopped from outside"):
        run_datasource(runner, write_pipeline, tmp_path, script)
    stopper.join()
    pids = [int(word) for line in heard.lines if line.startswith("pids") for word in line.split()[1:]]
    assert len(pids) == 2
    assert wait_until(lambda: not any(map(is_alive, pids)))


def test_child_dies_with_its_launcher(write_pipeline, tmp_path) -> None:
    """SIGKILL of the launcher, which cannot be caught, ends the child and its grandchildren too."""
    marker = tmp_path / "pids"
    script = f"""
import os, subprocess, sys, time
def datasource(options, context):
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open({str(marker)!r} + ".part", "w") as file:
        file.write(f"{{os.getpid()}} {{grandchild.pid}}")
    os.rename({str(marker)!r} + ".part", {str(marker)!r})
    time.sleep(600)
"""
    document = write_pipeline(scripts={"datasource.py": script})
    command = [sys.executable, "-m", "pipcook_provider.cli", "train", str(document), "-o", str(tmp_path / "run")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as launcher:
        assert wait_until(marker.exists, 30)
        pids = [int(word) for word in marker.read_text(encoding="ascii").split()]
        assert all(map(is_alive, pids))
        os.kill(launcher.pid, signal.SIGKILL)
    assert wait_until(lambda: not any(map(is_alive, pids)))


def test_grandchildren_do_not_hold_up_the_stage(runner, heard, write_pipeline, tmp_path) -> None:
    """A program that a script leaves running neither delays the end of the stage nor outlives it."""
    script = f"""
import subprocess, sys
def datasource(options, context):
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print("pid", left.pid, flush=True)
{GOOD_RETURN}
"""
    result = run_datasource(runner, write_pipeline, tmp_path, script)
    assert result.value == {"samples": {"train": 1}}
    (pid,) = (int(line.split()[1]) for line in heard.lines if line.startswith("pid"))
    assert wait_until(lambda: not is_alive(pid))


def test_threads_do_not_hold_up_the_stage(runner, write_pipeline, tmp_path) -> None:
    """A thread that never ends does not keep a stage whose result is there."""
    script = f"""
import threading
def datasource(options, context):
    threading.Thread(target=threading.Event().wait).start()
{GOOD_RETURN}
"""
    assert run_datasource(runner, write_pipeline, tmp_path, script).value == {"samples": {"train": 1}}


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("def datasource(options, context):\n    return {}['key']\n", r"line 2 .*\n    return \{\}\['key'\]\nKeyError: 'key'"),
        ("import sys\ndef datasource(options, context):\n    sys.exit(0)\n", r"line 3 .*\n.*\nSystemExit: .* sys.exit\(0\)"),
        ("def datasource(options, context):\n    pass\n", r"expected datasource\(\) to return a DatasetPool, found None"),
        ("def datasource(options, context):\n    return 'x'\n", r"expected datasource\(\) to return a DatasetPool, found a s"),
        ("def datasource(options, context):\n    yield 1\n", r"found a generator"),
        ("def datasource(options):\n    pass\n", r"TypeError: datasource\(\) takes 1 positional argument"),
        ("import nonexistent_module\ndef datasource(options, context):\n    pass\n", r"line 1 .*\n.*\nModuleNotFoundError"),
        ("datasource = 3\n", r"must define a function 'datasource'"),
    ],
)  # fmt: skip
def test_script_failure_names_file_and_line(runner, write_pipeline, tmp_path, script: str, expected: str) -> None:
    """What a script does wrong is told with the script's own address, line and text."""
    with pytest.raises(ScriptError, match=expected) as caught:
        run_datasource(runner, write_pipeline, tmp_path, script)
    assert "pipelines/datasource.py" in str(caught.value)


def test_failure_in_a_module_beside_the_script_names_the_module(runner, write_pipeline, tmp_path) -> None:
    """The innermost line of the user's own code is named, in whichever of their files it stands."""
    scripts = {
        "datasource.py": "import helper\ndef datasource(options, context):\n    helper.fail()\n",
        "helper.py": "def fail():\n    raise ConnectionError('gone')\n",
    }
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "helper.py").write_text(scripts["helper.py"], encoding="utf-8")
    with pytest.raises(
        ScriptError, match=r"pipelines/helper.py, line 2 \(in the run: .*\):\n.*\nConnectionError: gone"
    ) as caught:
        run_datasource(runner, write_pipeline, tmp_path, scripts["datasource.py"])
    assert caught.value.retryable
    assert "in datasource" in caught.value.details


def test_failing_transform_names_the_sample(runner, write_pipeline, tmp_path) -> None:
    """A transform that fails is told with the sample that it failed for."""
    dataflow = """
from pipcook_provider.runtime import Sample
def dataflow(dataset, options, context):
    return dataset.transform(lambda sample: Sample(1 / (sample.data - 3)))
"""

    document = write_pipeline(scripts={"dataflow.py": dataflow})
    workspace = prepared(runner, document, tmp_path / "run")
    runner.run(workspace, "datasource")
    with pytest.raises(ScriptError, match=r"line 4 .*\n.*\nZeroDivisionError: .*\nThis happened while train\[3\]"):
        runner.run(workspace, "dataflow_1")


def test_failed_stage_leaves_the_earlier_output(runner, write_pipeline, tmp_path) -> None:
    """A second attempt that fails half-way does not touch what the first one wrote."""
    from pipcook_provider.store.workspace import Workspace

    workspace = prepared(runner, write_pipeline(), tmp_path / "run")
    runner.run(workspace, "datasource")
    before = sorted(path.name for path in workspace.output("datasource").iterdir())
    (workspace.scripts / "0-datasource.py").write_text(
        "def datasource(o, c):\n    raise ValueError\n", encoding="utf-8"
    )
    with pytest.raises(StageError):
        runner.run(Workspace.open(workspace.root), "datasource")
    assert sorted(path.name for path in workspace.output("datasource").iterdir()) == before
