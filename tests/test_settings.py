"""The [pipcook] settings."""

from __future__ import annotations

import json
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
    ("option", "value", "expected"),
    [
        ("RUNNER", "kubernetes", "one of process, docker"),
        ("FETCH_TIMEOUT", "soon", ""),
        ("STOP_TIMEOUT", "0", "a number of seconds above 0"),
        ("IMAGES", "stage:1", ""),
        ("IMAGES", '["stage:1"]', 'a JSON object of images, such as {"cpu": '),
        ("IMAGES", '{"cpu": ""}', "a JSON object of images"),
        ("IMAGES", '{"cuda": "stage:1"}', '"cpu" or "gpu", or one of them after a framework'),
        ("IMAGES", '{"/gpu": "stage:1"}', 'found "/gpu"'),
        ("IMAGES", '{"tensorflow@/gpu": "stage:1"}', 'such as "tensorflow@2.21/gpu"'),
        ("DOCKER_MEMORY", "8", "a size such as 500MB or 20GB"),
        ("DOCKER_MEMORY", "1kB", "a size from 6MiB on"),
        ("DOCKER_PIDS", "0", "a whole number from 1 on"),
        ("DOCKER_PIDS", "many", "a whole number from 1 on"),
        ("DOCKER_MOUNTS", "nfs", "one of auto, bind, volume"),
    ],
)
def test_useless_value_names_its_source(tmp_path: Path, option: str, value: str, expected: str) -> None:
    """The message names the variable, the value and what was expected."""
    with pytest.raises(SettingsError) as caught:
        Settings.load({"AIRFLOW_HOME": str(tmp_path), f"PIPCOOK_{option}": value})
    assert str(caught.value).startswith(f"PIPCOOK_{option} is {value!r}, which cannot be used: ")
    assert expected in str(caught.value)


def test_containers(tmp_path: Path) -> None:
    """What is set of containers arrives typed."""
    images = {
        "cpu": "c:1",
        "gpu": "g:1",
        "tensorflow/gpu": "t:1",
        "tensorflow@2.21/gpu": "t:2",
        "my-own.one@1/cpu": "o:1",
    }
    given = {
        "RUNNER": "docker",
        "IMAGES": json.dumps(images),
        "DOCKER_URL": "tcp://engine:2376",
        "DOCKER_CERT_PATH": "/certificates",
        "DOCKER_CONN_ID": "registry",
        "DOCKER_MOUNTS": "volume",
        "DOCKER_MEMORY": "8 GiB",
        "DOCKER_PIDS": "512",
        "DOCKER_DATA": "/data, /more",
        "GPU_POOL": "cards",
    }
    settings = Settings.load(
        {"AIRFLOW_HOME": str(tmp_path), **{f"PIPCOOK_{name}": text for name, text in given.items()}}
    )
    assert (settings.runner, settings.images) == ("docker", images)
    assert (settings.docker_url, settings.docker_cert_path) == ("tcp://engine:2376", "/certificates")
    assert (settings.docker_conn_id, settings.docker_mounts, settings.gpu_pool) == ("registry", "volume", "cards")
    assert (settings.docker_memory, settings.docker_pids) == (8 * 2**30, 512)
    assert settings.docker_data == (Path("/data"), Path("/more"))


def test_containers_by_default() -> None:
    """Nothing has to be set: this machine's engine, images by this package's version, no limit but the engine's."""
    settings = Settings()
    assert (settings.images, settings.docker_url, settings.docker_memory) == ({}, "", None)
    assert (settings.docker_mounts, settings.docker_pids, settings.gpu_pool) == ("auto", 4096, "pipcook_gpu")


@pytest.mark.parametrize(
    "value", ["unix:///var/run/docker.sock", "tcp://h:2376", "https://h", "ssh://me@h", "http+unix:///run/docker.sock"]
)
def test_address_of_an_engine(tmp_path: Path, value: str) -> None:
    """Every form of address that Docker's clients take is taken."""
    assert Settings.load({"AIRFLOW_HOME": str(tmp_path), "PIPCOOK_DOCKER_URL": value}).docker_url == value


@pytest.mark.parametrize("value", ["me:s3cret@engine:2376", "ftp://me:s3cret@engine", "tcp://", "unix:///"])
def test_useless_address_of_an_engine(tmp_path: Path, value: str) -> None:
    """An address that Docker's clients do not take is refused, and not shown."""
    with pytest.raises(
        SettingsError, match=r"PIPCOOK_DOCKER_URL .*expected the address of an engine, such as unix:"
    ) as caught:
        Settings.load({"AIRFLOW_HOME": str(tmp_path), "PIPCOOK_DOCKER_URL": value})
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_address_of_an_engine_is_not_shown(tmp_path: Path) -> None:
    """The settings can be printed although the address of the engine holds a password."""
    settings = Settings.load({"AIRFLOW_HOME": str(tmp_path), "PIPCOOK_DOCKER_URL": "https://me:s3cret@engine"})
    assert "s3cret" in settings.docker_url
    assert "s3cret" not in repr(settings)


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
