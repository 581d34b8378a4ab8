"""Documents, linted with what is known of the files, servers and settings around them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from http_server import Server, serving

from pipcook_provider.cli import main
from pipcook_provider.linting import Document, find_documents, lint_documents
from pipcook_provider.settings import Settings
from pipcook_provider.spec.folder import DEFAULTS_NAME
from pipcook_provider.spec.lint import Finding
from pipcook_provider.store import fetch

DECLARING = """
PARAMETERS = {"epochs": "how often", "rate": "how fast"}

def train(runtime, options, context): ...
"""


def write(path: Path, document: Any = None, **changes: Any) -> Path:
    """Write a small pipeline, or a document."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = document or {"specVersion": "2.0", "datasource": "datasource.py", "model": "model.py", **changes}
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with scripts that offer what their stages call."""
    folder = tmp_path / "dags"
    folder.mkdir()
    (folder / "datasource.py").write_text("def datasource(options, context): ...\n", encoding="utf-8")
    (folder / "model.py").write_text("def train(runtime, options, context): ...\n", encoding="utf-8")
    return folder


def lint(path: Path, settings: Settings, *, online: bool = False) -> list[Finding]:
    return lint_documents(find_documents([path]), settings, online=online)


def told(path: Path, settings: Settings, *, online: bool = False) -> list[tuple[str, str]]:
    """Return level and path of what lint tells."""
    return [(finding.level, finding.problem.path) for finding in lint(path, settings, online=online)]


def test_good_document(folder, settings) -> None:
    """Of a pipeline whose scripts are there and offer what is called, nothing is told."""
    assert lint(write(folder / "p.json"), settings) == []


@pytest.mark.parametrize(
    ("script", "text", "words"),
    [
        ("gone.py", None, ["expected to be a file on this machine", "gone.py"]),
        ("other.py", "def fit(): ...\n", ["defines no 'train'"]),
        ("broken.py", "def train(:\n", ["not valid Python at line 1", "broken.py"]),
        (f"model.py#sha256={64 * '0'}", None, ["SHA-256"]),
    ],
)
def test_script_that_cannot_work(folder, settings, script: str, text: str | None, words: list[str]) -> None:
    """A local script that is not there, is another one, is no Python, or lacks its function is an error at its place."""
    if text is not None:
        (folder / script).write_text(text, encoding="utf-8")
    (finding,) = lint(write(folder / "p.json", model=script), settings)
    assert (finding.level, finding.problem.path, finding.problem.line) == ("error", "$.model", 4)
    assert [word for word in words if word not in finding.problem.message] == []


def test_script_in_two_roles(folder, settings) -> None:
    """A script is looked at once for each role, and told where it lacks the function of that role."""
    document = write(folder / "p.json", dataflow=["datasource.py", "model.py"])
    assert told(document, settings) == [("error", "$.dataflow[0]"), ("error", "$.dataflow[1]")]


def test_javascript_is_only_looked_for(folder, settings) -> None:
    """Of a script in JavaScript it is known whether it is there."""
    (folder / "model.js").write_text("const train = () => {}", encoding="utf-8")
    assert lint(write(folder / "p.json", model="model.js"), settings) == []
    assert told(write(folder / "p.json", model="gone.js"), settings) == [("error", "$.model")]


def test_parameters_that_a_script_does_not_know(folder, settings) -> None:
    """Where a script declares its parameters, others are warned of, with the nearest one; those of the stages are not."""
    (folder / "model.py").write_text(DECLARING, encoding="utf-8")
    document = write(
        folder / "p.json",
        datasource="datasource.py?anything=1",
        model="model.py?epoch=3",
        options={"train": {"rate": 1, "gpu": "auto", "batch_size": 4}},
    )
    query, train = lint(document, settings)
    assert (query.level, query.problem.path) == ("warning", "$.model")
    assert 'does not know the parameter "epoch"' in query.problem.message
    assert 'Did you mean "epochs"?' in query.problem.message
    assert (train.level, train.problem.path) == ("warning", "$.options.train.batch_size")
    assert "It takes epochs, rate." in train.problem.message


def test_declared_parameter_is_no_slip(folder, settings) -> None:
    """What a script declares is not taken for a slip of what other scripts call it."""
    document = write(folder / "p.json", options={"train": {"batch_size": 4}})
    assert told(document, settings) == [("warning", "$.options.train.batch_size")]
    (folder / "model.py").write_text('PARAMETERS = {"batch_size": "rows"}\ndef train(*_): ...\n', encoding="utf-8")
    assert lint(document, settings) == []


def test_script_without_parameters(folder, settings) -> None:
    """A script that declares to take no parameters takes none."""
    (folder / "datasource.py").write_text("PARAMETERS = {}\ndef datasource(*_): ...\n", encoding="utf-8")
    (finding,) = lint(write(folder / "p.json", datasource="datasource.py?url=a.zip"), settings)
    assert "It takes none" in finding.problem.message


def test_folder(folder, settings, tmp_path) -> None:
    """In a folder, documents are found below it, other JSON files and those of runs are left alone."""
    write(folder / "a" / "p.json")
    write(folder / "package.json", {"name": "x"})
    write(folder / "run" / "pipeline-config.json")
    write(folder / "run" / "model" / "pipeline.json")
    (folder / "run" / ".pipcook-workspace").touch()
    assert find_documents([folder]) == [Document(folder / "a" / "p.json", "a.p")]
    assert told(folder, settings) == [("error", "$.datasource"), ("error", "$.model")]


def test_files_that_are_named(folder, tmp_path) -> None:
    """A file that is named is linted whatever it is, unless others are to be skipped; folder defaults always are."""
    other = write(folder / "package.json", {"name": "x"})
    defaults = write(folder / DEFAULTS_NAME, {"options": {}})
    document = write(folder / "p.json")
    run = write(tmp_path / "run" / "pipeline-config.json")
    (run.parent / ".pipcook-workspace").touch()
    paths = [other, defaults, document, run]
    assert [found.path for found in find_documents(paths)] == paths
    assert [found.path for found in find_documents(paths, skip_others=True)] == [defaults, document]


def test_file_that_cannot_be_read(tmp_path, settings) -> None:
    """A file that cannot be read is an error of its own, and harms no other."""
    path = tmp_path / "p.json"
    path.write_bytes(b'{"specVersion": "2.0", "datasource": "\xff"}')
    (finding,) = lint(tmp_path, settings)
    assert "UTF-8" in finding.problem.message


def test_same_asset(folder, settings) -> None:
    """Documents that mean other things by the same asset are told, at the later one; those that agree are not."""
    digits = {"name": "digits", "uri": "https://example.com/digits.zip", "watch": True, "interval": 60}
    for name, asset in {
        "a.json": digits,
        "b.json": digits,
        "c.json": {**digits, "interval": 90},
        "d.json": {**digits, "name": "numbers"},
        "e.json": "letters",
    }.items():
        write(folder / name, options={"airflow": {"schedule": {"time": "@daily", "assets": {"any": ["x", asset]}}}})
    found = lint(folder, settings)
    assert [(finding.level, Path(finding.file).name, finding.problem.path) for finding in found] == [
        ("warning", "c.json", "$.options.airflow.schedule.assets.any[1]"),
        ("warning", "d.json", "$.options.airflow.schedule.assets.any[1]"),
    ]
    assert "watched every 90 seconds, and in" in found[0].problem.message
    assert str(folder / "a.json") in found[0].problem.message


def test_no_line_of_a_file_that_is_no_script(folder, settings) -> None:
    """A document that names another file as its script gets nothing of it to see."""
    (folder / ".netrc").write_text("machine h login me password s3cret\n", encoding="utf-8")
    (finding,) = lint(write(folder / "p.json", model=".netrc"), settings)
    assert "not valid Python at line 1" in finding.problem.message
    assert "s3cret" not in finding.problem.message


def test_same_dag_id(folder, settings) -> None:
    """Documents of a folder whose DAGs would be called alike are errors, each of which names the other."""
    for name in ("a/b.json", "a.b.json", "c.json"):
        write(folder / name, datasource=str(folder / "datasource.py"), model=str(folder / "model.py"))
    found = lint(folder, settings)
    assert [(finding.level, Path(finding.file)) for finding in found] == [
        ("error", folder / "a.b.json"),
        ("error", folder / "a" / "b.json"),
    ]
    assert str(folder / "a" / "b.json") in found[0].problem.message
    assert str(folder / "a.b.json") in found[1].problem.message
    assert '"a.b"' in found[0].problem.message


@pytest.mark.parametrize(
    ("schedule", "path", "words"),
    [
        (["pipcook://models/p"], "[0]", "never fires"),
        ({"all": ["digits", {"name": "model", "uri": "pipcook://models/p"}]}, ".all[1]", "never fires"),
        ({"any": ["digits", "pipcook://models/p"]}, ".any[1]", "each run brings about the next one"),
        ({"time": "@daily", "assets": ["pipcook://models/p"]}, ".assets[0]", "each run brings about the next one"),
    ],
)
def test_pipeline_that_waits_for_itself(folder, settings, schedule: Any, path: str, words: str) -> None:
    """A schedule on the model that the pipeline itself trains never fires, or never ends."""
    (finding,) = lint(write(folder / "p.json", options={"airflow": {"schedule": schedule}}), settings)
    assert (finding.level, finding.problem.path) == ("warning", f"$.options.airflow.schedule{path}")
    assert words in finding.problem.message


@pytest.mark.parametrize(
    "schedule", [["pipcook://models/other"], {"time": "@daily", "assets": ["digits", "pipcook://models/p"]}]
)
def test_pipeline_that_waits_for_others(folder, settings, schedule: Any) -> None:
    """Another pipeline's model is an asset like any, and what time fires does not wait."""
    assert lint(write(folder / "p.json", options={"airflow": {"schedule": schedule}}), settings) == []


MOVING = {
    "datasource": "https://cdn.jsdelivr.net/gh/o/r@main/d.py",
    "options": {"framework": "tensorflow@2", "airflow": {"schedule": "@daily"}},
}


def write_lock(document: Path, **changes: Any) -> None:
    lock = {
        "lockVersion": 1,
        "scripts": {MOVING["datasource"]: {"sha256": "", "modules": {}}, "model.py": {"sha256": "", "modules": {}}},
        "processors": {},
        "framework": {"asked": "tensorflow@2", "reference": "tensorflow@2.21.0", "platforms": {}},
        **changes,
    }
    document.with_suffix(".lock.json").write_text(json.dumps(lock), encoding="utf-8")


def test_lock_that_covers_a_document(folder, settings) -> None:
    """What a lock holds to what it is does not move."""
    document = write(folder / "p.json", **MOVING)
    assert told(document, settings) == [("warning", "$.datasource"), ("warning", "$.options.framework")]
    write_lock(document)
    assert lint(document, settings) == []
    assert [found.path for found in find_documents([folder])] == [document]


def test_lock_that_does_not_cover_a_document(folder, settings) -> None:
    """What is not in the lock would be refused by every run: an error, beside which it does not matter that it moves."""
    document = write(folder / "p.json", **MOVING)
    write_lock(document, scripts={}, framework=None)
    found = lint(document, settings)
    assert [finding.problem.path for finding in found if finding.level == "error"] == [
        "$.datasource",
        "$.model",
        "$.options.framework",
    ]
    assert all("pipcook lock" in finding.problem.message for finding in found)


def test_lock_that_cannot_be_read(folder, settings) -> None:
    """A lock that is none is an error of the document beside it."""
    document = write(folder / "p.json")
    document.with_suffix(".lock.json").write_text("{}", encoding="utf-8")
    (finding,) = lint(document, settings)
    assert (finding.level, finding.problem.path) == ("error", "$")
    assert "p.lock.json" in finding.problem.message


@pytest.mark.parametrize(
    ("framework", "words"),
    [
        ("tensorflw@2.21", ["no recipe of the framework tensorflw@2.21", 'Did you mean "tensorflow"?']),
        ("torch", ['Did you mean "pytorch"?']),
        ("./gone.zip", ["there is no framework at", "gone.zip"]),
    ],
)
def test_unknown_framework(folder, settings, framework: str, words: list[str]) -> None:
    """A framework that this machine can neither build nor find is a warning: a worker may."""
    document = write(folder / "p.json", options={"framework": framework})
    (finding,) = lint(document, settings)
    assert (finding.level, finding.problem.path) == ("warning", "$.options.framework")
    assert [word for word in words if word.lower() not in finding.problem.message.lower()] == []


def test_framework_that_a_mirror_may_have(folder, settings) -> None:
    """Where mirrors are configured, nobody knows without asking them which frameworks there are."""
    document = write(folder / "p.json", options={"framework": "own@1"})
    assert lint(document, replace(settings, framework_mirror=("https://mirror.example.com",))) == []


def test_names_of_settings(folder, settings) -> None:
    """Notifiers and connections are compared with this machine's, where it has any."""
    document = write(
        folder / "p.json",
        datasource="datasource.py?user={{ conn.stor.login }}",
        options={"airflow": {"on_failure": ["team", "tema"]}},
    )
    assert lint(document, settings) == []
    known = replace(settings, notifiers={"team": {"classpath": "a.B"}}, template_connections=("store",))
    found = lint(document, known)
    assert [finding.problem.path for finding in found] == ["$.datasource", "$.options.airflow.on_failure[1]"]
    assert 'Did you mean "store"?' in found[0].problem.message
    assert 'Did you mean "team"?' in found[1].problem.message


def test_origin_that_is_not_allowed(folder, settings) -> None:
    """An address outside the allowed origins is an error without any server being asked."""
    document = write(
        folder / "p.json",
        datasource="https://elsewhere.example/d.py",
        options={"framework": "https://elsewhere.example/f.zip"},
    )
    allowed = replace(settings, allowed_origins=("https://example.com", str(folder)))
    found = lint(document, allowed)
    assert [(finding.level, finding.problem.path) for finding in found] == [
        ("error", "$.datasource"),
        ("error", "$.options.framework"),
    ]
    assert "allowed_origins" in found[0].problem.message


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def online(server: Server, folder: Path) -> Path:
    """A document whose scripts, framework and watched asset lie on a server."""
    server.put("/d.py", b"def datasource(*_): ...\n")
    server.put("/m.py", DECLARING.encode())
    server.put("/f.zip", bytes(3_000_000))
    server.put("/data.zip", bytes(3_000_000))
    return write(
        folder / "p.json",
        datasource=f"{server.url}/d.py",
        model=f"{server.url}/m.py",
        options={
            "framework": f"{server.url}/f.zip",
            "airflow": {"schedule": [{"uri": f"{server.url}/data.zip", "watch": True}]},
        },
    )


def test_everything_is_reachable(online, server, settings, folder) -> None:
    """Online, each script and address is asked for once, whatever the number of documents, and nothing is kept."""
    write(folder / "q.json", json.loads(online.read_text(encoding="utf-8")))
    assert lint(folder, settings, online=True) == []
    assert server.hits == {"/d.py": 1, "/m.py": 1, "/f.zip": 1, "/data.zip": 1}
    assert not settings.home.exists()


def test_nobody_is_asked_without_being_told_to(online, server, settings) -> None:
    """Offline, no server is asked."""
    assert lint(online, settings) == []
    assert server.hits == {}


def test_what_cannot_be_reached(online, server, settings) -> None:
    """What a server does not have is an error at its place, with address, status and remedy."""
    for path in ("/d.py", "/f.zip", "/data.zip"):
        server.put(path, status=404)
    found = lint(online, settings, online=True)
    assert [(finding.level, finding.problem.path) for finding in found] == [
        ("error", "$.datasource"),
        ("error", "$.options.framework"),
        ("error", "$.options.airflow.schedule[0].uri"),
    ]
    for finding, path in zip(found, ("/d.py", "/f.zip", "/data.zip"), strict=True):
        assert f"{server.url}{path}" in finding.problem.message
        assert "404" in finding.problem.message
        assert "Check the address" in finding.problem.message


def test_server_that_is_down(online, server, settings, monkeypatch) -> None:
    """A server that answers at the second attempt is there; one that never does is told as such."""
    monkeypatch.setattr(fetch, "PAUSES", (0.0, 0.0))
    server.put("/f.zip", b"zip", failures=1)
    server.put("/data.zip", status=503)
    with serving() as gone:
        dead = gone.url
    document = json.loads(online.read_text(encoding="utf-8"))
    write(online, {**document, "datasource": f"{dead}/d.py"})
    script, watched = lint(online, settings, online=True)
    assert (script.problem.path, watched.problem.path) == ("$.datasource", "$.options.airflow.schedule[0].uri")
    assert f"{dead}/d.py" in script.problem.message
    assert "503" in watched.problem.message


def test_scripts_from_servers_are_looked_at(online, server, settings) -> None:
    """Of a script on a server the function and the parameters are known, too, once it is asked for."""
    server.put("/d.py", b"def data(): ...\n")
    document = json.loads(online.read_text(encoding="utf-8"))
    write(online, {**document, "model": f"{server.url}/m.py?epoch=1"})
    found = lint(online, settings, online=True)
    assert [(finding.level, finding.problem.path) for finding in found] == [
        ("error", "$.datasource"),
        ("warning", "$.model"),
    ]
    assert "defines no 'datasource'" in found[0].problem.message


def test_broken_document_does_not_keep_others_from_being_asked_for(online, server, settings, folder) -> None:
    """Online, too, a document that cannot be used is an error of its own."""
    (folder / "broken.json").write_text('{"specVersion": "2.0", ', encoding="utf-8")
    found = lint(folder, settings, online=True)
    assert [Path(finding.file).name for finding in found] == ["broken.json"]
    assert server.hits["/d.py"] == 1


def test_mistake_of_the_defaults(folder, settings) -> None:
    """What a document has from defaults and cannot be used is told with the file that it comes from."""
    defaults = write(folder / DEFAULTS_NAME, {"options": {"airflow": {"env": {"DAY": "{{ dss }}"}}}})
    (finding,) = lint(write(folder / "p.json"), settings)
    assert (finding.level, finding.problem.path) == ("error", "$.options.airflow.env.DAY")
    assert f"comes from {defaults}" in finding.problem.message


def test_run_document(folder, settings) -> None:
    """The document of a run, which has no defaults, is linted where it is named."""
    write(folder / DEFAULTS_NAME, {"options": {"note": 1}})
    document = write(folder / "run" / "pipeline-config.json", origin=str(folder / "p.json"))
    assert lint(document, settings) == []


def test_demo(settings, capfd) -> None:
    """Of the demo's pipeline, with the official scripts, nothing is told."""
    demo = Path(__file__).resolve().parents[1] / "dags"
    assert main(["lint", "--strict", str(demo)]) == 0
    assert "1 document(s) checked: 0 error(s), 0 warning(s)" in capfd.readouterr().out
