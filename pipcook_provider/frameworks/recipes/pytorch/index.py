"""Prepare the environment that PyTorch reads when it is imported; nothing is imported here."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any


def initialize(options: Mapping[str, Any]) -> None:
    """Show the GPU to PyTorch only where ``options.train.gpu`` asks for it.

    :param options: the ``options`` of the pipeline document.
    """
    train = options.get("train") or {}
    gpu = train.get("gpu") in (True, "true", "auto") and sys.platform != "darwin"
    if not gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
