"""Templates in documents: the values that Airflow's users know, and nothing else, since a document is code from elsewhere.

Importing this package costs next to nothing; Jinja is loaded when a text turns out to be a template.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pipcook_provider.errors import TemplateError

_NO_DATE: Final = (
    "this run has no logical date, as one that was triggered without a date, or by an asset. Trigger it with a logical "
    "date, use {{ dag_run.run_after | ds }}, or say what stands in: {{ ds | default('...') }}."
)
_NO_RUN: Final = "no run of this pipeline has succeeded before this one. Say what stands in: | default('...')."

#: What templates may name, and why a run may have no value for it.
NAMES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("ds", "ds_nodash", "ts", "ts_nodash", "ts_nodash_with_tz", "logical_date"), _NO_DATE),
    **dict.fromkeys(("data_interval_start", "data_interval_end"), _NO_DATE),
    **dict.fromkeys(("prev_data_interval_start_success", "prev_data_interval_end_success"), _NO_RUN),
    **dict.fromkeys(("prev_start_date_success", "prev_end_date_success"), _NO_RUN),
    **dict.fromkeys(("run_id", "dag_run", "params"), "the template is rendered outside any run."),
    "partition_key": "this run is none of a partitioned asset's. Say what stands in: | default('...').",
    "macros": "",
    "conn": "",
}


def is_template(text: str) -> bool:
    """Tell whether a text is to be rendered, rather than taken as it is."""
    return "{{" in text or "{%" in text


@dataclass(frozen=True, slots=True)
class Namespace:
    """A value of which a template may have the members, but not the whole."""

    members: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFields:
    """What templates may have of an Airflow connection.

    :param password: given to environment variables only, as ``extra`` is.
    :param extra_dejson: ``extra``, parsed.
    """

    conn_type: str | None = None
    host: str | None = None
    port: int | None = None
    schema: str | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    extra: str | None = field(default=None, repr=False)
    extra_dejson: Mapping[str, Any] | None = field(default=None, repr=False)


def _no_value(name: str) -> None:  # noqa: ARG001 - the signature of those that have one
    return None


def _no_connection(conn_id: str) -> ConnectionFields:
    raise TemplateError(
        f"expected no connection, since this command runs without Airflow, found {conn_id!r}. Use airflow pipcook train, "
        "trigger the pipeline in Airflow, or write the value itself into a copy of the document."
    )


def _no_mask(text: str) -> None:
    """Do nothing: where there are no connections, nothing is secret."""


@dataclass(frozen=True, slots=True)
class Templates:
    """Renders the templates of one run.

    :param value: returns the value of one of :data:`NAMES` but ``conn`` and ``macros``; None where the run has none. Asked
        only for what a template names.
    :param connection: returns a connection by its id. Raises TemplateError for one that templates may not have.
    :param mask: is told texts that must appear in no log.
    """

    value: Callable[[str], Any] = _no_value
    connection: Callable[[str], ConnectionFields] = _no_connection
    mask: Callable[[str], object] = _no_mask

    def render(self, text: str, place: str, *, secrets: bool = False) -> str:
        """Return what a text becomes in this run.

        :param place: where the text stands, for errors: the beginning of a sentence.
        :param secrets: whether it may have passwords: what it becomes is then kept nowhere.
        :raises TemplateError: it cannot be rendered.
        """
        if not is_template(text):
            return text
        from pipcook_provider.templating.sandbox import Template

        try:
            template = Template.parse(text, secrets=secrets)
            values = {name: value for name in template.names if (value := self.value(name)) is not None}
            connections = {conn_id: self._fields(conn_id, template) for conn_id, _ in template.fields}
            rendered = template.render({**values, "conn": connections})
        except TemplateError as exc:
            shown = text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
            raise TemplateError(f"{place} is the template {shown!r}, which cannot be rendered: {exc}") from None
        if template.is_secret:
            self.mask(rendered)
        return rendered

    def _fields(self, conn_id: str, template: Any) -> dict[str, Any]:
        connection = self.connection(conn_id)
        named = {name: getattr(connection, name) for owner, name in template.fields if owner == conn_id}
        return {name: value for name, value in named.items() if value is not None}


_LONGEST_SHOWN: Final = 300
