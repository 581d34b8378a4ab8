"""The document of a run: made when the run is prepared, read by its stages, kept with its model."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from typing import Any

from pipcook_provider.errors import ParameterError
from pipcook_provider.plan import training_parameters
from pipcook_provider.spec import PipelineSpec

#: Where a prepared run's document keeps what its framework must be: by a lock, or since it is known by no exact name.
PINNED = "pinnedFramework"


def as_it_runs(spec: PipelineSpec, train: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document with ``train`` applied, carrying its origin: it no longer lies where it came from.

    :raises ParameterError: a name is none of the document's.
    """
    document: dict[str, Any] = copy.deepcopy(dict(spec.document))
    document["origin"] = spec.origin
    document.pop(PINNED, None)
    known = {parameter.name: parameter for parameter in training_parameters(spec.train)}
    for name, value in train.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ParameterError(
                f"expected a parameter of the document's options.train, found {name!r}."
                + (f" Did you mean {near[0]!r}?" if near else "")
                + f" It has {', '.join(known) or 'none'}. Nothing was run; add it to the document, or leave it out."
            )
        target = document["options"]["train"]
        *outer, inner = known[name].path
        for part in outer:
            target = target[part]
        target[inner] = value
    return document


def without_airflow(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document as ``model/pipeline.json`` keeps it: without what only concerns Airflow, or this machine."""
    kept = {name: value for name, value in document.items() if name not in ("origin", PINNED)}
    if "options" in kept:
        kept["options"] = {name: value for name, value in kept["options"].items() if name != "airflow"}
    return kept
