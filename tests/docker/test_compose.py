"""docker/compose.yaml, as a compose program reads it; where there is none, as YAML."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipcook_provider import __version__
from pipcook_provider.settings import Settings
from tools.engine.images import REPOSITORY, VARIANTS, Image

FILE = REPOSITORY / "docker" / "compose.yaml"
EXAMPLE = REPOSITORY / "docker" / ".env.example"
SOCKET = "/var/run/docker.sock"
#: They run once; that the others wait for their end is their health check.
ONCE = {"airflow-init", "pipcook-home"}
WORKERS = {"worker", "gpu-worker"}
AIRFLOW = {"api-server", "scheduler", "dag-processor", "triggerer", *WORKERS}
#: What nobody but the reader can know.
OWN = {
    "POSTGRES_PASSWORD": "database1",
    "AIRFLOW_ADMIN_PASSWORD": "admin1",
    "AIRFLOW_SECRET_KEY": "key1",
    "AIRFLOW_JWT_SECRET": "token1",
    "AIRFLOW_FERNET_KEY": "fernet1",
    "DOCKER_GID": "998",
    "PIPCOOK_DAGS_DIR": "/srv/dags",
}


def compose() -> list[str]:
    """Return the command of a compose program; skip where there is none."""
    if program := shutil.which("docker-compose"):
        return [program]
    docker = shutil.which("docker")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0:
        return [docker, "compose"]
    pytest.skip("there is neither docker-compose nor docker compose")


def run(*arguments: str, given: Mapping[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a compose program with the example's values, those given in the place of the empty ones."""
    text = re.sub(r"^(\w+)=$", lambda found: f"{found[1]}={given.get(found[1], '')}", EXAMPLE.read_text(), flags=re.M)
    file = folder / ".env"
    file.write_text(text, encoding="utf-8")
    command = [*compose(), "--file", str(FILE), "--env-file", str(file), "--profile", "gpu", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"})


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """Return the services as a compose program understands them."""
    answer = run("config", given=OWN, folder=tmp_path_factory.mktemp("compose"))
    assert answer.returncode == 0, answer.stderr
    return dict(yaml.safe_load(answer.stdout)["services"])


def sources(service: Mapping[str, Any]) -> dict[str, str]:
    """Return what a service mounts, by where; both forms in which compose programs write it."""
    mounts = [
        (one["source"], one["target"]) if isinstance(one, dict) else tuple(one.split(":")[:2])
        for one in service.get("volumes", [])
    ]
    return {target: source for source, target in mounts}


def test_the_example_names_what_must_be_set() -> None:
    """Each variable of the file that has no default stands in .env.example, and none of them has a value there."""
    required = set(re.findall(r"\$\{(\w+):\?", FILE.read_text(encoding="utf-8")))
    told = dict(line.split("=", 1) for line in EXAMPLE.read_text(encoding="utf-8").splitlines() if line[:1].isupper())
    assert required == set(OWN)
    assert {name for name, value in told.items() if not value} == required


@pytest.mark.parametrize("name", sorted(OWN))
def test_what_is_not_set_is_named(name: str, tmp_path: Path) -> None:
    """Without one of them nothing starts, and the message tells where to read on."""
    answer = run("config", given={**OWN, name: ""}, folder=tmp_path)
    assert answer.returncode != 0
    assert "see docker/.env.example" in answer.stderr


def test_no_password_stands_in_the_file() -> None:
    """Whatever is secret comes from the environment."""
    secret = re.compile(r"(PASSWORD|SECRET|SECRET_KEY|FERNET_KEY|JWT_SECRET): (?!\$\{\w+:\?)")
    assert secret.findall(FILE.read_text(encoding="utf-8")) == []
    assert "://airflow:airflow@" not in FILE.read_text(encoding="utf-8")


def test_it_is_a_whole_airflow(services: Mapping[str, Any]) -> None:
    """All of Airflow's services are there, and the GPU worker only where it is asked for."""
    assert set(services) == AIRFLOW | ONCE | {"postgres", "redis"}
    assert {name for name, service in services.items() if service.get("profiles")} == {"gpu-worker"}


def test_all_that_stays_up_says_whether_it_is_well(services: Mapping[str, Any]) -> None:
    """Every service has a health check, but those that run once."""
    assert {name for name, service in services.items() if "healthcheck" not in service} == ONCE


def test_only_workers_have_the_engine(services: Mapping[str, Any]) -> None:
    """The engine's socket, which makes root, and its group are given to the workers and to nobody else."""
    assert {name for name, service in services.items() if SOCKET in sources(service)} == WORKERS
    assert {name for name, service in services.items() if service.get("group_add")} == WORKERS
    assert [name for name, service in services.items() if service.get("privileged")] == []


@pytest.mark.parametrize("name", sorted(WORKERS))
def test_the_host_knows_the_workers_folders_by_the_same_names(services: Mapping[str, Any], name: str) -> None:
    """What a worker asks the engine to bind, DAGs, home and workspaces, lies at the same path on the host."""
    service = services[name]
    mounts = sources(service)
    assert mounts["/srv/dags"] == "/srv/dags"
    assert mounts["/srv/pipcook"] == "/srv/pipcook"
    settings = Settings.load(service["environment"])
    assert settings.runner == "docker"
    assert settings.docker_mounts == "bind"
    assert settings.home == Path("/srv/pipcook")
    assert settings.workspace_root.is_relative_to(settings.home)


def test_the_stages_images_are_those_that_make_images_makes(services: Mapping[str, Any]) -> None:
    """The images that the workers name are the default tags of this version, and so is the image of Airflow."""
    images = json.loads(services["worker"]["environment"]["AIRFLOW__PIPCOOK__IMAGES"])
    assert list(images.values()) == [Image(variant, base="").tag for variant in VARIANTS]
    assert services["worker"]["image"] == f"pipcook-airflow:{__version__}"


def test_documents_come_by_a_bundle(services: Mapping[str, Any]) -> None:
    """Each of Airflow's processes has the same entry, and it is a bundle in which documents are DAG files."""
    entries = {services[name]["environment"]["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"] for name in AIRFLOW}
    ((entry,),) = map(json.loads, entries)
    assert entry == {"name": "dags-folder", "classpath": "pipcook_provider.bundles.PipcookDagBundle", "kwargs": {}}


def test_the_gpu_worker_reserves_the_cards_and_has_a_queue(services: Mapping[str, Any]) -> None:
    """It asks for NVIDIA's devices and takes the tasks of the queue "gpu"."""
    service = services["gpu-worker"]
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert "--queues gpu" in (
        service["command"] if isinstance(service["command"], str) else " ".join(service["command"])
    )


def test_airflow_is_what_this_version_is_tested_with() -> None:
    """The base image of docker/airflow.Dockerfile has the Airflow of constraints.txt."""
    (pinned,) = re.findall(
        r"^apache-airflow==(.*)$", (REPOSITORY / "constraints.txt").read_text(encoding="utf-8"), re.M
    )
    for file in (FILE, REPOSITORY / "docker" / "airflow.Dockerfile"):
        assert re.findall(r"apache/airflow:([\d.]+)-python", file.read_text(encoding="utf-8")) == [pinned]
