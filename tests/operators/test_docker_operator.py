"""What a Docker task makes of its arguments, before any engine is asked."""

from __future__ import annotations

import socket
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.exceptions import AirflowException, AirflowFailException
from airflow.providers.common.compat.sdk import AirflowSkipException
from airflow.providers.docker.operators.docker import DockerOperator
from docker.types import DeviceRequest, Mount, Ulimit

from pipcook_provider.errors import StageCrashed
from pipcook_provider.launchers.docker import ContainerOptions
from pipcook_provider.operators.docker import PipcookDockerOperator

HEARTBEAT_TIMEOUT = 300
MARGIN = 120
SHORT = 30

takes_over = pytest.mark.skipif(
    not PipcookDockerOperator(task_id="model").durable, reason="a retry takes a container over from Airflow 3.3 on"
)


def context_of(prepared: Any = None, *, store: Any = True, **task_instance: Any) -> Any:
    """Return as much of a task's context as the operator looks at."""
    known = {"dag_id": "digits", "run_id": "manual", "task_id": "model", "map_index": -1}
    told = {"try_number": 1, "max_tries": 2, "stats_tags": {}, "xcom_pull": lambda **_: prepared}
    return {"ti": SimpleNamespace(**{**known, **told, **task_instance}), "task_state_store": store}


def options_of(**arguments: Any) -> ContainerOptions:
    """Return what a task with these arguments asks of its launcher."""
    return PipcookDockerOperator(task_id="model", **arguments)._options(context_of(), {}, None)


def test_airflows_arguments_work() -> None:
    """It is Airflow's operator, with its arguments as they are; the stage is its task's id by default."""
    operator = PipcookDockerOperator(task_id="dataflow_1", mem_limit="2g", skip_on_exit_code=99, retries=3)
    assert isinstance(operator, DockerOperator)
    assert (operator.stage, operator.prepare_task_id, operator.mem_limit) == ("dataflow_1", "prepare", "2g")
    assert (operator.skip_on_exit_code, operator.retries, operator.auto_remove) == ([99], 3, "force")
    assert not operator.mount_tmp_dir
    assert PipcookDockerOperator(task_id="train", stage="model", prepare_task_id="begin").stage == "model"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("command", "rm -rf /"),
        ("tty", True),
        ("xcom_all", True),
        ("retrieve_output", True),
        ("retrieve_output_path", "/result"),
    ],
)
def test_arguments_that_break_stages_are_refused(name: str, value: object) -> None:
    """What would break a stage's messages is refused with the reason when the DAG is read."""
    with pytest.raises(ValueError, match=rf"takes no '{name}': .+ Leave it out\."):
        PipcookDockerOperator(task_id="model", **{name: value})


def test_auto_remove_of_another_kind_is_refused() -> None:
    """A misspelt auto_remove is Airflow's own error."""
    with pytest.raises(ValueError, match="Invalid `auto_remove` value 'sometimes'"):
        PipcookDockerOperator(task_id="model", auto_remove="sometimes")


def test_templates_are_airflows() -> None:
    """Each of Airflow's templated arguments is templated, but the command, which there is none of."""
    expected = set(DockerOperator.template_fields) - {"command"}
    assert set(PipcookDockerOperator.template_fields) == expected
    assert {"image", "environment", "container_name", "mounts"} <= expected


def test_templates_are_rendered() -> None:
    """A run's values reach image, variables and mounts; a mount that was rendered is one still."""
    operator = PipcookDockerOperator(
        task_id="model",
        image="stage:{{ version }}",
        environment={"RUN": "{{ run_id }}"},
        container_name="model-{{ run_id }}",
        mounts=[Mount("/data", "/srv/{{ run_id }}", type="bind"), {"target": "/more", "source": "{{ version }}"}],
    )
    operator.render_template_fields({"version": "7", "run_id": "manual"})
    options = operator._options(context_of(), {}, None)
    assert (options.image, options.environment, options.name) == ("stage:7", {"RUN": "manual"}, "model-manual")
    assert [(mount["Target"], mount["Source"]) for mount in options.mounts] == [
        ("/data", "/srv/manual"),
        ("/more", "7"),
    ]


GPU = DeviceRequest(count=1, capabilities=[["gpu"]])
LIMIT = Ulimit(name="nofile", soft=1, hard=2)


@pytest.mark.parametrize(
    ("argument", "value", "option", "expected"),
    [
        ("image", "mine:1", "image", "mine:1"),
        ("network_mode", "host", "network", "host"),
        ("mem_limit", "1.5g", "memory", 3 * 2**29),
        ("mem_limit", 2**28, "memory", 2**28),
        ("cpus", 2.5, "cpus", 2.5),
        ("user", 1000, "user", "1000"),
        ("user", "1000:5", "user", "1000:5"),
        ("environment", {"SEEN": "1"}, "environment", {"SEEN": "1"}),
        ("env_file", "A=1\n# no\nB=2", "environment", {"A": "1", "B": "2"}),
        ("private_environment", {"KEY": "x"}, "private_environment", {"KEY": "x"}),
        ("entrypoint", "tini -- python", "entrypoint", "tini -- python"),
        ("entrypoint", '["tini", "--"]', "entrypoint", ["tini", "--"]),
        ("entrypoint", ["tini", "--"], "entrypoint", ["tini", "--"]),
        ("working_dir", "/there", "working_dir", "/there"),
        ("labels", {"team": "web"}, "labels", {"team": "web"}),
        ("labels", ["team"], "labels", {"team": ""}),
        ("container_name", "mine", "name", "mine"),
        ("dns", ["192.0.2.1"], "dns", ["192.0.2.1"]),
        ("dns_search", ["a.test"], "dns_search", ["a.test"]),
        ("shm_size", 2**26, "shm_size", 2**26),
        ("hostname", "here", "hostname", "here"),
        ("privileged", True, "privileged", True),
        ("cap_add", ("SYS_NICE",), "cap_add", ["SYS_NICE"]),
        ("extra_hosts", {"a.test": "192.0.2.1"}, "extra_hosts", {"a.test": "192.0.2.1"}),
        ("device_requests", [GPU], "device_requests", [GPU]),
        ("ipc_mode", "host", "ipc_mode", "host"),
        ("port_bindings", {8080: 80}, "port_bindings", {8080: 80}),
        ("ulimits", [LIMIT], "ulimits", [LIMIT]),
        ("auto_remove", "never", "keep", "always"),
        ("auto_remove", "success", "keep", "failed"),
        ("auto_remove", "force", "keep", "never"),
        ("force_pull", True, "force_pull", True),
    ],
)
def test_argument_reaches_the_launcher(argument: str, value: Any, option: str, expected: Any) -> None:
    """Each argument of Airflow's becomes the launcher's option of that meaning."""
    assert getattr(options_of(**{argument: value}), option) == expected


def test_variables_go_before_those_of_the_file() -> None:
    """As Airflow has it, environment wins over env_file."""
    assert options_of(env_file="A=1\nB=2", environment={"B": "3"}).environment == {"A": "1", "B": "3"}


def test_log_options_reach_the_launcher() -> None:
    """Limits of the log's size are the engine's driver's; without them the launcher decides."""
    log = options_of(log_opts_max_size="10m", log_opts_max_file="3").log_config
    assert log is not None
    assert (log.type, log.config) == ("json-file", {"max-size": "10m", "max-file": "3"})
    assert options_of().log_config is None


def test_what_is_not_stated_is_the_launchers() -> None:
    """A task without arguments wants nothing special, so that the stage decides; a CPU's weight is as Airflow has it."""
    options = options_of()
    assert options == ContainerOptions(cpus=1.0, lease=options.lease)


def test_labels_of_the_run_win() -> None:
    """Nobody can take away by labels of their own those by which containers are found again."""
    operator = PipcookDockerOperator(task_id="model", labels={"io.pipcook.dag": "other", "team": "web"})
    labels = operator._options(context_of(), {"io.pipcook.dag": "digits"}, None).labels
    assert labels == {"io.pipcook.dag": "digits", "team": "web"}


def test_temporary_folder_is_mounted(tmp_path: Path) -> None:
    """With mount_tmp_dir, a folder of the worker is there, as AIRFLOW_TMP_DIR says."""
    operator = PipcookDockerOperator(task_id="model", mount_tmp_dir=True, tmp_dir="/there", host_tmp_dir=str(tmp_path))
    with operator._temporary_folder() as folder:
        options = operator._options(context_of(), {}, folder)
        assert Path(folder).parent == tmp_path
    (mount,) = options.mounts
    assert (mount["Target"], mount["Source"]) == ("/there", folder)
    assert options.environment == {"AIRFLOW_TMP_DIR": "/there"}
    assert not list(tmp_path.iterdir())
    assert operator.environment == {}


def lease_of(*, try_number: int = 1, store: Any = True, **arguments: Any) -> float:
    operator = PipcookDockerOperator(task_id="model", **{"retries": 2, "retry_delay": 60, **arguments})
    return operator._lease(context_of(store=store, try_number=try_number, max_tries=2))


@takes_over
def test_lease_lasts_until_a_retry_can_come() -> None:
    """A lost worker's container goes on until Airflow has noticed, has waited as it is told to, and a little longer."""
    assert lease_of() == HEARTBEAT_TIMEOUT + 60 + MARGIN
    assert lease_of(retry_delay=timedelta(hours=2)) == HEARTBEAT_TIMEOUT + 7200 + MARGIN


@takes_over
def test_lease_follows_airflows_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """When Airflow notices a lost worker later, the container waits as much longer."""
    monkeypatch.setenv("AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT", "1000")
    assert lease_of() == 1000 + 60 + MARGIN


@takes_over
def test_last_try_has_a_short_lease() -> None:
    """Where no retry can come, nobody could take the container over: it ends itself soon."""
    assert lease_of(try_number=3) == SHORT
    assert lease_of(try_number=2) > SHORT
    assert lease_of(durable=False) == SHORT
    assert lease_of(store=None) == SHORT


@takes_over
@pytest.mark.parametrize("multiplier", [True, 2.0, 1.5, 5])
@pytest.mark.parametrize("try_number", [1, 2])
@pytest.mark.parametrize("longest", [None, 200])
def test_lease_covers_exponential_back_off(multiplier: float, try_number: int, longest: int | None) -> None:
    """Whatever delay Airflow works out for a retry, for any task of any name, the container is still there."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.sdk.timezone import utcnow

    given = {"retry_exponential_backoff": multiplier, "max_retry_delay": longest}
    delays = []
    for number in range(50):
        operator = PipcookDockerOperator(task_id=f"model{number}", retry_delay=60, **given)
        operator.retry_exponential_backoff = 2.0 if multiplier is True else multiplier  # as the scheduler reads it
        task_instance = SimpleNamespace(
            task=operator,
            try_number=try_number,
            dag_id="digits",
            task_id=operator.task_id,
            map_index=-1,
            run_id="manual",
            logical_date=None,
            end_date=utcnow(),
            retry_delay_override=None,
            id=number,
        )
        due = TaskInstance.next_retry_datetime(task_instance)
        delays.append((due - task_instance.end_date).total_seconds())
    room = lease_of(try_number=try_number, **given) - HEARTBEAT_TIMEOUT - MARGIN
    assert max(delays) <= room


@takes_over
def test_long_back_off_has_an_end() -> None:
    """Airflow waits no more than a day, so no container waits for longer."""
    operator = PipcookDockerOperator(task_id="model", retries=90, retry_delay=60, retry_exponential_backoff=True)
    lease = operator._lease(context_of(try_number=80, max_tries=90))
    assert lease == HEARTBEAT_TIMEOUT + 24 * 3600 + MARGIN


def test_nothing_to_kill() -> None:
    """A task that is killed before it has a container, or after, has nothing to do."""
    operator = PipcookDockerOperator(task_id="model")
    assert operator.on_kill() is None  # type: ignore[func-returns-value]
    with pytest.raises(AirflowFailException):
        operator.execute(context_of())
    assert operator.on_kill() is None  # type: ignore[func-returns-value]


def test_run_that_was_not_prepared_fails_at_once() -> None:
    """Without the result of prepare no retry helps, and the message says what does."""
    with pytest.raises(AirflowFailException, match=r"expected the task 'begin' .* Clear 'begin' and run it first"):
        PipcookDockerOperator(task_id="model", prepare_task_id="begin").execute(context_of())


def test_workspace_that_is_elsewhere_fails_at_once(tmp_path: Path) -> None:
    """A run that another worker has prepared on a disk of its own is told with that worker's name."""
    prepared = {"workspace": str(tmp_path), "host": "worker-7"}
    with pytest.raises(AirflowFailException, match=r"made on host 'worker-7'.*disk that all workers share"):
        PipcookDockerOperator(task_id="model").execute(context_of(prepared))


@pytest.mark.parametrize("own", [True, False])
def test_engine_that_is_not_there_may_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool) -> None:
    """An engine that does not answer costs a try, not the task, and the message says which option names it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    (tmp_path / "pipeline-config.json").write_text("{}", encoding="utf-8")
    if not own:
        monkeypatch.setenv("PIPCOOK_DOCKER_URL", address)
    operator = PipcookDockerOperator(task_id="model", docker_url=address if own else None)
    with pytest.raises(AirflowException, match=r"none answers: .*\[pipcook\] docker_url") as raised:
        operator.execute(context_of({"workspace": str(tmp_path), "host": "here"}))
    assert not isinstance(raised.value, AirflowFailException)


class Store(dict[str, Any]):
    """Airflow's store of a task's state."""

    def delete(self, key: str) -> None:
        del self[key]


def crashing(exit_code: int) -> PipcookDockerOperator:
    """Return an operator in the middle of a stage that ends like this."""

    def complete(job: object, run: object) -> None:
        raise StageCrashed("ended", exit_code=exit_code)

    operator = PipcookDockerOperator(task_id="model", skip_on_exit_code=[99, 100])
    runner = SimpleNamespace(complete=complete)
    launcher = SimpleNamespace(complete=print)
    operator._session = SimpleNamespace(runner=runner, launcher=launcher, job=object())  # type: ignore[assignment]
    return operator


def test_exit_codes_that_skip() -> None:
    """A stage that ends with one of skip_on_exit_code is skipped; with any other it fails. Either way it is forgotten."""
    for exit_code, error in {100: AirflowSkipException, 1: StageCrashed}.items():
        store = Store(pipcook_container="c")
        with pytest.raises(error, match="ended"):
            crashing(exit_code).poll_until_complete("c", context_of(store=store))
        assert store == {}


@pytest.mark.parametrize(
    ("state", "found", "status", "active"),
    [
        ("running", True, "running", True),
        ("exited", True, "exited", True),
        ("created", True, "created", False),
        (None, True, "gone", False),
        ("running", False, "stale", False),
    ],
)
def test_which_containers_are_taken_over(state: str | None, found: bool, status: str, active: bool) -> None:
    """A container that runs or has ended is taken over, unless the run was prepared anew since; none counts as done."""
    operator = PipcookDockerOperator(task_id="model")
    launcher = SimpleNamespace(find=lambda _: ["c"] if found else [], state=lambda _: state)
    operator._session = SimpleNamespace(launcher=launcher, labels={})  # type: ignore[assignment]
    assert operator.get_job_status("c", context_of()) == status
    assert operator.is_job_active(status) is active
    assert not operator.is_job_succeeded(status)
