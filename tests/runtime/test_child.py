"""The stage's process: what scripts may do to it, and what is told of what went wrong in them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import prepared

from pipcook_provider.errors import ScriptError, StageCrashed
from pipcook_provider.launchers import Launch, Needs, Site
from pipcook_provider.launchers.base import Outcome
from pipcook_provider.runtime import child
from pipcook_provider.runtime.messages import PROTOCOL, Failure, Metric
from pipcook_provider.stages import StageResult, StageRunner

RETURN = """
    from pipcook_provider.runtime import DatasetPool, Sample
    return DatasetPool.from_samples(train=[Sample(1.0, 0)])
"""


def run_datasource(runner: StageRunner, write_pipeline, tmp_path: Path, script: str, **changes) -> StageResult:
    """Run a pipeline's first stage with this datasource script."""
    document = write_pipeline(scripts={"datasource.py": script}, **changes)
    return runner.run(prepared(runner, document, tmp_path / "run"), "datasource")


@pytest.fixture
def framework(tmp_path: Path) -> Path:
    """A framework that brings a package of its own and nothing else."""
    directory = tmp_path / "framework"
    (directory / "site-packages").mkdir(parents=True)
    (directory / "site-packages" / "only_here.py").write_text("ADDED = 100\n", encoding="utf-8")
    (directory / "framework.json").write_text(json.dumps({"name": "mine", "version": "1.0", "packages": []}))
    return directory


SPAWNING = """
import multiprocessing
import helper, numpy
from pipcook_provider.runtime import DatasetPool, Sample
{imports}

def work(number):
    return float(numpy.square(number)) + helper.ADDED + {added}

def datasource(options, context):
    with multiprocessing.get_context("{method}").Pool(2) as pool:
        numbers = pool.map_async(work, range(4)).get(30)
    print("made", numbers)
    return DatasetPool.from_samples(train=[Sample(number) for number in numbers])
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_spawned_processes_find_the_script(runner, heard, write_pipeline, tmp_path, method: str) -> None:
    """A pool of any start method calls the script's functions, which see the modules beside the script."""
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "helper.py").write_text("ADDED = 10\n", encoding="utf-8")
    script = SPAWNING.format(method=method, imports="", added=0)
    assert run_datasource(runner, write_pipeline, tmp_path, script).value == {"samples": {"train": 4}}
    assert "made [10.0, 11.0, 14.0, 19.0]" in heard.lines


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_spawned_processes_see_what_is_beside_the_framework(
    runner, heard, write_pipeline, tmp_path, framework: Path, method: str
) -> None:
    """Beside a framework, spawned processes see its packages and, of the worker's, only those that the script sees."""
    (tmp_path / "pipelines").mkdir()
    helper = "import importlib.util\nADDED = 10 if importlib.util.find_spec('airflow') is None else 0\n"
    (tmp_path / "pipelines" / "helper.py").write_text(helper, encoding="utf-8")
    script = SPAWNING.format(method=method, imports="import only_here", added="only_here.ADDED")
    options = {"framework": str(framework), "train": {}}
    result = run_datasource(runner, write_pipeline, tmp_path, script, options=options)
    assert result.value == {"samples": {"train": 4}}
    assert "made [110.0, 111.0, 114.0, 119.0]" in heard.lines


def test_forked_process_cannot_report(runner, heard, write_pipeline, tmp_path) -> None:
    """What a forked process reports is left out, and said once; the stage's own reports stay in order."""
    model = """
import multiprocessing
def report(runtime):
    runtime.log_metric("forked", 1.0)
    runtime.notify_progress(0.5)
def train(runtime, options, context):
    runtime.log_metric("before", 1.0)
    process = multiprocessing.get_context("fork").Process(target=report, args=(runtime,))
    process.start()
    process.join()
    assert process.exitcode == 0
    runtime.log_metric("after", 1.0)
    runtime.save_model(b"", "model")
"""
    workspace = prepared(runner, write_pipeline(scripts={"model.py": model}), tmp_path / "run")
    for stage in ("datasource", "dataflow_1", "model"):
        runner.run(workspace, stage)
    assert [message.name for message in heard.messages if isinstance(message, Metric)] == ["before", "after"]
    assert len([line for line in heard.lines if "which the script forked, reported 'metric': ignored" in line]) == 1
    assert not any("'progress'" in line for line in heard.lines)


@pytest.mark.parametrize(
    ("ending", "status", "told"),
    [
        ("pass", 0, None),
        ("sys.exit()", 0, None),
        ("sys.exit(3)", 3, None),
        ("{}['gone']", 1, "KeyError: 'gone'"),
    ],
)
def test_forked_process_that_comes_back_is_no_stage(
    runner, heard, write_pipeline, tmp_path, ending: str, status: int, told: str | None
) -> None:
    """A forked process that leaves the script's function ends there: the result is the stage's own."""
    script = f"""
import os, sys
def datasource(options, context):
    from pipcook_provider.runtime import DatasetPool, Sample
    child = os.fork()
    if child == 0:
        print("printed by the fork")
        {ending}
        return DatasetPool.from_samples(train=[Sample(2.0)] * 5)
    print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    return DatasetPool.from_samples(train=[Sample(1.0)])
"""
    result = run_datasource(runner, write_pipeline, tmp_path, script)
    assert result.value == {"samples": {"train": 1}}
    assert f"status {status}" in heard.lines
    assert heard.lines.count("printed by the fork") == 1
    assert told is None or told in heard.lines
    assert not any("child.py" in line or "reported" in line for line in heard.lines)


@pytest.mark.parametrize(
    "body",
    ["sys.stdout.close()", "sys.stderr.close()", "sys.stdout = sys.stderr = None", "del sys.stdout", "os.close(1)"],
)
def test_streams_belong_to_the_script(runner, write_pipeline, tmp_path, body: str) -> None:
    """Whatever a script does to its standard streams, its result arrives."""
    script = f"import os, sys\ndef datasource(options, context):\n    {body}\n{RETURN}"
    assert run_datasource(runner, write_pipeline, tmp_path, script).value == {"samples": {"train": 1}}


@pytest.mark.parametrize("after", ["pass", "taken = [open('taken', 'w') for _ in range(9)]", "sys.stderr.close()"])
def test_closed_channel_is_told_as_what_it_is(runner, write_pipeline, tmp_path, after: str) -> None:
    """A script that closes the descriptor of the messages is told so, and no file of its own is written to."""
    script = f"import os, sys\ndef datasource(options, context):\n    os.closerange(3, 100)\n    {after}\n{RETURN}"
    with pytest.raises(StageCrashed, match=r"The script closed the descriptor that its stage reports on") as caught:
        run_datasource(runner, write_pipeline, tmp_path, script)
    assert "Traceback" not in str(caught.value)
    taken = tmp_path / "run" / "taken"
    assert not taken.exists() or taken.read_text(encoding="utf-8") == ""


def test_failure_after_closing_the_channel_is_not_lost(runner, write_pipeline, tmp_path) -> None:
    """What a script failed with still stands in the output when it cannot be reported."""
    script = "import os\ndef datasource(options, context):\n    os.closerange(3, 100)\n    return {}['gone']\n"
    with pytest.raises(
        StageCrashed, match=r"line 4, in datasource(.|\n)*KeyError: 'gone'\nThe script closed"
    ) as caught:
        run_datasource(runner, write_pipeline, tmp_path, script)
    assert "child.py" not in str(caught.value)


def test_exception_without_a_text_is_told(runner, write_pipeline, tmp_path) -> None:
    """An exception that cannot say what it is still names its class and its line."""
    script = """
class Mute(Exception):
    def __str__(self):
        raise RuntimeError
def datasource(options, context):
    raise Mute
"""
    with pytest.raises(ScriptError, match=r"line 6 .*\n    raise Mute\nMute: <exception str\(\) failed>"):
        run_datasource(runner, write_pipeline, tmp_path, script)


@pytest.mark.parametrize(
    "script",
    [
        "def datasource(options): ...",
        "def datasource(options, context): yield",
        "async def datasource(options, context): yield",
        "def datasource(options, context): ...",
        "datasource = 3",
        "def datasource(options, context):",
    ],
)
def test_runtime_is_not_in_the_details(runner, write_pipeline, tmp_path, script: str) -> None:
    """Where no line of a script failed there are no details: the message is the whole story."""
    document = write_pipeline()
    workspace = prepared(runner, document, tmp_path / "run")
    (workspace.scripts / "0-datasource.py").write_text(script, encoding="utf-8")
    with pytest.raises(ScriptError) as caught:
        runner.run(workspace, "datasource")
    assert caught.value.details == ""


def test_details_begin_with_the_script(runner, write_pipeline, tmp_path) -> None:
    """A traceback begins with the script's first frame and keeps what is below it."""
    script = "import json\ndef datasource(options, context):\n    json.loads('{')\n"
    with pytest.raises(ScriptError) as caught:
        run_datasource(runner, write_pipeline, tmp_path, script)
    first, second = [line for line in caught.value.details.splitlines() if line.startswith("  File")][:2]
    assert "0-datasource.py" in first
    assert "json" in second


def test_details_of_a_framework_begin_with_its_initialisation(
    runner, write_pipeline, tmp_path, framework: Path
) -> None:
    """What fails in a framework's own code is told with its traceback, without the runtime's frames."""
    (framework / "index.py").write_text("def initialize(options):\n    options['gone']\n", encoding="utf-8")
    script = f"def datasource(options, context):{RETURN}"
    with pytest.raises(ScriptError, match="KeyError: 'gone'") as caught:
        run_datasource(runner, write_pipeline, tmp_path, script, options={"framework": str(framework)})
    (frame,) = [line for line in caught.value.details.splitlines() if line.startswith("  File")]
    assert "framework/index.py" in frame


def test_syntax_error_of_a_text_is_placed_where_it_was_read(runner, write_pipeline, tmp_path) -> None:
    """A text that a script parses is no script: the script's own line is named, and where the text is wrong beside."""
    script = "import ast\ndef datasource(options, context):\n    return ast.literal_eval('1 +')\n"
    expected = r"datasource.py, line 3 .*\n    return ast.literal_eval.*\nSyntaxError: .*\(<unknown>, line 1\)"
    with pytest.raises(ScriptError, match=expected) as caught:
        run_datasource(runner, write_pipeline, tmp_path, script)
    assert "in datasource" in caught.value.details


def test_syntax_error_of_a_module_is_placed_in_the_module(runner, write_pipeline, tmp_path) -> None:
    """A module that is no Python is named, with its own line, rather than the line that imports it."""
    (tmp_path / "pipelines" / "package").mkdir(parents=True)
    (tmp_path / "pipelines" / "package" / "wrong.py").write_text("\n\nx = = 1\n", encoding="utf-8")
    script = "def datasource(options, context):\n    import package.wrong\n"
    with pytest.raises(ScriptError, match=r"package/wrong.py, line 3.*\n    x = = 1\nSyntaxError: invalid syntax$"):
        run_datasource(runner, write_pipeline, tmp_path, script)


@pytest.mark.parametrize(
    ("raised", "retryable"),
    [
        *((name, False) for name in ("SyntaxError", "ImportError", "NameError", "AttributeError", "TypeError")),
        *((name, False) for name in ("KeyError", "IndexError", "AssertionError", "NotImplementedError", "SystemExit")),
        *((name, False) for name in ("ZeroDivisionError", "FileNotFoundError", "PermissionError")),
        *((name, False) for name in ("IsADirectoryError", "NotADirectoryError")),
        *((name, True) for name in ("OSError", "ConnectionError", "TimeoutError", "RuntimeError", "ValueError")),
        *((name, True) for name in ("MemoryError", "type('Unknown', (Exception,), {})")),
    ],
)
def test_retries_are_for_what_may_go_away(runner, write_pipeline, tmp_path, raised: str, retryable: bool) -> None:
    """Errors of programs and of missing files come back however often a stage is tried; others may not."""
    script = f"def datasource(options, context):\n    raise {raised}('x')\n"
    with pytest.raises(ScriptError) as caught:
        run_datasource(runner, write_pipeline, tmp_path, script)
    assert caught.value.retryable is retryable


@pytest.mark.parametrize("name", ["datasource", "datasource.python", "datasource.txt"])
def test_script_is_python_whatever_its_suffix(runner, write_pipeline, tmp_path, name: str) -> None:
    """A script needs no suffix: what prepare accepts, the stage can load."""
    script = f"def datasource(options, context):{RETURN}"
    document = write_pipeline(scripts={name: script}, datasource=name)
    workspace = prepared(runner, document, tmp_path / "run")
    assert runner.run(workspace, "datasource").value == {"samples": {"train": 1}}


def test_failure_in_a_folder_names_the_files_origin() -> None:
    """A file below a folder whose origin is known is named by its address there."""
    launch = Launch(
        workspace=Path("/run"),
        context=Path("c.json"),
        site=Site(needs=Needs()),
        subject="model script",
        script_uris={"scripts/2-m.py": "file:///here/m.py", "scripts/2-modules": "file:///here"},
    )
    for file, address in {
        "scripts/2-m.py": "file:///here/m.py",
        "scripts/2-modules/p/a b.py": "file:///here/p/a%20b.py",
    }.items():
        outcome = Outcome(launch, failure=Failure("KeyError", "'x'", file, 3, "", "", False))
        with pytest.raises(ScriptError) as caught:
            outcome.conclude(1, "", stopped=False)
        assert str(caught.value) == f"model script failed at {address}, line 3 (in the run: {file}):\nKeyError: 'x'"


class Container:
    """The child as a container runs it, in a process: its launcher holds its stdin and gives signs of life."""

    def __init__(self, folder: Path, script: str, *modes: str, protocol: int = PROTOCOL) -> None:
        (folder / "home").mkdir()
        (folder / "script.py").write_text(f"{script}\n", encoding="utf-8")
        context = {
            "protocol": protocol,
            "stage": "datasource",
            "role": "datasource",
            "parameters": {},
            "options": {},
            "origin": "",
            "downloads": str(folder),
            "script": "script.py",
            "output": "output",
        }
        (folder / "context.json").write_text(json.dumps(context), encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-u", "-X", "utf8", child.__file__, folder, "context.json", *modes],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env={"HOME": str(folder / "home"), "PIPCOOK_CHANNEL": "token"},
            start_new_session=True,
            text=True,
        )

    def say(self, line: object) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{line if isinstance(line, str) else json.dumps(line)}\n")
        self.process.stdin.flush()

    def end(self, text: str | None = None) -> tuple[int, str, str]:
        """Return status, messages and output; ``text`` is the last that is said."""
        messages, output = self.process.communicate(text, timeout=60)
        return self.process.returncode, messages, output


IN_A_CONTAINER = f"def datasource(options, context):\n    import os, pathlib, time\n    {{body}}\n{RETURN}"


@pytest.mark.parametrize("text", ["", "\n", "no JSON\n", "{}\n", '{"lease": null}\n'])
def test_nothing_runs_without_a_handover(tmp_path, text: str) -> None:
    """A child that is not told what it runs with says so, with a status of its own."""
    container = Container(tmp_path, IN_A_CONTAINER.format(body="print('ran')"), "lease", "packages")
    status, messages, output = container.end(text)
    assert (status, messages) == (3, "")
    assert "expected a line with the lease and the environment on stdin within 60 s" in output
    assert "ran" not in output


def test_handover_is_in_place_before_user_code(tmp_path) -> None:
    """Variables and ``.netrc`` are there for the script; the file is for its user only, and stdin holds nothing."""
    body = "print(os.environ['SECRET'], os.environ['HOME'], os.read(0, 1))"
    container = Container(tmp_path, IN_A_CONTAINER.format(body=body), "lease", "packages")
    netrc = "machine a.test login me password it"
    container.say({"lease": 60, "environment": {"SECRET": "ünsichtbar"}, "netrc": netrc})
    status, messages, output = container.end()
    assert (status, output) == (0, f"ünsichtbar {tmp_path}/home b''\n")
    told = [json.loads(line.partition(" ")[2])["kind"] for line in messages.split("\n") if line]
    assert told == ["opened", "result", "closed"]
    written = tmp_path / "home" / ".netrc"
    assert written.read_text(encoding="utf-8") == netrc
    assert written.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("closed", [False, True])
def test_lease_ends_the_stage(tmp_path, closed: bool) -> None:
    """When nothing is heard for the lease, the guard says so and ends the stage, also with stdin at its end."""
    container = Container(tmp_path, IN_A_CONTAINER.format(body="time.sleep(600)"), "lease", "packages")
    container.say({"lease": 0.5})
    if closed:
        status, _, output = container.end()
    else:
        assert container.process.stderr
        output, status = container.process.stderr.read(), container.process.wait(60)
    assert status == 75
    assert output == "nobody has asked for this stage for 0.5 s, its lease: it ends itself.\n"


@pytest.mark.parametrize(
    "body",
    [
        "os.closerange(3, 99); files = [open('script.py') for _ in range(9)]; time.sleep(600)",
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork(); time.sleep(600)",
        "import re; re.match('(a+)+$', 'a' * 60 + 'b')",  # lets no other thread run for hours
    ],
)
def test_lease_ends_any_stage(tmp_path, body: str) -> None:
    """A script that closes all descriptors, ignores signals, or holds the interpreter, ends with its lease all the same."""
    container = Container(tmp_path, IN_A_CONTAINER.format(body=body), "lease", "packages")
    container.say({"lease": 1})
    assert container.process.stderr
    output, status = container.process.stderr.read(), container.process.wait(60)
    assert status == 75
    assert output.endswith("nobody has asked for this stage for 1 s, its lease: it ends itself.\n")


@pytest.mark.parametrize(("ending", "expected"), [("os._exit(9)", 9), ("os.kill(os.getpid(), 9)", 137)])
def test_guard_ends_as_its_stage_did(tmp_path, ending: str, expected: int) -> None:
    """The exit status of the first process tells how the stage's own ended."""
    container = Container(tmp_path, IN_A_CONTAINER.format(body=ending), "lease", "packages")
    container.say({"lease": 60})
    assert container.process.wait(60) == expected


def test_sigterm_reaches_the_stage(tmp_path) -> None:
    """A script may end in its own way when its container is stopped."""
    body = "import signal; signal.signal(signal.SIGTERM, lambda *_: os._exit(21)); print('up'); time.sleep(600)"
    container = Container(tmp_path, IN_A_CONTAINER.format(body=body), "lease", "packages")
    container.say({"lease": 60})
    assert container.process.stderr
    assert container.process.stderr.readline() == "up\n"
    container.process.terminate()
    assert container.process.wait(60) == 21


def test_netrc_that_has_no_place(tmp_path) -> None:
    """A document that names another HOME, which is not there, costs the passwords, not the stage."""
    container = Container(tmp_path, IN_A_CONTAINER.format(body="pass"), "lease", "packages")
    container.say({"lease": 60, "environment": {"HOME": "/nowhere"}, "netrc": "machine a login b password secret"})
    status, _, output = container.end()
    assert status == 0
    assert "~/.netrc cannot be put into /nowhere/.netrc" in output
    assert "secret" not in output


def test_signs_of_life_and_a_new_lease_keep_the_stage(tmp_path) -> None:
    """Any line is a sign of life; one that states a lease changes it."""
    body = "[time.sleep(0.05) for _ in range(1200) if not pathlib.Path('go').exists()]"
    container = Container(tmp_path, IN_A_CONTAINER.format(body=body), "lease", "packages")
    container.say({"lease": 2})
    for _ in range(5):
        time.sleep(0.5)
        container.say("")
    container.say({"lease": 60})
    time.sleep(2.5)
    (tmp_path / "go").touch()
    assert container.end()[0] == 0


def test_protocols_can_be_compared_before_the_context_is_read(tmp_path) -> None:
    """A child tells its protocol also where it cannot read the context of another."""
    container = Container(tmp_path, IN_A_CONTAINER.format(body="pass"), "lease", "packages", protocol=999)
    container.say({"lease": 60})
    status, messages, output = container.end()
    assert status == 2
    assert f'"kind":"opened","sequence":0,"protocol":{PROTOCOL}' in messages
    assert "expected a context of protocol" in output


def test_workspace_that_is_not_there(tmp_path) -> None:
    """A workspace that the child does not see is told before anything runs."""
    container = Container(tmp_path, "", "lease", "packages")
    (tmp_path / "context.json").unlink()
    container.say({"lease": 60})
    status, messages, output = container.end()
    assert (status, messages) == (4, "")
    assert f"of the container cannot read and write the folder {tmp_path}" in output
