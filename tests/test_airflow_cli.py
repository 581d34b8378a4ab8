"""``airflow pipcook ...``, run as a real command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from http_server import Server, server

from pipcook_provider.airflow_cli import COMMANDS
from pipcook_provider.provider_info import get_provider_info

__all__ = ["server"]

Airflow = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.skipif(
    "cli" not in (Path(find_spec("airflow").origin).parent / "provider_info.schema.json").read_text(encoding="utf-8"),
    reason="this Airflow takes no commands from providers",
)


@pytest.fixture
def airflow_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Airflow:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    monkeypatch.setenv("PIPCOOK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "airflow", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def test_help(airflow_command: Airflow) -> None:
    """The help names every command, and each of those has its own."""
    told = airflow_command("pipcook", "--help").stdout
    assert "airflow pipcook COMMAND" in told
    assert ", ".join(COMMANDS) in told
    told = airflow_command("pipcook", "framework", "ensure", "--help").stdout
    assert "usage: airflow pipcook framework ensure" in told


def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """The commands that the help names are those there are."""
    from pipcook_provider.cli import main

    for command in COMMANDS:
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    listed = capsys.readouterr().out.rpartition("COMMAND\n")[2]
    assert [line.split()[0] for line in listed.splitlines() if line[:5].strip() and line.startswith("    ")] == list(
        COMMANDS
    )


def test_light() -> None:
    """Every airflow command imports the module: it loads nothing of ours beside the provider's info."""
    program = "import sys, pipcook_provider.airflow_cli; print(*(name for name in sys.modules if 'pipcook' in name))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    told_by_airflow = {"errors", "settings", "units", "provider_info"}  # the provider's info, which every command reads
    ours = {name.partition(".")[2] for name in told.splitlines()[-1].split()}
    assert ours - told_by_airflow == {"", "airflow_cli"}


def test_result(airflow_command: Airflow) -> None:
    """The command's output is its own, without Airflow's log, and so is its exit status."""
    told = airflow_command("pipcook", "framework", "ls", "--json")
    assert (told.returncode, json.loads(told.stdout)) == (0, [])
    told = airflow_command("pipcook", "framework", "ensure", "./none.zip")
    assert (told.returncode, told.stdout) == (1, "")
    assert "none.zip" in told.stderr
    assert airflow_command("pipcook", "framework", "nonsense").returncode == 2


def test_connection_of_the_database(airflow_command: Airflow, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are found where Airflow keeps them, and a missing one is told as any error is."""
    monkeypatch.setenv("PIPCOOK_CONNECTIONS", "scripts")
    told = airflow_command("pipcook", "framework", "ls", "--json")
    assert (told.returncode, told.stdout) == (1, "")
    assert "'scripts'" in told.stderr
    airflow_command("db", "migrate")
    added = airflow_command(
        "connections", "add", "scripts", "--conn-type", "generic", "--conn-host", server.url, "--conn-password", "t0ken"
    )
    assert added.returncode == 0, added.stderr
    address = server.put("/pipeline.json", b"{}")
    assert airflow_command("pipcook", "train", address).returncode == 1
    assert server.authorizations["/pipeline.json"] == "Bearer t0ken"


def test_connection_in_a_template(airflow_command: Airflow, write_pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Templates have the connections that the settings allow."""
    monkeypatch.setenv("AIRFLOW_CONN_DB", "postgres://me:sesame@db.example.com/shop")
    monkeypatch.setenv("PIPCOOK_TEMPLATE_CONNECTIONS", "db")
    model = "import os\ndef train(runtime, options, context):\n    assert os.environ['PASSWORD'] == 'sesame'\n"
    model += "    runtime.save_model(options['host'].encode(), 'host.txt')\n"
    options = {"airflow": {"env": {"PASSWORD": "{{ conn.db.password }}"}}}
    document = write_pipeline(model="model.py?host={{ conn.db.host }}", scripts={"model.py": model}, options=options)
    out = document.parent / "out"
    told = airflow_command("pipcook", "train", str(document), "-o", str(out))
    assert told.returncode == 0, told.stderr
    assert (out / "model" / "host.txt").read_text() == "db.example.com"


def test_declared() -> None:
    """The provider's info names a function that is there."""
    (name,) = get_provider_info()["cli"]
    module, _, function = name.rpartition(".")
    (command,) = getattr(import_module(module), function)()
    assert command.name == "pipcook"
