"""Which container image a stage runs in, and how it gets onto the engine.

An image that stages can run in says so in its labels, which ``make images`` writes:

==========================  =======================================================================
``io.pipcook.version``      version of the pipcook-provider in it
``io.pipcook.protocol``     version of the message format that this speaks
``io.pipcook.python``       ``3.11``
``io.pipcook.variant``      ``cpu`` or ``cuda``
``io.pipcook.framework``    the framework baked into it, such as ``tensorflow@2.21.0``; missing: none
==========================  =======================================================================
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipcook_provider import __version__
from pipcook_provider.errors import ImageError
from pipcook_provider.launchers.base import Listener, Needs
from pipcook_provider.masking import masked
from pipcook_provider.runtime.messages import PROTOCOL, Log, Progress
from pipcook_provider.settings import Settings
from pipcook_provider.units import show_size

if TYPE_CHECKING:
    from pipcook_provider.launchers.docker.engine import Engine

#: The images that ``make images`` builds. No registry has them: the name there may be anybody's, so it is never pulled.
_REPOSITORY = "pipcook-stage"
_DEFAULT_IMAGES = {"cpu": f"{_REPOSITORY}:{__version__}-cpu", "gpu": f"{_REPOSITORY}:{__version__}-cuda"}

#: What images that stages can run in have, and where.
PYTHON = "/opt/pipcook/bin/python"
_BAKED_FOLDER = "/opt/pipcook/framework"
_ARCHITECTURES = {"amd64": "x64", "x86_64": "x64", "arm64": "arm64", "aarch64": "arm64"}

#: What engines say when they got no answer, or half of one, from a registry: another time they may get it.
_UNREACHABLE = (
    *("dial tcp", "connection re", "no such host", "timeout", "timed out", "deadline exceeded", "broken pipe", "eof"),
    *("toomanyrequests", "too many requests", "bad gateway", "service unavailable", "server misbehaving"),
)
_REFUSED = ("denied", "unauthorized", "authentication required", "no basic auth credentials", "forbidden")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInfo:
    """An image that is on the engine and that stages can run in.

    :param reference: as it was asked for.
    :param id: its digest, ``sha256:...``.
    :param platform: operating system, architecture and Python in it: ``("linux", "x64", "py311")``.
    :param protocol: version of the message format that the pipcook-provider in it speaks.
    :param version: version of that pipcook-provider.
    :param variant: ``cpu`` or ``cuda``.
    :param baked: the framework that it brings along: its folder in the image by its exact reference.
    :param user: whom it runs as, where nobody says; empty for root.
    """

    reference: str
    id: str
    platform: tuple[str, str, str]
    protocol: int
    version: str
    variant: str
    baked: Mapping[str, str] = field(default_factory=dict)
    user: str = ""


def choose_image(needs: Needs, settings: Settings, stated: str | None, gpu: bool) -> str:
    """Return the reference of the image for a stage.

    :param stated: what whoever configured the launcher wants; it wins over the document.
    :param gpu: whether the stage gets a GPU.
    """
    variant = "gpu" if gpu else "cpu"
    if explicit := stated or needs.images.get(variant):
        return explicit
    fitting = [key for key in settings.images if _covers(key, needs.framework or "", variant)]
    return settings.images[max(fitting, key=len)] if fitting else _DEFAULT_IMAGES[variant]


def ensure_image(engine: Engine, reference: str, listener: Listener, *, force_pull: bool = False) -> ImageInfo:
    """Return what the engine knows of an image, which is pulled when it is missing there.

    :param force_pull: ask the registry also when the engine has the image; when that fails, the one there is used.
    :raises ImageError: it is not there and cannot be pulled, or is none that stages can run in.
    :raises EngineError: the engine does not answer.
    """
    found = _inspect(engine, reference)
    if found is None or force_pull:
        try:
            _pull(engine, reference, listener)
        except ImageError as exc:
            if found is None:
                raise
            listener.message(Log("warning", f"{exc} The image of that name on the engine is used as it is."))
        found = _inspect(engine, reference)
    if found is None:
        raise ImageError(
            f"The image {reference} was expected on the Docker engine {engine.address} after the pull, but it is not there: "
            "the pull was cut short, or something removes images there. Try again; if that does not help, look at the "
            "engine's log.",
            retryable=True,
        )
    return _read(engine, reference, found)


def _covers(key: str, framework: str, variant: str) -> bool:
    """Tell whether a key of the table is about a stage: ``tensorflow/gpu`` and ``tensorflow@2.21/gpu`` mean 2.21.0."""
    name, _, key_variant = key.rpartition("/")
    return key_variant == variant and (not name or framework == name or framework.startswith((f"{name}.", f"{name}@")))


def _inspect(engine: Engine, reference: str) -> Mapping[str, Any] | None:
    from docker.errors import ImageNotFound

    with engine.translated(f"look at the image {reference}"):
        try:
            found: Mapping[str, Any] = engine.client.inspect_image(reference)
        except ImageNotFound:
            return None
    return found


def _read(engine: Engine, reference: str, found: Mapping[str, Any]) -> ImageInfo:
    labels = (found.get("Config") or {}).get("Labels") or {}
    said = {name: labels.get(f"io.pipcook.{name}", "") for name in ("version", "protocol", "python", "variant")}
    if not all(said.values()) or not said["protocol"].isdecimal():
        raise ImageError(
            f"The image {reference} was expected to be one that stages can run in, with the labels io.pipcook.* of such "
            f"images, but it is none that stages can run in: {_describe_labels(said)}. Make one of it: begin its "
            f"Dockerfile with FROM {_DEFAULT_IMAGES['cpu']} (`make images` builds that), or name another image in "
            "options.airflow.image or [pipcook] images."
        )
    info = ImageInfo(
        reference=reference,
        id=found["Id"],
        platform=(
            found.get("Os") or "linux",
            _architecture(found.get("Architecture") or ""),
            f"py{said['python'].replace('.', '')}",
        ),
        protocol=int(said["protocol"]),
        version=said["version"],
        variant=said["variant"],
        baked={name: _BAKED_FOLDER} if (name := labels.get("io.pipcook.framework")) else {},
        user=(found.get("Config") or {}).get("User") or "",
    )
    _check(engine, info)
    return info


def _describe_labels(said: Mapping[str, str]) -> str:
    if not any(said.values()):
        return "it has none of them"
    return ", ".join(f"io.pipcook.{name} is {value!r}" for name, value in said.items())


def _check(engine: Engine, info: ImageInfo) -> None:
    if info.protocol != PROTOCOL:
        age = "an older" if info.protocol < PROTOCOL else "a newer"
        raise ImageError(
            f"The image {info.reference} was expected to speak protocol {PROTOCOL}, as this worker's pipcook-provider "
            f"{__version__} does, but it holds {age} pipcook-provider, {info.version}, which speaks protocol "
            f"{info.protocol}: the two would not understand each other. Build it again from the worker's version (`make "
            "images`), or install that of the image on the worker."
        )
    own = _architecture(engine.info.get("Architecture") or "")
    if own and info.platform[1] != own:
        raise ImageError(
            f"The image {info.reference} was expected to be for {own}, the processors of the Docker engine "
            f"{engine.address}, but it is for {info.platform[1]}, so nothing in it can run there. Build or pull it for "
            f"{own} (docker pull --platform), or name another one in options.airflow.image or [pipcook] images."
        )


def _architecture(name: str) -> str:
    return _ARCHITECTURES.get(name, name)


def _pull(engine: Engine, reference: str, listener: Listener) -> None:
    """Get an image from its registry."""
    from docker.errors import APIError, InvalidRepository

    if reference.partition(":")[0].partition("@")[0] in (_REPOSITORY, "sha256"):
        raise ImageError(
            f"The image {reference} was expected on the Docker engine {engine.address}, which does not have it, and it is "
            "in no registry to pull it from. Run `make images` where that engine is, or name another image in "
            "options.airflow.image or [pipcook] images."
        )
    listener.message(Log("info", f"pulling image {reference}"))
    begin, pull = time.monotonic(), _Pull()
    with engine.translated(f"pull the image {reference}"):
        try:
            for step in pull.follow(engine.client.pull(reference, stream=True, decode=True)):
                listener.message(step)
        except APIError as exc:
            raise _not_pulled(engine, reference, exc.explanation or str(exc)) from exc
        except InvalidRepository as exc:
            raise _not_pulled(engine, reference, str(exc)) from exc
    if pull.error:
        raise _not_pulled(engine, reference, pull.error)
    listener.message(Log("info", f"pulled image {reference}: {pull.summary} in {time.monotonic() - begin:.1f} s"))


def _not_pulled(engine: Engine, reference: str, reason: str) -> ImageError:
    known = reason.lower()
    unreachable = not any(word in known for word in _REFUSED) and any(word in known for word in _UNREACHABLE)
    if unreachable:
        remedy = "Its registry could not be reached: try again when it can be"
    elif any(word in known for word in _REFUSED):
        remedy = (
            "Correct the name, or let the engine in: log in with `docker login`, or, in Airflow, name the connection to "
            "the registry in [pipcook] docker_conn_id"
        )
    elif "no space left" in known:
        remedy = "Make room where the engine keeps its images, such as with `docker system prune`"
    else:
        remedy = "Correct the name"
    return ImageError(
        f"The image {reference} was expected on the Docker engine {engine.address} or in its registry, but the engine "
        f"could not pull it: {masked(reason).rstrip('.')}. {remedy}, or build an image with `make images` and name it in "
        "options.airflow.image or [pipcook] images.",
        retryable=unreachable,
    )


class _Pull:
    """What is known of a pull so far: bytes by layer. Each layer's bytes count twice: they come, and are extracted."""

    def __init__(self) -> None:
        self._totals: dict[str, int | None] = {}
        self._come: dict[str, int] = {}
        self._extracted: dict[str, int] = {}
        self._told = 0
        self.error = ""

    @property
    def summary(self) -> str:
        """How much was pulled."""
        if not self._totals:
            return "nothing new"
        layers = f"{len(self._totals)} layer{'s' if len(self._totals) > 1 else ''}"
        return f"{layers}, {show_size(sum(total or 0 for total in self._totals.values()))}"

    def follow(self, events: Iterable[Mapping[str, Any]]) -> Iterable[Progress]:
        """Take what the engine tells, several times a second for each layer; yield each tenth once."""
        for event in events:
            self.error = event.get("error") or self.error
            self._take(event.get("status", ""), event.get("id", ""), event.get("progressDetail") or {})
            tenths = int(10 * self._share())
            if tenths > self._told:
                self._told = tenths
                come = show_size(sum(self._come.values()))
                done = sum(1 for layer, total in self._totals.items() if self._extracted.get(layer) == total)
                yield Progress(tenths / 10, {"pulled": come, "layers": f"{done} of {len(self._totals)}"})

    def _take(self, status: str, layer: str, detail: Mapping[str, Any]) -> None:
        if status == "Pulling fs layer":
            self._totals[layer] = None
        if layer not in self._totals:
            return
        if status in ("Downloading", "Extracting") and detail.get("total", 0) > 0:
            if status == "Downloading":
                self._totals[layer] = detail["total"]
            (self._come if status == "Downloading" else self._extracted)[layer] = detail["current"]
        elif status in ("Download complete", "Pull complete"):
            total = self._totals[layer] = self._totals[layer] or 0
            self._come[layer] = total
            if status == "Pull complete":
                self._extracted[layer] = total

    def _share(self) -> float:
        """Return how much is done, from 0 to 1; the sizes of layers that have to wait are not known yet."""
        known = {layer: total for layer, total in self._totals.items() if total is not None}
        whole = 2 * sum(known.values())
        if not whole:
            return 0
        done = sum(self._come.values()) + sum(self._extracted.values())
        return min(done / whole, 1) * len(known) / len(self._totals)
