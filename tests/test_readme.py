"""What the README tells is true."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pipcook_provider.cli import main
from pipcook_provider.frameworks import Framework
from pipcook_provider.frameworks.framework import Manifest
from pipcook_provider.frameworks.pack import pack
from pipcook_provider.frameworks.platform import Platform
from pipcook_provider.frameworks.report import LogReport
from pipcook_provider.settings import declared_options
from pipcook_provider.spec import load_pipeline_spec, parse_pipeline

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def named_blocks() -> dict[str, str]:
    """Return the code blocks that stand under a file's name."""
    return dict(re.findall(r"^`([\w./-]+)`:?\n\n```\w+\n(.*?)```$", README, re.MULTILINE | re.DOTALL))


def test_the_pipeline_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    """The example's files, put into one folder as told, train a model with the command as told."""
    blocks = named_blocks()
    for name in ("cars.csv", "datasource.py", "dataflow.py", "model.py", "pipeline.json"):
        (tmp_path / name).write_text(blocks[name], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert "\npipcook train pipeline.json -o out\n" in README
    assert main(["train", "pipeline.json", "-o", "out"]) == 0
    assert "mean_error: 1.5" in capfd.readouterr().out
    assert len(json.loads((tmp_path / "out" / "model" / "curve.json").read_text(encoding="utf-8"))) == 3


def test_the_document_of_the_readme_is_the_one_of_the_demo() -> None:
    """The document that the README shows is the one in dags/."""
    name = "dags/digits-image-classification.json"
    assert named_blocks()[name] == (REPOSITORY / name).read_text(encoding="utf-8")


def test_the_airflow_options_of_the_readme_are_accepted() -> None:
    """The example of options.airflow is valid and uses no unknown key."""
    from pipcook_provider.spec import lint_pipeline

    example = re.search(r'^```json\n("airflow": .*?)^```$', README, re.MULTILINE | re.DOTALL)
    assert example is not None
    text = f'{{"specVersion": "2.0", "datasource": "a.py", "model": "b.py", "options": {{{example[1]}}}}}'
    assert parse_pipeline(text, "/pipeline.json").airflow.owner == "web"
    assert lint_pipeline(text, "/pipeline.json") == ()


def test_the_containers_and_defaults_of_the_readme_are_accepted(tmp_path: Path) -> None:
    """The examples of container options and of a folder's defaults are valid together, and lint has nothing to say."""
    from pipcook_provider.spec.lint import lint_file

    options = re.search(r'^```json\n("airflow": {\n  "runner".*?)^```$', README, re.MULTILINE | re.DOTALL)
    assert options is not None
    document = tmp_path / "pipeline.json"
    document.write_text(
        '{"specVersion": "2.0", "datasource": "a.py", "dataflow": ["b.py"], "model": "c.py", '
        f'"options": {{"train": {{"gpu": "auto"}}, {options[1]}}}}}',
        encoding="utf-8",
    )
    (tmp_path / "pipcook.defaults.json").write_text(named_blocks()["pipcook.defaults.json"], encoding="utf-8")
    assert load_pipeline_spec(document).airflow.owner == "web"
    assert lint_file(document) == ()


def test_the_problems_of_the_readme_are_what_lint_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    """The sample of lint's output is lint's output."""
    document = """{
  "specVersion": "2.0",
  "datasource": "ftp://example.com/datasource.py",
  "dataflow": "dataflow.py",
  "modle": "model.py",
  "options": { "framework": "tensorflow@2.21", "train": "abc" }
}
"""
    (tmp_path / "pipeline.json").write_text(document, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["lint", "pipeline.json"]) == 1
    assert capfd.readouterr().out in README


def test_the_settings_of_the_readme_are_all_there_are() -> None:
    """The table of settings names every option with its default and meaning."""
    for name, option in declared_options().items():
        default = f"`{option['default']}`" if option["default"] else ""
        assert f"| `{name}` | {default} | {option['description']} |" in README


def test_the_bundle_of_the_readme_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry for airflow.cfg makes a bundle over the dags folder, in which the documents are DAG files."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    entry = re.search(r"^dag_bundle_config_list = (.*)$", README, re.MULTILINE)
    assert entry is not None
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", entry[1])
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path))
    monkeypatch.setattr("airflow.settings.DAGS_FOLDER", str(REPOSITORY / "dags"))
    bundle = DagBundlesManager().get_bundle("dags-folder")
    bundle.initialize()
    assert (bundle.path / "digits-image-classification.json.py").is_file()


def test_the_loader_of_the_readme_has_three_lines() -> None:
    """dags/pipcook_dags.py is what the README promises."""
    lines = (REPOSITORY / "dags" / "pipcook_dags.py").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line]) == 3


def test_the_recipe_of_the_readme_is_one() -> None:
    """The example of a recipe can be read, and its version is that of its first package."""
    manifest = Manifest.parse(json.loads(named_blocks()["boosting/framework.json"]), recipe=True)
    assert [package.name for package in manifest.packages if package.is_carrier] == ["xgboost"]


def test_the_mirror_of_the_readme_is_what_is_packed(tmp_path: Path) -> None:
    """The files of a mirror are named as the README shows them."""
    framework = Framework("tensorflow@2.21.0", "tensorflow", "2.21.0", "cpu", tmp_path / "framework")
    framework.path.mkdir()
    (framework.path / "framework.json").write_text('{"name": "tensorflow", "version": "2.21.0"}', encoding="utf-8")
    pack(framework, tmp_path / "mirror", LogReport())
    here = Platform.current()
    for file in (tmp_path / "mirror").rglob("*.*"):
        shown = file.relative_to(tmp_path / "mirror").as_posix().replace(here.python, "py311")
        assert f"/srv/frameworks/{shown.replace(here.binaries, 'linux-x64')}\n" in README
