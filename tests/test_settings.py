"""The [pipcook] settings."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from pipcook_provider.errors import SettingsError
from pipcook_provider.provider_info import get_provider_info
from pipcook_provider.settings import Settings


def test_first_hit_wins(tmp_path: Path) -> None:
    """PIPCOOK_* goes before AIRFLOW__PIPCOOK__*, which goes before airflow.cfg, which goes before the default."""
    (tmp_path / "airflow.cfg").write_text(
        "[core]\nx = %(y)s\n[pipcook]\nhome = /cfg\nfetch_timeout = 7\nstop_timeout = 9\n", encoding="utf-8"
    )
    settings = Settings.load(
        {
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__PIPCOOK__HOME": "/airflow",
            "AIRFLOW__PIPCOOK__FETCH_TIMEOUT": "8",
            "PIPCOOK_HOME": "/pipcook",
        }
    )
    assert (settings.home, settings.fetch_timeout, settings.stop_timeout) == (Path("/pipcook"), 8.0, 9.0)
    assert settings.runner == "process"


def test_lists_are_separated_by_commas_or_lines(tmp_path: Path) -> None:
    """Several mirrors can be given on one line or on several."""
    settings = Settings.load({"AIRFLOW_HOME": str(tmp_path), "PIPCOOK_FRAMEWORK_MIRROR": "https://a/,\n https://b/"})
    assert settings.framework_mirror == ("https://a/", "https://b/")


@pytest.mark.parametrize(
    ("option", "value"), [("RUNNER", "kubernetes"), ("FETCH_TIMEOUT", "soon"), ("STOP_TIMEOUT", "0")]
)
def test_useless_value_names_its_source(tmp_path: Path, option: str, value: str) -> None:
    """The message names the variable and the value."""
    with pytest.raises(SettingsError, match=f"PIPCOOK_{option} is '{value}', which cannot be used"):
        Settings.load({"AIRFLOW_HOME": str(tmp_path), f"PIPCOOK_{option}": value})


@pytest.mark.parametrize("value", ['{"https://a/": "https://me:s3cret@b/"', '["https://me:s3cret@b/"]'])
def test_useless_secret_is_not_shown(tmp_path: Path, value: str) -> None:
    """An option that may hold a password is named, with its place and what is wrong, and not repeated."""
    (tmp_path / "airflow.cfg").write_text(f"[pipcook]\nurl_rewrites = {value}\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"\[pipcook\] url_rewrites in airflow\.cfg .*: [Ee]xpect") as caught:
        Settings.load({"AIRFLOW_HOME": str(tmp_path)})
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("text", ["[pipcook]\nhome = /a\nme/s3cret@b/\n", "\n\nhttps://me:s3cret@b/\n"])
def test_unreadable_file_is_not_shown(tmp_path: Path, text: str) -> None:
    """A line of airflow.cfg that cannot be read is told by its number: the line may hold a password."""
    (tmp_path / "airflow.cfg").write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match="line 3 ") as caught:
        Settings.load({"AIRFLOW_HOME": str(tmp_path)})
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_airflow_is_told_of_every_option() -> None:
    """The provider declares the options that the settings read; credentials are none."""
    declared = get_provider_info()["config"]["pipcook"]["options"]
    assert set(declared) == set(Settings.__dataclass_fields__) - {"credentials"}
