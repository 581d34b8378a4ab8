"""What stages need of the place where they run, and which files they may see there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipcook_provider.launchers import Needs
from pipcook_provider.plan import plan
from pipcook_provider.runtime.messages import Log
from pipcook_provider.spec import load_pipeline_spec
from pipcook_provider.stages.needs import named_files, stage_needs


def needs_of(document: Path) -> dict[str, Needs]:
    spec = load_pipeline_spec(document)
    return {stage.task_id: stage_needs(spec, stage) for stage in plan(spec)}


def test_what_stages_need_by_default(write_pipeline) -> None:
    """Only the datasource has the network, only the model GPUs, and only when the document asks for some."""
    needs = needs_of(write_pipeline(options={"framework": "toy@1", "train": {"gpu": True}}))
    assert {name for name, found in needs.items() if found.network} == {"datasource"}
    assert {name: found.gpus for name, found in needs.items() if found.gpus} == {"model": 1}
    assert {found.framework for found in needs.values()} == {"toy@1"}
    assert {(found.memory, len(found.images)) for found in needs.values()} == {(None, 0)}
    assert needs_of(write_pipeline())["model"].gpus == 0


@pytest.mark.parametrize(("gpu", "gpus", "required"), [("true", 1, True), ("auto", 1, False), (False, 0, True)])
def test_gpu_is_required_or_welcome(write_pipeline, gpu: object, gpus: int, required: bool) -> None:
    """options.train.gpu says whether the model must have a GPU; how many, options.airflow.gpus."""
    model = needs_of(write_pipeline(options={"train": {"gpu": gpu}}))["model"]
    assert (model.gpus, model.gpu_required) == (gpus, required)
    model = needs_of(write_pipeline(options={"train": {"gpu": gpu}, "airflow": {"gpus": 2}}))["model"]
    assert model.gpus == 2 * gpus


def test_document_has_its_way(write_pipeline) -> None:
    """What is said of a task wins over what is said of its role, and that over what is said of all."""
    airflow: Mapping[str, Any] = {
        "image": "all:1",
        "network": False,
        "memory": "1GB",
        "stages": {
            "dataflow": {"memory": "2GB", "image": {"gpu": "flow:1"}},
            "dataflow_2": {"memory": "3GB", "network": "inside", "gpu": True},
            "model": {"gpu": False},
        },
    }
    document = write_pipeline(
        dataflow=["dataflow.py", "dataflow.py"], options={"train": {"gpu": True}, "airflow": airflow}
    )
    needs = needs_of(document)
    everywhere = {"cpu": "all:1", "gpu": "all:1"}
    assert needs["datasource"] == Needs(gpu_required=True, memory=10**9, images=everywhere)
    assert needs["model"] == needs["datasource"]
    assert (needs["dataflow_1"].memory, needs["dataflow_1"].network) == (2 * 10**9, False)
    assert needs["dataflow_1"].images == {"cpu": "all:1", "gpu": "flow:1"}
    assert (needs["dataflow_2"].memory, needs["dataflow_2"].network, needs["dataflow_2"].gpus) == (
        3 * 10**9,
        "inside",
        1,
    )


def test_network_for_all(write_pipeline) -> None:
    """A document opens the network to all its stages at once."""
    needs = needs_of(write_pipeline(options={"train": {}, "airflow": {"network": True}}))
    assert {found.network for found in needs.values()} == {True}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The folder of a document, with data in it."""
    folder = tmp_path / "here"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "a.csv").write_text("1", encoding="utf-8")
    return folder


def found(value: object, here: Path, heard, *folders: Path, origin: str = "") -> Mapping[Path, Path]:
    return named_files({"url": value}, origin or str(here / "pipeline.json"), folders, heard)


@pytest.mark.parametrize(
    "text", ["data/a.csv", "./data/a.csv", "data/../data/a.csv", "{here}/data/a.csv", "file://{here}/data/a.csv"]
)
def test_files_beside_the_document_are_shown(here: Path, heard, text: str) -> None:
    """A file is shown where a script looks for it, however it is written."""
    path = here / "data" / "a.csv"
    assert found(text.format(here=here), here, heard) == {path: path}
    assert heard.messages == []


def test_files_are_found_in_nested_values(here: Path, heard) -> None:
    """Lists and objects of parameters may name files, and folders are shown as a whole."""
    value = {"train": ["data/a.csv", 3, None], "more": {"deep": "data"}}
    assert set(found(value, here, heard)) == {here / "data" / "a.csv", here / "data"}


def test_documents_origin_may_be_a_url(here: Path, heard) -> None:
    """A document from a file: URL is where that says; one from the network has no folder of its own here."""
    path = here / "data" / "a.csv"
    assert found("data/a.csv", here, heard, origin=(here / "pipeline.json").as_uri()) == {path: path}
    assert found("data/a.csv", here, heard, origin="https://a.test/pipeline.json") == {}
    assert heard.messages == []
    assert found(str(path), here, heard, here, origin="https://a.test/pipeline.json") == {path: path}
    assert found(str(path), here, heard, origin="https://a.test/pipeline.json") == {}
    assert len(heard.messages) == 1


@pytest.mark.parametrize(
    "text", ["/etc/hostname", "file:///etc/hostname", "../secret.txt", "./link.txt", "data/../../secret.txt"]
)
def test_files_elsewhere_are_not_shown(here: Path, heard, text: str) -> None:
    """What lies on the worker beside the document's folder stays unseen, through links too."""
    (here.parent / "secret.txt").write_text("secret", encoding="utf-8")
    (here / "link.txt").symlink_to(here.parent / "secret.txt")
    assert found(text, here, heard) == {}
    (message,) = heard.messages or [Log("warning", "docker_data")]
    assert message.level == "warning"
    assert "docker_data" in message.text


def test_files_elsewhere_are_told(here: Path, heard) -> None:
    """Whoever names a file that is not shown hears which one, where it lies, and what to do."""
    found("/etc/hostname", here, heard)
    (message,) = heard.messages
    assert message.text.startswith(
        "'/etc/hostname' names /etc/hostname, which lies neither in the document's folder nor"
    )
    assert "add its folder to that option" in message.text


def test_folders_of_the_settings_are_shown(here: Path, heard, tmp_path: Path) -> None:
    """[pipcook] docker_data opens folders of the worker; what links in them lead out of them stays closed."""
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "b.csv").write_text("2", encoding="utf-8")
    (shared / "out").symlink_to("/etc/hostname")
    (tmp_path / "linked").symlink_to(shared)
    assert found(str(shared / "b.csv"), here, heard, shared) == {shared / "b.csv": shared / "b.csv"}
    linked = tmp_path / "linked" / "b.csv"
    assert found(str(linked), here, heard, shared) == {linked: shared / "b.csv"}
    assert found(str(shared / "out"), here, heard, shared) == {}


@pytest.mark.parametrize(
    "value",
    ["", "no such file", "x" * 300, "x/" * 600, "a\0b", "https://a.test/a.csv", "file://[", "//[", "\ud800", 7, None],
)
def test_texts_that_are_no_files(here: Path, heard, value: object) -> None:
    """Parameters of any kind do no harm, such as a long text, and nobody is bothered with them."""
    assert found(value, here, heard) == {}
    assert heard.messages == []


def test_folders_that_cannot_be_entered(here: Path, heard) -> None:
    """What this worker itself cannot see is not shown, and no error."""
    (here / "file").write_text("", encoding="utf-8")
    (here / "loop").symlink_to("loop")
    assert found(["file/below", "loop", "loop/below"], here, heard) == {}
