"""A network that tells an image's category: a small one trained from scratch, or a head on a pretrained one.

Parameters:

- ``epochs`` (10), ``batchSize`` (16), ``learningRate``, ``seed`` (none: two runs differ)
- ``modelUrl``: what the network is built on: ``mobilenet``, ``resnet`` (their ImageNet weights are downloaded by Keras), or
  the URL or path of a Keras file. Without it a small convolutional network is trained from scratch.
- ``freeze`` (true): leave the weights of ``modelUrl`` as they are and train the head only
- ``hiddenLayerUnits``: units of the layer before the last (10 on a pretrained network, else 64)
- ``optimizer`` (adam), ``loss`` (categorical_crossentropy), ``metrics`` (accuracy): names that Keras knows
- ``validationRequired`` (false): measure each epoch on the validation split, and the result on the test split (else the
  validation split), which gives the run's metrics ``loss`` and ``accuracy``

The model's folder gets ``model.keras``, which takes images as the dataflow gives them and gives a probability for each
category, and ``categories.json``: their names in that order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipcook_provider.runtime import Context, Dataset, parameters

MODEL = "model.keras"
CATEGORIES = "categories.json"
REPORT_SECONDS = 0.5  # progress within an epoch is told at most that often


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The script's parameters; see above."""

    epochs: int
    batch_size: int
    learning_rate: float | None
    seed: int | None
    model_url: str | None
    freeze: bool
    hidden_units: int
    optimizer: str
    loss: str
    metrics: tuple[str, ...]
    validate: bool

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> Options:
        """Return the parameters as they came from query and ``options.train``."""
        model_url = parameters.text(options, "modelUrl", None)
        return cls(
            epochs=parameters.integer(options, "epochs", 10, minimum=1),
            batch_size=parameters.integer(options, "batchSize", 16, minimum=1),
            learning_rate=parameters.number(options, "learningRate", None),
            seed=parameters.integer(options, "seed", None),
            model_url=model_url,
            freeze=parameters.boolean(options, "freeze", True),
            hidden_units=parameters.integer(options, "hiddenLayerUnits", 10 if model_url else 64, minimum=1),
            optimizer=parameters.text(options, "optimizer", "adam"),
            loss=_keras_name(parameters.text(options, "loss", "categorical_crossentropy")),
            metrics=tuple(map(_keras_name, parameters.texts(options, "metrics", ("accuracy",)))),
            validate=parameters.boolean(options, "validationRequired", False),
        )
