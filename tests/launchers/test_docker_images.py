"""Which image a stage runs in, what is asked of it, and what is said of a pull. The engine is made up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fake_engine import FakeEngine, image, running

from pipcook_provider import __version__
from pipcook_provider.errors import EngineError, ImageError
from pipcook_provider.launchers.base import Needs
from pipcook_provider.launchers.docker.images import ImageInfo, choose_image, ensure_image
from pipcook_provider.runtime.messages import PROTOCOL, Log, Progress
from pipcook_provider.settings import Settings

TABLE = {
    "cpu": "ours:cpu",
    "tensorflow/cpu": "ours:tf",
    "tensorflow@2/cpu": "ours:tf2",
    "tensorflow@2.21/cpu": "ours:tf2.21",
    "tensorflow@2.21/gpu": "ours:tf2.21-gpu",
}


@pytest.fixture
def fake() -> Iterator[FakeEngine]:
    with running(FakeEngine()) as engine:
        yield engine


def layer(name: str, size: int, *, parts: int) -> list[dict[str, Any]]:
    """Return what an engine tells of a layer that it pulls in so many parts."""
    steps = [{"current": size * part // parts, "total": size} for part in range(1, parts + 1)]
    return [
        {"id": name, "status": "Pulling fs layer", "progressDetail": {}},
        *({"id": name, "status": "Downloading", "progressDetail": step} for step in steps),
        {"id": name, "status": "Download complete", "progressDetail": {}},
        *({"id": name, "status": "Extracting", "progressDetail": step} for step in steps),
        {"id": name, "status": "Pull complete", "progressDetail": {}},
    ]


@pytest.mark.parametrize(
    ("framework", "gpu", "expected"),
    [
        (None, False, "ours:cpu"),
        ("pytorch@2.9", False, "ours:cpu"),
        ("tensorflow", False, "ours:tf"),
        ("tensorflow@1.15", False, "ours:tf"),
        ("tensorflow@2.2", False, "ours:tf2"),
        ("tensorflow@2.210.0", False, "ours:tf2"),
        ("tensorflow@2.21", False, "ours:tf2.21"),
        ("tensorflow@2.21.0", False, "ours:tf2.21"),
        ("tensorflow-text@2.21", False, "ours:cpu"),
        ("tensorflow@2.21.0", True, "ours:tf2.21-gpu"),
        ("tensorflow@2.20", True, f"pipcook-stage:{__version__}-cuda"),
        (None, True, f"pipcook-stage:{__version__}-cuda"),
    ],
)
def test_table_of_images(framework: str | None, gpu: bool, expected: str) -> None:
    """The longest key that covers the framework wins, then the variant's, then the image that is built here."""
    assert choose_image(Needs(framework=framework), Settings(images=TABLE), None, gpu) == expected


def test_image_without_a_table() -> None:
    """Without a table it is the image that make images builds, of this very version."""
    assert (
        choose_image(Needs(framework="tensorflow@2.21"), Settings(), None, False) == f"pipcook-stage:{__version__}-cpu"
    )


def test_stated_images_come_first() -> None:
    """The launcher's own image wins over the document's, that over the table; a document may state one variant only."""
    needs = Needs(framework="tensorflow@2.21", images={"gpu": "document:gpu"})
    settings = Settings(images=TABLE)
    assert choose_image(needs, settings, "stated:1", True) == "stated:1"
    assert choose_image(needs, settings, None, True) == "document:gpu"
    assert choose_image(needs, settings, None, False) == "ours:tf2.21"


def test_image_on_the_engine(fake: FakeEngine, heard) -> None:
    """An image that is there is not asked for at a registry, and what it is stands in its labels."""
    fake.images["ours:1"] = image(labels={"variant": "cuda", "framework": "tensorflow@2.21.0"})
    assert ensure_image(fake.connect(), "ours:1", heard) == ImageInfo(
        reference="ours:1",
        id="sha256:" + "1" * 64,
        platform=("linux", "x64", "py311"),
        protocol=PROTOCOL,
        version="0.1.0",
        variant="cuda",
        baked={"tensorflow@2.21.0": "/opt/pipcook/framework"},
        user="1000",
    )
    assert heard.messages == []
    assert fake.requests("/images/create") == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"Config": {"Labels": None}}, r"none that stages can run in: it has none of them\..*FROM pipcook-stage:"),
        ({"labels": {"python": ""}}, r"none that stages can run in:.*io\.pipcook\.python is ''"),
        ({"labels": {"protocol": "new"}}, r"none that stages can run in:.*io\.pipcook\.protocol is 'new'"),
        ({"labels": {"protocol": "0"}}, rf"speak protocol {PROTOCOL}.*an older.* protocol 0:.*make images"),
        ({"labels": {"protocol": "99", "version": "9.0"}}, r"a newer pipcook-provider, 9\.0, which speaks protocol 99"),
        ({"Architecture": "arm64"}, r"be for x64.*but it is for arm64.*--platform"),
    ],
)
def test_image_that_no_stage_can_run_in(fake: FakeEngine, heard, changes: dict[str, Any], told: str) -> None:
    """An image of another kind, protocol or processor is refused before anything runs in it."""
    fake.images["ours:1"] = image(**changes)
    with pytest.raises(ImageError, match=rf"^The image ours:1 was expected .*{told}") as caught:
        ensure_image(fake.connect(), "ours:1", heard)
    assert not caught.value.retryable


def test_engine_of_another_architecture(heard) -> None:
    """An engine on ARM runs images for ARM."""
    with running(FakeEngine(info={"Architecture": "aarch64"}, images={"a:1": image(Architecture="arm64")})) as fake:
        assert ensure_image(fake.connect(), "a:1", heard).platform == ("linux", "arm64", "py311")


def test_pull_is_told_in_tenths(fake: FakeEngine, heard) -> None:
    """Of a thousand events of a pull a person sees its begin, its tenths and its end."""
    events = [
        {"id": "1", "status": "Pulling from ours"},
        {"id": "base", "status": "Already exists", "progressDetail": {}},
        *({"id": name, "status": "Pulling fs layer", "progressDetail": {}} for name in "abc"),
        *layer("a", 900_000_000, parts=300),
        *layer("b", 100_000_000, parts=200),
        {"id": "c", "status": "Download complete", "progressDetail": {}},
        {"id": "c", "status": "Pull complete", "progressDetail": {}},
        {"status": "Status: Downloaded newer image for ours:1"},
    ]
    fake.registry["ours:1"] = (events, image())
    assert ensure_image(fake.connect(), "ours:1", heard).reference == "ours:1"
    first, *tenths, last = heard.messages
    assert first == Log("info", "pulling image ours:1")
    assert last.text.startswith("pulled image ours:1: 3 layers, 1.0 GB in ")
    assert len(events) > 1000
    assert 2 <= len(tenths) <= 10
    assert all(isinstance(told, Progress) for told in tenths)
    assert [told.value for told in tenths] == sorted({told.value for told in tenths})
    assert tenths[-1] == Progress(1.0, {"pulled": "1.0 GB", "layers": "2 of 3"})


def test_pull_without_sizes(fake: FakeEngine, heard) -> None:
    """An engine that tells no sizes, or what nobody knows, is heard out all the same."""
    events = [
        {"id": "a", "status": "Pulling fs layer"},
        {"id": "a", "status": "Extracting", "progressDetail": {"current": 1, "units": "s"}},
        {"id": "a", "status": "Pull complete", "progressDetail": {}},
        {"id": "b", "status": "Pull complete"},
        {"aux": {"ID": "sha256:1"}},
    ]
    fake.registry["ours:1"] = (events, image())
    ensure_image(fake.connect(), "ours:1", heard)
    assert [message.text[:24] for message in heard.messages] == ["pulling image ours:1", "pulled image ours:1: 1 l"]


def test_forced_pull(fake: FakeEngine, heard) -> None:
    """With force_pull the registry is asked although the image is there, and what it has counts."""
    fake.images["ours:1"] = image()
    fake.registry["ours:1"] = ([{"status": "Status: Image is up to date for ours:1"}], image(Id="sha256:2"))
    assert ensure_image(fake.connect(), "ours:1", heard, force_pull=True).id == "sha256:2"
    assert heard.messages[-1].text.startswith("pulled image ours:1: nothing new in ")


def test_forced_pull_that_fails(fake: FakeEngine, heard) -> None:
    """When the registry is away, the image on the engine is used, with a warning that says so."""
    fake.images["ours:1"] = image()
    fake.pull_refusal = (500, 'Get "https://ours.example/v2/": dial tcp 10.0.0.1:443: connect: connection refused')
    assert ensure_image(fake.connect(), "ours:1", heard, force_pull=True).reference == "ours:1"
    warning = heard.messages[-1]
    assert warning.level == "warning"
    assert warning.text.endswith("The image of that name on the engine is used as it is.")


@pytest.mark.parametrize(
    ("status", "message", "told", "retryable"),
    [
        (404, "manifest for ours:1 not found: manifest unknown", "not found.*Correct the name", False),
        (400, "invalid reference format", "invalid reference format. Correct the name", False),
        (404, "pull access denied for ours, repository does not exist", "denied.*docker login.*docker_conn_id", False),
        (500, 'Head "https://r.example/v2/": unauthorized: authentication required', "docker login", False),
        (500, 'Get "https://r.example/v2/": dial tcp: lookup r.example: no such host', "could not be reached", True),
        (500, "net/http: request canceled (Client.Timeout exceeded)", "could not be reached", True),
        (500, "toomanyrequests: You have reached your pull rate limit", "could not be reached", True),
        (500, "write /var/lib/docker/tmp/x: no space left on device", "docker system prune", False),
        (500, 'Get "https://me:secret@r.example/v2/": unexpected EOF', r"https://\*\*\*@r\.example", True),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
def test_pull_that_fails(
    fake: FakeEngine, heard, status: int, message: str, told: str, retryable: bool, begun: bool
) -> None:
    """What the registry says decides what there is to do, whether it comes at once or after the first layers."""
    if begun:
        fake.registry["ours:1"] = ([*layer("a", 10, parts=1), {"error": message}], None)
    else:
        fake.pull_refusal = (status, message)
    with pytest.raises(ImageError, match=rf"^The image ours:1 .*{told}.*make images.*\[pipcook\] images") as caught:
        ensure_image(fake.connect(), "ours:1", heard)
    assert caught.value.retryable is retryable
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "reference",
    [f"pipcook-stage:{__version__}-cpu", "pipcook-stage", "pipcook-stage@sha256:" + "1" * 64, "sha256:" + "1" * 64],
)
def test_name_that_no_registry_has(fake: FakeEngine, heard, reference: str) -> None:
    """The images that are built here are never asked for at a registry, where the name may be anybody's."""
    with pytest.raises(ImageError, match=r"Run `make images`"):
        ensure_image(fake.connect(), reference, heard)
    assert fake.requests("/images/create") == []
    fake.images[reference] = image()
    assert ensure_image(fake.connect(), reference, heard, force_pull=True).reference == reference
    assert fake.requests("/images/create") == []


def test_name_below_a_registry_of_ones_own(fake: FakeEngine, heard) -> None:
    """The same name in a registry of one's own is pulled from there."""
    fake.registry["registry.example:5000/pipcook-stage:1"] = ([], image())
    ensure_image(fake.connect(), "registry.example:5000/pipcook-stage:1", heard)
    assert len(fake.requests("/images/create")) == 1


def test_pull_that_leaves_nothing(fake: FakeEngine, heard) -> None:
    """A pull that ends without an error and without an image can be tried again."""
    fake.registry["ours:1"] = ([], None)
    with pytest.raises(ImageError, match="after the pull, but it is not there") as caught:
        ensure_image(fake.connect(), "ours:1", heard)
    assert caught.value.retryable


def test_engine_that_goes_away_while_pulling(fake: FakeEngine, heard) -> None:
    """An engine that breaks off its answer is an error of the engine, to be tried again."""
    fake.registry["ours:1"] = (layer("a", 1000, parts=3), None)
    fake.breaks = True
    with pytest.raises(EngineError, match="pull the image ours:1") as caught:
        ensure_image(fake.connect(), "ours:1", heard)
    assert caught.value.retryable
