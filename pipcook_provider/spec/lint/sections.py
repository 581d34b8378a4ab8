"""Where scripts and sections stand in a document, and what has no effect there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pipcook_provider.spec.diagnose import Flaw
from pipcook_provider.spec.lint.facts import Facts
from pipcook_provider.spec.model import Gpu, PipelineSpec, ScriptSpec
from pipcook_provider.spec.names import did_you_mean
from pipcook_provider.spec.places import Path

AIRFLOW: Final = ("options", "airflow")
_OF_CONTAINERS: Final = ("image", "network", "gpus", "memory")


def scripts_of(spec: PipelineSpec) -> Iterator[tuple[Path, ScriptSpec]]:
    """Return the scripts of a document with the paths of their URIs."""
    return zip(spec.script_paths, spec.scripts, strict=True)


def airflow_section(spec: PipelineSpec) -> Mapping[str, Any]:
    """Return ``options.airflow`` as the document has it."""
    return (spec.document.get("options") or {}).get("airflow") or {}


def sections(spec: PipelineSpec) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield ``options.airflow`` and what it says of single stages, as the document has them."""
    options = airflow_section(spec)
    if options:
        yield AIRFLOW, options
        for name, stage in (options.get("stages") or {}).items():
            if stage:
                yield (*AIRFLOW, "stages", name), stage


def without_effect(spec: PipelineSpec) -> Iterator[Flaw]:
    """Yield what only containers have where there are none, and GPUs of stages that ask for none."""
    if spec.airflow.runner == "process":
        for path, section in sections(spec):
            for name in _OF_CONTAINERS:
                if section.get(name) is not None:
                    yield Flaw(
                        (*path, name),
                        f'"{name}" has no effect: it is for containers, and the runner is "process". Remove one of them.',
                        at_key=True,
                    )
    elif (
        airflow_section(spec).get("gpus")
        and spec.gpu is Gpu.NO
        and not any(stage.gpu for stage in spec.airflow.stages.values())
    ):
        yield Flaw(
            (*AIRFLOW, "gpus"),
            '"gpus" has no effect: no stage gets a GPU. Write "gpu": true, or "auto", into options.train, or remove it.',
            at_key=True,
        )


def unknown_notifiers(spec: PipelineSpec, facts: Facts) -> Iterator[Flaw]:
    """Yield what is to be told of failures, and is not known on this machine."""
    if not facts.notifiers:
        return
    for index, name in enumerate(spec.airflow.on_failure):
        if name not in facts.notifiers:
            path = (*AIRFLOW, "on_failure")
            listed = isinstance(airflow_section(spec).get("on_failure"), list)
            yield Flaw(
                (*path, index) if listed else path,
                f"Expected the name of one of this machine's [pipcook] notifiers ({', '.join(facts.notifiers)}), found "
                f'"{name}".{did_you_mean(name, facts.notifiers)}',
            )
