"""``${NAME}`` in documents and defaults: what is replaced, where, and by what."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipcook_provider.errors import SpecError
from pipcook_provider.spec import PipelineSpec, load_pipeline_spec, parse_pipeline
from pipcook_provider.spec.defaults import describe_file, read_defaults
from pipcook_provider.spec.folder import DEFAULTS_NAME

SMALL: dict[str, Any] = {"specVersion": "2.0", "datasource": "d.py", "model": "m.py"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set two variables, and make sure that a third has no value."""
    monkeypatch.setenv("DATA_ROOT", "https://h/data")
    monkeypatch.setenv("EPOCHS", "7")
    monkeypatch.delenv("UNSET", raising=False)


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1), encoding="utf-8")
    return path


def allow(folder: Path, *names: str, **options: Any) -> Path:
    return write(folder / DEFAULTS_NAME, {"environment": names, "options": options})


def load(folder: Path, document: Any = SMALL) -> PipelineSpec:
    return load_pipeline_spec(write(folder / "p.json", document))


def test_variables_are_replaced_in_every_text(tmp_path: Path) -> None:
    """Wherever a text of the document names a variable that is allowed, its value stands; keys stay as they are."""
    allow(tmp_path, "DATA_ROOT", "EPOCHS")
    spec = load(
        tmp_path / "a",
        {
            **SMALL,
            "datasource": "${DATA_ROOT}/d.py?url=${DATA_ROOT}/a.zip&n=${EPOCHS}${EPOCHS}",
            "artifact": [{"processor": "zip", "to": [{"${EPOCHS}": "v${EPOCHS}"}]}],
            "options": {
                "train": {"name": "x-${EPOCHS}", "n": 1},
                "airflow": {"env": {"ROOT": "${DATA_ROOT}/{{ ds }}"}},
            },
        },
    )
    assert spec.datasource.reference == "https://h/data/d.py?url=https://h/data/a.zip&n=77"
    assert spec.datasource.parameters == {"url": "https://h/data/a.zip", "n": "77"}
    assert spec.artifacts[0].options["to"] == [{"${EPOCHS}": "v7"}]
    assert spec.train == {"name": "x-7", "n": 1}
    assert spec.airflow.env == {"ROOT": "https://h/data/{{ ds }}"}
    assert "${DATA" not in json.dumps(spec.document)
    again = parse_pipeline(json.dumps({**spec.document, "origin": spec.origin}), "/runs/1/pipeline-config.json")
    assert (again.datasource, again.options, again.airflow) == (spec.datasource, spec.options, spec.airflow)


def test_only_what_is_allowed_by_name(tmp_path: Path) -> None:
    """Without a file that allows it, or with another spelling, the text stays as it is."""
    names = "$DATA_ROOT ${data_root} ${DATA_ROOT:-x} ${ DATA_ROOT } ${HOME} ${UNSET} $${} ${"
    document = {**SMALL, "options": {"train": {"a": names, "b": "${DATA_ROOT}"}}}
    assert load(tmp_path, document).train == {"a": names, "b": "${DATA_ROOT}"}
    allow(tmp_path, "DATA_ROOT")
    assert load(tmp_path, document).train == {"a": names, "b": "https://h/data"}
    assert parse_pipeline(json.dumps(document), str(tmp_path / "p.json")).train["b"] == "${DATA_ROOT}"


def test_documents_with_an_origin_stay_as_they_are(tmp_path: Path) -> None:
    """In a run's own document, and in a copy from elsewhere, nothing is replaced any more."""
    allow(tmp_path, "EPOCHS")
    document = {**SMALL, "options": {"train": {"a": "${EPOCHS}"}}}
    assert load(tmp_path, {**document, "origin": "/dags/p.json"}).train == {"a": "${EPOCHS}"}
    copy = write(tmp_path / "copy.json", document)
    assert load_pipeline_spec(copy, "https://h/p.json").train == {"a": "${EPOCHS}"}


def test_files_allow_together(tmp_path: Path) -> None:
    """A document may name what any file above it allows; a file what itself or one above it allows."""
    allow(tmp_path, "EPOCHS", train={"far": "${EPOCHS} ${DATA_ROOT}"})
    allow(tmp_path / "a", "DATA_ROOT", train={"near": "${EPOCHS} ${DATA_ROOT}"})
    document = {**SMALL, "options": {"train": {"own": "${EPOCHS} ${DATA_ROOT}"}}}
    assert load(tmp_path / "a" / "b", document).train == {
        "own": "7 https://h/data",
        "near": "7 https://h/data",
        "far": "7 ${DATA_ROOT}",
    }
    assert load(tmp_path, document).train == {"own": "7 ${DATA_ROOT}", "far": "7 ${DATA_ROOT}"}
    path = str(tmp_path / "a" / DEFAULTS_NAME)
    assert read_defaults(describe_file(path, Path(path)))["train"] == {"near": "7 https://h/data"}


def test_null_allows_nothing(tmp_path: Path) -> None:
    """A list that is null, empty or absent allows nothing, and takes nothing back."""
    allow(tmp_path, "EPOCHS")
    document = {**SMALL, "options": {"train": {"a": "${EPOCHS}"}}}
    for content in ({"environment": None}, {"environment": []}, {"options": {}}, {}):
        write(tmp_path / "a" / DEFAULTS_NAME, content)
        assert load(tmp_path / "a", document).train == {"a": "7"}


def test_the_environment_of_now_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is kept of defaults, what the environment says now counts; a value is never looked into again."""
    allow(tmp_path, "EPOCHS", "DATA_ROOT", train={"far": "${EPOCHS}"})
    document = {**SMALL, "options": {"train": {"own": "${EPOCHS}"}}}
    for value in ("1", "2", "", "${DATA_ROOT}", "数", '"\\'):
        monkeypatch.setenv("EPOCHS", value)
        assert load(tmp_path, document).train == {"own": value, "far": value}


@pytest.mark.parametrize("text", [r"\u0024{EPOCHS}", r"$\u007bEPOCHS}", r"$\u007BEPOCHS}", r"${EP\u004fCHS}"])
def test_escapes_are_characters(tmp_path: Path, text: str) -> None:
    """However its characters are written in JSON, a variable is one."""
    allow(tmp_path, "EPOCHS")
    content = json.dumps({**SMALL, "options": {"train": {"a": "TEXT"}}}).replace("TEXT", text)
    assert load(tmp_path, content).train == {"a": "7"}


def test_missing_variables_are_told_at_their_places(tmp_path: Path) -> None:
    """A variable that is allowed and not set is an error of the document at the text that names it: all at once."""
    allow(tmp_path, "UNSET", "EPOCHS")
    content = """{"specVersion": "2.0",
  "datasource": "d.py?url=${UNSET}/a.zip", "model": "m.py",
  "options": {"train": {"a": "${EPOCHS}", "b": [1, "${UNSET}"]}}}"""
    with pytest.raises(SpecError) as caught:
        load(tmp_path, content)
    assert caught.value.origin == str(tmp_path / "p.json")
    assert [(problem.path, problem.line, problem.column) for problem in caught.value.problems] == [
        ("$.datasource", 2, 17),
        ("$.options.train.b[1]", 3, 52),
    ]
    message = caught.value.problems[0].message
    assert [word for word in ("variable UNSET", '"${UNSET}"', "Set it", "DAG processor") if word not in message] == []


def test_missing_variables_of_defaults_are_told_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is not set and stands in defaults is an error of that file, until it is set."""
    path = allow(tmp_path, "UNSET", train={"a": "${UNSET}"})
    for _ in range(2):
        with pytest.raises(SpecError) as caught:
            load(tmp_path)
        assert caught.value.origin == str(path)
        assert [(problem.path, problem.line) for problem in caught.value.problems] == [("$.options.train.a", 7)]
    monkeypatch.setenv("UNSET", "1")
    assert load(tmp_path).train == {"a": "1"}
    monkeypatch.delenv("UNSET")
    with pytest.raises(SpecError, match="variable UNSET"):
        load(tmp_path)


def test_allowed_and_not_named_needs_no_value(tmp_path: Path) -> None:
    """A variable that nobody names need not be set."""
    allow(tmp_path, "UNSET")
    assert load(tmp_path, {**SMALL, "options": {"train": {"a": "$UNSET"}}}).train == {"a": "$UNSET"}


def test_bytes_that_are_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that is no UTF-8 cannot stand in a document."""
    allow(tmp_path, "EPOCHS")
    monkeypatch.setitem(os.environb, b"EPOCHS", b"\xff")
    with pytest.raises(SpecError, match=r"\$\.options\.train\.a: Expected a text in the environment variable EPOCHS"):
        load(tmp_path, {**SMALL, "options": {"train": {"a": "${EPOCHS}"}}})


def test_password_in_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address with user and password is put nowhere, wherever the variable stands, and not repeated."""
    allow(tmp_path, "EPOCHS")
    monkeypatch.setenv("EPOCHS", "postgres://me:s3cret@h/d")
    with pytest.raises(SpecError, match="Expected no secret in the environment variable EPOCHS") as caught:
        load(tmp_path, {**SMALL, "options": {"train": {"a": "${EPOCHS}"}}})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "document", "path", "words"),
    [
        ("", {"model": "${EPOCHS}"}, "$.model", ["an empty string", 'It stands for "${EPOCHS}".']),
        ("s3://b/m.py", {"model": "${EPOCHS}"}, "$.model", ['the scheme "s3:"', 'It stands for "${EPOCHS}".']),
        ("https://me:s3cret@h", {"model": "${EPOCHS}/m.py"}, "$.model", ["netrc"]),
        ("Sound", {"type": "${EPOCHS}"}, "$.type", ['"ImageClassification"', '"Sound"']),
        ("4 apples", {"options": {"airflow": {"memory": "${EPOCHS}"}}}, "$.options.airflow.memory", ['"4 apples"']),
        ("@dayly", {"options": {"airflow": {"schedule": "${EPOCHS}"}}}, "$.options.airflow.schedule", ['"@daily"?']),
        ("Mars", {"options": {"airflow": {"timezone": "${EPOCHS}"}}}, "$.options.airflow.timezone", ["IANA"]),
        ("{{ ds }}", {"model": "${EPOCHS}.py"}, "$.model", ["templates in the query only"]),
    ],
)
def test_values_are_checked_as_if_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, document: Any, path: str, words: list[str]
) -> None:
    """What a variable stands for must fit its place, in a document and in defaults; the error is where its name stands."""
    allow(tmp_path, "EPOCHS")
    monkeypatch.setenv("EPOCHS", value)
    with pytest.raises(SpecError) as caught:
        load(tmp_path, {**SMALL, **document})
    (problem,) = caught.value.problems
    assert problem.path == path
    assert [word for word in words if word not in problem.message] == []
    assert "s3cret" not in str(caught.value)
    if "options" in document:
        file = allow(tmp_path, "EPOCHS", **document["options"])
        with pytest.raises(SpecError) as caught:
            load(tmp_path)
        (problem,) = caught.value.problems
        assert (caught.value.origin, problem.path) == (str(file), path)
        assert 'It stands for "${EPOCHS}".' in problem.message


def test_broken_defaults_come_before_what_they_would_allow(tmp_path: Path) -> None:
    """A document is not blamed for a variable while the file that may allow it is broken."""
    write(tmp_path / DEFAULTS_NAME, "{")
    with pytest.raises(SpecError) as caught:
        load(tmp_path, {**SMALL, "options": {"airflow": {"memory": "${EPOCHS}"}}})
    assert caught.value.origin == str(tmp_path / DEFAULTS_NAME)


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many documents lie below a file that allows variables, it is read once."""
    path = allow(tmp_path, "EPOCHS", train={"a": "${EPOCHS}"})
    reads: list[Path] = []
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda file: reads.append(file) or real(file))
    for number in range(5):
        assert load(tmp_path / str(number), {**SMALL, "type": None, "model": "${EPOCHS}.py"}).train == {"a": "7"}
    assert reads.count(path) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_files_of_others_allow_nothing(tmp_path: Path) -> None:
    """A file in the folder that belongs to somebody else lets no document read the environment."""
    path = allow(tmp_path, "EPOCHS")
    document = {**SMALL, "options": {"train": {"a": "${EPOCHS}"}}}
    assert load(tmp_path, document).train == {"a": "7"}
    os.chown(path, 65534, 65534)
    assert load(tmp_path, document).train == {"a": "${EPOCHS}"}


@pytest.mark.parametrize("content", ["1", '"${EPOCHS}"', "null", '["${EPOCHS}"]', '{"a": "${EPOCHS}"}'])
def test_any_document_gives_problems(tmp_path: Path, content: str) -> None:
    """Whatever JSON a file holds, a variable in it does no harm."""
    allow(tmp_path, "EPOCHS")
    with pytest.raises(SpecError):
        load(tmp_path, content)


def test_deep_documents(tmp_path: Path) -> None:
    """A document or defaults too deep to be worked on are refused as such."""
    allow(tmp_path, "EPOCHS")
    deep = '{"a": ' * 5_000 + '"${EPOCHS}"' + "}" * 5_000
    with pytest.raises(SpecError, match=r"p\.json:1:1: \$: .*nested too deeply"):
        load(tmp_path, json.dumps({**SMALL, "options": {"train": "DEEP"}}).replace('"DEEP"', deep))
    write(tmp_path / DEFAULTS_NAME, f'{{"environment": ["EPOCHS"], "options": {{"x": {deep}}}}}')
    with pytest.raises(SpecError, match=rf"{DEFAULTS_NAME}:1:1: \$: .*nested too deeply"):
        load(tmp_path)
    for depth in range(300, 1_000, 50):  # wherever the line is, nothing else comes out
        nested = '{"a": ' * depth + '"${EPOCHS}"' + "}" * depth
        write(tmp_path / DEFAULTS_NAME, f'{{"environment": ["EPOCHS"], "options": {{"x": {nested}}}}}')
        try:
            assert "x" in load(tmp_path).options
        except SpecError as exc:
            assert "nested too deeply" in str(exc)  # noqa: PT017
