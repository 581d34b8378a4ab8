"""Airflow's operator for containers, on a real engine: what it is given arrives in the container."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.exceptions import AirflowException, AirflowFailException
from airflow.providers.common.compat.sdk import AirflowSkipException
from docker.types import Mount, Ulimit
from forwarder import Forwarder
from helpers import prepared

from pipcook_provider.launchers.docker import Engine
from pipcook_provider.launchers.docker.handover import LeaseKeeper
from pipcook_provider.launchers.docker.stream import LogStream
from pipcook_provider.operators.docker import PipcookDockerOperator, _identity
from pipcook_provider.stages import StageRunner
from pipcook_provider.store.workspace import Workspace

#: Waits until a test has looked at the container, then tells what a script sees in it.
DATASOURCE = """
import json, os, pathlib, resource, socket, time
from pipcook_provider.runtime import DatasetPool, Sample

def datasource(options, context):
    cache = pathlib.Path(context.workspace.cache_dir)
    cache.joinpath("up").touch()
    deadline = time.monotonic() + 60
    while not cache.joinpath("go").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    if code := options.get("exit"):
        os._exit(int(code))
    cache.joinpath("seen.json").write_text(json.dumps({
        "environment": dict(os.environ),
        "hostname": socket.gethostname(),
        "hosts": pathlib.Path("/etc/hosts").read_text(),
        "resolv": pathlib.Path("/etc/resolv.conf").read_text(),
        "user": [os.getuid(), os.getgid()],
        "folder": os.getcwd(),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "interfaces": os.listdir("/sys/class/net"),
        "mounted": pathlib.Path("/mounted/file").read_text() if os.path.exists("/mounted") else None,
        "shm": os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize,
        "temporary": os.path.isdir(os.environ.get("AIRFLOW_TMP_DIR", "/none")),
    }))
    if options.get("fail"):
        raise RuntimeError("as asked")
    return DatasetPool.from_samples(train=[Sample(1.0)])
"""


class Store(dict[str, Any]):
    """Airflow's store of a task's state."""

    def __bool__(self) -> bool:
        return True

    def set(self, key: str, value: Any) -> None:
        self[key] = value

    def delete(self, key: str) -> None:
        self.pop(key, None)


@dataclass
class Task:
    """A run that was prepared, and what its first stage's task works with."""

    engine: Engine
    folder: Path
    dag_id: str = field(default_factory=lambda: f"test-{secrets.token_hex(8)}")
    store: Store = field(default_factory=Store)
    shown: dict[str, Any] = field(default_factory=dict)

    def context(self, try_number: int = 1) -> Any:
        """Return as much of a task's context as the operator looks at."""
        prepared = {"workspace": str(self.folder), "host": "here"}
        told = {"run_id": "r", "task_id": "datasource", "map_index": -1, "try_number": try_number, "max_tries": 1}
        task_instance = SimpleNamespace(dag_id=self.dag_id, xcom_pull=lambda **_: prepared, stats_tags={}, **told)
        return {"ti": task_instance, "task_state_store": self.store}

    def containers(self) -> list[str]:
        """Return the ids of the run's containers, whatever their state."""
        wanted = {"label": f"io.pipcook.dag={self.dag_id}"}
        return [found["Id"] for found in self.engine.client.containers(all=True, filters=wanted)]

    def run(self, look: Callable[[dict[str, Any]], object] | None = None, **arguments: Any) -> dict[str, Any]:
        """Execute the task; look at its container in the meantime. Return what the script saw there."""
        operator = PipcookDockerOperator(task_id="datasource", retries=1, **arguments)

        def inspect() -> None:
            deadline = threading.Event()
            while not (self.folder / "cache" / "up").exists() and not done.is_set():
                deadline.wait(0.02)
            for container in self.containers():
                self.shown.update(self.engine.client.inspect_container(container))
            if look:
                look(self.shown)
            (self.folder / "cache" / "go").touch()

        done = threading.Event()
        looking = threading.Thread(target=inspect)
        looking.start()
        try:
            assert operator.execute(self.context())["value"] == {"samples": {"train": 1}}
        finally:
            done.set()
            looking.join()
        seen: dict[str, Any] = json.loads((self.folder / "cache" / "seen.json").read_text(encoding="utf-8"))
        return seen


@pytest.fixture
def make_task(engine, stages, write_pipeline, tmp_path, stage_image, monkeypatch) -> Iterator[Callable[..., Task]]:
    """Prepare a run whose datasource has these parameters; its containers are removed."""
    monkeypatch.setenv("PIPCOOK_IMAGES", json.dumps({"cpu": stage_image}))
    made: list[Task] = []

    def make(query: str = "") -> Task:
        document = write_pipeline(scripts={"datasource.py": DATASOURCE}, datasource=f"datasource.py{query}")
        workspace = prepared(StageRunner(stages.settings, stages.launcher(), stages.heard), document, tmp_path / "run")
        made.append(Task(engine, workspace.root))
        return made[-1]

    yield make
    for task in made:
        for container in task.containers():
            engine.client.remove_container(container, force=True, v=True)


@pytest.fixture
def task(make_task) -> Task:
    return make_task()


def test_task_without_arguments(task: Task, stage_image: str) -> None:
    """The image is that of the settings; who, which run and how long without a worker is said in labels."""
    seen = task.run()
    labels: Mapping[str, str] = task.shown["Config"]["Labels"]
    assert task.shown["Config"]["Image"] == stage_image
    assert labels["io.pipcook.dag"] == task.dag_id
    assert (labels["io.pipcook.run"], labels["io.pipcook.task"], labels["io.pipcook.map_index"]) == (
        "r",
        "datasource",
        "-1",
    )
    assert float(labels["io.pipcook.lease"]) > 300
    assert seen["folder"] == str(task.folder)
    assert "eth0" in seen["interfaces"]
    assert task.containers() == []
    assert task.store == {}


def test_limits_arrive(task: Task) -> None:
    """Memory, processors, shared memory and ulimits are the engine's to keep."""
    seen = task.run(mem_limit="512m", cpus=2.0, shm_size=2**26, ulimits=[Ulimit(name="nofile", soft=333, hard=444)])
    limits = task.shown["HostConfig"]
    assert (limits["Memory"], limits["MemorySwap"], limits["CpuShares"]) == (2**29, 2**29, 2048)
    assert seen["shm"] == 2**26
    assert seen["files"] == [333, 444]


def test_variables_arrive(task: Task) -> None:
    """Variables of all three kinds are the script's; private ones are seen by nobody who asks the engine."""
    seen = task.run(
        environment={"OPEN": "1"}, private_environment={"PRIVATE": "hidden"}, env_file="FROM_FILE=2\nOPEN=3"
    )
    names = ("OPEN", "PRIVATE", "FROM_FILE")
    assert [seen["environment"][name] for name in names] == ["1", "hidden", "2"]
    assert "hidden" not in json.dumps(task.shown)
    assert {"OPEN=1", "FROM_FILE=2"} <= set(task.shown["Config"]["Env"])


@pytest.mark.parametrize(("mode", "interfaces"), [("none", {"lo"}), ("bridge", {"lo", "eth0"})])
def test_network_arrives(task: Task, mode: str, interfaces: set[str]) -> None:
    """The task's network goes before what the stage would have."""
    seen = task.run(network_mode=mode)
    assert task.shown["HostConfig"]["NetworkMode"] == mode
    assert set(seen["interfaces"]) == interfaces


def test_names_arrive(task: Task) -> None:
    """Names of hosts, name servers, the container and its labels are as stated."""
    name = f"pipcook-{secrets.token_hex(4)}"
    seen = task.run(
        hostname="trainer",
        extra_hosts={"registry.test": "192.0.2.7"},
        dns=["192.0.2.53"],
        dns_search=["inside.test"],
        container_name=name,
        labels={"team": "web"},
    )
    assert seen["hostname"] == "trainer"
    assert "192.0.2.7\tregistry.test" in seen["hosts"]
    assert "nameserver 192.0.2.53" in seen["resolv"]
    assert "search inside.test" in seen["resolv"]
    assert task.shown["Name"] == f"/{name}"
    assert task.shown["Config"]["Labels"]["team"] == "web"


def test_mounts_arrive(task: Task, tmp_path: Path) -> None:
    """Folders of the worker are mounted beside the run's own, Airflow's temporary one among them, which goes again."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "file").write_text("of the worker", encoding="utf-8")
    (tmp_path / "host").mkdir()
    seen = task.run(
        mounts=[Mount("/mounted", str(tmp_path / "more"), type="bind", read_only=True)],
        mount_tmp_dir=True,
        host_tmp_dir=str(tmp_path / "host"),
    )
    assert seen["mounted"] == "of the worker"
    assert (seen["temporary"], seen["environment"]["AIRFLOW_TMP_DIR"]) == (True, "/tmp/airflow")
    assert list((tmp_path / "host").iterdir()) == []


def test_rights_arrive(task: Task) -> None:
    """A user, and capabilities beside none, are given where they are stated."""
    seen = task.run(user="0:7", cap_add=["SYS_NICE"])
    assert seen["user"] == [0, 7]
    assert task.shown["HostConfig"]["CapAdd"] == ["SYS_NICE"]
    assert task.shown["HostConfig"]["CapDrop"] == ["ALL"]
    assert task.shown["HostConfig"]["ReadonlyRootfs"]


def test_privileged_arrives(task: Task) -> None:
    """Who asks for a privileged container gets one; its root stays read-only. (Not every engine may start one.)"""
    operator = PipcookDockerOperator(task_id="datasource", privileged=True)
    with operator._open_session(task.context()):
        container = operator.submit_job(task.context())
    found = task.engine.client.inspect_container(container)["HostConfig"]
    assert (found["Privileged"], found["ReadonlyRootfs"]) == (True, True)


def test_entrypoint_arrives(task: Task) -> None:
    """An entry point of one's own stands before the stage's arguments."""
    python = ["/opt/pipcook/bin/python", "-I", "-S", "-B", "-u", "-X", "utf8", "-X", "dev", "/opt/pipcook/child.py"]
    task.run(entrypoint=python)
    assert [task.shown["Path"], *task.shown["Args"]][:10] == python
    assert task.shown["Args"][9:11] == [str(task.folder), "cache/stages/datasource.json"]


def test_log_options_arrive(task: Task) -> None:
    """Limits of the engine's log are those stated."""
    task.run(log_opts_max_size="10m", log_opts_max_file="2")
    config = task.shown["HostConfig"]["LogConfig"]
    assert config == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}}


@pytest.mark.parametrize(
    ("query", "auto_remove", "kept"),
    [
        ("", "force", 0),
        ("", "success", 0),
        ("", "never", 1),
        ("?fail=1", "force", 0),
        ("?fail=1", "success", 1),
        ("?fail=1", "never", 1),
    ],
)
def test_what_stays_behind(make_task, query: str, auto_remove: str, kept: int) -> None:
    """Which containers stay is what auto_remove says; whatever stays has ended."""
    task = make_task(query)
    if query:
        with pytest.raises(AirflowException, match="RuntimeError: as asked"):
            task.run(auto_remove=auto_remove)
    else:
        task.run(auto_remove=auto_remove)
    states = [task.engine.client.inspect_container(found)["State"]["Running"] for found in task.containers()]
    assert states == [False] * kept


def test_exit_code_that_skips(make_task) -> None:
    """A stage that ends with a status of skip_on_exit_code is skipped; with another one it may be tried again."""
    task = make_task("?exit=99")
    with pytest.raises(AirflowSkipException, match="exit code 99"):
        task.run(skip_on_exit_code=99)
    with pytest.raises(AirflowException, match="exit code 99") as raised:
        task.run(skip_on_exit_code=[98])
    assert not isinstance(raised.value, AirflowFailException)
    assert task.containers() == []
    assert task.store == {}


@pytest.mark.parametrize("stated_by", ["argument", "setting"])
def test_engine_at_another_address(task: Task, monkeypatch, stated_by: str) -> None:
    """An engine that the task or the settings name is asked, and what it cannot see travels."""
    forwarder = Forwarder(task.engine.address.removeprefix("unix://"))
    address = f"tcp://127.0.0.1:{forwarder.port}"
    (task.folder / "cache" / "go").touch()
    (task.folder / "cache" / "up").touch()
    if stated_by == "setting":
        monkeypatch.setenv("PIPCOOK_DOCKER_URL", address)
    try:
        operator = PipcookDockerOperator(task_id="datasource", docker_url=address if stated_by == "argument" else None)
        assert operator.execute(task.context())["value"] == {"samples": {"train": 1}}
        assert operator.cli.base_url == address.replace("tcp", "http")
    finally:
        forwarder.close()
    assert (task.folder / "cache" / "seen.json").exists()
    assert task.containers() == []


def test_lost_try_is_taken_over(task: Task) -> None:
    """The next try follows the container that the store names, instead of starting another; the store forgets it."""
    lost = PipcookDockerOperator(task_id="datasource", retries=1)
    with lost._open_session(task.context()):
        container = lost.submit_job(task.context())
    keeper = LeaseKeeper(task.engine.twin(), container, LogStream(task.engine, container, bool), 60)
    keeper.hand_over({})
    task.engine.client.start(container)
    keeper.leave()
    task.store.set(lost.external_id_key, container)
    task.run()
    assert task.shown["Id"] == container
    assert task.containers() == []
    assert task.store == {}


def test_earlier_container_is_ended(task: Task) -> None:
    """A try that finds no container to take over removes those that earlier tries have left."""
    lost = PipcookDockerOperator(task_id="datasource", retries=1)
    with lost._open_session(task.context()):
        left = lost.submit_job(task.context())
    assert task.containers() == [left]
    task.run()
    assert task.shown["Id"] != left
    assert task.containers() == []


def test_killed_task_leaves_no_container(task: Task) -> None:
    """on_kill, which Airflow calls in a signal handler or another thread, ends the stage and removes its container."""
    operator = PipcookDockerOperator(task_id="datasource", retries=1)

    def kill() -> None:
        while not (task.folder / "cache" / "up").exists():
            threading.Event().wait(0.02)
        operator.on_kill()

    killing = threading.Thread(target=kill)
    killing.start()
    with pytest.raises(AirflowException, match="stopped from outside"):
        operator.execute(task.context())
    killing.join()
    assert task.containers() == []


def test_image_that_is_not_there(task: Task) -> None:
    """An image that nobody has fails the task at once, and nothing was made."""
    with pytest.raises(AirflowFailException, match="pipcook-stage:none"):
        PipcookDockerOperator(task_id="datasource", image="pipcook-stage:none").execute(task.context())
    assert task.containers() == []


def test_task_that_is_killed_before_it_began(task: Task) -> None:
    """A signal that comes before anything is under way is not forgotten: no container is made."""
    operator = PipcookDockerOperator(task_id="datasource")
    operator.on_kill()
    with pytest.raises(AirflowException, match="stopped from outside before it began"):
        operator.execute(task.context())
    assert task.containers() == []


@pytest.mark.parametrize(("name", "kept"), [(None, 2), ("test", 1)])
def test_retry_keeps_the_containers_of_earlier_tries(make_task, name: str | None, kept: int) -> None:
    """What auto_remove lets stay stays also when the next try begins, unless that needs its name."""
    task = make_task("?fail=1")
    name = name and f"{name}-{secrets.token_hex(8)}"
    for _ in range(2):
        with pytest.raises(AirflowException, match="RuntimeError: as asked"):
            task.run(auto_remove="never", container_name=name)
    assert len(task.containers()) == kept


def test_container_of_another_airflow_is_left_alone(task: Task) -> None:
    """Of two Airflows with one engine, where scheduled runs have the same ids, none ends the other's container."""
    context = task.context()
    mine = _identity(context, Workspace(task.folder))
    labels = {**mine, "io.pipcook.workspace": "/of/another/airflow"}
    other = task.engine.client.create_container("pipcook-stage:0.1.0-cpu", labels=labels)["Id"]
    task.run()
    assert task.containers() == [other]


def test_container_that_crashed_with_its_worker_is_not_taken_over(task: Task) -> None:
    """A try after the machine went down, or after the lease, runs the stage, instead of telling how the last one ended."""
    lost = PipcookDockerOperator(task_id="datasource", retries=1)
    with lost._open_session(task.context()):
        container = lost.submit_job(task.context())
    keeper = LeaseKeeper(task.engine.twin(), container, LogStream(task.engine, container, bool), 60)
    keeper.hand_over({})
    task.engine.client.start(container)
    keeper.leave()
    task.engine.client.kill(container)
    task.engine.client.wait(container)
    task.store.set(lost.external_id_key, container)
    task.run()
    assert task.shown["Id"] != container
    assert task.containers() == []
