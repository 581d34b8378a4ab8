"""How a container gets at what its stage reads, and how the worker gets at what the stage wrote."""

from __future__ import annotations

import socket
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

from pipcook_provider.errors import EngineError, LaunchError, ScriptError, WorkspaceError
from pipcook_provider.launchers.base import Launch, Listener
from pipcook_provider.launchers.docker.container import bind, volume
from pipcook_provider.launchers.docker.engine import Engine
from pipcook_provider.launchers.docker.framework import FrameworkVolume
from pipcook_provider.launchers.docker.tar import Owner, Source, pack, read_text, unpack
from pipcook_provider.settings import Settings

if TYPE_CHECKING:
    from docker.types import Mount

_INSIDE_A_CONTAINER = ("/.dockerenv", "/run/.containerenv")


class Transfer(Protocol):
    """A way for files between this machine and a container; both see them at the same paths."""

    #: Whether the container sees this machine's own files, rather than copies.
    is_local: bool
    #: Seconds that a container may have to lie there while files are sent or fetched.
    patience: float

    def mounts(self, launch: Launch) -> list[Mount]:
        """Return what the container of a stage mounts."""

    def send(self, container: str, launch: Launch, listener: Listener) -> None:
        """Bring into a container that was not started what its stage reads.

        :raises LaunchError: something does not arrive.
        """

    def fetch(self, container: str, launch: Launch) -> None:
        """Bring what a stage wrote back from a container that has ended.

        :raises PipcookError: something does not arrive.
        """


class Binds:
    """The engine's machine is this one: containers see this machine's own files."""

    is_local = True
    patience = 0.0

    def mounts(self, launch: Launch) -> list[Mount]:
        """Return the workspace, to be written, and what is only to be read: scripts, framework and data."""
        workspace = launch.workspace
        protected = [workspace / path for path in launch.read_only if (workspace / path).exists()]
        beside = dict(launch.files)
        if framework := mounted_framework(launch):
            beside[framework] = framework.resolve()
        return [
            bind(workspace, workspace, read_only=False),
            *(bind(path, path, read_only=True) for path in protected),
            *(bind(source, target, read_only=True) for target, source in beside.items()),
        ]

    def send(self, container: str, launch: Launch, listener: Listener) -> None:
        """Do nothing: everything is there."""

    def fetch(self, container: str, launch: Launch) -> None:
        """Do nothing: everything is there."""


class Volumes:
    """The engine sees none of this machine's files: copies travel in volumes, which go with their container.

    A framework's volume stays, for the stages that follow.

    :param engine: where the volumes are.
    :raises EngineError: this Python cannot unpack safely what comes back.
    """

    is_local = False
    patience = 3600.0

    def __init__(self, engine: Engine) -> None:
        if not hasattr(tarfile, "data_filter"):
            raise EngineError(
                f"The Docker engine {engine.address} sees none of this worker's files, so they travel as archives. What comes "
                f"back must be unpacked by Python 3.11.4 or newer, but this is {sys.version.split()[0]}. Install a newer one, "
                "or let [pipcook] docker_mounts be bind where the engine sees this worker's folders under the same paths.",
                retryable=False,
            )
        self._engine = engine

    def mounts(self, launch: Launch) -> list[Mount]:
        """Return a volume for each folder that something goes into."""
        # An engine leaves the folder that it unpacks into as it is; the workspace's owner it can set only in the one above.
        folders = {launch.workspace.parent, *(_volume_of(target, source) for target, source in launch.files.items())}
        mounts = [volume(folder) for folder in sorted(folders)]
        if framework := mounted_framework(launch):
            mounts.append(FrameworkVolume(self._engine, framework).mount(read_only=True))
        return mounts

    def send(self, container: str, launch: Launch, listener: Listener) -> None:
        """Copy what the stage reads; it belongs to the container's user."""
        if framework := mounted_framework(launch):
            FrameworkVolume(self._engine, framework).fill(container, str(launch.site.image), listener)
        owner = self._owner(container)
        workspace = launch.workspace
        names = dict.fromkeys((launch.context.as_posix(), *launch.reads, *launch.read_only))
        folders = {parent for name in (*names, *launch.writes) for parent in PurePosixPath(name).parents}
        folders |= set(map(PurePosixPath, launch.writes))
        inside = PurePosixPath(workspace.name)
        self._put(
            container,
            workspace.parent,
            [Source((inside / path).as_posix(), workspace / path, contents=False) for path in sorted(folders)]
            + [Source((inside / name).as_posix(), workspace / name) for name in names],
            owner,
        )
        for target, source in launch.files.items():
            folder = _volume_of(target, source)
            self._put(container, folder, [Source(target.relative_to(folder).as_posix(), source)], owner)

    def fetch(self, container: str, launch: Launch) -> None:
        """Copy what the stage wrote."""
        from docker.errors import NotFound

        for name in launch.writes:
            place = launch.workspace / name
            with self._engine.translated(f"give back {place}"):
                try:
                    chunks, _ = self._engine.client.get_archive(container, str(place))
                except NotFound:
                    # The stage has made none; or somebody has removed the container, which is asked for here.
                    self._engine.client.inspect_container(container)
                    continue
            self._unpack(chunks, place, launch)

    def _unpack(self, chunks: Iterator[bytes], place: Path, launch: Launch) -> None:
        try:
            kept = [launch.workspace / path for path in (launch.context.as_posix(), *launch.read_only)]
            unpack(self._translated(chunks, place), place.parent, kept)
        except tarfile.FilterError as exc:
            raise ScriptError(
                f"{launch.subject} wrote something into {place} that cannot be brought back from its container: {exc}. Only "
                "files, folders, and links that stay within it can."
            ) from exc
        except tarfile.TarError as exc:
            raise LaunchError(
                f"{place} did not come back whole from the container of {launch.subject}: {exc}."
            ) from exc
        except OSError as exc:
            raise WorkspaceError(
                f"{place} was to be written with what {launch.subject} made, but cannot be: {exc}. Look at that disk of this "
                "worker, and run the stage again."
            ) from exc

    def _translated(self, chunks: Iterator[bytes], place: Path) -> Iterator[bytes]:
        with self._engine.translated(f"give back {place}"):
            yield from chunks

    def _put(self, container: str, folder: Path, sources: Iterable[Source], owner: Owner) -> None:
        with self._engine.translated(f"take files for {folder}"):
            self._engine.client.put_archive(container, str(folder), _packed(sources, owner))

    def _owner(self, container: str) -> Owner:
        """Return the numbers of a container's user, whose files those are to be that it can write."""
        with self._engine.translated("describe the container's user"):
            stated = self._engine.client.inspect_container(container)["Config"]["User"] or "0:0"
            user, _, group = stated.partition(":")
            if user.isdecimal() and (group or "0").isdecimal():
                return Owner(int(user), int(group or 0))
            chunks, _ = self._engine.client.get_archive(container, "/etc/passwd")
            known = [line.split(":") for line in read_text(chunks).splitlines()]
        found = next(((entry[2], entry[3]) for entry in known if user in (entry[0], entry[2])), ("0", "0"))
        return Owner(int(found[0]), int(group if group.isdecimal() else found[1]))


def choose_transfer(engine: Engine, settings: Settings) -> Transfer:
    """Return how files travel: as ``[pipcook] docker_mounts`` says, or as the engine is placed.

    An engine that is asked over a network, or from within a container, sees other files than this process.
    """
    mounts = settings.docker_mounts
    return Volumes(engine) if mounts == "volume" or (mounts == "auto" and _is_elsewhere(engine)) else Binds()


def _is_elsewhere(engine: Engine) -> bool:
    if engine.is_remote:
        return True
    contained = any(Path(mark).exists() for mark in _INSIDE_A_CONTAINER)
    return contained and engine.info.get("Name") != socket.gethostname()


def mounted_framework(launch: Launch) -> Path | None:
    """Return the framework that a container has to be given; None where the image brings it along."""
    if launch.framework is None or str(launch.framework) in launch.site.baked.values():
        return None
    return launch.framework


def _packed(sources: Iterable[Source], owner: Owner) -> Iterator[bytes]:
    """Yield an archive; what goes wrong here is nothing that the engine has done."""
    try:
        yield from pack(sources, owner)
    except OSError as exc:
        raise WorkspaceError(
            f"The files that a stage reads were to be sent to its container, but one of them cannot be read: {exc}. Make it "
            "readable for this worker, or look what removes it."
        ) from exc


def _volume_of(target: Path, source: Path) -> Path:
    """Return the folder in the container that a file or folder arrives in."""
    return target if source.is_dir() else target.parent
