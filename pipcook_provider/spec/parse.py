"""Text + origin -> `PipelineSpec`.

A good document goes one straight way: JSON, the compiled schema, the records. As soon as anything is wrong with it,
`diagnose` looks at the whole of it again, slowly, and tells everything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pipcook_provider.errors import SpecError
from pipcook_provider.masking import masked
from pipcook_provider.spec.airflow import airflow_options
from pipcook_provider.spec.credentials import refuse_credentials
from pipcook_provider.spec.defaults import NO_DEFAULTS, load_defaults
from pipcook_provider.spec.environment import replace_variables
from pipcook_provider.spec.framework import check_framework
from pipcook_provider.spec.keys import misspelt
from pipcook_provider.spec.model import ArtifactSpec, PipelineSpec
from pipcook_provider.spec.reader import read, read_file, too_deep
from pipcook_provider.spec.schema import predicate
from pipcook_provider.spec.stages import check_stage, stage_names
from pipcook_provider.spec.uri import absolute_origin, resolve_script

_PIPELINE_KEY: Final = re.compile(
    r"""\b(specVersion|data[sS]ource|plugins(?=["'”]?\s*[:：]\s*\{))["'”]?\s*[:：]""",
)
_DATASOURCES: Final = frozenset({"datasource", "dataSource"})
_BESIDE_VERSION: Final = _DATASOURCES | {"dataflow", "model", "artifact", "artifacts", "options"}
_PLUGINS: Final = frozenset(
    {
        *("dataCollect", "dataAccess", "dataProcess", "datasetProcess"),
        *("modelLoad", "modelDefine", "modelTrain", "modelEvaluate"),
    }
)


def parse_pipeline(text: str, origin: str) -> PipelineSpec:
    """Read a pipeline document.

    :param text: the document.
    :param origin: path or URL of the document; relative URIs in it are resolved against it.
    :raises SpecError: the document cannot be used; holds every problem, in the order of the text.
    """
    return _parse(text, origin)


def load_pipeline_spec(path: Path, origin: str | None = None) -> PipelineSpec:
    """Read a pipeline document from a file in UTF-8, with the defaults of its folder and of those above it.

    A document that states its ``origin`` gets none: it is a run's own, and they were written into it.

    :param origin: URL that the document came from, if the file is only a copy: relative URIs in it are resolved against
        that, errors name it, and the folder of the file has no say.
    :raises SpecError: the file cannot be read, or the document or defaults cannot be used.
    """
    return _parse(read_file(path), origin or str(path), None if origin else path)


def _parse(text: str, origin: str, file: Path | None = None) -> PipelineSpec:
    try:
        return _parsed(text, origin, file)
    except RecursionError as exc:
        raise too_deep(origin) from exc


def _parsed(text: str, origin: str, file: Path | None) -> PipelineSpec:
    document = read(text, origin)
    defaults = NO_DEFAULTS
    texts: Mapping[Any, str] = {}
    cause: ValueError | None = None
    if file is not None and isinstance(document, dict) and "origin" in document:
        file = None
    if file is not None and ("${" in text or "\\u00" in text):  # an escape may be one of its characters
        defaults = load_defaults(file)
        document, texts = replace_variables(text, document, origin, defaults.environment)
    if predicate()(document) and not misspelt(document):
        if file is not None:
            defaults = load_defaults(file)
            document = defaults.below(document)
        try:
            return _build(document, origin)
        except ValueError as exc:
            cause = ValueError(masked(str(exc)))  # tracebacks show it too
    from pipcook_provider.spec.diagnose import diagnose

    raise SpecError(masked(origin), diagnose(text, document, origin, defaults.source, texts)) from cause


def is_pipeline_document(text: str) -> bool:
    """Tell whether a JSON text means to be a pipeline, however broken, rather than some other JSON file.

    It does when it, or an entry of a list, has at its top level ``datasource``, ``dataSource``, an object ``plugins``
    with the plugins of 1.0, a ``specVersion`` beside another key of a pipeline, or a ``specVersion`` 2; in a text that
    is not JSON, when ``specVersion``, ``datasource``, ``dataSource`` or an object ``plugins`` stands anywhere. A bill
    of materials (CycloneDX, which has a ``specVersion`` too) is none.
    """
    if _PIPELINE_KEY.search(text) is None:
        return False
    try:
        document = read(text, "")
    except SpecError:
        return '"bomFormat"' not in text
    return any(map(_means_pipeline, document if isinstance(document, list) else [document]))


def _means_pipeline(document: Any) -> bool:
    if not isinstance(document, dict):
        return False
    if not _DATASOURCES.isdisjoint(document):
        return True
    if "specVersion" in document:
        if not _BESIDE_VERSION.isdisjoint(document):
            return True
        if "bomFormat" not in document:
            return str(document["specVersion"]).strip().removeprefix("v").startswith("2")
    plugins = document.get("plugins")
    return isinstance(plugins, dict) and not _PLUGINS.isdisjoint(plugins)


def _build(document: Mapping[str, Any], origin: str) -> PipelineSpec:
    refuse_credentials(origin)
    origin = absolute_origin(origin)
    if "origin" in document:
        refuse_credentials(document["origin"])
        origin = absolute_origin(document["origin"], origin)
    datasource = document["datasource"] if "datasource" in document else document["dataSource"]
    artifacts = document.get("artifact") or document.get("artifacts") or ()
    options = document.get("options") or {}
    if framework := options.get("framework"):
        check_framework(framework)
    airflow = airflow_options(options.get("airflow") or {})
    if airflow.stages:
        names = stage_names(document)
        for name in airflow.stages:
            check_stage(name, names)
    return PipelineSpec(
        origin=origin,
        type=document.get("type"),
        datasource=resolve_script(datasource, origin),
        dataflow=tuple(resolve_script(script, origin) for script in document.get("dataflow") or ()),
        model=resolve_script(document["model"], origin),
        artifacts=tuple(ArtifactSpec(entry["processor"], entry) for entry in artifacts),
        framework=framework,
        train=options.get("train") or {},
        options={name: value for name, value in options.items() if name != "airflow"},
        airflow=airflow,
        document=document,
    )
