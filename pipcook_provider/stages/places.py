"""Where a stage runs, and the framework that it runs beside there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pipcook_provider.errors import ImageError
from pipcook_provider.frameworks import Framework, FrameworkPin, Platform, ensure_framework, keep_framework
from pipcook_provider.frameworks.reference import NameReference, parse_reference
from pipcook_provider.launchers import Launcher, Listener, Needs, Site
from pipcook_provider.settings import Settings
from pipcook_provider.stages.listening import ListenerReport


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedFramework:
    """The framework that a stage is to run beside.

    :param reference: such that it means the same from anywhere.
    :param gpu: whether it is the GPU variant.
    :param pin: what it must be.
    :param refresh: whether it is fetched again although it is cached.
    :param verify: whether each of its files is looked at.
    """

    reference: str
    gpu: bool
    pin: FrameworkPin | None = None
    refresh: bool = False
    verify: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A site, and the framework there.

    :param reference: the framework's exact reference; None where there is none.
    :param folder: its directory, as a stage sees it.
    :param framework: the framework on this machine; None for one that an image brings along.
    """

    site: Site
    reference: str | None = None
    folder: Path | None = None
    framework: Framework | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """Finds places."""

    settings: Settings
    launcher: Launcher
    listener: Listener

    def find(self, needs: Needs, wanted: WantedFramework | None) -> Place:
        """Return a place for a stage; whatever it takes is there then.

        :raises LaunchError: no place has what the stage needs.
        :raises PipcookError: the framework cannot be had; see :func:`~pipcook_provider.frameworks.ensure_framework`.
        """
        if wanted is None:
            return Place(self.launcher.open(needs, self.listener))
        try:
            site = self.launcher.open(needs, self.listener)
        except ImageError:
            named = self._ensure(wanted, None).images
            if not named.keys() - needs.images.keys():
                raise
            needs = replace(needs, images={**named, **needs.images})
            site = self.launcher.open(needs, self.listener)
        baked = _baked(wanted, site)
        if baked is not None:
            self._tell(f"framework {baked} of the image {site.image}")
            return Place(site, baked, Path(site.baked[baked]))
        framework = self._ensure(wanted, site)
        if not site.shares_files and framework.images.keys() - needs.images.keys():
            site = self.launcher.open(replace(needs, images={**framework.images, **needs.images}), self.listener)
            framework = self._ensure(wanted, site)
        if site.outlives:
            keep_framework(framework.path, site.outlives)
        self._tell(f"framework {framework.reference} at {framework.path}")
        folder = framework.path if site.shares_files else framework.path.resolve()
        return Place(site, framework.reference, folder, framework)

    def platform(self, needs: Needs) -> Platform | None:
        """Return what frameworks must have been built for where a stage runs; None for what this process runs on.

        :raises LaunchError: no place has what the stage needs.
        """
        return _platform(self.launcher.open(needs, self.listener))

    def _ensure(self, wanted: WantedFramework, site: Site | None) -> Framework:
        return ensure_framework(
            wanted.reference,
            self.settings,
            gpu=wanted.gpu,
            refresh=wanted.refresh,
            verify=wanted.verify,
            pin=wanted.pin,
            report=ListenerReport(self.listener),
            platform=_platform(site) if site else None,
        )

    def _tell(self, text: str) -> None:
        ListenerReport(self.listener).info(text)


def _platform(site: Site) -> Platform | None:
    return Platform(*site.platform) if site.platform else None


def _baked(wanted: WantedFramework, site: Site) -> str | None:
    """Return the exact reference of the image's own framework that answers; what is pinned is never taken from an image."""
    if not site.baked or wanted.pin is not None:
        return None
    asked = parse_reference(wanted.reference)
    if not isinstance(asked, NameReference):
        return None
    for reference in site.baked:
        name, _, version = reference.partition("@")
        if name == asked.name and asked.accepts(version):
            return reference
    return None
