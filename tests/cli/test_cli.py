"""The pipcook command."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import write_toy

from pipcook_provider.cli import main

COMMAND = [sys.executable, "-m", "pipcook_provider.cli"]


def test_train_leaves_a_model_and_says_where(write_pipeline, tmp_path, capfd) -> None:
    """A run off a terminal prints plain lines to stderr and the outcome to stdout."""
    assert main(["train", str(write_pipeline()), "-o", str(tmp_path / "out")]) == 0
    out, err = capfd.readouterr()
    assert out.splitlines() == [
        "loss: 0.5",
        f"artifact: {tmp_path}/out/model.zip",
        f"model: {tmp_path}/out/model",
    ]
    assert re.search(r"^\[model\] finished in \d+\.\d s: loss 0\.5$", err, re.MULTILINE)
    assert "\x1b" not in err


def test_run_is_train(write_pipeline, tmp_path, monkeypatch, capfd) -> None:
    """run is an alias of train, and the folder is named after the time by default."""
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(write_pipeline()), "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d", Path(result["workspace"]).name)
    assert Path(result["workspace"]).parent == tmp_path
    assert result["metrics"] == {"loss": 0.5}
    assert (Path(result["model"]) / "model.txt").is_file()


def on_terminal(command: list[str], until: str = "", number: int = 0) -> tuple[int, str]:
    """Run a command on a terminal; send a signal when a text is shown. Return the exit status and all that was shown."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, stderr=follower, stdout=subprocess.DEVNULL, env=environment) as process:
        os.close(follower)
        shown = b""
        while True:
            try:
                chunk = os.read(leader, 65536)
            except OSError:
                break
            if not chunk:
                break
            shown += chunk
            if until and until.encode() in shown:
                process.send_signal(number)
                until = ""
    os.close(leader)
    return process.returncode, shown.decode()


def test_terminal_shows_a_bar_for_each_stage(write_pipeline, tmp_path, monkeypatch) -> None:
    """On a terminal there is a bar for each stage, with what it ended with."""
    monkeypatch.setenv("NO_COLOR", "1")
    status, shown = on_terminal([*COMMAND, "train", str(write_pipeline()), "-o", str(tmp_path / "out")])
    assert status == 0
    assert "━" in shown
    assert all(title in shown for title in ("prepare", "datasource: datasource.py", "model: model.py", "artifact 1"))
    assert "loss 0.5" in shown
    assert not re.search(r"\x1b\[[\d;]*3\dm", shown), "NO_COLOR is set"


def test_failure_is_told_without_python_internals(write_pipeline, tmp_path, capfd) -> None:
    """A failing script gives exit status 1, its own traceback and the one sentence that says where."""
    document = write_pipeline(
        scripts={"model.py": "def train(runtime, options, context):\n    raise ValueError('no luck')\n"}
    )
    assert main(["train", str(document), "-o", str(tmp_path / "out")]) == 1
    err = capfd.readouterr().err
    assert "ValueError: no luck" in err
    assert "model.py, line 2" in err
    assert "stages.py" not in err
    assert "child.py" not in err


def test_broken_document_is_told_with_its_places(write_pipeline, tmp_path, capfd) -> None:
    """A document that cannot be used gives exit status 1 and a line for each problem; no folder is made."""
    document = write_pipeline(dataflow="dataflow.py", options={"train": "abc"})
    assert main(["train", str(document), "-o", str(tmp_path / "out")]) == 1
    err = capfd.readouterr().err
    assert re.search(r"pipeline.json:\d+:\d+: \$\.dataflow: ", err)
    assert re.search(r"pipeline.json:\d+:\d+: \$\.options\.train: ", err)
    assert not (tmp_path / "out").exists()


def test_lint_tells_errors_and_warnings(write_pipeline, capfd) -> None:
    """Errors give exit status 1, warnings do not; --json is for machines."""
    good = write_pipeline(name="good.json", custom=1)
    assert main(["lint", str(good)]) == 0
    assert "warning: " in capfd.readouterr().out
    (good.parent / "broken.json").write_text('{"specVersion": "2.0", ', encoding="utf-8")
    assert main(["lint", "--json", str(good.parent)]) == 1
    problems = json.loads(capfd.readouterr().out)
    assert {(problem["level"], Path(problem["file"]).name) for problem in problems} == {
        ("warning", "good.json"),
        ("error", "broken.json"),
    }
    assert all(problem["line"] >= 1 and problem["message"] for problem in problems)


def test_clean_removes_what_can_be_fetched_again(tmp_path, capfd) -> None:
    """clean removes caches, not workspaces; --dry-run only tells."""
    home = Path(os.environ["PIPCOOK_HOME"])
    for name in ("data", "script", "workspace/run"):
        (home / name).mkdir(parents=True)
        (home / name / "file").write_bytes(b"x" * 1000)
    # Another process, since a process's own frameworks stay for as long as it lives.
    subprocess.run([*COMMAND, "framework", "ensure", write_toy(tmp_path)], check=True)
    assert main(["clean", "--dry-run"]) == 0
    assert capfd.readouterr().out.count("would remove") == 3
    assert (home / "data/file").exists()
    assert main(["clean"]) == 0
    assert sorted(path.name for path in home.iterdir()) == ["framework", "workspace"]
    assert not [path for path in (home / "framework").iterdir() if not path.name.startswith(".")]


@pytest.mark.parametrize(
    "arguments",
    [
        [*command.split(), "--help"]
        for command in (
            "",
            "train",
            "lint",
            "lock",
            "clean",
            *(f"framework {name}" for name in ("ls", "ensure", "build", "verify", "prune")),
        )
    ],
)
def test_help_shows_an_example(arguments, capfd) -> None:
    """Every --help ends with an example that can be typed."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    assert "example: pipcook " in capfd.readouterr().out


def test_failing_artifact_does_not_lose_the_others(write_pipeline, tmp_path, capfd) -> None:
    """When one artifact fails the later ones are still made of the model; the exit status tells."""
    (tmp_path / "taken").mkdir()
    artifacts = [
        {"processor": "pipcook-artifact-zip@0.0.2", "target": str(tmp_path / "gone" / "a.zip")},
        {"processor": "pipcook-artifact-zip@0.0.2", "target": "b.zip"},
    ]
    model = f"""
from pathlib import Path
def train(runtime, options, context):
    runtime.save_model(b"", "model")
    Path({str(tmp_path / "gone")!r}).write_text("a file where a folder is wanted")
"""
    document = write_pipeline(artifact=artifacts, scripts={"model.py": model})
    assert main(["train", str(document), "-o", str(tmp_path / "out")]) == 1
    out, err = capfd.readouterr()
    assert f"artifact: {tmp_path}/out/b.zip" in out
    assert "FileExistsError" in err or "NotADirectoryError" in err
    assert (tmp_path / "out" / "b.zip").is_file()


def test_run_that_never_began_leaves_no_folder(write_pipeline, tmp_path, monkeypatch) -> None:
    """When a run cannot be prepared, the folder named after the time is not left lying around."""
    document = write_pipeline(model="missing.py")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["train", str(document)]) == 1
    assert list((tmp_path / "here").iterdir()) == []


def test_document_by_file_uri(write_pipeline, tmp_path) -> None:
    """A document may be named by path or by file: URI, with one slash or three."""
    document = write_pipeline()
    assert main(["train", document.as_uri(), "-o", str(tmp_path / "a")]) == 0
    assert main(["train", f"file:{document}", "-o", str(tmp_path / "b")]) == 0


def test_password_of_a_document_is_not_kept(tmp_path, capfd) -> None:
    """User and password in a document's address are used for asking, and appear nowhere."""
    from http_server import serving

    with serving() as server:
        server.put("/p.json", b'{"specVersion": "2.0", "datasource": "a.py", "model": "b.py"}')
        address = f"http://user:sesame@{server.address}/p.json"
        assert main(["train", address, "-o", str(tmp_path / "out")]) == 1
        assert server.authorizations["/p.json"] is not None
    out, err = capfd.readouterr()
    assert "a.py" in err
    assert "sesame" not in out + err
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"sesame" in path.read_bytes()]


def test_reader_that_has_seen_enough_is_no_error(write_pipeline) -> None:
    """Output into a closed pipe ends the command quietly."""
    document = write_pipeline(custom=1)
    command = f"{sys.executable} -m pipcook_provider.cli lint {document} {document} | true"
    told = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert told.stderr == ""


def test_terminal_shows_output_as_it_was_printed(write_pipeline, tmp_path) -> None:
    """Emoji codes and brackets stay as they are, long lines are not broken, and no escape moves the cursor."""
    line = "[red] :100: " + "path/" * 40
    model = f"def train(runtime, options, context):\n    print({line!r}); print('\\x1b[2Jcleared')\n" + (
        "    runtime.save_model(b'', 'm')\n"
    )
    document = write_pipeline(scripts={"model.py": model})
    status, shown = on_terminal([*COMMAND, "train", str(document), "-o", str(tmp_path / "out")])
    assert status == 0
    assert line in shown
    assert "cleared" in shown
    assert "\x1b[2J" not in shown


def test_terminated_command_leaves_the_terminal_as_it_was(write_pipeline, tmp_path) -> None:
    """SIGTERM ends the stage, shows the cursor again and gives the exit status that shells expect."""
    model = (
        "import time\ndef train(runtime, options, context):\n    print('training', flush=True)\n    time.sleep(600)\n"
    )
    document = write_pipeline(scripts={"model.py": model})
    command = [*COMMAND, "train", str(document), "-o", str(tmp_path / "out")]
    status, shown = on_terminal(command, until="training", number=signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
