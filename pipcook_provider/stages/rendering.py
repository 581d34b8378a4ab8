"""Templates of a run's document: those of queries become values when the run is prepared, those of ``env`` whenever a stage
is launched.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pipcook_provider.errors import TemplateError
from pipcook_provider.plan import plan
from pipcook_provider.spec import Parameter, PipelineSpec, ScriptSpec
from pipcook_provider.spec.uri import with_query
from pipcook_provider.templating import Templates, is_template

_NOT_IN_VARIABLES: Final = re.compile("[\0\ud800-\udfff]")


def with_rendered_queries(
    spec: PipelineSpec, document: dict[str, Any], templates: Templates, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Return a run's document with the templates of its scripts' queries rendered; the same one where it has none.

    :param document: what ``spec`` was made of.
    :param tell: is told what became of each.
    :raises TemplateError: one cannot be rendered.
    """
    changed = document
    for stage in plan(spec):
        if not isinstance(stage.subject, ScriptSpec) or not any(map(is_template, _texts(stage.subject.parameters))):
            continue
        rendered: dict[str, Parameter] = {}
        for key, value in stage.subject.parameters.items():
            name = f"{stage.task_id}.{key}"
            rendered[key] = _rendered(value, templates, name)
            if rendered[key] != value:
                tell(f"{name}: {value} -> {rendered[key]}")
        if changed is document:
            changed = copy.deepcopy(document)
        *outer, last = spec.script_paths[stage.order]
        place: Any = changed
        for part in outer:
            place = place[part]
        try:
            place[last] = with_query(place[last], rendered)
        except ValueError as exc:
            raise TemplateError(f"The templates of {stage.title} cannot be rendered into its URI: {exc}") from None
    return changed


def rendered_environment(spec: PipelineSpec, templates: Templates) -> dict[str, str]:
    """Return the variables of ``options.airflow.env``, rendered: they may hold secrets.

    :raises TemplateError: one cannot be rendered.
    """
    rendered: dict[str, str] = {}
    for name, text in spec.airflow.env.items():
        place = f"The variable {name} of options.airflow.env"
        rendered[name] = templates.render(text, place, secrets=True)
        if _NOT_IN_VARIABLES.search(rendered[name]):
            raise TemplateError(
                f"{place} was expected to be a text that an environment can hold, found the character NUL or half a character "
                "in it. Correct it, or what its template stands for."
            )
    return rendered


def _rendered(value: Parameter, templates: Templates, name: str) -> Parameter:
    place = f"The parameter {name}"
    if isinstance(value, list):
        return [None if text is None else templates.render(text, place) for text in value]
    return None if value is None else templates.render(value, place)


def _texts(parameters: Mapping[str, Parameter]) -> Iterator[str]:
    for value in parameters.values():
        yield from (text for text in (value if isinstance(value, list) else [value]) if text is not None)
