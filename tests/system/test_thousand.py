"""A thousand pipelines in a real Airflow, ten of them broken, each in a way of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from airflow_server import Airflow, running_airflow, wait_for

from tools.demo.standalone import PIPELINES

#: Files are parsed when they are new or changed only, so that a parse tells which one was. The secret is one that Airflow
#: would make up for itself in a configuration file of its own.
CONFIGURATION = """
[dag_processor]
min_file_process_interval = 3600
refresh_interval = 2
bundle_refresh_check_interval = 1
[api_auth]
jwt_secret = c2VjcmV0IG9mIGEgdGVzdCB0aGF0IGxpc3RlbnMgb24gbG9vcGJhY2sgb25seQ==
"""


def text(**parts: Any) -> str:
    """Return a document with other parts, or without those that are None."""
    document = {
        "specVersion": "2.0",
        "datasource": "../scripts/datasource.py?count=4",
        "model": "../scripts/model.py",
        "artifact": [],
        "options": {"train": {"epochs": 2}},
        **parts,
    }
    return json.dumps({name: part for name, part in document.items() if part is not None}, indent=2)


#: The other documents, one of which has the dag_id of a broken one.
GOOD = ["twins.one", *(f"folder_{number // 100}/pipeline-{number % 100}" for number in range(989))]

#: The broken documents: what stands in them, and what Airflow is to say.
BROKEN: Mapping[str, tuple[str | bytes, str]] = {
    "comment": (text().replace("{", "{\n  // the newest", 1), r"comment\.json:2:3: \$: Not JSON: found a comment"),
    "model-missing": (text(model=None), r'model-missing\.json:1:1: \$: Expected the key "model"'),
    "number": (text(datasource=3), r"number\.json:3:17: \$\.datasource: Expected a string"),
    "unknown-key": (
        text(options={"airflow": {"retrise": 1}}),
        r'unknown-key\.json:8:7: \$\.options\.airflow\.retrise: .* Did you mean "retries"\?',
    ),
    "cron": (
        text(options={"airflow": {"schedule": "61 * * * *"}}),
        r"cron\.json:8:19: \$\.options\.airflow\.schedule: Expected a cron expression",
    ),
    "scheme": (text(model="ftp://example.com/model.py"), r'scheme\.json:4:12: \$\.model: .* found the scheme "ftp:"'),
    "latin": (
        text(description="modèle").replace("\\u00e8", "è").encode("latin-1"),
        r"latin\.json:11:22: \$: Expected UTF-8, found the byte 0xe8",
    ),
    "framework": (
        text(options={"framework": "tensor flow@@2"}),
        r"framework\.json:7:18: \$\.options\.framework: Expected the framework as name@version",
    ),
    "defaults/of-its-folder": (
        text(),
        r"pipcook\.defaults\.json:2:24: \$: Not JSON: a comma stands behind the last entry",
    ),
    "twins/one": (
        text(),
        r'twins/one\.json:1:1: \$: Expected a dag_id of its own, found "twins\.one", which .*twins\.one\.json has too',
    ),
}


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """An Airflow that has read all documents."""
    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    files = {f"{name}.json": text() for name in GOOD}
    files |= {f"{name}.json": content for name, (content, _) in BROKEN.items()}
    files["defaults/pipcook.defaults.json"] = '{\n  "train": {"epochs": 1,}\n}'
    for name, content in files.items():
        path = dags / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (home / "airflow.cfg").write_text(CONFIGURATION, encoding="utf-8")
    with running_airflow(home, dags, PIPELINES) as airflow:
        wait_for(lambda: airflow.count("dags") + airflow.count("importErrors"), (1000).__eq__, seconds=300)
        yield airflow


def parsed(airflow: Airflow) -> dict[str, tuple[str, str]]:
    """Return of each DAG what is kept of it: a digest, and when it was parsed last."""
    rows = airflow.rows("SELECT dag.dag_id, dag_hash, last_parsed_time FROM dag JOIN serialized_dag USING (dag_id)")
    return {dag_id: (digest, time) for dag_id, digest, time in rows}


def broken_files(airflow: Airflow) -> set[str]:
    return {name.removesuffix(".json.py") for name in airflow.import_errors()}


def test_each_broken_document_is_an_import_error_of_its_own(airflow: Airflow) -> None:
    """Each is told with its own line, column, JSON path and remedy; two with one dag_id are both named."""
    errors = airflow.import_errors()
    assert set(errors) == {f"{name}.json.py" for name in BROKEN}
    for name, (_, expected) in BROKEN.items():
        assert re.search(expected, errors[f"{name}.json.py"]), errors[f"{name}.json.py"]


def test_all_others_are_dags(airflow: Airflow) -> None:
    """990 DAGs are there to be scheduled; none of them is touched by another's error."""
    assert airflow.count("dags") == 990
    assert airflow.count("dags?has_import_errors=true") == 0
    assert set(parsed(airflow)) == {name.replace("/", ".") for name in GOOD}


def test_edited_document_changes_its_dag_only(airflow: Airflow) -> None:
    """Nothing but its own DAG becomes another one, or is as much as parsed again."""
    before = parsed(airflow)
    edited = airflow.dags / "folder_7" / "pipeline-42.json"
    edited.write_text(text(options={"train": {"epochs": 7}}), encoding="utf-8")
    after = wait_for(lambda: parsed(airflow), lambda now: now != before)
    assert {dag_id for dag_id in after if after[dag_id] != before[dag_id]} == {"folder_7.pipeline-42"}
    assert after["folder_7.pipeline-42"][0] != before["folder_7.pipeline-42"][0]
    assert broken_files(airflow) == set(BROKEN)


def test_document_that_breaks_harms_itself_only(airflow: Airflow) -> None:
    """It is one import error more, and its DAG alone is not scheduled until it is mended."""
    before = parsed(airflow)
    document = airflow.dags / "folder_2" / "pipeline-0.json"
    document.write_text(text(datasource=3), encoding="utf-8")
    wait_for(lambda: broken_files(airflow), lambda names: names == {*BROKEN, "folder_2/pipeline-0"})
    assert parsed(airflow) == before
    assert airflow.request("GET", "dags/folder_2.pipeline-0")["has_import_errors"]
    assert airflow.count("dags") == 989
    document.write_text(text(), encoding="utf-8")
    wait_for(lambda: broken_files(airflow), set(BROKEN).__eq__)
    assert airflow.count("dags") == 990


def test_mended_document_clears_its_error_only(airflow: Airflow) -> None:
    """It is a DAG at the next look, and the other errors stay."""
    (airflow.dags / "number.json").write_text(text(), encoding="utf-8")
    wait_for(lambda: broken_files(airflow), (set(BROKEN) - {"number"}).__eq__)
    assert set(parsed(airflow)) >= {"number"}
    assert airflow.count("dags") == 991
