"""Defaults of folders: which count, how they are merged, and what is wrong with them."""

from __future__ import annotations

import copy
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipcook_provider.errors import SpecError
from pipcook_provider.spec import AssetCondition, AssetSpec, PipelineSpec, Schedule, load_pipeline_spec, parse_pipeline
from pipcook_provider.spec.folder import DEFAULTS_NAME, find_json_files, is_pipeline_file
from pipcook_provider.spec.lint import Finding, lint_file

SMALL: dict[str, Any] = {"specVersion": "2.0", "datasource": "d.py", "model": "m.py"}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1), encoding="utf-8")
    return path


def write_defaults(folder: Path, options: Any) -> Path:
    return write(folder / DEFAULTS_NAME, {"options": options})


def load(folder: Path, document: Any = SMALL) -> PipelineSpec:
    return load_pipeline_spec(write(folder / "p.json", document))


def test_document_gets_the_defaults_of_its_folder(tmp_path: Path) -> None:
    """What the document leaves out comes from the file beside it, and stands in the document that runs."""
    write_defaults(
        tmp_path, {"framework": "tensorflow@2.21", "train": {"epochs": 3}, "airflow": {"owner": "web"}, "x": 1}
    )
    spec = load(tmp_path)
    assert (spec.framework, spec.train, spec.airflow.owner) == ("tensorflow@2.21", {"epochs": 3}, "web")
    assert spec.options == {"framework": "tensorflow@2.21", "train": {"epochs": 3}, "x": 1}
    assert spec.document["options"]["airflow"] == {"owner": "web"}
    again = parse_pipeline(json.dumps({**spec.document, "origin": spec.origin}), "/elsewhere/pipeline-config.json")
    assert (again.options, again.airflow) == (spec.options, spec.airflow)


def test_the_nearest_wins_key_by_key(tmp_path: Path) -> None:
    """A document wins over its folder, that over the folders above, for each key of train, airflow and their stages."""
    write_defaults(
        tmp_path,
        {
            "train": {"epochs": 1, "seed": 1, "nested": {"far": 1}},
            "airflow": {
                "owner": "far",
                "pool": "far",
                "queue": "far",
                "env": {"A": "far", "B": "far"},
                "stages": {"model": {"memory": "1GB", "queue": "far"}, "datasource": {"memory": "1GB"}},
            },
        },
    )
    write_defaults(
        tmp_path / "a" / "b",
        {
            "train": {"epochs": 2, "nested": {"near": 1}},
            "airflow": {"pool": "near", "env": {"B": "near"}, "stages": {"model": {"memory": "2GB"}}},
        },
    )
    own = {"train": {"patience": 3}, "airflow": {"queue": "own", "stages": {"model": {"gpu": True}}}}
    spec = load(tmp_path / "a" / "b", {**SMALL, "options": own})
    assert spec.train == {"patience": 3, "epochs": 2, "nested": {"near": 1}, "seed": 1}
    assert (spec.airflow.owner, spec.airflow.pool, spec.airflow.queue) == ("far", "near", "own")
    assert spec.airflow.env == {"A": "far", "B": "near"}
    assert spec.document["options"]["airflow"]["stages"] == {
        "model": {"gpu": True, "memory": "2GB", "queue": "far"},
        "datasource": {"memory": "1GB"},
    }


def test_schedules_are_not_mixed(tmp_path: Path) -> None:
    """A schedule counts as a whole: parts of one and of another would be none."""
    write_defaults(tmp_path, {"airflow": {"schedule": {"time": "@weekly", "assets": ["a"]}, "timezone": "Asia/Tokyo"}})
    assert load(tmp_path).airflow.schedule == Schedule(
        time="@weekly", assets=AssetCondition("all", (AssetSpec(name="a", uri="a"),))
    )
    own = {"airflow": {"schedule": {"any": ["b"]}}}
    airflow = load(tmp_path, {**SMALL, "options": own}).airflow
    assert airflow.schedule == Schedule(assets=AssetCondition("any", (AssetSpec(name="b", uri="b"),)))
    assert airflow.timezone == "Asia/Tokyo"
    assert load(tmp_path, {**SMALL, "options": {"airflow": {"schedule": None}}}).airflow.schedule is None


def test_start_date_is_in_the_timezone_of_the_defaults(tmp_path: Path) -> None:
    """A date of the document is read on the clock that its folder names."""
    write_defaults(tmp_path, {"airflow": {"timezone": "Asia/Tokyo"}})
    start = load(tmp_path, {**SMALL, "options": {"airflow": {"start_date": "2026-01-01"}}}).airflow.start_date
    assert start == datetime(2025, 12, 31, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"framework": None}, (None, 3, "web")),
        ({"train": {"epochs": None}}, ("tensorflow@2", None, "web")),
        ({"train": None}, ("tensorflow@2", "none", "web")),
        ({"airflow": {"owner": None}}, ("tensorflow@2", 3, None)),
        ({"airflow": None}, ("tensorflow@2", 3, None)),
        (None, (None, "none", None)),
        ({}, ("tensorflow@2", 3, "web")),
    ],
)
def test_null_is_given(tmp_path: Path, options: Any, expected: tuple[Any, ...]) -> None:
    """A document that says null has nothing there, whatever the defaults say."""
    write_defaults(tmp_path, {"framework": "tensorflow@2", "train": {"epochs": 3}, "airflow": {"owner": "web"}})
    spec = load(tmp_path, {**SMALL, "options": options})
    assert (spec.framework, spec.train.get("epochs", "none"), spec.airflow.owner) == expected


def test_stages_that_a_document_lacks_are_left_out(tmp_path: Path) -> None:
    """Defaults may name stages that only some of the documents have; a document itself may not."""
    stages = {name: {"memory": "1GB"} for name in ("model", "dataflow", "dataflow_2", "artifact_1")}
    write_defaults(tmp_path, {"airflow": {"stages": stages}})
    assert set(load(tmp_path).airflow.stages) == {"model"}
    assert set(load(tmp_path, {**SMALL, "dataflow": ["a.py"]}).airflow.stages) == {"model", "dataflow"}
    with pytest.raises(
        SpecError, match=r"p\.json:\d+:\d+: \$\.options\.airflow\.stages\.dataflow_2: Expected a stage that"
    ):
        load(tmp_path, {**SMALL, "options": {"airflow": {"stages": {"dataflow_2": {}}}}})


@pytest.mark.parametrize(
    ("framework", "expected"),
    [
        ("frameworks/toy.zip", "{folder}/frameworks/toy.zip"),
        ("../toy", "{above}/toy"),
        ("toy.zip", "{folder}/toy.zip"),
        *((same, same) for same in ("tensorflow@2.21", "https://h/f.zip", "/f/toy", "~/toy", "file:///f/toy")),
    ],
)
def test_framework_is_relative_to_the_defaults(tmp_path: Path, framework: str, expected: str) -> None:
    """A path in a file of defaults is relative to that file, wherever the document lies."""
    write_defaults(tmp_path / "dags", {"framework": framework})
    spec = load(tmp_path / "dags" / "vision" / "deep")
    assert spec.framework == expected.format(folder=tmp_path / "dags", above=tmp_path)
    assert spec.document["options"]["framework"] == spec.framework


def test_documents_from_elsewhere_get_none(tmp_path: Path) -> None:
    """Neither a document from the network, or its copy, nor a run's own gets defaults, however broken these are."""
    write(tmp_path / DEFAULTS_NAME, "{")
    assert load_pipeline_spec(write(tmp_path / "copy.json", SMALL), "https://h/p.json").options == {}
    assert parse_pipeline(json.dumps(SMALL), "https://h/p.json").options == {}
    assert load(tmp_path, {**SMALL, "origin": "/dags/p.json"}).options == {}


def test_files_are_read_again_when_they_change(tmp_path: Path) -> None:
    """Whatever is kept of defaults, what the files say now counts."""
    load(tmp_path)
    for owner in ("one", "two", "three"):
        write_defaults(tmp_path, {"airflow": {"owner": owner}})
        assert load(tmp_path).airflow.owner == owner
    (tmp_path / DEFAULTS_NAME).unlink()
    assert load(tmp_path).airflow.owner is None


def test_defaults_stay_as_they_are(tmp_path: Path) -> None:
    """What one document makes of the defaults does not show in the next."""
    options = {"train": {"a": {"b": 1}}, "airflow": {"env": {"A": "1"}, "stages": {"model": {"memory": "1GB"}}}}
    write_defaults(tmp_path, options)
    first = copy.deepcopy(load(tmp_path, {**SMALL, "options": {"train": {"c": 1}, "airflow": {"env": {"B": "1"}}}}))
    assert load(tmp_path).document["options"] == options
    assert first.document["options"]["airflow"]["env"] == {"A": "1", "B": "1"}


@pytest.mark.parametrize(
    ("content", "place", "words"),
    [
        ("{", "1:2: $", ["Not JSON", "is closed"]),
        ("", "1:1: $", ["Expected a file with defaults", "found nothing"]),
        ("[]", "1:1: $", ['the key "options"', "an empty list"]),
        ('{"option": {}}', "1:2: $.option", ['only the keys "options" and "environment"', 'Did you mean "options"?']),
        ('{"framework": "t@1"}', "1:2: $.framework", ['Write it below "options".']),
        ('{"model": "m.py", "options": {}}', "1:2: $.model", ["Remove it."]),
        ('{"options": []}', "1:13: $.options", ["Expected an object or null"]),
        ('{"options": {"trian": {}}}', "1:14: $.options.trian", ['Did you mean "train"?']),
        ('{"options": {"train": {"gpu": "yes"}}}', "1:31: $.options.train.gpu", ['"auto"', '"yes"']),
        ('{"options": {"framework": "Tensor Flow"}}', "1:27: $.options.framework", ["name@version"]),
        ('{"options": {"airflow": {"retries": "2"}}}', "1:37: $.options.airflow.retries", ["Write 2."]),
        ('{"options": {"airflow": {"memory": "1B"}}}', "1:36: $.options.airflow.memory", ["6MiB"]),
        ('{"options": {"airflow": {"stages": {"modle": {}}}}}', "1:37: $.options.airflow.stages.modle", ['"model"?']),
        ('{"options": {"airflow": {"schedule": "@dayly"}}}', "1:38: $.options.airflow.schedule", ['"@daily"?']),
        ('{"options": {"airflow": {"schedule": []}}}', "1:38: $.options.airflow.schedule", ["something in it"]),
        ('{"options": {"airflow": {"schedule": {"anny": 1}}}}', "1:39: $.options.airflow.schedule.anny", ['"any"?']),
        ('{"options": {"airflow": {"timezone": "Mars"}}}', "1:38: $.options.airflow.timezone", ["IANA"]),
        ('{"options": {"train": {"epochs": 0}}}', "1:34: $.options.train.epochs", ["at least 1"]),
        ('{"enviroment": []}', "1:2: $.enviroment", ['Did you mean "environment"?']),
        ('{"environment": "DATA_ROOT"}', "1:17: $.environment", ['Write ["DATA_ROOT"].']),
        ('{"environment": {"A": "1"}}', "1:17: $.environment", ["Expected a list or null"]),
        ('{"environment": [1]}', "1:18: $.environment[0]", ["Expected a string", '"DATA_ROOT"', "the number 1"]),
        *(
            (f'{{"environment": ["{name}"]}}', "1:18: $.environment[0]", ["that is no secret", "options.airflow.env"])
            for name in (
                "AWS_SECRET_ACCESS_KEY",
                "AIRFLOW__CORE__FERNET_KEY",
                "AIRFLOW_CONN_S3",
                "API_KEY",
                "GIT_TOKEN",
            )
        ),
        ('{"environment": ["A-B"]}', "1:18: $.environment[0]", ["letters, digits and _", '"A-B"']),
        ('{"environment": ["${A}"]}', "1:18: $.environment[0]", ["name of an environment variable"]),
    ],
)
def test_broken_defaults(tmp_path: Path, content: str, place: str, words: list[str]) -> None:
    """Wrong defaults are told with their own path and place, for every document below them and no other."""
    path = write(tmp_path / "team" / DEFAULTS_NAME, content)
    for folder in (path.parent, path.parent / "below"):
        with pytest.raises(SpecError) as caught:
            load(folder)
        assert str(caught.value).startswith(f"{path}:{place}: ")
        assert len(caught.value.problems) == 1
        assert [word for word in words if word not in str(caught.value)] == []
    assert load(tmp_path / "other").options == {}


def test_all_problems_of_defaults_at_once(tmp_path: Path) -> None:
    """Every problem of the defaults is told, in the order of the text; the document's own come first."""
    write(tmp_path / DEFAULTS_NAME, '{"note": 1,\n "options": {"framework": "",\n "airflow": {"gpus": 0, "tagz": []}}}')
    with pytest.raises(SpecError) as caught:
        load(tmp_path)
    assert [(problem.path, problem.line) for problem in caught.value.problems] == [
        ("$.note", 1),
        ("$.options.framework", 2),
        ("$.options.airflow.gpus", 3),
        ("$.options.airflow.tagz", 3),
    ]
    with pytest.raises(SpecError) as caught:
        load(tmp_path, {**SMALL, "type": 1})
    assert caught.value.origin == str(tmp_path / "p.json")


def test_defaults_that_are_no_file(tmp_path: Path) -> None:
    """A folder or a pipe of that name is refused, not waited for; a link to nowhere is as good as nothing."""
    (tmp_path / "folder" / DEFAULTS_NAME).mkdir(parents=True)
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / DEFAULTS_NAME)
    for name in ("folder", "pipe"):
        with pytest.raises(SpecError, match="found a folder or device"):
            load(tmp_path / name)
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / DEFAULTS_NAME).symlink_to(tmp_path / "nowhere")
    assert load(tmp_path / "link").options == {}


def test_unreadable_defaults(tmp_path: Path) -> None:
    """Defaults in another encoding than UTF-8 are refused with their path."""
    (tmp_path / DEFAULTS_NAME).write_bytes(b'{"options": {"train": {"mode": "\xff"}}}')
    with pytest.raises(SpecError, match=rf"{DEFAULTS_NAME}:1:\d+: \$: Expected UTF-8"):
        load(tmp_path)


def test_what_does_not_go_together_names_the_defaults(tmp_path: Path) -> None:
    """Where a document and its defaults contradict each other, the message says which file each value comes from."""
    path = write_defaults(tmp_path, {"airflow": {"max_active_runs": 3}})
    with pytest.raises(SpecError) as caught:
        load(tmp_path / "a", {**SMALL, "options": {"airflow": {"schedule": "@continuous"}}})
    (problem,) = caught.value.problems
    assert caught.value.origin == str(tmp_path / "a" / "p.json")
    assert (problem.path, problem.line, problem.column) == ("$.options.airflow.max_active_runs", 6, 14)
    assert problem.message.endswith(f" The value of $.options.airflow.max_active_runs comes from {path}.")
    write_defaults(tmp_path, {"airflow": {"schedule": "@continuous"}})
    with pytest.raises(SpecError) as caught:
        load(tmp_path / "a", {**SMALL, "options": {"airflow": {"max_active_runs": 3}}})
    (problem,) = caught.value.problems
    assert (problem.path, problem.line, problem.column) == ("$.options.airflow.max_active_runs", 7, 23)
    assert problem.message.endswith(f" The value of $.options.airflow.schedule comes from {path}.")


def test_own_problems_do_not_name_the_defaults(tmp_path: Path) -> None:
    """A mistake of the document's own is told as ever."""
    write_defaults(tmp_path, {"airflow": {"schedule": "@daily"}})
    with pytest.raises(SpecError) as caught:
        load(tmp_path, {**SMALL, "options": {"airflow": {"schedule": "@dayly"}}})
    assert DEFAULTS_NAME not in str(caught.value)


def test_defaults_are_no_document(tmp_path: Path) -> None:
    """A file of defaults is no pipeline, whatever is in it."""
    path = write(tmp_path / DEFAULTS_NAME, {**SMALL, "options": {}})
    assert not is_pipeline_file(path)
    assert list(find_json_files(tmp_path)) == []


def test_lint_of_defaults(tmp_path: Path) -> None:
    """Lint warns of what stands in a file of defaults, and of a document only of what is its own."""
    path = write(
        tmp_path / DEFAULTS_NAME,
        '{"options": {"verbose": 1, "train": {"batch_size": 1, "url": "http://u:p@h/"}, "airflow": {"catchup": true}}}',
    )
    document = write(tmp_path / "p.json", {**SMALL, "options": {"airflow": {"gpus": 2}}})
    found = [(Path(finding.file).name, finding.level, finding.problem.path) for finding in lint_file(document)]
    assert found == [
        ("p.json", "warning", "$.options.airflow.gpus"),
        (DEFAULTS_NAME, "warning", "$.options.verbose"),
        (DEFAULTS_NAME, "warning", "$.options.train.batch_size"),
        (DEFAULTS_NAME, "warning", "$.options.train.url"),
    ]
    assert lint_file(path) == tuple(finding for finding in lint_file(document) if finding.file == str(path))


def test_lint_takes_defaults_into_account(tmp_path: Path) -> None:
    """What the defaults say makes a warning needless, or due."""
    document = write(tmp_path / "p.json", {**SMALL, "options": {"airflow": {"catchup": True, "memory": "1GB"}}})
    assert [finding.problem.path for finding in lint_file(document)] == ["$.options.airflow.catchup"]
    write_defaults(tmp_path, {"airflow": {"schedule": "@daily", "start_date": "2026-01-01", "runner": "process"}})
    assert [finding.problem.path for finding in lint_file(document)] == ["$.options.airflow.memory"]


def test_lint_names_the_broken_file(tmp_path: Path) -> None:
    """An error in the defaults is told as theirs, for a document below and for the file itself."""
    path = write(tmp_path / DEFAULTS_NAME, '{"options": 1}')
    document = write(tmp_path / "p.json", SMALL)
    (found,) = lint_file(document)
    assert (found.level, found.file, found.problem.column) == ("error", str(path), 13)
    assert lint_file(path) == (found,)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")


@needs_root
@pytest.mark.parametrize(("own", "others", "counts"), [(0, 65534, False), (65534, 65534, True), (65534, 65533, False)])
def test_whose_defaults_count(tmp_path: Path, own: int, others: int, counts: bool) -> None:
    """Defaults count that belong to root, to whoever runs this, or to the document's owner; of others lint warns."""
    path = write_defaults(tmp_path, {"airflow": {"owner": "web"}})
    document = write(tmp_path / "p.json", SMALL)
    assert load_pipeline_spec(document).airflow.owner == "web"
    os.chown(path, others, others)
    os.chown(document, own, own)
    assert load_pipeline_spec(document).airflow.owner == ("web" if counts else None)
    told = [(finding.level, finding.file) for finding in lint_file(document)]
    assert told == ([] if counts else [("warning", str(path))])
    assert counts or "belongs neither to root" in lint_file(document)[0].problem.message


@needs_root
def test_link_of_somebody_else_does_not_count(tmp_path: Path) -> None:
    """Who can place a link chooses what is read: its owner counts, too."""
    target = write_defaults(tmp_path / "elsewhere", {"airflow": {"owner": "web"}})
    link = tmp_path / DEFAULTS_NAME
    link.symlink_to(target)
    assert load(tmp_path).airflow.owner == "web"
    os.chown(link, 65534, 65534, follow_symlinks=False)
    assert load(tmp_path).airflow.owner is None


def test_a_broken_file_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many documents lie below broken defaults, these are read and explained once."""
    path = write(tmp_path / DEFAULTS_NAME, '{"options": 1}')
    reads: list[Path] = []
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda file: reads.append(file) or real(file))
    for number in range(5):
        with pytest.raises(SpecError, match="Expected an object or null"):
            load(tmp_path / str(number))
    assert reads.count(path) == 1


def test_findings_can_be_told_apart(tmp_path: Path) -> None:
    """Documents share defaults: a finding about these is equal for all, so that it is told once."""
    write_defaults(tmp_path, {"verbose": 1})
    found = [lint_file(write(tmp_path / name, SMALL)) for name in ("a.json", "b.json")]
    assert found[0] == found[1] != ()
    assert all(isinstance(finding, Finding) for finding in found[0])
