"""The bundle as Airflow uses it: configured, refreshed, parsed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from bundle_files import Parsed, listed, parse
from bundles.conftest import MakeBundle, WriteDocument

from pipcook_provider.bundles import PipcookDagBundle
from pipcook_provider.dag_factory import building
from pipcook_provider.errors import PipcookError, SettingsError

ORDINARY = """
from pathlib import Path
from airflow.sdk import DAG
import beside_the_dag

text = (Path(__file__).parent / "numbers.txt").read_text()
dag = DAG(f"{beside_the_dag.NAME}_{text}", schedule=None)
"""


def test_every_document_is_a_dag_file_of_its_own(make_bundle: MakeBundle, write_document: WriteDocument) -> None:
    """Each document is found, parsed and named by itself, and shown by the document."""
    paths = [write_document(name) for name in ("digits.json", "team/spam mails.json")]
    bundle = make_bundle()
    bundle.initialize()
    assert listed(bundle) == ["digits.json.py", "team/spam mails.json.py"]
    for path, file, dag_id in zip(paths, listed(bundle), ("digits", "team.spam_mails"), strict=True):
        parsed = parse(bundle, file)
        assert parsed.errors == {}
        assert list(parsed.dags) == [dag_id]
        assert (parsed.dags[dag_id].fileloc, parsed.dags[dag_id].relative_fileloc) == (str(path), file)


def test_document_lies_where_its_author_sees_it(
    make_bundle: MakeBundle, write_document: WriteDocument, source: Path, tmp_path: Path
) -> None:
    """Links on the way to a document are kept: its scripts are looked for beside the link."""
    shared = tmp_path / "shared.json"
    write_document().rename(shared)
    (source / "team").mkdir()
    (source / "team" / "spam.json").symlink_to(shared)
    bundle = make_bundle()
    bundle.initialize()
    assert parse(bundle).dags["team.spam"].fileloc == str(source / "team" / "spam.json")


def test_ordinary_dag_files_keep_working(
    make_bundle: MakeBundle, write_document: WriteDocument, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A DAG file beside documents finds the modules and files beside it, and no document is a DAG twice."""
    write_document()
    (source / "ordinary.py").write_text(ORDINARY)
    (source / "beside_the_dag.py").write_text("NAME = 'airflow'")
    (source / "numbers.txt").write_text("7")
    loader = "from pipcook_provider import load_pipelines\n# airflow dag\nglobals().update(load_pipelines(__file__))\n"
    (source / "loader.py").write_text(loader)
    bundle = make_bundle()
    bundle.initialize()
    monkeypatch.syspath_prepend(bundle.path)
    assert listed(bundle) == ["digits.json.py", "loader.py", "ordinary.py"]
    assert list(parse(bundle, "ordinary.py").dags) == ["airflow_7"]
    assert list(parse(bundle, "loader.py").dags) == []
    assert list(parse(bundle, "digits.json.py").dags) == ["digits"]


def test_airflowignore_counts(make_bundle: MakeBundle, write_document: WriteDocument, source: Path) -> None:
    """What the folder's own .airflowignore names is no DAG file in the tree either."""
    write_document()
    write_document("drafts/spam.json")
    (source / ".airflowignore").write_text("drafts/\n")
    bundle = make_bundle()
    bundle.initialize()
    assert listed(bundle) == ["digits.json.py"]


def test_import_error_ends_with_what_is_wrong_with_the_document(
    make_bundle: MakeBundle, write_document: WriteDocument
) -> None:
    """A broken document is an error of its own file: place, path and remedy, and no lines of ours but the call."""
    write_document("good.json")
    path = write_document("broken.json", datasource=3)
    bundle = make_bundle()
    bundle.initialize()
    parsed = parse(bundle)
    assert list(parsed.dags) == ["good"]
    assert list(parsed.errors) == ["broken.json.py"]
    error = parsed.errors["broken.json.py"].rstrip()
    assert f'{path}:3:17: $.datasource: Expected a string, such as "./datasource.py' in error.splitlines()[-1]
    assert error.endswith('Write "3".')
    assert error.count('File "') == 2
    assert "During handling" not in error


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_text("{}")], ids=["removed", "other"])
def test_document_that_went_is_no_dag_and_no_error(
    make_bundle: MakeBundle, write_document: WriteDocument, change: Callable[[Path], object]
) -> None:
    """Until the next refresh a stub may stand for nothing, or for what became another file: it says nothing."""
    path = write_document()
    bundle = make_bundle()
    bundle.initialize()
    change(path)
    assert parse(bundle) == Parsed({}, {})
    assert listed(bundle) == ["digits.json.py"]
    bundle.refresh()
    assert listed(bundle) == []


def test_document_that_cannot_be_read_is_an_import_error(
    make_bundle: MakeBundle, write_document: WriteDocument, source: Path
) -> None:
    """It may be a pipeline, so it is told, and harms no other."""
    write_document("good.json")
    (source / "unreadable.json").symlink_to("/proc/self/mem")  # which not even root can read from its beginning
    bundle = make_bundle()
    bundle.initialize()
    parsed = parse(bundle)
    assert list(parsed.dags) == ["good"]
    assert f"SpecError: {source / 'unreadable.json'}" in parsed.errors["unreadable.json.py"].splitlines()[-1]


def test_two_documents_of_one_name_are_both_named(
    make_bundle: MakeBundle, write_document: WriteDocument, source: Path
) -> None:
    """The first one stays; the other is an import error that names both, until one of them goes."""
    write_document("team.spam.json")
    write_document("team/spam.json")
    bundle = make_bundle()
    bundle.initialize()
    parsed = parse(bundle)
    assert parsed.dags["team.spam"].fileloc == str(source / "team.spam.json")
    error = parsed.errors["team/spam.json.py"].splitlines()[-1]
    assert str(source / "team/spam.json") in error
    assert str(source / "team.spam.json") in error
    (source / "team.spam.json").unlink()
    bundle.refresh()
    parsed = parse(bundle)
    assert (parsed.dags["team.spam"].fileloc, parsed.errors) == (str(source / "team/spam.json"), {})


def test_document_beside_a_file_of_its_stubs_name(
    make_bundle: MakeBundle, write_document: WriteDocument, source: Path
) -> None:
    """A real digits.json.py stays what it is, and the document is a DAG all the same."""
    write_document()
    (source / "digits.json.py").write_text("from airflow.sdk import DAG\ndag = DAG('mine', schedule=None)\n")
    bundle = make_bundle()
    bundle.initialize()
    assert set(parse(bundle).dags) == {"mine", "digits"}


def test_stub_outside_a_tree_says_what_to_do(tmp_path: Path) -> None:
    """A stub that was copied elsewhere is no DAG."""
    from pipcook_provider.bundles.stub import load

    with pytest.raises(PipcookError, match="Delete it, and have the bundle refreshed"):
        load(str(tmp_path / "digits.json.py"))


def test_worker_finds_a_document_that_came_after_its_tree(
    make_bundle: MakeBundle, write_document: WriteDocument
) -> None:
    """What the DAG processor of another machine saw first, a worker's own tree has when a task begins."""
    write_document("first.json")
    make_bundle().initialize()
    write_document("team/second.json")
    worker = make_bundle()
    worker.initialize()
    assert list(parse(worker, "team/second.json.py").dags) == ["team.second"]


def test_missing_folder_keeps_the_dags(
    make_bundle: MakeBundle, write_document: WriteDocument, source: Path, tmp_path: Path
) -> None:
    """A folder that is away for a while costs an error, and no DAG."""
    write_document()
    bundle = make_bundle()
    bundle.initialize()
    source.rename(tmp_path / "away")
    for call in (bundle.refresh, make_bundle().initialize):
        with pytest.raises(AirflowException, match="not there, so its DAGs stay as they were"):
            call()
    assert listed(bundle) == ["digits.json.py"]


def test_folder_of_trees_that_cannot_be_written_is_told(
    make_bundle: MakeBundle, write_document: WriteDocument, tmp_path: Path
) -> None:
    """The reason and the option to change are named."""
    write_document()
    (tmp_path / "storage").write_text("no folder")
    with pytest.raises(AirflowException, match="dag_bundle_storage_path"):
        make_bundle().initialize()


def test_two_airflows_with_one_bundle_name_have_trees_of_their_own(
    make_bundle: MakeBundle, write_document: WriteDocument, tmp_path: Path
) -> None:
    """The same name over another folder is another tree, where both keep bundles in one place."""
    write_document()
    (tmp_path / "other").mkdir()
    mine, others = make_bundle(), make_bundle(path=str(tmp_path / "other"))
    mine.initialize()
    others.initialize()
    assert (listed(mine), listed(others)) == (["digits.json.py"], [])


def test_folder_is_looked_at_more_often_than_other_bundles(make_bundle: MakeBundle) -> None:
    """A folder is refreshed every 30 seconds at least, another bundle as Airflow says, either as configured."""
    local = {"classpath": "airflow.dag_processing.bundles.local.LocalDagBundle", "kwargs": {"path": "/x"}}
    assert make_bundle().refresh_interval == 30
    assert make_bundle(bundle=local).refresh_interval == 300
    assert make_bundle(refresh_interval=7).refresh_interval == 7
    assert make_bundle(bundle=local, refresh_interval=7).refresh_interval == 7


def test_dags_folder_is_the_default(
    write_document: WriteDocument, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a path it is the folder that Airflow is configured with; it has no versions."""
    from airflow import settings

    write_document()
    monkeypatch.setattr(settings, "DAGS_FOLDER", str(source))
    bundle = PipcookDagBundle(name="dags-folder")
    bundle.initialize()
    assert listed(bundle) == ["digits.json.py"]
    assert (bundle.supports_versioning, bundle.get_current_version()) == (False, None)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"path": "/a", "bundle": {"classpath": "x.Y"}}, "a path or a bundle, not both"),
        ({"path": 3}, "a folder as path; found 3"),
        ({"path": ""}, "a folder as path; found ''"),
        ({"bundle": {}}, '"classpath"; found an object with nothing'),
        ({"bundle": {"classpath": "x.Y", "path": "secret"}}, 'no more than "classpath" and "kwargs"'),
        ({"bundle": {"classpath": "x.Y", "kwargs": {"name": "secret"}}}, "neither name nor version"),
        ({"bundle": {"classpath": "nowhere.Bundle"}}, "can be imported; found 'nowhere.Bundle'"),
        ({"bundle": {"classpath": "Bundle"}}, "can be imported; found 'Bundle'"),
        ({"bundle": {"classpath": "json.JSONDecoder"}}, "a DAG bundle class; found 'json.JSONDecoder'"),
        ({"documents": "https://example.com/a.json"}, "a list of http(s) URLs, found str"),
        ({"documents": [3]}, "found 3"),
        ({"documents": ["/a/b.json"]}, "found '/a/b.json'"),
        ({"documents": ["ftp://example.com/a.json"]}, "found 'ftp://example.com/a.json'"),
        ({"documents": ["https://example.com/"]}, "end in a file's name"),
        ({"documents": ["https://example.com:x/a.json"]}, "end in a file's name"),
        ({"documents": ["https://me:secret@example.com/a.json"]}, "https://example.com/a.json stands with a user"),
    ],
)
def test_configuration_that_cannot_be_used_is_refused(options: dict[str, object], told: str) -> None:
    """What is wrong is said when the bundle is made, without what may be secret."""
    with pytest.raises(SettingsError) as caught:
        PipcookDagBundle(name="pipelines", **options)
    assert told in str(caught.value)
    assert "secret" not in str(caught.value)


def test_kwargs_that_do_not_fit_the_bundle_below_are_refused() -> None:
    """Its own complaint is passed on."""
    bundle = {"classpath": "airflow.dag_processing.bundles.local.LocalDagBundle", "kwargs": {"colour": "red"}}
    with pytest.raises(SettingsError, match=r"kwargs 'colour'.*do not fit.*unexpected keyword argument 'colour'"):
        PipcookDagBundle(name="pipelines", bundle=bundle)


def test_configured_bundle_is_made_by_airflow(
    write_document: WriteDocument, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry of the configuration that the README shows gives the bundle; a wrong one harms no other."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    classpath = "pipcook_provider.bundles.PipcookDagBundle"
    entries = [
        {"name": "wrong", "classpath": classpath, "kwargs": {"path": str(source), "bundle": {}}},
        {"name": "pipelines", "classpath": classpath, "kwargs": {"path": str(source)}},
    ]
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(entries))
    monkeypatch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    write_document()
    (bundle,) = DagBundlesManager().get_all_dag_bundles()
    bundle.initialize()
    bundle.refresh()
    assert listed(bundle) == ["digits.json.py"]
    assert not os.path.lexists(bundle.base_dir)


def test_refresh_reads_the_settings_for_all_parses(
    make_bundle: MakeBundle, write_document: WriteDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parse finds them read, and those that changed are there after the next refresh; wrong ones are each parse's error."""
    write_document()
    bundle = make_bundle()
    bundle.initialize()
    for runner in ("process", "docker"):
        monkeypatch.setenv("PIPCOOK_RUNNER", runner)
        bundle.refresh()
        assert building._settings.cache_info().currsize == 1
        assert parse(bundle).dags["digits"].get_task("prepare").runner == runner
    monkeypatch.setenv("PIPCOOK_RUNNER", "spaceship")
    bundle.refresh()
    assert "spaceship" in parse(bundle).errors["digits.json.py"]
    monkeypatch.delenv("PIPCOOK_RUNNER")
    bundle.refresh()


def test_initialize_loads_nothing_heavy(write_document: WriteDocument, source: Path) -> None:
    """A worker's look at the tree imports neither what builds DAGs nor what downloads."""
    import subprocess

    write_document()
    program = (
        "from pipcook_provider.bundles import PipcookDagBundle\n"
        f"PipcookDagBundle(name='pipelines', path={str(source)!r}).initialize()\n"
        "import json, sys\nprint(json.dumps(sorted(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(json.loads(told.stdout.splitlines()[-1]))
    assert not loaded & {"pipcook_provider.dag_factory", "pipcook_provider.operators", "requests", "numpy", "docker"}
    assert "pipcook_provider.bundles.tree" in loaded
