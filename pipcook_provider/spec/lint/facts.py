"""What lint is told of a document beside its text: by whoever has looked at files, servers and settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pipcook_provider.spec.places import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a document and of what it names; by default nothing.

    :param mistakes: what is wrong with the document as a whole.
    :param unusable: why something that it names (a script, a framework, a watched address) cannot be used, by its path.
    :param doubtful: the same of what may be usable on another machine.
    :param declared: the parameters that a script says it takes, by the script's reference.
    :param locked: the references that the lock beside the document holds to what they are.
    :param notifiers: what ``on_failure`` may name; empty where that is not known.
    :param connections: ids of the connections that templates may name; empty where that is not known.
    :param model: name or URI of the asset that the pipeline's own model is.
    """

    mistakes: tuple[str, ...] = ()
    unusable: Mapping[Path, str] = field(default_factory=dict)
    doubtful: Mapping[Path, str] = field(default_factory=dict)
    declared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    locked: frozenset[str] = frozenset()
    notifiers: tuple[str, ...] = ()
    connections: tuple[str, ...] = ()
    model: str | None = None


NOTHING_KNOWN: Final = Facts()
