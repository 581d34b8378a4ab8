"""What a DAG's page says of its pipeline."""

from __future__ import annotations

import json

import pytest

from pipcook_provider.dag_factory import DocumentSource, load_pipeline, load_pipelines


def test_documentation_shows_the_pipeline(write_pipeline) -> None:
    """The DAG's page shows a table of stages, with what a document holds made harmless."""
    dag = load_pipeline(write_pipeline(datasource="datasource.py?url=<script>|`x`"))
    assert dag.doc_md is not None
    assert "| datasource |" in dag.doc_md
    assert "<script>" not in dag.doc_md
    assert "epochs=2" in dag.doc_md


def test_documentation_tells_what_runs_when(write_pipeline) -> None:
    """Framework, schedule, stages with their parameters, and the command without Airflow."""
    document = write_pipeline(
        type="TextClassification",
        datasource="./datasource.py?url=a b&size=1&size=2",
        options={
            "framework": "tensorflow@2.21",
            "train": {"epochs": 2, "validationRequired": True},
            "airflow": {"schedule": "@daily", "timezone": "Asia/Shanghai"},
        },
    )
    dag = load_pipeline(document, "team.words", source=DocumentSource(None, "team/my words.json"))
    assert (
        dag.doc_md
        == """`TextClassification` with `tensorflow@2.21`; runs every day (`Asia/Shanghai`).

| stage | what runs, and its parameters |
| --- | --- |
| datasource | `./datasource.py` |
| | `size=["1", "2"]` |
| | `url=a b` |
| dataflow_1 | `dataflow.py` |
| model | `model.py` |
| | `epochs=2` |
| | `validationRequired=true` |
| artifact_1 | `pipcook-artifact-zip@0.0.2` |
| | `target=model.zip` |

The same without Airflow: `pipcook train 'team/my words.json' -o 'my words'`
"""
    )


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"datasource": "./datasource.py?url={{ ds }}.csv"}, "The same without Airflow: `pipcook train"),
        ({"datasource": "./datasource.py?url={{ conn. }}"}, "The same without Airflow: `pipcook train"),
        ({"datasource": "./datasource.py?url={{ conn.lake.host }}"}, "Airflow's connections: `airflow pipcook train"),
        (
            {"options": {"airflow": {"env": {"TOKEN": "{{ conn.lake.password }}"}}}},
            "Airflow's connections: `airflow pipcook train",
        ),
    ],
)
def test_command_is_one_that_knows_the_connections(write_pipeline, document: dict[str, object], told: str) -> None:
    """Where templates name connections, which `pipcook train` does not know, the page names the command that does."""
    assert f"{told} pipeline.json -o pipeline`" in load_pipeline(write_pipeline(**document)).doc_md


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (None, "on demand"),
        ("0 3 * * *", "at `0 3 * * *`"),
        ("@annually", "every year"),
        ("P1M", "every month"),
        ("P2W", "every 14 days"),
        ("P1DT6H", "every 1 day 6 hours"),
        (["a", "s3://b/c"], "on updates of `a` and `s3://b/c`"),
        ({"any": ["a", {"all": ["b", "c"]}]}, "on updates of `a` or (`b` and `c`)"),
        ({"time": "PT90M", "assets": ["a"]}, "every 1 hour 30 minutes, and on updates of `a`"),
        (
            [{"uri": "https://example.com/d.zip", "watch": True, "interval": 60}],
            "on updates of `https://example.com/d.zip` (looked at every 60 s)",
        ),
    ],
)
def test_schedule_in_words(write_pipeline, schedule: object, words: str) -> None:
    """A person who knows no cron and no ISO 8601 sees when a pipeline runs."""
    dag = load_pipeline(write_pipeline(options={"airflow": {"schedule": schedule}}))
    assert dag.doc_md.startswith(f"Trained without a framework; runs {words}.\n")


def test_documentation_shows_warnings(write_pipeline) -> None:
    """What lint finds stands on the page with its line, harmless too."""
    dag = load_pipeline(write_pipeline(**{"options": {"train": {}}, "datasorce<b>[x](http://y)": 1}))
    assert "**Warnings**\n\n- line 17, " in dag.doc_md
    assert "datasorce\\<b\\>\\[x\\]\\(http" in dag.doc_md
    assert "**Warnings**" not in load_pipeline(write_pipeline()).doc_md


def test_locked_pipelines_are_not_told_to_pin(write_pipeline) -> None:
    """A document beside a lock names exactly what it runs, however it is written."""
    script = "https://cdn.example.com/gh/org/repo@main/model.py"
    document = write_pipeline(model=script, options={"airflow": {"schedule": "@daily"}})
    assert "**Warnings**" in load_pipeline(document).doc_md
    lock = {
        "lockVersion": 1,
        "scripts": {script: {"sha256": "0" * 64, "modules": {}}},
        "processors": {},
        "framework": None,
    }
    document.with_name("pipeline.lock.json").write_text(json.dumps(lock), encoding="utf-8")
    assert "**Warnings**" not in load_pipeline(document).doc_md


def test_documentation_knows_no_place_of_this_machine(write_pipeline) -> None:
    """The page says the same on every machine: paths are those of the document and of the dags folder."""
    document = write_pipeline()
    dag = load_pipelines(document.parent)["pipeline"]
    assert str(document.parent) not in dag.doc_md
    assert "`pipcook train pipeline.json -o pipeline`" in dag.doc_md


@pytest.mark.parametrize(
    "value", ["`", "a`b|c", "\\|[x](http://y)", "</code><img src=x>", "\n\n# big", "x" * 5000, "\u2028-"]
)
def test_values_cannot_write_markdown(write_pipeline, value: str) -> None:
    """Whatever a document holds, the table has as many rows and cells, and no value leaves its code span."""
    dag = load_pipeline(write_pipeline(options={"train": {"a": value}}))
    rows = [line for line in dag.doc_md.splitlines() if line.startswith("|")]
    assert len(rows) == 9
    assert all(row.count("|") == 3 for row in rows)
    assert all(row.count("`") % 2 == 0 for row in rows)
    assert "<" not in dag.doc_md
    assert len(dag.doc_md) < 2000
