"""What ``options.airflow.stages`` may name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pipcook_provider.spec.names import did_you_mean

#: Task id of what goes before the stages.
PREPARE: Final = "prepare"
_ANY_STAGE: Final = re.compile(r"datasource|model|(?:dataflow|artifact)(?:_[1-9][0-9]*)?")


def stage_names(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the task ids of a document's stages and their roles, in the order in which they run.

    :param document: a parsed document; what is no list in it has no stages.
    """
    artifacts = document.get("artifact") or document.get("artifacts")
    return (
        "datasource",
        *_numbered("dataflow", document.get("dataflow")),
        "model",
        *_numbered("artifact", artifacts),
    )


def check_stage(name: str, names: tuple[str, ...]) -> None:
    """Check that a document has the stage that its options name.

    :param names: what `stage_names` returns of it.
    :raises ValueError: it has none of this name.
    """
    if name not in names:
        raise ValueError(
            f'Expected a stage that this document has, found "{name}", which would change nothing. It has '
            f"{', '.join(names)}.{_hint(name, names)}"
        )


def check_any_stage(name: str) -> None:
    """Check that some document could have a stage of this name.

    :raises ValueError: none could.
    """
    if _ANY_STAGE.fullmatch(name) is None:
        raise ValueError(
            "Expected datasource, dataflow, model or artifact, or one of several, such as dataflow_1 or artifact_2, found "
            f'"{name}", which no document has.{_hint(name, ("datasource", "dataflow", "model", "artifact"))}'
        )


def _hint(name: str, names: tuple[str, ...]) -> str:
    if name == PREPARE:
        return f" The task {PREPARE} has what options.airflow says of the whole pipeline. Write it there."
    return did_you_mean(name, names)


def _numbered(role: str, entries: Any) -> tuple[str, ...]:
    if not isinstance(entries, list) or not entries:
        return ()
    return (role, *(f"{role}_{number}" for number in range(1, len(entries) + 1)))
