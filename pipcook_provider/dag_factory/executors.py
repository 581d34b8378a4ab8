"""Executors that a document names, where Airflow has several."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from airflow.sdk import get_parsing_context

from pipcook_provider.dag_factory.refusal import Refuse
from pipcook_provider.spec import PipelineSpec

_AIRFLOW: Final = ("options", "airflow")


def check_executors(spec: PipelineSpec, refuse: Refuse) -> None:
    """Check that this Airflow has the executors that a document names.

    Airflow looks too, but blames the file that loads the document, and with it all documents of that file.

    :raises SpecError: it has not.
    """
    stated = dict(_stated(spec))
    if not stated or get_parsing_context().dag_id is not None:  # a worker may be configured otherwise
        return
    from airflow.configuration import conf
    from airflow.exceptions import UnknownExecutorException
    from airflow.executors.executor_loader import ExecutorLoader

    if conf.getboolean("core", "multi_team", fallback=False):
        return  # which executors a document may name is known by its bundle only
    for path, executor in stated.items():
        try:
            ExecutorLoader.lookup_executor_name_by_str(executor)
        except UnknownExecutorException:
            known = ", ".join(str(name.alias or name.module_path) for name in ExecutorLoader.get_executor_names())
            raise refuse(
                path,
                f'Expected an executor that this Airflow has ({known}), found "{executor}", where no task could run. Correct '
                "it, or add it to the option executor of the section [core].",
            ) from None


def _stated(spec: PipelineSpec) -> Iterator[tuple[tuple[str, ...], str]]:
    if spec.airflow.executor:
        yield (*_AIRFLOW, "executor"), spec.airflow.executor
    for name, stage in spec.airflow.stages.items():
        if stage.executor:
            yield (*_AIRFLOW, "stages", name, "executor"), stage.executor
