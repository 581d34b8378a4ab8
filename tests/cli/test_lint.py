"""pipcook lint: what it prints, and its exit status."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipcook_provider.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(write_pipeline, monkeypatch) -> Path:
    """The working directory: a good document, one with a warning, one with an error."""
    good = write_pipeline(name="good.json")
    write_pipeline(name="odd.json", note=1)
    (good.parent / "broken, 100%.json").write_text('{"specVersion": "2.0",\n "model": "model.py"}', encoding="utf-8")
    monkeypatch.chdir(good.parent)
    return good.parent


def test_text(folder, capfd) -> None:
    """A line for each problem, with path, line and column as editors find them, and a sum."""
    assert main(["lint", "."]) == 1
    broken, odd, total = capfd.readouterr().out.splitlines()
    assert broken.startswith('error: broken, 100%.json:1:1: $: Expected the key "datasource"')
    assert odd.startswith('warning: odd.json:19:3: $.note: Unknown key "note"')
    assert total == "3 document(s) checked: 1 error(s), 1 warning(s)"


@pytest.mark.parametrize("option", [["--json"], ["--format", "json"]])
def test_json(folder, capfd, option: list[str]) -> None:
    """As JSON, the problems and nothing else."""
    assert main(["lint", *option, "odd.json"]) == 0
    (problem,) = json.loads(capfd.readouterr().out)
    assert {**problem, "message": ""} == {
        "level": "warning",
        "file": "odd.json",
        "message": "",
        "path": "$.note",
        "line": 19,
        "column": 3,
    }


def test_github(folder, capfd) -> None:
    """For GitHub, an annotation for each problem, relative to the working directory and escaped as it asks for."""
    assert main(["lint", "--format", "github", str(folder)]) == 1
    broken, odd, total = capfd.readouterr().out.splitlines()
    start, message = broken.split("::", 2)[1:]
    assert start == "error file=broken%2C 100%25.json,line=1,col=1,title=pipcook%3A $"
    assert message.startswith('Expected the key "datasource" (')
    assert odd.startswith("::warning file=odd.json,line=19,col=3,title=pipcook%3A $.note::Unknown key")
    assert total == "3 document(s) checked: 1 error(s), 1 warning(s)"


def test_github_keeps_a_problem_in_one_line(folder, capfd) -> None:
    """A message of several lines is one annotation."""
    (folder / "model.py").write_text("def train(:\n", encoding="utf-8")
    assert main(["lint", "--format", "github", "good.json"]) == 1
    told = capfd.readouterr().out.splitlines()
    assert len(told) == 2
    assert "line 1:%0A    def train(:%0ASyntaxError" in told[0]


def test_no_text_of_a_document_begins_a_line(folder, capfd) -> None:
    """A line break or an escape in a document or in its name gets into no line of its own, where it could be a command."""
    document = {"specVersion": "2.0", "datasource": "a.py", "model": "b.py", "x\n::stop-commands::\x1b[31m": 1}
    (folder / "n\n::error::.json").write_text(json.dumps(document), encoding="utf-8")
    for form in ("text", "github"):
        assert main(["lint", "--format", form, "n\n::error::.json"]) == 1
        told = capfd.readouterr().out
        assert len(told.splitlines()) == 4
        assert "\n::stop" not in told
        assert "\n::error::" not in told
        assert ("\x1b" in told) is (form == "github")


def test_strict(folder, capfd) -> None:
    """Warnings give exit status 1 only where that is asked for."""
    assert main(["lint", "odd.json"]) == 0
    assert main(["lint", "--strict", "odd.json"]) == 1
    assert main(["lint", "--strict", "good.json"]) == 0


def test_folder_without_documents(tmp_path, capfd) -> None:
    """A folder without documents is said to have none."""
    (tmp_path / "package.json").write_text("{}", encoding="utf-8")
    assert main(["lint", str(tmp_path)]) == 0
    told = capfd.readouterr().out
    assert told == f"no pipeline document found in {tmp_path}: 0 document(s) checked: 0 error(s), 0 warning(s)\n"


def test_path_that_is_not_there(tmp_path, capfd) -> None:
    """A path that is wrong is a failure, not a clean bill."""
    assert main(["lint", str(tmp_path / "dgas")]) == 1
    assert "found none at" in capfd.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--format", "xml", "."], ["--json", "--format", "github", "."]])
def test_wrong_usage(arguments: list[str], capfd) -> None:
    """Wrong usage gives exit status 2."""
    with pytest.raises(SystemExit) as caught:
        main(["lint", *arguments])
    assert caught.value.code == 2


def test_other_files_are_skipped_where_asked_for(folder, capfd) -> None:
    """Files that are no pipelines are errors when they are named, and left alone with --skip-others, without a word."""
    (folder / "package.json").write_text('{"name": "x"}', encoding="utf-8")
    assert main(["lint", "package.json"]) == 1
    capfd.readouterr()
    assert main(["lint", "--skip-others", "package.json"]) == 0
    assert capfd.readouterr().out == ""
    assert main(["lint", "--skip-others", "package.json", "odd.json"]) == 0
    assert "1 document(s) checked" in capfd.readouterr().out


def test_pre_commit(folder) -> None:
    """The hook checks the JSON files of a commit together, and lets it pass where none is a pipeline with an error."""
    pytest.importorskip("pre_commit")
    hook = (REPOSITORY / ".pre-commit-hooks.yaml").read_text(encoding="utf-8")
    assert "entry: pipcook lint --skip-others" in hook
    local = hook.replace("language: python", "language: system").replace("pipcook lint", _COMMAND)
    lines = "".join(f"      {line}\n" for line in local.splitlines() if not line.startswith("#"))
    (folder / ".pre-commit-config.yaml").write_text(f"repos:\n  - repo: local\n    hooks:\n{lines}", encoding="utf-8")
    (folder / "package.json").write_text('{"name": "x"}', encoding="utf-8")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)

    def run(*names: str) -> subprocess.CompletedProcess[str]:
        subprocess.run(["git", "add", *names], cwd=folder, check=True)
        command = [sys.executable, "-m", "pre_commit", "run", "--files", *names]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

    assert run("package.json").returncode == 0
    assert run("package.json", "good.json", "odd.json", "model.py").returncode == 0
    failed = run("broken, 100%.json")
    assert failed.returncode == 1
    assert "error: broken, 100%.json:1:1: $: Expected the key" in failed.stdout
    many = [f"{number}.json" for number in range(50)]
    for name in many:
        shutil.copyfile(folder / "broken, 100%.json", folder / name)
    assert run(*many).stdout.count("50 document(s) checked: 50 error(s)") == 1


_COMMAND = f"{sys.executable} -m pipcook_provider.cli lint"
