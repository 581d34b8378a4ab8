"""A network that tells an image's category: a small one trained from scratch, or a head on a pretrained one.

The model's folder gets ``model.keras``, which takes images as the dataflow gives them and gives a probability for each
category, and ``categories.json``: their names in that order.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipcook_provider.runtime import Context, Dataset, DatasetPool, parameters

PARAMETERS = {
    "epochs": "how many times the training images are gone through; 10 by default",
    "batchSize": "images in one training step; 16 by default",
    "learningRate": "step size of the optimizer; by default the optimizer's own",
    "seed": "number that makes two trainings the same; by default two runs differ",
    "modelUrl": "what the network is built on: mobilenet, resnet (Keras downloads their ImageNet weights), or the URL or path "
    "of a Keras file; by default a small convolutional network is trained from scratch",
    "freeze": "whether the weights of modelUrl stay as they are, and only the head is trained; true by default",
    "hiddenLayerUnits": "units of the layer before the last; 10 on a pretrained network by default, else 64",
    "optimizer": "name that Keras knows; adam by default",
    "loss": "name that Keras knows; categorical_crossentropy by default",
    "metrics": "names that Keras knows; accuracy by default",
    "validationRequired": "whether each epoch is measured on the validation split, and the result on the test split (else the "
    "validation split), which gives the run's metrics loss and accuracy; false by default",
}

MODEL = "model.keras"
CATEGORIES = "categories.json"
BLOCK = 256  # rows that are taken from the dataset at a time
REPORT_SECONDS = 0.5  # progress within an epoch is told at most that often


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The script's parameters; see ``PARAMETERS``."""

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


def train(runtime: Any, options: Mapping[str, Any], context: Context) -> None:
    """Train, measure and save a model.

    :raises ValueError: a parameter or the dataset cannot be used.
    """
    settings = Options.read(options)
    categories = runtime.dataset.meta.categories
    images = _images(runtime.dataset.train, "train")
    if not categories:
        raise ValueError(
            "expected a dataset with categories, found none: use a datasource that names them in its meta."
        )
    measured = _measured(runtime.dataset) if settings.validate else None
    seed = secrets.randbelow(2**31) if settings.seed is None else settings.seed
    runtime.log_metric("seed", seed)
    keras.utils.set_random_seed(seed)
    model = _compiled(settings, _network(settings, images, len(categories), context))
    feed = Feed(categories, settings, seed)
    valid = runtime.dataset.valid if settings.validate else None
    model.fit(
        feed(runtime.dataset.train, shuffle=True),
        epochs=settings.epochs,
        validation_data=feed(valid) if valid else None,
        callbacks=[Progress(runtime, settings.epochs)],
        shuffle=False,
        verbose=0,
    )
    with TemporaryDirectory(dir=context.workspace.cache_dir) as folder:
        model.save(Path(folder) / MODEL)
        runtime.save_model(Path(folder) / MODEL, MODEL)
    runtime.save_model(json.dumps(categories, ensure_ascii=False).encode(), CATEGORIES)
    if measured:
        figures = model.evaluate(feed(measured), verbose=0, return_dict=True)
        for name, value in figures.items():
            runtime.log_metric(name, value)
        runtime.notify_progress(1.0, split="test" if measured is runtime.dataset.test else "valid", **figures)


def predict(runtime: Any, options: Mapping[str, Any], context: Context) -> list[dict[str, Any]]:
    """Return ``id``, ``category`` and ``score`` (0 to 1) of the likeliest category of each image to be predicted."""
    folder = runtime.read_model()
    model = keras.models.load_model(folder / MODEL, compile=False)
    categories = json.loads((folder / CATEGORIES).read_text(encoding="utf-8"))
    _images(runtime.dataset.predicted, "predicted")
    results = []
    for images, _ in runtime.dataset.predicted.batches(Options.read(options).batch_size):
        for scores in model.predict_on_batch(images):
            best = int(np.argmax(scores))
            results.append({"id": best, "category": categories[best], "score": float(scores[best])})
    return results


def _images(dataset: Dataset | None, split: str) -> np.ndarray[Any, Any]:
    """Return the first image of a split, which tells shape and type of all."""
    if not dataset:
        raise ValueError(f"expected images in the split {split!r}, found none: there is nothing to work with.")
    image = dataset[0].data
    if not isinstance(image, np.ndarray) or image.ndim != 3:
        raise ValueError(
            f"expected images as arrays of height, width and channels, found {type(image).__name__}: put a dataflow "
            "script that decodes and resizes images before the model."
        )
    return image


def _measured(dataset: DatasetPool) -> Dataset:
    """Return the split that tells how good the model is."""
    split = dataset.test or dataset.valid
    if not split:
        raise ValueError(
            "expected a test or validation split, as validationRequired asks for, found neither: how good the model is "
            "could not be told. Add images to measure it with, or leave validationRequired out."
        )
    return split


@dataclass(frozen=True, slots=True)
class Feed:
    """Datasets as TensorFlow takes them: blocks of rows from the mapped file, which TensorFlow cuts into batches."""

    categories: tuple[str, ...]
    settings: Options
    seed: int

    def __call__(self, dataset: Dataset, *, shuffle: bool = False) -> tf.data.Dataset:
        """Return the batches of one epoch; with ``shuffle`` each epoch has another order."""
        size = self.settings.batch_size
        targets = self._targets()
        epochs = count()

        def blocks() -> Iterator[tuple[Any, Any]]:
            if shuffle:
                dataset.shuffle(self.seed + next(epochs))
            for images, labels in dataset.batches(size * max(1, BLOCK // size)):
                yield images, np.array([targets[label] for label in labels])

        image = dataset[0].data
        target = next(iter(targets.values()))
        signature = (
            tf.TensorSpec((None, *image.shape), image.dtype),
            tf.TensorSpec((None, *target.shape), target.dtype),
        )
        batches = tf.data.Dataset.from_generator(blocks, output_signature=signature).rebatch(size)
        return batches.apply(tf.data.experimental.assert_cardinality(-(-len(dataset) // size))).prefetch(2)

    def _targets(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return what the network is to give for each category, in the form that the loss wants."""
        if self.settings.loss.startswith("sparse_"):
            return {category: np.array(number) for number, category in enumerate(self.categories)}
        return dict(zip(self.categories, np.eye(len(self.categories), dtype=np.float32), strict=True))


def _compiled(settings: Options, model: keras.Model) -> keras.Model:
    optimizer = keras.optimizers.get(settings.optimizer)
    if settings.learning_rate is not None:
        optimizer.learning_rate = settings.learning_rate
    # XLA takes longer to compile a small network for a CPU than it then saves.
    jit = "auto" if tf.config.list_physical_devices("GPU") else False
    model.compile(optimizer, settings.loss, metrics=list(settings.metrics), jit_compile=jit)
    return model


def _network(settings: Options, image: np.ndarray[Any, Any], categories: int, context: Context) -> keras.Model:
    inputs = keras.Input(image.shape, dtype=image.dtype.name)
    brightest = 255 if image.dtype == np.uint8 else 1
    body = _pretrained if settings.model_url else _small
    hidden = keras.layers.Dense(settings.hidden_units, activation="relu")(body(settings, inputs, brightest, context))
    return keras.Model(inputs, keras.layers.Dense(categories, activation="softmax")(hidden))


def _small(settings: Options, inputs: Any, brightest: int, context: Context) -> Any:
    """Return the features of a convolutional network whose depth follows the size of the images."""
    layers = keras.layers
    features = layers.Rescaling(1 / brightest)(inputs)
    depth = min(max(int(np.log2(min(inputs.shape[1:3]) / 4)), 1), 5)
    for number in range(depth):
        features = layers.Conv2D(min(16 << number, 64), 3, padding="same", activation="relu")(features)
        features = layers.MaxPooling2D(padding="same")(features)
    return layers.Dropout(0.2)(layers.Flatten()(features))


def _pretrained(settings: Options, inputs: Any, brightest: int, context: Context) -> Any:
    """Return the features that a pretrained network finds."""
    network = _load_network(str(settings.model_url), tuple(inputs.shape[1:]), context)
    network.trainable = not settings.freeze
    scale = _scales_itself(network)
    scaling = keras.layers.Rescaling(255 / brightest if scale else 2 / brightest, 0 if scale else -1)
    features = network(scaling(inputs), training=False if settings.freeze else None)
    return keras.layers.GlobalAveragePooling2D()(features) if len(features.shape) == 4 else features


def _load_network(url: str, shape: tuple[int, ...], context: Context) -> keras.Model:
    applications = {"mobilenet": keras.applications.MobileNet, "resnet": keras.applications.ResNet50V2}
    if url not in applications:
        return _without_head(keras.models.load_model(context.download(url), compile=False), shape)
    try:
        return applications[url](include_top=False, weights="imagenet", input_shape=shape)
    except Exception as exc:
        if "URL fetch failure" not in str(exc):
            raise
        raise RuntimeError(
            f"expected the ImageNet weights of {url} to be downloadable by Keras, found {exc}: there is nothing to "
            "build on. Give modelUrl the URL or path of a Keras file that this machine can reach, or leave it out to "
            "train a small network from scratch."
        ) from exc


def _without_head(network: keras.Model, shape: tuple[int, ...]) -> keras.Model:
    expected = network.input_shape[1:]
    if len(expected) != 3 or any(want not in (None, have) for want, have in zip(expected, shape, strict=True)):
        raise ValueError(
            f"expected images of the shape {expected} for the network in modelUrl, found {shape}. Set the dataflow's "
            "size to the network's."
        )
    last = network.layers[-1]
    classifies = isinstance(last, keras.layers.Dense) and len(network.layers) > 1
    return keras.Model(network.inputs, last.input) if classifies else network


def _scales_itself(network: keras.Model) -> bool:
    """Return whether a network takes pixels from 0 to 255; others are given -1 to 1."""
    scaling = keras.layers.Rescaling | keras.layers.Normalization
    return any(isinstance(layer, scaling) for layer in network.layers)


class Progress(keras.callbacks.Callback):  # type: ignore[misc]
    """Tells how far the training is and how well it goes."""

    async_safe = True  # Keras then does not wait for each batch's figures

    def __init__(self, runtime: Any, epochs: int) -> None:
        super().__init__()
        self._runtime = runtime
        self._epochs = epochs
        self._epoch = 0
        self._told = monotonic()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras passes it by name
        """Note the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002 - the same
        """Tell progress within an epoch now and then."""
        if monotonic() - self._told >= REPORT_SECONDS:
            self._tell((batch + 1) / self.params["steps"])

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Tell the figures of an epoch: ``train_...`` and, on the validation split, ``val_...``."""
        named = (logs or {}).items()
        figures = {name if name.startswith("val_") else f"train_{name}": value for name, value in named}
        for name, value in figures.items():
            self._runtime.log_metric(name, value, step=epoch + 1)
        self._tell(1, **figures)

    def _tell(self, share: float, **figures: float) -> None:
        self._told = monotonic()
        done = (self._epoch + share) / self._epochs
        self._runtime.notify_progress(done, epoch=self._epoch + 1, epochs=self._epochs, **figures)


def _keras_name(name: str) -> str:
    """Return Keras's spelling of a name that may be JavaScript's (``categoricalCrossentropy``)."""
    return re.sub(r"(?<=[a-z])([A-Z])", lambda match: f"_{match[0].lower()}", name)
