"""``pipcook framework``, as a person and as a machine use it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli.test_cli import COMMAND, on_terminal
from helpers import write_toy, zipped
from http_server import Server

from pipcook_provider.cli import main


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own: what a process uses stays for as long as it lives."""
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)


def test_ensure_and_list(tmp_path, capfd) -> None:
    """A framework is fetched once, its folder printed, and listed with size, use and source."""
    toy = write_toy(tmp_path)
    for _ in range(2):
        assert main(["framework", "ensure", toy]) == 0
    out, err = capfd.readouterr()
    first, second = out.splitlines()
    assert first == second
    assert (Path(first) / "framework.json").is_file()
    assert main(["framework", "ls"]) == 0
    head, row, total = capfd.readouterr().out.splitlines()
    assert head.split() == ["FRAMEWORK", "PLATFORM", "SIZE", "LAST", "USED", "SOURCE"]
    assert re.fullmatch(rf"toy@1\.2\.3 +\d+ B +in use +{re.escape(toy)}", row)
    assert total.startswith("1 framework(s), ")
    assert "\x1b" not in err


def test_list_for_machines(tmp_path, capfd) -> None:
    """--json has the same for machines; an empty cache is an empty list."""
    assert main(["framework", "ls", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == []
    assert run("framework", "ensure", "--json", write_toy(tmp_path)).returncode == 0
    assert main(["framework", "ls", "--json"]) == 0
    [found] = json.loads(capfd.readouterr().out)
    assert (found["reference"], found["files"], found["isUsed"]) == ("toy@1.2.3", 3, False)


def test_verify_and_repair(tmp_path) -> None:
    """A changed file gives exit status 1, its name and the remedy; ensure --verify repairs it."""
    toy = write_toy(tmp_path)
    folder = Path(run("framework", "ensure", toy).stdout.strip())
    assert run("framework", "verify").stdout == "1 framework(s) checked: 0 damaged\n"
    (folder / "index.py").write_text("changed")
    told = run("framework", "verify")
    assert told.returncode == 1
    assert "index.py was changed" in told.stdout
    assert f"pipcook framework ensure --verify {toy}" in told.stdout
    problems = json.loads(run("framework", "verify", "--json").stdout)
    assert [*problems.values()] == [[{"path": "index.py", "problem": "changed"}]]
    repaired = run("framework", "ensure", "--verify", toy)
    assert "1 file(s), such as index.py" in repaired.stderr
    assert run("framework", "verify").returncode == 0
    assert run("framework", "verify", "none").returncode == 1


def test_prune(tmp_path) -> None:
    """What is unused goes by age or size; what a living process uses stays."""
    using = f"""
import sys
from pipcook_provider.frameworks import ensure_framework
from pipcook_provider.settings import Settings
ensure_framework({write_toy(tmp_path, "1.0.0")!r}, Settings.load())
print("ready", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", using], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == "ready\n"
        run("framework", "ensure", write_toy(tmp_path, "2.0.0"))
        assert json.loads(run("framework", "prune", "--older-than", "1d", "--json").stdout) == []
        told = run("framework", "prune", "--keep-size", "0", "--dry-run").stdout
        assert re.search(r"would remove .*toy-2\.0\.0\.zip.*: size \(\d+ B\)", told)
        [gone] = json.loads(run("framework", "prune", "--older-than", "0s", "--json").stdout)
        assert "toy-2.0.0.zip" in gone["name"]
        assert gone["reason"] == "unused"
        user.kill()
    gone = json.loads(run("framework", "prune", "--older-than", "0s", "--json").stdout)
    assert "unused" in [one["reason"] for one in gone if "toy-1.0.0.zip" in one["name"]]


def test_mirror_for_others(tmp_path, monkeypatch) -> None:
    """What build packs serves another machine, which asks nobody else; -m names the mirror."""
    recipe = tmp_path / "recipes/toy"
    recipe.mkdir(parents=True)
    packages = [{"name": "six", "version": "{version}"}]
    (recipe / "framework.json").write_text(json.dumps({"name": "toy", "packages": packages}))
    monkeypatch.setenv("PIPCOOK_FRAMEWORK_RECIPES", str(recipe.parent))
    mirror = tmp_path / "mirror"
    told = run("framework", "build", "toy@1.16", "--output", str(mirror), "--json")
    built = json.loads(told.stdout)
    assert built["reference"] == "toy@1.16.0"
    assert Path(built["zip"]).is_relative_to(mirror)
    monkeypatch.delenv("PIPCOOK_FRAMEWORK_RECIPES")
    monkeypatch.setenv("PIPCOOK_HOME", str(tmp_path / "other"))
    folder = Path(run("framework", "ensure", "toy@1", "-m", str(mirror)).stdout.strip())
    assert (folder / "site-packages/six.py").is_file()
    assert folder.is_relative_to(tmp_path / "other")


def test_terminal_shows_a_bar(server: Server, tmp_path, monkeypatch) -> None:
    """On a terminal a download has a bar with its size; colours are left out where NO_COLOR is set."""
    monkeypatch.setenv("NO_COLOR", "1")
    url = server.put("/toy.zip", zipped(padding="x" * 3_000_000))
    status, shown = on_terminal([*COMMAND, "framework", "ensure", url])
    assert status == 0
    assert "Downloading toy.zip" in shown
    assert "━" in shown
    assert "3.0 MB" in shown
    assert not re.search(r"\x1b\[[\d;]*3\dm", shown)


def test_wrong_usage(capfd) -> None:
    """A size or age that is none is told with an example."""
    for option, text in (("--older-than", "30"), ("--keep-size", "much")):
        with pytest.raises(SystemExit) as caught:
            main(["framework", "prune", option, text])
        assert caught.value.code == 2
        assert "such as" in capfd.readouterr().err


def test_command_without_settings_of_others(tmp_path) -> None:
    """The command needs no Airflow and no home that is there."""
    environment = {**os.environ, "PIPCOOK_HOME": str(tmp_path / "none")}
    told = subprocess.run(
        [*COMMAND, "framework", "ls"], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert told == f"no frameworks in {tmp_path}/none/framework\n"
