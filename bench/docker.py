"""What containers cost: a stage in one against plain ``docker run``, and against the process runner.

Everything runs in the CPU image that ``make images`` builds. ``docker run`` gets the same image, mounts, limits and command
as the stage, and the same first line on its stdin, so that both run the very same child. Contenders alternate. The
operator runs in a fresh process each time, as a task does, with a hand-made context; what is measured is its ``execute``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from pipcook_provider import __version__
from pipcook_provider.errors import PipcookError
from pipcook_provider.frameworks import ensure_framework
from pipcook_provider.launchers import Launch, Needs
from pipcook_provider.launchers.docker import ContainerOptions, DockerLauncher, Engine
from pipcook_provider.launchers.docker.container import choose_memory, temporary_size
from pipcook_provider.launchers.process import ProcessLauncher
from pipcook_provider.runtime.messages import TOKEN_VARIABLE, Message
from pipcook_provider.settings import Settings
from pipcook_provider.spec import parse_pipeline
from pipcook_provider.stages import StageRunner
from pipcook_provider.store.workspace import Workspace

IMAGE = f"pipcook-stage:{__version__}-cpu"
FRAMEWORK = "tensorflow@2.21"
LINES = 100_000

EMPTY = """
import time
print("began", time.time())

from pipcook_provider.runtime import DatasetPool, Sample

def datasource(options, context):
    return DatasetPool.from_samples(train=[Sample(1.0, 0)])

def train(runtime, options, context):
    runtime.save_model(b"", "model")
"""

IMPORT = """
import time
begin = time.perf_counter()
import tensorflow
print("imported", time.perf_counter() - begin)
"""

TALKATIVE = f"""
for number in range({LINES}):
    print(f"line {{number:6}} of what a script has to tell while it trains")
"""


class Listener:
    """Keeps the figures that scripts print after a word, and counts the lines."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self.lines = 0

    def message(self, message: Message) -> None:
        pass

    def output(self, line: str) -> None:
        self.lines += 1
        name, _, figure = line.partition(" ")
        if name in ("began", "imported"):
            self.figures[name] = float(figure)


def main() -> int:
    if shutil.which("docker") is None:
        sys.exit("expected the program docker, found none: there is nothing to compare with. Install Docker's client.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = Settings(home=Path(os.environ.get("PIPCOOK_HOME", folder / "home")))
        try:
            engine = Engine.connect(settings)
            DockerLauncher(engine, settings, ContainerOptions(image=IMAGE)).open(Needs(), Listener())
        except PipcookError as exc:
            sys.exit(f"{exc} Nothing was measured.")
        framework = ensure_framework(FRAMEWORK, settings).path
        missed = [
            operator(folder, settings, engine) > 0.3,
            user_code(folder, settings, engine) > 0.5,
            *sizes(engine, framework),
            import_framework(folder, settings, engine) > 1.1,
            *log(folder),
        ]
    return int(any(missed))


def operator(folder: Path, settings: Settings, engine: Engine) -> float:
    """Return the seconds that the operator takes beyond ``docker run`` of the same stage."""
    runner = docker_runner(settings, engine)
    workspace = prepare(runner, folder / "operator", EMPTY)
    rounds = []
    for _ in range(12):
        tried = in_own_process("execute", workspace.root, folder)
        launch = runner.begin(workspace, "datasource").launch
        rounds.append((tried["first"], tried["again"], docker_run(launch, settings, engine)))
    del rounds[0]
    added = median(first - plain for first, _, plain in rounds)
    print(f"docker run of an empty stage      {median(plain for *_, plain in rounds):7.3f} s")
    print(f"PipcookDockerOperator.execute     {median(first for first, *_ in rounds):7.3f} s")
    print(f"  it adds                         {added:7.3f} s   (limit 0.3)")
    print(f"  once more in the same process   {median(again - plain for _, again, plain in rounds):7.3f} s")
    return added


def user_code(folder: Path, settings: Settings, engine: Engine) -> float:
    """Return how many seconds later than in a process a script's first line is executed in a container."""
    runners = {"process": process_runner(settings), "docker": docker_runner(settings, engine)}
    workspaces = {name: prepare(runner, folder / f"empty-{name}", EMPTY) for name, runner in runners.items()}
    rounds = []
    for _ in range(12):
        waited = {}
        for name, runner in runners.items():
            begin = time.time()
            waited[name] = figure(runner, workspaces[name], "began") - begin
        rounds.append(waited)
    del rounds[0]
    later = median(waited["docker"] - waited["process"] for waited in rounds)
    for name in runners:
        print(f"user code begins, {name:16}{median(waited[name] for waited in rounds):7.3f} s")
    print(f"  later by                        {later:7.3f} s   (limit 0.5)")
    return later


def sizes(engine: Engine, framework: Path) -> tuple[bool, bool]:
    """Return whether the image, and the framework beside it, take more than they may."""
    image = engine.client.inspect_image(IMAGE)["Size"] / 1e9
    beside = image + sum(path.lstat().st_size for path in framework.rglob("*") if not path.is_dir()) / 1e9
    print(f"CPU image                         {image:7.3f} GB  (limit 0.4)")
    print(f"  with {FRAMEWORK:15} beside it {beside:7.3f} GB  (limit 2.0)")
    return image > 0.4, beside > 2.0


def import_framework(folder: Path, settings: Settings, engine: Engine) -> float:
    """Return how many times as long importing TensorFlow takes in a container."""
    runners = {"process": process_runner(settings), "docker": docker_runner(settings, engine)}
    workspaces = {
        name: prepare(runner, folder / f"import-{name}", IMPORT + EMPTY, FRAMEWORK) for name, runner in runners.items()
    }
    rounds = [
        {name: figure(runner, workspaces[name], "imported") for name, runner in runners.items()} for _ in range(8)
    ][1:]
    ratio = median(took["docker"] / took["process"] for took in rounds)
    for name in runners:
        print(f"import tensorflow, {name:15}{median(took[name] for took in rounds):7.2f} s")
    print(f"  ratio                           {ratio:7.2f}     (limit 1.1)")
    return ratio


def log(folder: Path) -> tuple[bool, bool]:
    """Return whether many lines take more time, or memory of the launcher's process, than they may."""
    told = [in_own_process("talk", folder / f"talk-{number}", folder) for number in range(3)]
    seconds, growth = (median(one[name] for one in told) for name in ("seconds", "growth"))
    plain = median(one["plain"] for one in told)
    print(f"a stage that prints {LINES:,} lines {seconds:6.2f} s    (limit 10)")
    print(f"  docker run of it                {plain:7.2f} s")
    print(f"  peak memory grows by            {growth:7.1f} MB  (limit 100)")
    return seconds > 10, growth > 100


def execute(workspace: Workspace) -> dict[str, float]:
    """Return the seconds that ``execute`` of an operator takes, the first time in this process and once more."""
    from pipcook_provider.operators.docker import PipcookDockerOperator

    task = PipcookDockerOperator(task_id="datasource", image=IMAGE)
    return {"first": timed_execute(task, workspace), "again": timed_execute(task, workspace)}


def timed_execute(task: Any, workspace: Workspace) -> float:
    begin = time.perf_counter()
    task.execute({"ti": TaskInstance(workspace), "task_state_store": TaskState()})
    return time.perf_counter() - begin


class TaskInstance:
    """What the operator asks of Airflow's."""

    dag_id, run_id, task_id, map_index = "bench", "manual", "datasource", -1
    try_number, max_tries = 1, 2
    stats_tags: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, workspace: Workspace) -> None:
        self._prepared = {"workspace": str(workspace.root), "host": None}

    def xcom_pull(self, task_ids: str) -> dict[str, Any]:  # noqa: ARG002 - as it is called
        return self._prepared


class TaskState(dict[str, Any]):
    """Airflow's store of a task's state, in memory."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value

    def delete(self, key: str) -> None:
        self.pop(key, None)


def talk(folder: Path) -> dict[str, float]:
    """Return seconds and memory that a talkative stage takes, and the seconds of ``docker run``."""
    settings = Settings(home=folder.parent / "home")
    engine = Engine.connect(settings)
    runner = docker_runner(settings, engine)
    quiet = prepare(runner, folder / "quiet", EMPTY)
    workspace = prepare(runner, folder / "talkative", TALKATIVE + EMPTY)
    runner.run(quiet, "datasource")
    before = peak_memory()
    runner.listener.lines = 0
    seconds = runner.run(workspace, "datasource").seconds
    growth = peak_memory() - before
    assert runner.listener.lines > LINES
    launch = runner.begin(workspace, "datasource").launch
    return {"seconds": seconds, "growth": growth, "plain": docker_run(launch, settings, engine)}


def peak_memory() -> float:
    """Return this process's peak memory so far, in MB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in status if line.startswith("VmHWM"))) / 1e3


def docker_run(launch: Launch, settings: Settings, engine: Engine) -> float:
    """Return the seconds that ``docker run`` takes for a stage's container, from its creation to its removal."""
    memory = choose_memory(launch, ContainerOptions(), settings, engine)
    mounts = [f"{launch.workspace},readonly=false"]
    mounts += [f"{path},readonly" for name in launch.read_only if (path := launch.workspace / name).exists()]
    environment = {"HOME": "/tmp", "USER": "pipcook", TOKEN_VARIABLE: "token"}
    command = [
        *("docker", "run", "--rm", "--interactive", f"--workdir={launch.workspace}"),
        *(f"--user={os.getuid()}:{os.getgid()}", "--network=none", "--read-only"),
        *("--cap-drop=ALL", "--security-opt=no-new-privileges", f"--pids-limit={settings.docker_pids}"),
        *(f"--memory={memory}", f"--memory-swap={memory}", f"--shm-size={2**30}"),
        f"--tmpfs=/tmp:rw,exec,nosuid,nodev,mode=1777,size={temporary_size(memory)}",
        *("--log-driver=json-file", "--log-opt=max-size=1000g"),
        *(f"--env={name}={value}" for name, value in environment.items()),
        *(f"--mount=type=bind,target={mount.partition(',')[0]},source={mount}" for mount in mounts),
        *(IMAGE, str(launch.workspace), launch.context.as_posix(), "lease", "packages"),
    ]
    handover = json.dumps({"lease": 30, "environment": {}}) + "\n"
    begin = time.perf_counter()
    run(command, stdin=handover)
    return time.perf_counter() - begin


def docker_runner(settings: Settings, engine: Engine) -> StageRunner:
    return StageRunner(settings, DockerLauncher(engine, settings, ContainerOptions(image=IMAGE)), Listener())


def process_runner(settings: Settings) -> StageRunner:
    return StageRunner(settings, ProcessLauncher(settings), Listener())


def prepare(runner: StageRunner, folder: Path, script: str, framework: str | None = None) -> Workspace:
    """Prepare a run of a pipeline of one script."""
    folder.mkdir(parents=True)
    (folder / "script.py").write_text(script, encoding="utf-8")
    # Without a network, as all stages are but this first one: how long that takes to set up is the engine's affair.
    options: dict[str, Any] = {"airflow": {"network": False}, **({"framework": framework} if framework else {})}
    document = {"specVersion": "2.0", "datasource": "script.py", "model": "script.py", "options": options}
    workspace = Workspace.create(folder / "run")
    runner.prepare(parse_pipeline(json.dumps(document), str(folder / "pipeline.json")), workspace)
    return workspace


def figure(runner: StageRunner, workspace: Workspace, name: str) -> float:
    """Return the figure that a stage's script prints after a word."""
    runner.run(workspace, "datasource")
    return runner.listener.figures.pop(name)


def in_own_process(name: str, path: Path, folder: Path) -> dict[str, float]:
    """Return what ``execute`` or ``talk`` finds in a process of its own."""
    environment = {
        "PIPCOOK_HOME": str(folder / "home"),
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
    }
    told = run([sys.executable, __file__, name, str(path)], environment=environment)
    return json.loads(told.splitlines()[-1])


def run(command: list[str], stdin: str = "", environment: dict[str, str] | None = None) -> str:
    told = subprocess.run(
        command, input=stdin, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if told.returncode != 0:
        sys.exit(f"{' '.join(command[:3])} failed:\n{told.stdout[-1000:]}\n{told.stderr[-2000:]}")
    return told.stdout


if __name__ == "__main__":
    # Python looks for packages in this file's folder first, where it would find the file itself as docker.
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != Path(__file__).resolve().parent]
    match sys.argv[1:]:
        case ["execute", path]:
            print(json.dumps(execute(Workspace(Path(path)))))
        case ["talk", path]:
            print(json.dumps(talk(Path(path))))
        case _:
            sys.exit(main())
