"""What the end of a container means."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipcook_provider.errors import LaunchError, StageCrashed, StageError, WorkspaceError
from pipcook_provider.launchers.base import Outcome
from pipcook_provider.launchers.docker.container import ContainerState, temporary_size
from pipcook_provider.runtime.lease import LEASE_ENDED, NO_WORKSPACE, NOT_HANDED_OVER
from pipcook_provider.units import show_size

_DISK_FULL = "No space left on device"
_NO_NETWORK = ("Temporary failure in name resolution", "Name or service not known", "Network is unreachable")
_NO_PROCESSOR = "no installed package offers the artifact processor"
_NEARLY_FULL = 2**24


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a container ended.

    :param outcome: what is known from its messages.
    :param state: what the engine says of it; None when it is gone.
    :param last_lines: the end of its output.
    :param engine_was_lost: whether the engine could not be reached in between.
    :param stopped: whether the launcher itself ended it.
    :param is_local: whether the workspace on this machine is the one that the container writes to.
    """

    outcome: Outcome
    state: ContainerState | None
    last_lines: str
    engine_was_lost: bool
    stopped: bool
    is_local: bool

    def conclude(self) -> Mapping[str, Any]:
        """Return the result, or raise what happened instead."""
        outcome = self.outcome
        if self.state and outcome.failure and (reason := self._reason(outcome.failure.message, self.state)):
            # What the container cannot have now it cannot have when it is tried again.
            outcome.failure = replace(outcome.failure, message=f"{outcome.failure.message}\n{reason}", retryable=False)
        decided = outcome.failure or (outcome.result is not None and outcome.closed)
        if not decided and not self.stopped and (error := self._broken_off()):
            raise error
        exit_code = self.state.exit_code if self.state else 0
        signalled = 128 < exit_code < 193
        return outcome.conclude(128 - exit_code if signalled else exit_code, self.last_lines, stopped=self.stopped)

    def _broken_off(self) -> Exception | None:
        """Return what is known of an end without a result, beside its exit status."""
        subject, state = self.outcome.launch.subject, self.state
        if state is None:
            return StageCrashed(
                f"{subject} was expected to end with a result, but its container is gone from the engine: "
                f"{self._restarted() or 'somebody removed it'}. Its outputs are discarded; run it again."
            )
        if state.out_of_memory:
            return StageCrashed(
                f"{subject} needed more memory than its container may use, {show_size(state.memory)}, and was ended; its "
                "outputs are discarded. Give it more in options.airflow.memory (in options.airflow.stages, where it has one of "
                "its own), or all stages in [pipcook] docker_memory; or let it need less, such as by a smaller batch."
                f"{self._told()}"
            )
        if not self.outcome.opened and state.exit_code in (NO_WORKSPACE, NOT_HANDED_OVER):
            return self._unsettled(state.exit_code)
        if state.exit_code == LEASE_ENDED:
            return StageCrashed(
                f"{subject} ended itself: no worker had asked for it for as long as its lease says. The worker was lost, or "
                f"did not reach the engine. Its outputs are discarded; run it again.{self._told()}"
            )
        if reason := self._restarted() or self._terminated(state):
            return StageCrashed(
                f"{subject}: its container ended without a result: {reason}. Its outputs are discarded; run it again."
                f"{self._told()}"
            )
        return None

    def _unsettled(self, exit_code: int) -> StageError | WorkspaceError:
        launch = self.outcome.launch
        if exit_code == NOT_HANDED_OVER:
            return LaunchError(f"{launch.subject} could not be started.{self._told()}")
        return WorkspaceError(
            f"The run's folder {launch.workspace} was expected to be there for the container of {launch.subject}, to read "
            f"and to write, but it is not:\n{self.last_lines}\nNothing was run. Give the folder to that user (chown), or "
            "name its owner as the container's user; where the engine sees other files than the worker, set [pipcook] "
            "docker_mounts to volume."
        )

    def _restarted(self) -> str:
        return (
            "the engine could not be reached for a while, most likely it was restarted" if self.engine_was_lost else ""
        )

    @staticmethod
    def _terminated(state: ContainerState) -> str:
        if state.exit_code != 128 + signal.SIGTERM:
            return ""
        return "it was ended by SIGTERM; somebody stopped it, or stopped or restarted the engine"

    def _told(self) -> str:
        return f"\nLast lines of its output:\n{self.last_lines}" if self.last_lines else ""

    def _reason(self, message: str, state: ContainerState) -> str:
        """Return what a script's error has to do with its container, which the script cannot know; empty for nothing."""
        if _DISK_FULL in message:
            return self._full_disk(state)
        if not state.has_network and any(text in message for text in _NO_NETWORK):
            return (
                "Its container has no network; by default only the datasource's has. Fetch the data there, or give this stage "
                'a network: "network": true in options.airflow.stages.'
            )
        if _NO_PROCESSOR in message:
            return (
                f"It was looked for in the image {self.outcome.launch.site.image}. Install that package in an image of yours "
                "(docker/README.md), and name it in options.airflow.image or [pipcook] images."
            )
        return ""

    def _full_disk(self, state: ContainerState) -> str:
        workspace = self.outcome.launch.workspace
        temporary = f"/tmp in the container holds {show_size(temporary_size(state.memory))}, in memory"  # noqa: S108
        if not self.is_local:
            return f"Full is either the engine's disk, where {workspace} lies in a volume, or /tmp: {temporary}."
        free = shutil.disk_usage(workspace).free
        if free < _NEARLY_FULL:
            return f"Full is the disk of the run's folder {workspace}: make room there."
        return (
            f"The disk of the run's folder {workspace} has {show_size(free)} left, so full is most likely /tmp: {temporary}. "
            "Write large files into context.workspace.cache_dir, or raise options.airflow.memory."
        )
