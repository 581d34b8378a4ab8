"""Prepare the environment that TensorFlow reads when it is imported; nothing is imported here."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any


def initialize(options: Mapping[str, Any]) -> None:
    """Show the GPU to TensorFlow only where ``options.train.gpu`` asks for it.

    :param options: the ``options`` of the pipeline document.
    """
    train = options.get("train") or {}
    gpu = train.get("gpu") in (True, "true", "auto") and sys.platform != "darwin"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if gpu:
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
