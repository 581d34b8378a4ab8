"""Stages in containers: what they see, what they cannot do, and that nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import wait_until

from pipcook_provider.errors import LaunchError, ScriptError, StageCrashed, StageKilled
from pipcook_provider.launchers import Needs
from pipcook_provider.launchers.docker import ContainerOptions
from pipcook_provider.launchers.docker.container import choose_user
from pipcook_provider.runtime.messages import Metric


def test_stage_runs_in_a_container(stages, heard) -> None:
    """A stage's result arrives, its output is the worker's user's, and its container is gone."""
    assert stages.run("print('hello')") == {"samples": {"train": 1}}
    assert "hello" in heard.lines
    written = list((stages.folder / "run" / "output").iterdir())
    assert written
    assert {path.stat().st_uid for path in written} == {os.getuid()}
    assert stages.containers() == []


LOOK_AROUND = """
import json, os, pathlib, socket
def written(path):
    try:
        pathlib.Path(path, "written").write_text("x")
    except OSError as exc:
        return exc.strerror
    return "written"
status = dict(line.split(":\\t", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
print(json.dumps({
    "status": {name: status[name].strip() for name in status},
    "written": {path: written(path) for path in ("/", "/usr", "/tmp", ".", "scripts", "cache")},
    "interfaces": os.listdir("/sys/class/net"),
    "socket": os.path.exists("/var/run/docker.sock"),
    "user": [os.getuid(), os.getgid()],
    "folder": os.getcwd(),
    "stdin": os.readlink("/proc/self/fd/0"),
}))
"""


def test_container_is_closed(stages, heard) -> None:
    """A stage has no capabilities and cannot get any, no network, no engine; it writes its workspace and /tmp only."""
    stages.run(LOOK_AROUND)
    seen = json.loads(next(line for line in heard.lines if line.startswith("{")))
    assert {name: int(seen["status"][name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == dict.fromkeys(
        ("CapEff", "CapPrm", "CapBnd", "CapAmb"), 0
    )
    assert seen["status"]["NoNewPrivs"] == "1"
    assert seen["status"]["Seccomp"] == "2"
    refused = "Read-only file system"
    assert seen["written"] == {
        "/": refused,
        "/usr": refused,
        "scripts": refused,
        "/tmp": "written",
        ".": "written",
        "cache": "written",
    }
    assert seen["interfaces"] == ["lo"]
    assert not seen["socket"]
    assert seen["user"] == [os.getuid(), os.getgid()]
    assert seen["folder"] == str(stages.folder / "run")
    assert seen["stdin"] == "/dev/null"


def test_limits_reach_the_engine(stages, settings) -> None:
    """What a stage may use of the machine is limited, swap included, and its log is whole whatever the engine's own."""
    launcher = stages.launcher(cpus=1.5, shm_size=2**26)
    container = launcher.create(stages.launch(launcher, "pass", Needs(memory=2**28)), stages.heard)
    found = stages.engine.client.inspect_container(container)["HostConfig"]
    assert (found["Memory"], found["MemorySwap"], found["CpuShares"]) == (2**28, 2**28, 1_536)
    assert found["PidsLimit"] == settings.docker_pids
    assert found["ShmSize"] == 2**26
    assert found["LogConfig"]["Type"] == "json-file"
    assert not found["Privileged"]
    launcher.remove(container)
    assert stages.containers() == []


def test_options_open_what_is_closed(stages, heard) -> None:
    """Whoever configures the launcher may give a stage a network, a user and variables."""
    launcher = stages.launcher(network="bridge", user="12345:0", environment={"SEEN": "by all"}, hostname="here")
    (stages.folder / "run").mkdir()
    launch = stages.launch(
        launcher, "import os, socket; print('saw', os.getuid(), os.environ['SEEN'], socket.gethostname())"
    )
    for path in (stages.folder, stages.folder / "run", stages.folder / "run" / "output"):
        path.chmod(0o777)
    launcher.run(launch, heard)
    assert "saw 12345 by all here" in heard.lines


def test_secrets_are_seen_by_the_stage_alone(stages, heard, monkeypatch, settings, tmp_path) -> None:
    """Variables of document, worker and operator reach the script; neither the engine nor the disk shows their values."""
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret-of-proxy@proxy.test:3128")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text("machine a.test login me password secret-of-netrc\n", encoding="utf-8")
    launcher = stages.launcher(network="bridge", private_environment={"PRIVATE": "secret-of-operator"})
    body = """
    import os, pathlib
    print("saw", os.environ["HTTPS_PROXY"][-4:], os.environ["PRIVATE"], os.environ["DECLARED"])
    netrc = pathlib.Path.home() / ".netrc"
    print("netrc", oct(netrc.stat().st_mode)[-3:], netrc.read_text())
    pathlib.Path("up").touch()
    while not pathlib.Path("go").exists():
        pass
    """
    launch = stages.launch(launcher, body, environment={"DECLARED": "secret-of-document"})
    workspace = launch.workspace
    shown: list[str] = []

    def look() -> None:
        wait_until((workspace / "up").exists)
        shown.extend(json.dumps(stages.engine.client.inspect_container(found)) for found in stages.containers())
        (workspace / "go").touch()

    looking = threading.Thread(target=look)
    looking.start()
    launcher.run(launch, heard)
    looking.join()
    assert "saw 3128 secret-of-operator secret-of-document" in heard.lines
    assert "netrc 600 machine a.test login me password secret-of-netrc" in heard.lines
    assert len(shown) == 1
    assert "secret-of" not in shown[0]
    files = [path for path in workspace.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"secret-of" in path.read_bytes()]


def test_worker_is_not_seen(stages, heard, monkeypatch) -> None:
    """What says where things are on the worker means nothing in a container, and Airflow's secrets are nobody's business."""
    for name in ("AIRFLOW__CORE__FERNET_KEY", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "TMPDIR"):
        monkeypatch.setenv(name, "/the/workers")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    stages.run(
        "import os; print('saw', os.environ['OMP_NUM_THREADS'], '/the/workers' in os.environ.values(), os.environ['HOME'])"
    )
    assert "saw 3 False /tmp" in heard.lines


def test_messages_under_noise(stages, heard) -> None:
    """Among 100,000 lines in UTF-8, from processes that write at once, no message and no line is lost or torn."""
    body = """
    import subprocess, sys
    noise = "import os\\nfor n in range(50_000): os.write(1, f'noise {n} äöü 雑音\\\\n'.encode())"
    writers = [subprocess.Popen([sys.executable, "-X", "utf8", "-c", noise], stdout=fd) for fd in (1, 2)]
    import gc
    from pipcook_provider.runtime.messages import Metric, MessageWriter
    writer = next(entry for entry in gc.get_objects() if isinstance(entry, MessageWriter))
    for number in range(2_000):
        writer.send(Metric("number", number))
    print([writer.wait() for writer in writers])
    """
    stages.run(body)
    numbers = [message.value for message in heard.messages if isinstance(message, Metric)]
    assert numbers == list(range(2_000))
    noise = [line for line in heard.lines if "noise" in line]
    assert len(noise) == 100_000
    assert set(noise) == {f"noise {number} äöü 雑音" for number in range(50_000)}


def test_endless_line_is_passed_on_in_pieces(stages, heard) -> None:
    """A line without an end costs bounded memory, and nothing of it is lost."""
    stages.run("import sys; sys.stdout.write('x' * 3_000_000); print()")
    long = [line for line in heard.lines if line.startswith("xxx")]
    assert sum(map(len, long)) == 3_000_000
    assert max(map(len, long)) < 100_000


def test_script_error_names_its_line(stages) -> None:
    """A script that fails is told as anywhere else, and nothing stays behind."""
    with pytest.raises(ScriptError, match=r"line 3 .*\n    \{\}\['key'\]\nKeyError: 'key'"):
        stages.run("\n{}['key']", script_uris={"scripts/datasource.py": "file:///d.py"})
    assert stages.containers() == []


def test_threads_do_not_hold_up_the_stage(stages) -> None:
    """A thread that never ends does not keep a stage whose result is there."""
    stages.run("import threading; threading.Thread(target=threading.Event().wait).start()")
    assert stages.containers() == []


def test_spawned_processes_see_what_the_script_sees(stages, heard) -> None:
    """A pool of processes of any start method works in a container."""
    body = """
    import multiprocessing, numpy
    for method in ("spawn", "forkserver", "fork"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            print(method, pool.map_async(numpy.square, [2, 3]).get(60) == [4, 9])
    """
    stages.run(body)
    assert [line for line in heard.lines if "True" in line] == ["spawn True", "forkserver True", "fork True"]


SLEEPING = """
import os, signal, subprocess, sys, time
{prelude}
print("up", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("prelude", ["", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"])
def test_stop_in_a_signal_handler(stages, heard, prelude: str) -> None:
    """A signal handler of the following thread can stop the stage, whatever that thread was doing."""
    launcher = stages.launcher()
    launch = stages.launch(launcher, SLEEPING.format(prelude=prelude))
    before = signal.signal(signal.SIGUSR1, lambda *_: launcher.stop())
    main = threading.main_thread().ident

    def interrupt() -> None:
        wait_until(lambda: "up" in heard.lines)
        signal.pthread_kill(main, signal.SIGUSR1)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    try:
        with pytest.raises(StageKilled, match="stopped from outside"):
            launcher.run(launch, heard)
    finally:
        interrupting.join()
        signal.signal(signal.SIGUSR1, before)
    assert stages.containers() == []


def test_stop_from_another_thread(stages, heard) -> None:
    """A stage can be stopped from any thread; stopping it again, or when nothing runs, does nothing."""
    launcher = stages.launcher()
    launch = stages.launch(launcher, SLEEPING.format(prelude=""))
    stopping = threading.Thread(target=lambda: wait_until(lambda: "up" in heard.lines) and launcher.stop())
    stopping.start()
    with pytest.raises(StageKilled):
        launcher.run(launch, heard)
    stopping.join()
    launcher.stop()
    assert stages.containers() == []


def test_sigterm_ends_the_first_process(stages, heard, tmp_path) -> None:
    """The child ends on SIGTERM although it is its container's first process, and is told as ended by it."""
    launcher = stages.launcher(keep="failed")
    launch = stages.launch(launcher, SLEEPING.format(prelude=""))
    container = launcher.create(launch, heard)
    ending = threading.Thread(
        target=lambda: wait_until(lambda: "up" in heard.lines) and stages.engine.client.kill(container, "SIGTERM")
    )
    ending.start()
    with pytest.raises(StageCrashed, match="was ended by SIGTERM; somebody stopped it"):
        launcher.follow(container, launch, heard)
    ending.join()
    assert stages.engine.client.inspect_container(container)["State"]["ExitCode"] == 143


def test_listener_that_raises_ends_the_stage(stages) -> None:
    """An exception in the thread that follows leaves nothing behind."""

    class Broken:
        def message(self, message: object) -> None: ...

        def output(self, line: str) -> None:
            raise KeyboardInterrupt(line)

    launcher = stages.launcher()
    launch = stages.launch(launcher, SLEEPING.format(prelude=""))
    with pytest.raises(KeyboardInterrupt):
        launcher.run(launch, Broken())
    assert stages.containers() == []


@pytest.mark.parametrize(
    ("keep", "body", "kept"),
    [("failed", "{}['x']", 1), ("failed", "pass", 0), ("always", "pass", 1), ("always", "{}['x']", 1)],
)
def test_containers_are_kept_on_request(stages, keep: str, body: str, kept: int) -> None:
    """Containers stay behind, stopped, where that is asked for, and are not reaped."""
    launcher = stages.launcher(keep=keep, lease=0.001)
    try:
        stages.run(body, launcher=stages.launcher(keep=keep))
    except ScriptError:
        assert "x" in body
    launcher.reap()
    assert len(stages.containers()) == kept
    assert all(
        not stages.engine.client.inspect_container(container)["State"]["Running"] for container in stages.containers()
    )


FOLLOWING = """
import pickle, sys
from pathlib import Path
from pipcook_provider.launchers.docker import ContainerOptions, DockerLauncher, Engine
from pipcook_provider.settings import Settings
class Silent:
    def message(self, message): pass
    def output(self, line): print(line, flush=True)
launch, labels, lease = pickle.loads(bytes.fromhex(sys.argv[1]))
launcher = DockerLauncher(Engine.connect(Settings()), Settings(), ContainerOptions(labels=labels, lease=lease))
launcher.run(launch, Silent())
"""


def start_elsewhere(stages, body: str, lease: float):
    """Start a stage in another process; return that, when the script has printed something, and the launch."""
    import pickle

    launch = stages.launch(stages.launcher(), body)
    what = pickle.dumps((launch, dict(stages.labels), lease)).hex()
    worker = subprocess.Popen([sys.executable, "-c", FOLLOWING, what], stdout=subprocess.PIPE)
    assert worker.stdout
    assert worker.stdout.readline()
    return worker, launch


def test_lost_workers_container_ends_itself(stages) -> None:
    """After SIGKILL of the worker the container runs on for its lease, and the next one that is made removes it."""
    worker, _ = start_elsewhere(stages, SLEEPING.format(prelude=""), lease=2)
    with worker:
        worker.kill()
    (container,) = stages.containers()
    assert wait_until(lambda: not stages.engine.client.inspect_container(container)["State"]["Running"])
    assert stages.engine.client.inspect_container(container)["State"]["ExitCode"] == 75
    assert b"nobody has asked for this stage for 2 s" in stages.engine.client.logs(container)
    assert wait_until(lambda: stages.launcher().reap() or stages.containers() == [])


@pytest.mark.parametrize("finishes_before", [False, True])
def test_another_worker_takes_over(stages, heard, finishes_before: bool) -> None:
    """Another launcher follows a lost worker's container, has its whole log and its result, also when it has ended."""
    body = """
    import pathlib, time
    print("first", flush=True)
    while not pathlib.Path("go").exists():
        time.sleep(0.05)
    print("last")
    """
    worker, launch = start_elsewhere(stages, body, lease=20)
    with worker:
        worker.kill()
    launcher = stages.launcher(lease=30)
    (container,) = launcher.find(stages.labels)
    go = launch.workspace / "go"
    if finishes_before:
        go.touch()
        assert wait_until(lambda: not stages.engine.client.inspect_container(container)["State"]["Running"])
    else:
        threading.Timer(1, go.touch).start()
    assert launcher.follow(container, launch, heard) == {"samples": {"train": 1}}
    assert [line for line in heard.lines if line in ("first", "last")] == ["first", "last"]
    launcher.remove(container)
    launcher.remove(container)
    assert stages.containers() == []


def test_lease_is_kept_while_somebody_follows(stages, heard) -> None:
    """A stage that takes several times its lease goes on as long as its launcher is there."""
    assert stages.run("import time; time.sleep(4)", launcher=stages.launcher(lease=1)) == {"samples": {"train": 1}}


def test_taking_over_states_a_new_lease(stages, heard) -> None:
    """Who takes over says how long the container may go on without them."""
    body = "import time\nprint('up', flush=True)\ntime.sleep(6)"
    worker, launch = start_elsewhere(stages, body, lease=3)
    with worker:
        worker.kill()
    launcher = stages.launcher(lease=60)
    (container,) = launcher.find(stages.labels)
    assert launcher.follow(container, launch, heard) == {"samples": {"train": 1}}


def test_files_beside_the_workspace(stages, heard, tmp_path: Path) -> None:
    """Data files are where the child looks for them, and cannot be written; so is a framework."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("1,2", encoding="utf-8")
    framework = tmp_path / "framework"
    (framework / "site-packages").mkdir(parents=True)
    (framework / "site-packages" / "only_here.py").write_text("ADDED = 100\n", encoding="utf-8")
    body = """
    import importlib.util, os, pathlib, only_here, numpy, pyarrow
    print(pathlib.Path("/elsewhere/a.csv").read_text(), os.access("/elsewhere/a.csv", os.W_OK), only_here.ADDED)
    print("seen", importlib.util.find_spec("pip"), os.access(only_here.__file__, os.W_OK))
    """
    stages.run(body, files={Path("/elsewhere/a.csv"): tmp_path / "data" / "a.csv"}, framework=framework)
    assert "1,2 False 100" in heard.lines
    assert "seen None False" in heard.lines


class FakeEngine:
    """What an engine tells of itself that this machine's does not."""

    def __init__(self, rootless: bool) -> None:
        self.is_rootless = rootless


@pytest.mark.parametrize(
    ("rootless", "worker", "stated", "expected"),
    [
        (False, (1000, 100), None, "1000:100"),
        (False, (0, 0), None, "0:0"),
        (True, (1000, 100), None, "0:0"),
        (True, (1000, 100), "5:6", "5:6"),
    ],
)
def test_user_owns_what_the_stage_writes(rootless, worker, stated, expected) -> None:
    """A container's user is whom the worker's files belong to: root of a rootless engine is the worker's user."""
    options = ContainerOptions(user=stated)
    assert choose_user(options, FakeEngine(rootless), worker) == expected


def test_limits_hold_inside(stages, heard) -> None:
    """The kernel itself limits what a stage may have: memory, and processes."""
    body = """
    import pathlib
    groups = pathlib.Path("/sys/fs/cgroup")
    for names in (("memory.max", "memory/memory.limit_in_bytes"), ("pids.max", "pids/pids.max")):
        print("limit", *(path.read_text().strip() for path in map(groups.joinpath, names) if path.exists()))
    """
    stages.run(body, Needs(memory=2**28))
    assert [line for line in heard.lines if line.startswith("limit")] == [f"limit {2**28}", "limit 4096"]


def test_containers_that_were_never_started_are_reaped(stages, heard) -> None:
    """What a worker leaves behind that is lost before it starts a container goes when its lease is over, not before."""
    launcher = stages.launcher(lease=1)
    container = launcher.create(stages.launch(launcher, "pass"), heard)
    stages.launcher().reap()
    assert stages.containers() == [container]
    assert wait_until(lambda: stages.launcher().reap() or stages.containers() == [])


@pytest.mark.parametrize("lease", ["abc", "nan", "inf", ""])
def test_lease_that_no_launcher_wrote(stages, lease: str) -> None:
    """A container of somebody else's whose label says nothing is left alone, and keeps no stage from running."""
    labels = {**stages.labels, "io.pipcook.lease": lease}
    container = stages.engine.client.create_container(stages.image, labels=labels)["Id"]
    stages.launcher().reap()
    assert stages.containers() == [container]


def test_handover_that_is_too_large(stages) -> None:
    """What would not fit on its way to the container is refused, instead of waited for without an end."""
    launcher = stages.launcher(private_environment={"LARGE": "x" * 2**18})
    with pytest.raises(LaunchError, match=r"expected to be at most 131072 bytes in all, but are \d+; nothing was run"):
        stages.run("pass", launcher=launcher)
    assert stages.containers() == []


def test_largest_handover_arrives(stages, heard) -> None:
    """What is allowed fits."""
    stages.run(
        "import os; print(len(os.environ['LARGE']))",
        launcher=stages.launcher(private_environment={"LARGE": "x" * 130_000}),
    )
    assert "130000" in heard.lines


@pytest.mark.parametrize(("body", "state"), [("pass", "exited"), ("{}['x']", "exited"), ("os._exit(7)", "crashed")])
def test_state_tells_whether_a_stage_has_told_its_end(stages, heard, body: str, state: str) -> None:
    """A container that ended before its stage could tell how is no container that has simply exited."""
    launcher = stages.launcher(keep="always")
    launch = stages.launch(launcher, f"import os; {body}")
    container = launcher.create(launch, heard)
    with suppress(ScriptError, StageCrashed):
        launcher.follow(container, launch, heard)
    assert launcher.state(container) == state
