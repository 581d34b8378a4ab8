"""Prepare the environment that scikit-learn reads when it is imported; nothing is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def initialize(options: Mapping[str, Any]) -> None:
    """Leave everything as it is: scikit-learn takes its threads from ``OMP_NUM_THREADS`` and knows no GPU.

    :param options: the ``options`` of the pipeline document.
    """
