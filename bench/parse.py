"""What parsing costs: 1,000 pipeline documents against the same DAGs by hand and against dag-factory.

Each contender builds 1,000 DAGs of 5 tasks in a line; those by hand have the same Params, the same asset as outlet and a
documentation as well. Documents are read by one loader for all, and one by one as a bundle's DAG files do. Rounds
alternate, the median of the rounds counts, and ratios are taken within a round. Processor time is measured: parsing waits
for nothing.

The second part is about `PipcookDagBundle`: what a worker does before a task (make the bundle, initialize it, parse the task's
DAG file with Airflow's own DagBag) with 1,000 documents against one, turn by turn; how the memory of a forked process grows by
parsing one document out of 1,000 against one out of 10; and what a refresh costs with 10,000 documents of which one changed.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import psutil
import yaml

os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "ERROR")  # dag-factory logs two lines a file

from airflow.configuration import conf
from airflow.dag_processing.bundles.base import BaseDagBundle
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Asset, Param

from pipcook_provider.bundles import PipcookDagBundle
from pipcook_provider.dag_factory import DocumentSource, load_pipeline, load_pipelines

COUNT = 1_000
ROUNDS = 5
TO_HAND = 1.2
TO_FACTORY = 0.5
MANY = 10_000
STARTS = 100
TO_ONE = 1.05
GROWTH = 1.1
REFRESH_SECONDS = 1.0
TRAIN = {"epochs": 20, "batchSize": 16, "learningRate": 0.001, "validationRequired": True, "optimizer": "adam"}
TASKS = ("prepare", "datasource", "dataflow_1", "model", "artifact_1")


def main() -> int:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        conf.set("dag_processor", "dag_bundle_storage_path", str(folder / "bundles"))
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
        kept = []
        for name in ("pipcook_provider", "one by one"):
            for peer, limit in (("by hand", TO_HAND), ("dag-factory", TO_FACTORY)):
                found = ratio(times[name], times[peer])
                kept.append(found <= limit)
                print(f"{f'{name} to {peer}':31} {found:6.2f}  (limit {limit})")
        kept += [task_starts(folder), memory(folder), refreshes(folder)]
    return int(not all(kept))


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


def bundle_over(folder: Path) -> BaseDagBundle:
    return PipcookDagBundle(name=folder.name, path=str(folder))


def parse_one(bundle: BaseDagBundle) -> None:
    bag = BundleDagBag(bundle.path / "pipeline_0.json.py", bundle_path=bundle.path, bundle_name=bundle.name)
    assert list(bag.dags) == ["pipeline_0"], bag.import_errors


def task_starts(folder: Path) -> bool:
    """Print what a task's start costs with one document and with many; return whether the limit was kept."""
    names = {1: "one", COUNT: "thousand"}
    for name in names.values():
        bundle_over(folder / name).initialize()
    time.sleep(3)  # until then the folders count as changed a moment ago, and are looked at again
    seconds: dict[int, list[float]] = {count: [] for count in names}
    for _ in range(STARTS):
        for count, name in names.items():
            started = time.perf_counter()
            bundle = bundle_over(folder / name)
            bundle.initialize()
            parse_one(bundle)
            seconds[count].append(time.perf_counter() - started)
    found = median(seconds[COUNT]) / median(seconds[1])
    for count, values in seconds.items():
        print(f"task start, {count:>6,} documents   {median(values) * 1e3:6.2f} ms")
    print(f"{'ratio':31} {found:6.2f}  (limit {TO_ONE})")
    return found <= TO_ONE


def memory(folder: Path) -> bool:
    """Print by how much parsing one document grows a forked process; return whether the limit was kept."""
    write_documents(folder / "ten", 10)
    bundles = {10: bundle_over(folder / "ten"), COUNT: bundle_over(folder / "thousand")}
    grown: dict[int, list[int]] = {count: [] for count in bundles}
    for bundle in bundles.values():
        bundle.refresh()  # as the DAG processor does before it forks
    for _ in range(ROUNDS):
        for count, bundle in bundles.items():
            grown[count].append(in_fork(lambda bundle=bundle: parse_one(bundle)))
    found = median(grown[COUNT]) / median(grown[10])
    for count, values in grown.items():
        print(f"a parse among {count:>6,} documents {median(values) / 1e6:6.2f} MB of its own")
    whole = in_fork(lambda: load_pipelines(folder / "thousand"))
    print(f"all {COUNT:,} in one process, without a bundle {whole / 1e6:6.2f} MB")
    print(f"{'ratio':31} {found:6.2f}  (limit {GROWTH})")
    return found <= GROWTH


def in_fork(work: Callable[[], object]) -> int:
    """Return by how many bytes of its own a forked process grows when it does something."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def measure() -> None:
        gc.collect()
        process = psutil.Process()
        before = process.memory_full_info().uss
        kept = work()
        sender.send((process.memory_full_info().uss - before, kept is None))

    child = context.Process(target=measure)
    child.start()
    grown: int = receiver.recv()[0]
    child.join()
    return grown


def refreshes(folder: Path) -> bool:
    """Print what a refresh costs with many documents of which one changed; return whether the limit was kept."""
    write_documents(folder / "many", MANY)
    bundle = bundle_over(folder / "many")
    bundle.initialize()
    seconds = []
    for number in range(10):
        document = folder / "many" / f"pipeline_{number}.json"
        document.write_text(
            document.read_text(encoding="utf-8").replace('"epochs": 20', '"epochs": 21'), encoding="utf-8"
        )
        started = time.perf_counter()
        bundle.refresh()
        seconds.append(time.perf_counter() - started)
        stub = bundle.path / f"{document.name}.py"
        assert stub.stat().st_mtime_ns == document.stat().st_mtime_ns, "the refresh has not seen the change"
    print(f"refresh of {MANY:,} documents     {median(seconds):6.2f} s  (limit {REFRESH_SECONDS})")
    return median(seconds) <= REFRESH_SECONDS


if __name__ == "__main__":
    sys.exit(main())
