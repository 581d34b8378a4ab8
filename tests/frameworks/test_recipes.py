from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipcook_provider.errors import FrameworkError
from pipcook_provider.frameworks.recipes import SHIPPED, find_recipe, known_names, names_with_package
from pipcook_provider.frameworks.reference import NameReference

PYTHON_NAMES = ["pytorch", "scikit-learn", "tensorflow"]
SHIPPED_NAMES = [*PYTHON_NAMES, "tfjs"]


def write_recipe(folder: Path, directory: str, **manifest: object) -> None:
    (folder / directory).mkdir(parents=True)
    (folder / directory / "framework.json").write_text(json.dumps({"name": directory.partition("@")[0], **manifest}))


def find(text: str, *folders: Path) -> tuple[str, str | None] | None:
    """Return folder and version of the recipe that is found."""
    name, _, version = text.partition("@")
    recipe = find_recipe(NameReference(name, version or None), folders)
    return (str(recipe.directory.relative_to(recipe.directory.parents[1])), recipe.version) if recipe else None


def test_found(tmp_path: Path) -> None:
    """The first folder decides; in it, the newest recipe that names a fitting version goes before the one for any."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    write_recipe(ours, "toy@1.0.0", version="1.0.0")
    write_recipe(ours, "toy@1.1.0", version="1.1.0")
    write_recipe(theirs, "toy")
    write_recipe(theirs, "toy@9.0.0", version="9.0.0")
    write_recipe(theirs, "toy-box")
    assert find("toy", ours, theirs) == ("ours/toy@1.1.0", "1.1.0")
    assert find("toy@1.0", ours, theirs) == ("ours/toy@1.0.0", "1.0.0")
    assert find("toy@9", ours, theirs) == ("theirs/toy@9.0.0", "9.0.0")
    assert find("toy@2", ours, theirs) == ("theirs/toy", None)
    assert find("toy@2", ours) is None
    assert find("unknown", ours) is None


def test_shipped() -> None:
    """Recipes for any version of the usual frameworks come with the package, and are known by name."""
    assert [find(f"{name}@1.2.3") for name in SHIPPED_NAMES] == [(f"recipes/{name}", None) for name in SHIPPED_NAMES]
    assert list(known_names(())) == SHIPPED_NAMES


def test_known_names(tmp_path: Path) -> None:
    """Recipes of one's own are known as their folders are called."""
    write_recipe(tmp_path, "toy@1.0.0", version="1.0.0")
    assert list(known_names((tmp_path,))) == ["toy@1.0.0", *SHIPPED_NAMES]


@pytest.mark.parametrize(
    ("package", "names"),
    [("torch", ["pytorch"]), ("tensorflow-cpu", ["tensorflow"]), ("Scikit_Learn", ["scikit-learn"]), ("pillow", [])],
)
def test_names_with_package(package: str, names: list[str]) -> None:
    """The package that gives a framework its version leads to the framework."""
    assert list(names_with_package(package, ())) == names


def test_variants() -> None:
    """Where a recipe does not tell CPU and GPU apart, there is no variant."""
    recipes = [find_recipe(NameReference(name, None), ()) for name in SHIPPED_NAMES]
    assert [recipe and recipe.variant("gpu") for recipe in recipes] == [None, None, "gpu", None]


def test_unusable(tmp_path: Path) -> None:
    """A recipe may leave its version open, but not write it wrongly."""
    write_recipe(tmp_path, "toy", version=1)
    with pytest.raises(FrameworkError, match="expected a text as version, found 1"):
        find("toy", tmp_path)


@pytest.mark.parametrize("name", PYTHON_NAMES)
@pytest.mark.parametrize("gpu", [True, "true", "auto", False, None])
def test_scripts(name: str, gpu: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped scripts hide the GPU where it is not asked for, and import nothing heavy."""
    monkeypatch.setattr(os, "environ", {"CUDA_VISIBLE_DEVICES": "3"})
    spec = importlib.util.spec_from_file_location("index", SHIPPED / name / "index.py")
    assert spec is not None
    assert spec.loader is not None
    index = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(index)
    before = set(sys.modules)
    index.initialize({"train": {"gpu": gpu}} if gpu is not None else {})
    assert set(sys.modules) == before
    hidden = gpu in (False, None) and name != "scikit-learn"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ("-1" if hidden or sys.platform == "darwin" else "3")


def test_scripts_stand_alone() -> None:
    """The shipped scripts run without anything of this package."""
    for name in PYTHON_NAMES:
        code = "import runpy, sys; runpy.run_path(sys.argv[1])['initialize']({'train': None})"
        subprocess.run([sys.executable, "-I", "-S", "-c", code, str(SHIPPED / name / "index.py")], check=True)
