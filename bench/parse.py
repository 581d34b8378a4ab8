"""What parsing costs: 1,000 pipeline documents against the same DAGs by hand and against dag-factory.

Each contender builds 1,000 DAGs of 5 tasks in a line; those by hand have the same Params, the same asset as outlet and a
documentation as well. Documents are read by one loader for all, and one by one as a bundle's DAG files do. Rounds
alternate, the median of the rounds counts, and ratios are taken within a round. Processor time is measured: parsing waits
for nothing. The second part measures what a task's start costs in a folder of 1,000 documents against a folder of one.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import yaml

os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "ERROR")  # dag-factory logs two lines a file

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Asset, Param

from pipcook_provider.dag_factory import DocumentSource, load_pipeline, load_pipelines

COUNT = 1_000
ROUNDS = 5
TO_HAND = 1.2
TO_FACTORY = 0.5
TRAIN = {"epochs": 20, "batchSize": 16, "learningRate": 0.001, "validationRequired": True, "optimizer": "adam"}
TASKS = ("prepare", "datasource", "dataflow_1", "model", "artifact_1")


def main() -> int:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_documents(folder / "thousand", COUNT)
        write_documents(folder / "one", 1)
        write_dag_factory(folder / "dag-factory")
        contenders: dict[str, Callable[[], int]] = {
            "pipcook_provider": lambda: len(load_pipelines(folder / "thousand")),
            "one by one": lambda: one_by_one(folder / "thousand"),
            "by hand": by_hand,
            "dag-factory": lambda: dag_factory(folder / "dag-factory"),
        }
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(ROUNDS + 1):
            for name, build in contenders.items():
                times[name].append(timed(build))
        for name in contenders:
            del times[name][0]
            print(f"{name:18} {median(times[name]) / COUNT * 1e3:6.3f} ms a DAG")
        ratios = []
        for name in ("pipcook_provider", "one by one"):
            for peer, limit in (("by hand", TO_HAND), ("dag-factory", TO_FACTORY)):
                found = ratio(times[name], times[peer])
                ratios.append(found <= limit)
                print(f"{f'{name} to {peer}':31} {found:6.2f}  (limit {limit})")
        starts = task_starts(folder)
        print(f"task start, folder of {COUNT:,} {starts[COUNT] * 1e3:6.2f} ms; folder of 1 {starts[1] * 1e3:6.2f} ms")
    return int(not all(ratios))


def write_documents(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        document = {
            "specVersion": "2.0",
            "type": "ImageClassification",
            "datasource": f"https://example.com/scripts/datasource.py?url=https://example.com/data-{number}.zip",
            "dataflow": ["https://example.com/scripts/dataflow.py?size=224&size=224"],
            "model": "https://example.com/scripts/model.py",
            "artifact": [{"processor": "pipcook-artifact-zip@0.0.2", "target": f"model-{number}.zip"}],
            "options": {"framework": "tensorflow@2.21", "train": TRAIN, "airflow": {"tags": ["bench"]}},
        }
        (folder / f"pipeline_{number}.json").write_text(json.dumps(document, indent=2), encoding="utf-8")


def one_by_one(folder: Path) -> int:
    dags = []
    for number in range(COUNT):
        name = f"pipeline_{number}.json"
        dags.append(load_pipeline(folder / name, f"pipeline_{number}", source=DocumentSource(None, name)))
    return len(dags)


def by_hand() -> int:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
    dags = []
    for number in range(COUNT):
        params = {
            name: Param(value, type=kinds[type(value)], description="What it is.") for name, value in TRAIN.items()
        }
        params |= {
            "datasource.url": Param(f"https://example.com/data-{number}.zip", type="string", section="datasource"),
            "dataflow_1.size": Param(["224", "224"], type="array", items={"type": "string"}, section="dataflow 1"),
            "framework": Param("tensorflow@2.21", type="string", pattern="^[a-z0-9@._-]+$", section="Framework"),
        }
        dag = DAG(f"hand_{number}", schedule=None, tags=["bench"], params=params, doc_md="A pipeline.")
        previous = None
        for task_id in TASKS:
            outlets = [Asset(f"pipcook://models/hand_{number}")] if task_id == "model" else []
            task = BashOperator(task_id=task_id, bash_command="true", dag=dag, outlets=outlets)
            if previous is not None:
                previous.set_downstream(task)
            previous = task
        dags.append(dag)
    return len(dags)


def write_dag_factory(folder: Path) -> None:
    folder.mkdir()
    for number in range(COUNT):
        tasks = {}
        for before, task_id in zip((None, *TASKS), TASKS, strict=False):
            tasks[task_id] = {
                "operator": "airflow.providers.standard.operators.bash.BashOperator",
                "bash_command": "true",
                "dependencies": [before] if before else [],
            }
        document = {f"factory_{number}": {"schedule": None, "tags": ["bench"], "doc_md": "A pipeline.", "tasks": tasks}}
        (folder / f"pipeline_{number}.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")


def dag_factory(folder: Path) -> int:
    from dagfactory import load_yaml_dags

    found: dict[str, object] = {}
    load_yaml_dags(globals_dict=found, dags_folder=str(folder))
    return sum(isinstance(value, DAG) for value in found.values())


def timed(build: Callable[[], int]) -> float:
    gc.collect()
    started = time.process_time()
    built = build()
    elapsed = time.process_time() - started
    if built != COUNT:
        sys.exit(f"expected {COUNT} DAGs, found {built}: the figures would mean nothing")
    return elapsed


def ratio(one: list[float], other: list[float]) -> float:
    return median(a / b for a, b in zip(one, other, strict=True))


def task_starts(folder: Path) -> dict[int, float]:
    """Return the seconds that parsing for one task costs, by the number of documents in the folder."""
    os.environ["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = "pipeline_0"
    os.environ["_AIRFLOW_PARSING_CONTEXT_TASK_ID"] = "model"
    seconds: dict[int, list[float]] = {1: [], COUNT: []}
    for _ in range(20):
        for count, name in ((1, "one"), (COUNT, "thousand")):
            started = time.perf_counter()
            loaded = load_pipelines(folder / name)
            seconds[count].append(time.perf_counter() - started)
            assert list(loaded) == ["pipeline_0"]
    return {count: median(values) for count, values in seconds.items()}


if __name__ == "__main__":
    sys.exit(main())
