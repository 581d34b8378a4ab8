"""``${NAME}`` in string values: environment variables, where the defaults of a folder allow them by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pipcook_provider.errors import SpecError
from pipcook_provider.masking import holds_credentials, masked
from pipcook_provider.spec.places import Path

VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

Environment = Mapping[str, str | None]
"""The variables that may be named, with their values; ``None`` where the environment has none of the name."""


def replace_variables(
    text: str, document: Any, origin: str, environment: Environment
) -> tuple[Any, Mapping[Path, str]]:
    """Replace the variables in the string values of a parsed document; its keys stay.

    :param text: the document.
    :param origin: its path or URL.
    :param environment: the variables; other names stay as they are.
    :returns: the document, and the texts in which something was replaced, by their paths.
    :raises SpecError: a variable has no value, or one that is no text.
    """
    texts = dict(_texts(document, environment)) if environment else {}
    if not texts:
        return document, texts
    reasons = {path: _flaw(found, environment) for path, found in texts.items()}
    if any(reasons.values()):
        from pipcook_provider.spec.diagnose import Flaw, located

        raise SpecError(masked(origin), located(text, {Flaw(path, why) for path, why in reasons.items() if why}))
    return _replaced(document, environment), texts


def _texts(value: Any, environment: Environment, path: Path = ()) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        if any(found[1] in environment for found in VARIABLE.finditer(value)):
            yield path, value
    elif isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(inner, environment, (*path, key))


def _flaw(text: str, environment: Environment) -> str | None:
    """Return why the variables in a text cannot be replaced, or ``None``."""
    for found in VARIABLE.finditer(text):
        name, value = found[1], environment.get(found[1], "")
        if value is None:
            return (
                f'Expected the environment variable {name}, which "{found[0]}" stands for, found none of that name. Set it '
                "wherever documents are read (Airflow's DAG processor and workers, your shell), or write the value itself."
            )
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"Expected a text in the environment variable {name}, found bytes that are no UTF-8. Set it anew."
        if holds_credentials(value):
            return (
                f"Expected no secret in the environment variable {name}, found an address with user and password, which would "
                "be written into the run's files. Take them out, and put them into the file ~/.netrc of the workers, which "
                "downloads read."
            )
    return None


def _replaced(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        return VARIABLE.sub(lambda found: values.get(found[1], found[0]), value)
    if isinstance(value, dict):
        return {name: _replaced(inner, values) for name, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, values) for inner in value]
    return value
