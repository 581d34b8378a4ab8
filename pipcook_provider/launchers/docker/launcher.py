"""Stages in containers."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipcook_provider.errors import LaunchError, StageKilled
from pipcook_provider.launchers.base import Launch, Listener, Needs, Outcome, Site
from pipcook_provider.launchers.docker import gpu
from pipcook_provider.launchers.docker.container import (
    WORKSPACE_LABEL,
    ContainerSpecification,
    ContainerState,
    choose_memory,
    choose_network,
    choose_user,
)
from pipcook_provider.launchers.docker.ending import Ending
from pipcook_provider.launchers.docker.engine import Engine
from pipcook_provider.launchers.docker.handover import LeaseKeeper, read_netrc
from pipcook_provider.launchers.docker.images import choose_image, ensure_image
from pipcook_provider.launchers.docker.options import ContainerOptions
from pipcook_provider.launchers.docker.removal import kill, reap, remove, stop
from pipcook_provider.launchers.docker.stream import STDERR, STDOUT, LogStream
from pipcook_provider.launchers.docker.transfer import choose_transfer
from pipcook_provider.launchers.environment import worker_environment
from pipcook_provider.launchers.lines import Heard, Lines
from pipcook_provider.runtime.messages import Log
from pipcook_provider.settings import Settings


class DockerLauncher:
    """Runs each stage in a container of its own.

    A container outlives its launcher for a while, its lease, within which another launcher may follow it.

    :param engine: where containers run.
    :param settings: which environment variables a stage sees, what its container may use, how long it has to end when
        it is stopped.
    :param options: what is to be otherwise than the launcher would have it.
    """

    def __init__(self, engine: Engine, settings: Settings, options: ContainerOptions | None = None) -> None:
        self._engine = engine
        self._settings = settings
        self._options = options or ContainerOptions()
        self._transfer = choose_transfer(engine, settings)
        self._container: str | None = None
        self._stopped = False

    def has_gpu(self) -> bool:
        """Tell whether containers could use a GPU on this engine."""
        return gpu.has_gpu(self._engine)

    def open(self, needs: Needs, listener: Listener) -> Site:
        """Look whether the engine has what a stage needs, and get its image.

        :raises LaunchError: it has not: what is missing, and how to get it.
        """
        gpus = gpu.preflight(self._engine, needs, listener)
        reference = choose_image(needs, self._settings, self._options.image, gpus > 0)
        image = ensure_image(self._engine, reference, listener, force_pull=self._options.force_pull)
        return Site(
            needs=needs,
            gpus=gpus,
            platform=image.platform,
            image=reference,
            baked=image.baked,
            shares_files=False,
            outlives=self._options.lease,
        )

    def run(self, launch: Launch, listener: Listener) -> Mapping[str, Any]:
        """Run a stage to its end and return its result; see :class:`~pipcook_provider.launchers.base.Launcher`."""
        return self.complete(self.create(launch, listener), launch, listener)

    def complete(self, container: str, launch: Launch, listener: Listener) -> Mapping[str, Any]:
        """Follow a container to its end as :meth:`follow` does, and leave nothing of it behind."""
        result = self.follow(container, launch, listener)
        if self._options.keep != "always":
            self.remove(container)
        return result

    def create(self, launch: Launch, listener: Listener) -> str:
        """Make a stage's container, with all that it reads, and return its id; :meth:`follow` starts it.

        :raises LaunchError: the engine refuses.
        """
        reap(self._engine)
        token = secrets.token_hex(8)
        specification = ContainerSpecification(
            launch=launch,
            options=self._options,
            name=self._options.name or f"pipcook-{token}",
            token=token,
            user=choose_user(self._options, self._engine, (os.getuid(), os.getgid())),
            memory=choose_memory(launch, self._options, self._settings, self._engine),
            pids=self._settings.docker_pids,
            mounts=self._transfer.mounts(launch),
            lease=self._options.lease + self._transfer.patience,
        )
        with self._watched(specification.name):
            container = specification.create(self._engine)
            self._transfer.send(container, launch, listener)
        listener.message(Log("info", f"container {container[:12]} of image {launch.site.image}"))
        return container

    def follow(self, container: str, launch: Launch, listener: Listener) -> Mapping[str, Any]:
        """Start a container, or join one that another launcher has started, and return its stage's result.

        A container whose stage did not end with a result is removed; the caller removes any other.

        :param container: the id that :meth:`create` returned, here or in another process.
        :raises StageError: every other outcome; see :mod:`pipcook_provider.errors`.
        """
        with self._watched(container):
            result = self._follow(container, launch, listener)
            self._transfer.fetch(container, launch)
        return result

    def remove(self, container: str) -> None:
        """Remove a container, whether it runs or not; nothing happens to one that is not there.

        :raises EngineError: the engine refuses, or does not answer.
        """
        remove(self._engine, container)

    def end(self, container: str) -> None:
        """End a container that nobody is to follow; it stays where containers are kept.

        :raises EngineError: the engine refuses, or does not answer.
        """
        self._discard(self._engine, container)

    def end_all(self, workspace: Path) -> None:
        """End the containers that lost workers have left in a workspace, which is about to be made anew.

        Those that do not see it, but copies, do not disturb.

        :raises EngineError: the engine refuses, or does not answer.
        """
        if self._transfer.is_local:
            for container in self.find({WORKSPACE_LABEL: str(workspace)}):
                self.end(container)

    def find(self, labels: Mapping[str, str]) -> list[str]:
        """Return the ids of the containers with all these labels, the newest first.

        :raises EngineError: the engine does not answer.
        """
        wanted = {"label": [f"{name}={value}" for name, value in labels.items()]}
        with self._engine.translated("list its containers"):
            return [found["Id"] for found in self._engine.client.containers(all=True, filters=wanted)]

    def state(self, container: str) -> str | None:
        """Return whether a container is ``created``, ``running``, ``exited`` ...; None for one that is not there.

        One that was ended before its stage could tell a result or an error is ``crashed``.

        :raises EngineError: the engine does not answer.
        """
        with self._engine.translated("find the container"):
            state = ContainerState.inspect(self._engine, container)
        if state is None:
            return None
        return "crashed" if state.status == "exited" and state.exit_code not in (0, 1) else state.status

    def reap(self) -> None:
        """Remove the containers of lost workers whose lease is over.

        :raises EngineError: the engine does not answer.
        """
        reap(self._engine)

    def stop(self) -> None:
        """End the running stage: SIGTERM, and SIGKILL after ``stop_timeout`` seconds; remove its container."""
        self._stopped = True
        if self._container is not None:
            # In a signal handler, this thread may be in the middle of a question to the engine.
            engine = self._engine.twin()
            stop(engine, self._container, self._settings.stop_timeout)
            self._discard(engine, self._container)

    @contextmanager
    def _watched(self, container: str) -> Iterator[None]:
        """Let :meth:`stop` know the container, and leave none behind when something fails."""
        self._container = container
        try:
            if self._stopped:
                raise StageKilled("The stage was stopped from outside before it began.")
            yield
        except BaseException as exc:
            with suppress(LaunchError):
                self._discard(self._engine, container)
            if self._stopped and isinstance(exc, LaunchError):
                raise StageKilled("The stage was stopped from outside.") from exc
            raise
        finally:
            self._container = None

    def _discard(self, engine: Engine, container: str) -> None:
        if self._options.keep == "never":
            remove(engine, container)
        else:
            stop(engine, container, 0)

    def _follow(self, container: str, launch: Launch, listener: Listener) -> Mapping[str, Any]:
        with self._engine.translated("find the container"):
            state = ContainerState.inspect(self._engine, container)
        outcome = Outcome(launch)
        heard = Heard(state.token if state else "", outcome, listener)
        stream = LogStream(self._engine, container, lambda: outcome.closed)
        if state is not None:
            keeper = LeaseKeeper(self._engine.twin(), container, stream, self._options.lease)
            try:
                self._attend(container, launch, state, keeper)
                self._listen(container, stream, heard, outcome)
            finally:
                keeper.leave()
        return Ending(
            outcome=outcome,
            state=stream.state,
            last_lines=heard.last_lines,
            engine_was_lost=stream.engine_was_lost,
            stopped=self._stopped,
            is_local=self._transfer.is_local,
        ).conclude()

    def _attend(self, container: str, launch: Launch, state: ContainerState, keeper: LeaseKeeper) -> None:
        """See to it that a container runs that has not ended."""
        if state.status == "created":
            isolated = choose_network(launch, self._options) == "none"
            keeper.hand_over(self._environment(launch), None if isolated else read_netrc())
            with self._engine.translated(f"start the container of {launch.subject}"):
                self._engine.client.start(container)
        elif state.is_running:
            keeper.take_over()
        else:
            return
        keeper.begin()

    def _listen(self, container: str, stream: LogStream, heard: Heard, outcome: Outcome) -> None:
        lines = {STDOUT: Lines(heard.stdout), STDERR: Lines(heard.stderr)}
        # The stage is over when it says so; threads that user code left behind must not keep it.
        timer = threading.Timer(self._settings.stop_timeout, kill, (self._engine, container))
        timer.daemon = True
        try:
            for number, piece in stream.pieces():
                lines[number].feed(piece)
                if outcome.closed and not timer.ident:
                    timer.start()
        finally:
            timer.cancel()
        for rest in lines.values():
            rest.finish()

    def _environment(self, launch: Launch) -> dict[str, str]:
        worker = worker_environment(self._settings, on_this_machine=False)
        return {**worker, **launch.environment, **self._options.private_environment}
