from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipcook_provider.runtime.datasets import DatasetPool, Dimension, Sample
from pipcook_provider.scripts.image_classification.dataflow import dataflow
from pipcook_provider.scripts.image_classification.datasource import datasource

REPOSITORY = Path(__file__).resolve().parents[2]
DIGITS = REPOSITORY / "dags" / "data" / "digits.zip"
CONTEXT: Any = SimpleNamespace(download=Path)


def picture(size: tuple[int, int], colour: Any, mode: str = "RGB", form: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    Image.new(mode, size, colour).save(file, form, **options)
    return file.getvalue()


def flow(*images: bytes, **options: Any) -> DatasetPool:
    pool = DatasetPool.from_samples(train=[Sample({"buffer": image}, "a") for image in images])
    return dataflow(pool, options, CONTEXT)


def test_digits_are_split_by_category() -> None:
    """The shipped digits are 1,797 images of ten categories, each category in each split."""
    pool = datasource({"url": str(DIGITS)}, CONTEXT)
    assert pool.meta.size == {"train": 1258, "test": 269, "valid": 270}
    assert pool.meta.categories == tuple("0123456789")
    assert all({sample.label for sample in split} == set("0123456789") for split in pool.splits.values())


def test_digits_are_reproducible(tmp_path: Path) -> None:
    """The tool that makes the digits writes the same files as are shipped."""
    target = tmp_path / "digits.zip"
    subprocess.run([sys.executable, REPOSITORY / "tools" / "make_digits.py", target], check=True)
    with zipfile.ZipFile(target) as made, zipfile.ZipFile(DIGITS) as shipped:
        assert made.namelist() == shipped.namelist()
        for name in made.namelist():
            images = [np.asarray(Image.open(BytesIO(archive.read(name)))) for archive in (made, shipped)]
            assert np.array_equal(*images), name


def test_datasource_needs_a_url() -> None:
    """Without url, the message says how to give one."""
    with pytest.raises(ValueError, match=r"datasource\.py\?url="):
        datasource({}, CONTEXT)


def test_images_become_arrays_of_one_shape() -> None:
    """Whatever a file's size and mode, an image becomes height x width x RGB in bytes."""
    pictures = [
        picture((3, 5), (255, 0, 0)),
        picture((40, 20), 255, "L"),
        picture((9, 9), (1, 2, 3, 0), "RGBA"),
        picture((300, 300), (0, 0, 255), form="JPEG"),
    ]
    pool = flow(*pictures, size=["8", "4"])
    assert pool.meta.dimension == Dimension(8, 4, 3)
    arrays = [sample.data for sample in pool.train or ()]
    assert {(array.shape, array.dtype.name) for array in arrays} == {((4, 8, 3), "uint8")}
    assert [array[0, 0].tolist() for array in arrays[:3]] == [[255, 0, 0], [255, 255, 255], [1, 2, 3]]


def test_normalized_images_are_floats_from_0_to_1() -> None:
    """normalize gives 32-bit floats; the text 'false' of a query does not."""
    image = picture((2, 2), (255, 0, 51))
    normalized = (flow(image, size="2", normalize="true").train or [])[0].data
    assert normalized.dtype == np.float32
    assert normalized[0, 0].tolist() == pytest.approx([1, 0, 0.2])
    assert (flow(image, size="2", normalize="false").train or [])[0].data.dtype == np.uint8


def test_photographs_stand_upright() -> None:
    """The orientation that a camera notes is applied before resizing."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    image = Image.new("RGB", (64, 32), "black")
    image.paste("white", (0, 0, 32, 32))
    file = BytesIO()
    image.save(file, "JPEG", exif=exif)
    upright = (flow(file.getvalue(), size="16").train or [])[0].data
    assert upright[2].min() > 200
    assert upright[-2].max() < 50


def test_broken_image_is_named(tmp_path: Path) -> None:
    """An image that cannot be decoded is told by its path."""
    path = tmp_path / "broken.png"
    path.write_bytes(picture((9, 9), 0)[:40])
    pool = dataflow(DatasetPool.from_samples(train=[Sample({"uri": str(path)}, "a")]), {"size": 4}, CONTEXT)
    with pytest.raises(ValueError, match=r"broken\.png"):
        (pool.train or [])[0]


#: Runs the three scripts one after the other beside a real TensorFlow, as their stages do.
RUN = """
import importlib.util, json, sys
site_packages, repository, root, options = sys.argv[1:]
sys.path[:0] = [site_packages]
sys.path[1:1] = [repository]
from pathlib import Path
from types import SimpleNamespace
from pipcook_provider.runtime import Dataset, DatasetPool, Sample
from pipcook_provider.runtime.arrow import read_pool, write_pool
from pipcook_provider.scripts.image_classification import dataflow, datasource, model

root, options = Path(root), json.loads(options)
(root / "model").mkdir(parents=True)
context = SimpleNamespace(workspace=SimpleNamespace(cache_dir=root, model_dir=root / "model"), download=Path)
report = {"metrics": [], "progress": []}

class Runtime:
    def notify_progress(self, value, **extend_data):
        report["progress"].append([value, extend_data])
    def log_metric(self, name, value, step=None):
        report["metrics"].append([name, value, step])
    def save_model(self, source, filename):
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        (root / "model" / filename).write_bytes(content)
    def read_model(self):
        return root / "model"

runtime = Runtime()
pool = datasource.datasource({"url": f"{repository}/dags/data/digits.zip"}, context)
write_pool(dataflow.dataflow(pool, {"size": options.pop("size")}, context), root / "data")
runtime.dataset = read_pool(root / "data")
model.train(runtime, options, context)
test = runtime.dataset.test
runtime.dataset = DatasetPool(predicted=Dataset([Sample(sample.data) for sample in test]))
report["predictions"] = model.predict(runtime, options, context)
report["labels"] = [sample.label for sample in test]
report["files"] = sorted(path.name for path in root.joinpath("model").iterdir())
print(json.dumps(report))
"""


def run_scripts(framework: Path, root: Path, **options: Any) -> dict[str, Any]:
    command = [sys.executable, "-c", RUN, framework / "site-packages", REPOSITORY, root, json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


@pytest.fixture(scope="module")
def trained(tensorflow_framework: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The digits' model, trained as the shipped pipeline document says, and what was told of it."""
    document = json.loads((REPOSITORY / "dags" / "digits-image-classification.json").read_text())
    root = tmp_path_factory.mktemp("digits") / "run"
    return root, run_scripts(tensorflow_framework, root, size="32", **document["options"]["train"])


def test_digits_are_learned(trained: tuple[Path, dict[str, Any]]) -> None:
    """Test accuracy is at least 0.95, and is told as metric and with the last progress."""
    _, report = trained
    final = {name: value for name, value, step in report["metrics"] if step is None}
    assert final["accuracy"] >= 0.95
    value, figures = report["progress"][-1]
    assert value == 1
    assert figures == {"split": "test", "accuracy": final["accuracy"], "loss": final["loss"]}


def test_progress_grows_and_tells_each_epoch(trained: tuple[Path, dict[str, Any]]) -> None:
    """Progress never falls, and each epoch tells its figures on training and validation data."""
    _, report = trained
    values = [value for value, _ in report["progress"]]
    assert values == sorted(values)
    steps = [step for name, _, step in report["metrics"] if name == "val_accuracy"]
    assert steps == list(range(1, 11))
    assert {name for name, _, step in report["metrics"] if step == 1} == {
        "train_accuracy",
        "train_loss",
        "val_accuracy",
        "val_loss",
    }


def test_predictions_agree_with_the_test_accuracy(trained: tuple[Path, dict[str, Any]]) -> None:
    """The saved model gives each image's category with id and score."""
    root, report = trained
    assert report["files"] == ["categories.json", "model.keras"]
    assert json.loads((root / "model" / "categories.json").read_text()) == list("0123456789")
    predictions = report["predictions"]
    right = [found["category"] == label for found, label in zip(predictions, report["labels"], strict=True)]
    accuracy = next(value for name, value, _ in report["metrics"] if name == "accuracy")
    assert sum(right) / len(right) == pytest.approx(accuracy)
    assert all(found["id"] == int(found["category"]) and 0 < found["score"] <= 1 for found in predictions)


def test_trained_model_can_be_built_on(
    trained: tuple[Path, dict[str, Any]], tensorflow_framework: Path, tmp_path: Path
) -> None:
    """A Keras file given as modelUrl is frozen, gets another head and learns faster than a new network; other names of
    losses work too."""
    root, _ = trained
    model = str(root / "model" / "model.keras")
    options = {"modelUrl": model, "epochs": "1", "seed": "3", "validationRequired": "true", "learningRate": "0.01"}
    report = run_scripts(
        tensorflow_framework, tmp_path / "run", size="32", loss="sparseCategoricalCrossentropy", **options
    )
    final = {name: value for name, value, step in report["metrics"] if step is None}
    assert final["accuracy"] > 0.9
    assert final["seed"] == 3
