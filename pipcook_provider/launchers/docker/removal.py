"""The ends of containers: those that a launcher wants, and those of workers that are lost."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from pipcook_provider.launchers.docker.container import LEASE_LABEL
from pipcook_provider.launchers.docker.engine import Engine

_NEVER = "0001-"


def reap(engine: Engine) -> None:
    """Remove containers that have ended, or were never started, and whose lease is over by the engine's clock.

    :raises EngineError: the engine does not answer.
    """
    from docker.errors import APIError

    with engine.translated("remove what lost workers left behind"):
        wanted = {"label": LEASE_LABEL, "status": ["created", "exited", "dead"]}
        found = engine.client.containers(all=True, quiet=True, filters=wanted)
        if not found:
            return
        now = _read_time(engine.client.info()["SystemTime"])
        for container in found:
            try:
                if _is_over(engine.client.inspect_container(container["Id"]), now):
                    engine.client.remove_container(container["Id"], v=True)
            except APIError:
                # Another worker was faster, or has just started it.
                continue


def stop(engine: Engine, container: str, timeout: float) -> None:
    """End what runs in a container: SIGTERM, and SIGKILL after ``timeout`` seconds.

    :raises EngineError: the engine refuses, or does not answer.
    """
    from docker.errors import NotFound

    with engine.translated("stop the container"), suppress(NotFound):
        engine.client.stop(container, timeout=round(timeout))


def kill(engine: Engine, container: str) -> None:
    """End what runs in a container at once, if that can be; from a thread of its own."""
    from docker.errors import DockerException

    with suppress(DockerException, OSError):
        engine.twin().client.kill(container)


def remove(engine: Engine, container: str) -> None:
    """Remove a container, whether it runs or not; nothing happens to one that is not there.

    :raises EngineError: the engine refuses, or does not answer.
    """
    from docker.errors import APIError, NotFound

    with engine.translated("remove the container"), suppress(NotFound):
        try:
            engine.client.remove_container(container, v=True, force=True)
        except APIError as exc:
            if "is already in progress" not in str(exc.explanation):
                raise


def _is_over(inspected: dict[str, Any], now: datetime) -> bool:
    finished = inspected["State"]["FinishedAt"]
    since = inspected["Created"] if finished.startswith(_NEVER) else finished
    try:
        lease = timedelta(seconds=float(inspected["Config"]["Labels"][LEASE_LABEL]))
    except (ValueError, OverflowError):
        # No launcher wrote that; anybody's image may bring a label of this name.
        return False
    return now - _read_time(since) > lease


def _read_time(text: str) -> datetime:
    """Return a time as engines write it: with nanoseconds, which Python does not have."""
    second, _, rest = text.partition(".")
    zone = rest.lstrip("0123456789") if rest else ""
    return datetime.fromisoformat(f"{second}{zone}".replace("Z", "+00:00"))
