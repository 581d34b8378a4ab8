"""Errors of documents that are right by themselves, and that this Airflow cannot take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipcook_provider.errors import SpecError

Refuse = Callable[[tuple[str | int, ...], str], SpecError]
"""Takes the keys of a value in the document, and what is wrong with it."""


def refusal(document: Path, origin: str | None, path: tuple[str | int, ...], message: str) -> SpecError:
    """Return the error of a value in a document, with its place; of one from defaults, with the file that it is from.

    :param origin: the URL that the document was fetched from; None for a file.
    :param path: keys of the value.
    :param message: what was expected, what was found, what that means and what to do.
    """
    from pipcook_provider.masking import masked
    from pipcook_provider.spec.defaults import NO_DEFAULTS, load_defaults
    from pipcook_provider.spec.diagnose import Flaw, located
    from pipcook_provider.spec.reader import read_file

    defaults = NO_DEFAULTS if origin else load_defaults(document)
    problems = located(read_file(document), {Flaw(path, message)}, defaults.source)
    return SpecError(masked(origin or str(document)), problems)
