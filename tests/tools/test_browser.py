"""Finding a browser, as far as that needs none; tests/system uses one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import browser


def test_first_browser_on_path_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Whatever it is called there; nothing is installed beside it."""
    program = tmp_path / "google-chrome"
    program.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert browser.main(["path"]) == browser.main(["install"]) == 0
    assert capsys.readouterr().out == f"{program}\n{program}\n"


def test_no_browser_is_told_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Where there is none, and nobody who may install one, the exit status is 1."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert browser.main(["path"]) == 1
    assert "python -m tools.browser install" in capsys.readouterr().err
    assert browser.main(["install"]) == 1
    assert "Expected chromium to be installed; only root on Debian" in capsys.readouterr().err


def test_packages_are_installed_by_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Root has Debian's package installed; where that fails, the last lines of apt-get are shown."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    program = tmp_path / "apt-get"
    program.write_text(
        f'#!/bin/sh\n[ "$2" = update ] && exit\necho "asked: $*"; [ -e {tmp_path}/away ] && exit 100\n'
        f": > {tmp_path}/chromium; /bin/chmod +x {tmp_path}/chromium\n"
    )
    program.chmod(0o755)
    (tmp_path / "away").touch()
    assert browser.main(["install"]) == 1
    told = capsys.readouterr().err
    assert "apt-get install failed, so chromium could not be installed:" in told
    assert "asked: --quiet install --yes --no-install-recommends chromium" in told
    (tmp_path / "away").unlink()
    assert browser.main(["install"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/chromium\n"
