"""Bundles below that have versions: a run keeps the document that it began with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundle_files import listed, parse
from bundles.conftest import MakeBundle, WriteDocument

Commit = Callable[[], str]


@pytest.fixture
def commit(source: Path, tmp_path: Path) -> Commit:
    """Commit all that lies in the folder; return the commit."""
    who = {f"GIT_{role}_{what}": "x@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def git(*arguments: str) -> str:
        environment = {**os.environ, **who, "HOME": str(tmp_path)}
        told = subprocess.run(
            ["git", *arguments], cwd=source, env=environment, capture_output=True, text=True, check=True
        )
        return told.stdout.strip()

    git("init", "--initial-branch=main")

    def commit() -> str:
        git("add", "--all")
        git("commit", "--allow-empty", "--message=x")
        return git("rev-parse", "HEAD")

    return commit


@pytest.fixture
def below(source: Path) -> dict[str, Any]:
    return {
        "classpath": "airflow.providers.git.bundles.git.GitDagBundle",
        "kwargs": {"tracking_ref": "main", "repo_url": str(source)},
    }


def version(bundle: Any) -> str:
    found = bundle.get_current_version()
    return str(getattr(found, "version", found))


def documentation(bundle: Any, dag_id: str = "digits") -> str:
    return str(parse(bundle).dags[dag_id].doc_md)


def test_run_keeps_the_document_it_began_with(
    make_bundle: MakeBundle, write_document: WriteDocument, commit: Commit, below: dict[str, Any]
) -> None:
    """Each version has a tree of its own: a task of an older run sees the older document, and no newer one."""
    write_document(model="old.py")
    old = commit()
    processor = make_bundle(bundle=below)
    processor.initialize()
    processor.refresh()
    assert (processor.supports_versioning, version(processor)) == (True, old)
    write_document(model="new.py")
    write_document("spam.json")
    new = commit()
    processor.refresh()
    assert version(processor) == new
    assert "new.py" in documentation(processor)
    worker = make_bundle(bundle=below, version=old)
    worker.initialize()
    assert listed(worker) == ["digits.json.py"]
    assert "old.py" in documentation(worker)
    assert version(worker) == old
    later = make_bundle(bundle=below, version=new)
    later.initialize()
    assert "new.py" in documentation(later)
    assert worker.path != later.path


def test_trees_of_removed_versions_go(
    make_bundle: MakeBundle, write_document: WriteDocument, commit: Commit, below: dict[str, Any]
) -> None:
    """What Airflow has cleaned away has no tree any longer after the next refresh; another version's stays."""
    write_document()
    versions = [commit(), commit()]
    trees = []
    for found in versions:
        worker = make_bundle(bundle=below, version=found)
        worker.initialize()
        trees.append(worker.path)
    shutil.rmtree(worker.versions_dir / versions[0])
    processor = make_bundle(bundle=below)
    processor.initialize()
    processor.refresh()
    assert [tree.exists() for tree in trees] == [False, True]


def test_worker_removes_trees_of_removed_versions(
    make_bundle: MakeBundle, write_document: WriteDocument, commit: Commit, below: dict[str, Any]
) -> None:
    """On a machine without a DAG processor they go when the tree of another version is made."""
    write_document()
    old, new = commit(), commit()
    worker = make_bundle(bundle=below, version=old)
    worker.initialize()
    shutil.rmtree(worker.versions_dir / old)
    make_bundle(bundle=below, version=new).initialize()
    assert not worker.path.exists()


def test_bundle_below_keeps_its_face(make_bundle: MakeBundle, below: dict[str, Any]) -> None:
    """Where it is shown, and what that template names, are the inner bundle's, before anything is cloned."""
    kwargs = {"tracking_ref": "main", "repo_url": "https://github.com/apache/airflow.git", "subdir": "dags"}
    bundle = make_bundle(bundle={**below, "kwargs": kwargs})
    assert bundle.view_url_template() == "https://github.com/apache/airflow/tree/{version}/dags"
    assert bundle.view_url("1234567") == "https://github.com/apache/airflow/tree/1234567/dags"
    assert bundle.subdir == "dags"
    assert not hasattr(bundle, "colour")
    configured = make_bundle(bundle={**below, "kwargs": kwargs}, view_url_template="https://example.com/{version}")
    assert configured.view_url_template() == "https://example.com/{version}"


def test_documents_from_the_web_belong_to_no_version(
    make_bundle: MakeBundle, write_document: WriteDocument, commit: Commit, below: dict[str, Any], server: Any
) -> None:
    """They are there beside every version, in their newest copy."""
    write_document()
    old = commit()
    text = {"specVersion": "2.0", "datasource": "a.py", "model": "web.py", "artifact": []}
    url = server.put("/spam.json", json.dumps(text).encode())
    worker = make_bundle(bundle=below, version=old, documents=[url])
    worker.initialize()
    assert "web.py" in documentation(worker, "spam")
    assert "model.py" in documentation(worker, "digits")


def test_pinned_version_costs_one_look_a_worker(
    make_bundle: MakeBundle, write_document: WriteDocument, commit: Commit, below: dict[str, Any]
) -> None:
    """The tree of a version stays as it was made: later tasks of the version find it."""
    write_document()
    old = commit()
    for _ in range(2):
        worker = make_bundle(bundle=below, version=old)
        worker.initialize()
    stub = worker.path / "digits.json.py"
    inode = stub.stat().st_ino
    make_bundle(bundle=below, version=old).initialize()
    assert stub.stat().st_ino == inode
