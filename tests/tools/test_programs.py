"""Finding and installing programs, as far as that needs none; tests/system uses them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import programs


@pytest.fixture(autouse=True)
def _only_programs_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "PROGRAMS", (programs.CHROMIUM,))


def test_first_command_on_path_is_used(tmp_path: Path, capsys) -> None:
    """Whatever it is called there; nothing is installed beside it."""
    program = tmp_path / "google-chrome"
    program.touch(0o755)
    assert programs.main(["list"]) == programs.main(["install"]) == 0
    assert capsys.readouterr().out == f"Chromium: {program}\n" * 2


def test_newest_folder_off_path_is_used(tmp_path: Path) -> None:
    """Where Debian keeps versions in folders of their own, the newest one counts, but PATH comes first."""
    for version in ("9", "15", "16"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "initdb").touch(0o755)
    program = programs.Program("Database", "data", ("initdb",), "database", f"{tmp_path.relative_to('/')}/*/bin")
    assert program.find() == str(tmp_path / "16" / "bin" / "initdb")
    (tmp_path / "initdb").touch(0o755)
    assert program.find() == str(tmp_path / "initdb")


def test_missing_program_is_told_with_its_remedy(capsys) -> None:
    """Where there is none, and nobody who may install one, the exit status is 1."""
    assert programs.main(["list"]) == 1
    out, err = capsys.readouterr()
    assert out == "Chromium: missing\n"
    assert "Testing Airflow's web UI needs Chromium (chromium, chromium-browser," in err
    assert "python -m tools.programs install" in err
    assert programs.main(["install"]) == 1
    assert "Expected chromium to be installed; only root on Debian" in capsys.readouterr().err


def test_packages_are_installed_by_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Root has Debian's package installed; where that fails, the last lines of apt-get are shown."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    program = tmp_path / "apt-get"
    program.write_text(
        f'#!/bin/sh\n[ "$2" = update ] && exit\necho "asked: $*"; [ -e {tmp_path}/away ] && exit 100\n'
        f": > {tmp_path}/chromium; /bin/chmod +x {tmp_path}/chromium\n"
    )
    program.chmod(0o755)
    (tmp_path / "away").touch()
    assert programs.main(["install"]) == 1
    told = capsys.readouterr().err
    assert "apt-get install failed, so chromium could not be installed:" in told
    assert "asked: --quiet install --yes --no-install-recommends chromium" in told
    (tmp_path / "away").unlink()
    assert programs.main(["install"]) == 0
    assert capsys.readouterr().out == f"Chromium: {tmp_path}/chromium\n"
