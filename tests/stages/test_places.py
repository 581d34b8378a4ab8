"""Where stages run, and beside which framework there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from helpers import write_toy, zipped

from pipcook_provider.errors import FrameworkNotFound, ImageError, IntegrityError
from pipcook_provider.frameworks import FrameworkPin, Platform
from pipcook_provider.launchers import Launch, Listener, Needs, Site
from pipcook_provider.settings import Settings
from pipcook_provider.stages.places import Place, Places, WantedFramework

HERE = Platform.current()
ELSEWHERE = (HERE.os, HERE.arch, "py399")
DEFAULT = "default:1"


@dataclass
class ImageLauncher:
    """An engine with images: what the site is like in each of them. It notes what it was asked for."""

    images: Mapping[str, Mapping[str, Any]]
    asked: list[Needs] = field(default_factory=list)

    def has_gpu(self) -> bool:
        return False

    def open(self, needs: Needs, listener: Listener) -> Site:  # noqa: ARG002 - the protocol's
        self.asked.append(needs)
        image = needs.images.get("cpu", DEFAULT)
        if image not in self.images:
            raise ImageError(f"no {image}")
        here = (HERE.os, HERE.arch, HERE.python)
        return Site(needs=needs, image=image, **{"platform": here, "shares_files": False, **self.images[image]})

    def run(self, launch: Launch, listener: Listener) -> Mapping[str, Any]:
        raise NotImplementedError

    def end_all(self, workspace: Path) -> None:
        self.ended = workspace

    def stop(self) -> None:
        raise NotImplementedError


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """Settings with a folder as the only mirror, and no recipe for what is not there."""
    (tmp_path / "mirror").mkdir()
    return replace(settings, framework_mirror=((tmp_path / "mirror").as_uri(),))


def find(settings: Settings, launcher: ImageLauncher, heard, wanted: WantedFramework | None, **needs: Any) -> Place:
    return Places(settings, launcher, heard).find(Needs(**needs), wanted)


def write_with_images(folder: Path, **images: str) -> WantedFramework:
    """Write the zip of a framework that names its images."""
    path = folder / "made.zip"
    path.write_bytes(zipped(images=images))
    return WantedFramework(reference=str(path), gpu=False)


def test_no_framework(settings, heard) -> None:
    """A stage without a framework needs the site alone."""
    place = find(settings, ImageLauncher({DEFAULT: {}}), heard, None, memory=5)
    assert place.site.needs == Needs(memory=5)
    assert (place.reference, place.folder, place.framework) == (None, None, None)
    assert heard.messages == []


def test_framework_of_the_cache(settings, heard, tmp_path) -> None:
    """The framework is unpacked once; its folder is said without links where the stage may not see these."""
    toy = write_toy(tmp_path)
    places = [
        find(settings, ImageLauncher({DEFAULT: {}}), heard, WantedFramework(reference=toy, gpu=False)) for _ in "12"
    ]
    assert places[0].folder == places[1].folder
    assert places[0].folder == places[0].folder.resolve()
    assert (places[0].folder / "site-packages" / "toy.py").is_file()
    assert places[0].reference == toy
    assert heard.messages[-1].text == f"framework {toy} at {places[0].framework.path}"


def test_shared_files_keep_their_path(settings, heard, tmp_path) -> None:
    """A process of this machine sees the framework where it is."""
    toy = write_toy(tmp_path)
    launcher = ImageLauncher({DEFAULT: {"shares_files": True, "platform": None}})
    place = find(settings, launcher, heard, WantedFramework(reference=toy, gpu=False))
    assert place.framework is not None
    assert place.folder == place.framework.path


def test_frameworks_image_is_used(settings, heard, tmp_path) -> None:
    """An image that framework.json names goes before the launcher's own."""
    wanted = write_with_images(tmp_path, cpu="made-for-it:1")
    launcher = ImageLauncher({DEFAULT: {}, "made-for-it:1": {}})
    assert find(settings, launcher, heard, wanted).site.image == "made-for-it:1"
    assert [needs.images for needs in launcher.asked] == [{}, {"cpu": "made-for-it:1"}]


def test_frameworks_image_needs_no_other(settings, heard, tmp_path) -> None:
    """Where the default image is missing and the framework names one, nobody misses the default."""
    wanted = write_with_images(tmp_path, cpu="made-for-it:1")
    place = find(settings, ImageLauncher({"made-for-it:1": {}}), heard, wanted)
    assert place.site.image == "made-for-it:1"
    assert place.framework is not None


def test_image_of_the_document_wins(settings, heard, tmp_path) -> None:
    """A document that names an image gets it, whatever framework.json says."""
    wanted = write_with_images(tmp_path, cpu="made-for-it:1")
    place = find(settings, ImageLauncher({"mine:1": {}}), heard, wanted, images={"cpu": "mine:1"})
    assert place.site.image == "mine:1"
    assert place.site.needs.images == {"cpu": "mine:1"}


def test_missing_image_is_told(settings, heard, tmp_path) -> None:
    """A missing image that no framework replaces is the error of that image, also when the framework's is missing too."""
    with pytest.raises(ImageError, match=f"no {DEFAULT}"):
        find(settings, ImageLauncher({}), heard, WantedFramework(reference=write_toy(tmp_path), gpu=False))
    wanted = write_with_images(tmp_path, cpu="made-for-it:1")
    with pytest.raises(ImageError, match="no made-for-it:1"):
        find(settings, ImageLauncher({}), heard, wanted)
    with pytest.raises(ImageError, match="no mine:1"):
        find(settings, ImageLauncher({DEFAULT: {}}), heard, wanted, images={"cpu": "mine:1"})


def test_framework_is_for_the_images_platform(settings, heard, tmp_path) -> None:
    """Frameworks are for the Python in the image, which need not be this worker's."""
    toy = write_toy(tmp_path)
    launcher = ImageLauncher({DEFAULT: {"platform": ELSEWHERE}})
    place = find(settings, launcher, heard, WantedFramework(reference=toy, gpu=False))
    assert place.framework is not None
    assert place.framework.platform == Platform(*ELSEWHERE)
    assert Places(settings, launcher, heard).platform(Needs()) == Platform(*ELSEWHERE)


def test_frameworks_image_has_another_platform(settings, heard, tmp_path) -> None:
    """When the image that a framework names has another Python, the framework for that one is got."""
    mirror = tmp_path / "mirror"
    for python, image in ((HERE.python, "made-for-it:1"), ("py399", "made-for-it:1")):
        (mirror / python).mkdir()
        name = f"toy@1.2.3-{HERE.os}-{HERE.arch}.zip"
        platform = f"{python}-{HERE.os}-{HERE.arch}"
        (mirror / python / name).write_bytes(zipped(images={"cpu": image}, platform=platform))
    launcher = ImageLauncher({DEFAULT: {}, "made-for-it:1": {"platform": ELSEWHERE}})
    place = find(settings, launcher, heard, WantedFramework(reference="toy@1.2.3", gpu=False))
    assert place.framework is not None
    manifest = json.loads((place.framework.path / "framework.json").read_text(encoding="utf-8"))
    assert manifest["platform"] == f"py399-{HERE.os}-{HERE.arch}"
    assert place.framework.platform == Platform(*ELSEWHERE)


BAKED = {DEFAULT: {"baked": {"toy@1.2.3": "/opt/pipcook/framework"}}}


@pytest.mark.parametrize("asked", ["toy", "toy@1", "toy@1.2", "toy@1.2.3"])
def test_baked_framework_answers(settings, heard, asked: str) -> None:
    """A framework of the image answers to each name that means it; this worker gets none."""
    place = find(settings, ImageLauncher(BAKED), heard, WantedFramework(reference=asked, gpu=False))
    assert (place.reference, place.folder) == ("toy@1.2.3", Path("/opt/pipcook/framework"))
    assert place.framework is None
    assert heard.messages[-1].text == f"framework toy@1.2.3 of the image {DEFAULT}"
    assert not (settings.home / "framework").exists()


@pytest.mark.parametrize("asked", ["toy@1.3", "toy@2", "toys@1.2.3", "toy@1.2.30"])
def test_baked_framework_does_not_answer(settings, heard, asked: str) -> None:
    """Another version or name is got from elsewhere, or is told as missing."""
    with pytest.raises(FrameworkNotFound):
        find(settings, ImageLauncher(BAKED), heard, WantedFramework(reference=asked, gpu=False))


def test_baked_framework_is_no_path(settings, heard, tmp_path) -> None:
    """A document that names a file gets that file's framework."""
    toy = write_toy(tmp_path)
    place = find(settings, ImageLauncher(BAKED), heard, WantedFramework(reference=toy, gpu=False))
    assert place.reference == toy


def test_pinned_framework_is_never_baked(settings, heard, tmp_path) -> None:
    """What a lock names is got and compared; nobody can tell what an image holds."""
    folder = tmp_path / "mirror" / HERE.python
    folder.mkdir()
    (folder / f"toy@1.2.3-{HERE.os}-{HERE.arch}.zip").write_bytes(zipped())
    unpinned = WantedFramework(reference="toy@1.2.3", gpu=False)
    framework = find(settings, ImageLauncher({DEFAULT: {}}), heard, unpinned).framework
    assert framework is not None
    pinned = replace(unpinned, pin=FrameworkPin.of(framework))
    place = find(settings, ImageLauncher(BAKED), heard, pinned)
    assert place.framework is not None
    assert place.folder == framework.path.resolve()
    with pytest.raises(IntegrityError):
        find(settings, ImageLauncher(BAKED), heard, replace(unpinned, pin=FrameworkPin(archive="0" * 64)))


@pytest.mark.parametrize(("outlives", "kept"), [(0, False), (600, True)])
def test_framework_is_kept_for_what_outlives_this_process(
    settings, heard, tmp_path, outlives: float, kept: bool
) -> None:
    """A framework that a container may use after this process is gone is marked as used for as long."""
    wanted = WantedFramework(reference=write_toy(tmp_path), gpu=False)
    find(settings, ImageLauncher({DEFAULT: {"outlives": outlives}}), heard, wanted)
    marks = [path for path in settings.home.rglob("*") if path.name.endswith(f"~{outlives}")]
    assert bool(marks) is kept
