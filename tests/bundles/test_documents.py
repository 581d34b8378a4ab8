"""Documents from the web: fetched, kept while the server is away, told where they cannot be had."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from bundle_files import listed, parse
from bundles.conftest import MakeBundle, WriteDocument
from http_server import Server

from pipcook_provider.bundles import documents
from pipcook_provider.bundles.documents import Documents, fetch
from pipcook_provider.errors import SettingsError


def document(**changes: Any) -> bytes:
    return json.dumps(
        {"specVersion": "2.0", "datasource": "scripts/data.py", "model": "model.py", "artifact": [], **changes}
    ).encode()


def stub_time(folder: Path, name: str = "spam.json.py") -> int:
    return (folder / name).stat().st_mtime_ns


@pytest.fixture(autouse=True)
def _restless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask a server again at once that was slow."""
    monkeypatch.setattr(documents, "_REST", 0.0)


def test_document_from_the_web_is_a_dag(make_bundle: MakeBundle, write_document: WriteDocument, server: Server) -> None:
    """It stands beside the folder's documents, is named after its file, and runs as of its URL."""
    write_document()
    url = server.put("/team/spam.json", document())
    bundle = make_bundle(documents=[url])
    bundle.initialize()
    assert listed(bundle) == ["digits.json.py", "spam.json.py"]
    parsed = parse(bundle)
    assert set(parsed.dags) == {"digits", "spam"}
    dag = parsed.dags["spam"]
    assert dag.task_dict["prepare"].origin == url
    assert Path(dag.fileloc).read_bytes() == document()


def test_refresh_brings_what_is_new(make_bundle: MakeBundle, server: Server) -> None:
    """A changed document is parsed soon, since its DAG file became newer; an unchanged one is not touched."""
    url = server.put("/spam.json", document(), headers={"ETag": '"1"'}, ranges=True)
    bundle = make_bundle(documents=[url])
    bundle.initialize()
    before = stub_time(bundle.path)
    bundle.refresh()
    assert [request.status for request in server.requests] == [200, 304]
    assert stub_time(bundle.path) == before
    server.put("/spam.json", document(dataflow=["flow.py"]), headers={"ETag": '"2"'}, ranges=True)
    bundle.refresh()
    assert stub_time(bundle.path) > before
    assert "flow.py" in str(parse(bundle).dags["spam"].doc_md)


def test_copy_stays_in_use_while_the_server_is_away(
    make_bundle: MakeBundle, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever trouble the server has, the last good copy is the DAG; the log tells."""
    url = server.put("/spam.json", document())
    make_bundle(documents=[url]).initialize()
    server.put("/spam.json", status=503)
    bundle = make_bundle(documents=[url])
    bundle.refresh()
    assert list(parse(bundle).dags) == ["spam"]
    assert "may be out of date" in caplog.text
    server.stop()
    bundle.refresh()
    assert list(parse(bundle).dags) == ["spam"]


def test_copy_stays_in_use_when_the_cache_is_gone(
    make_bundle: MakeBundle, server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The bundle's copy does not depend on what the cache of downloads still has."""
    import shutil

    url = server.put("/spam.json", document())
    bundle = make_bundle(documents=[url])
    bundle.initialize()
    shutil.rmtree(tmp_path / "home")
    server.put("/spam.json", status=503)
    bundle.refresh()
    assert list(parse(bundle).dags) == ["spam"]
    assert f"The last copy of {url} stays in use" in caplog.text


def test_document_that_was_never_had_is_an_import_error(
    make_bundle: MakeBundle, write_document: WriteDocument, server: Server
) -> None:
    """It harms no other document, and is a DAG as soon as it is there."""
    write_document()
    url = server.put("/spam.json", status=503)
    bundle = make_bundle(documents=[url])
    bundle.initialize()
    parsed = parse(bundle)
    assert list(parsed.dags) == ["digits"]
    assert f"{url} could not be fetched in 3 attempts" in parsed.errors["spam.json.py"].splitlines()[-1]
    server.put("/spam.json", document())
    bundle.refresh()
    assert set(parse(bundle).dags) == {"digits", "spam"}


def test_document_that_the_server_has_no_longer_is_an_import_error(make_bundle: MakeBundle, server: Server) -> None:
    """Unlike a server that is away, one that answers with 404 means it."""
    url = server.put("/spam.json", document())
    bundle = make_bundle(documents=[url])
    bundle.initialize()
    before = stub_time(bundle.path)
    server.put("/spam.json", status=404)
    bundle.refresh()
    parsed = parse(bundle)
    assert (parsed.dags, list(parsed.errors)) == ({}, ["spam.json.py"])
    assert url in parsed.errors["spam.json.py"]
    assert stub_time(bundle.path) > before
    server.put("/spam.json", document())
    bundle.refresh()
    assert list(parse(bundle).dags) == ["spam"]


def test_document_outside_the_allowed_origins_is_an_import_error(
    make_bundle: MakeBundle, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings of downloads hold for documents too."""
    monkeypatch.setenv("PIPCOOK_ALLOWED_ORIGINS", "https://example.com/")
    url = server.put("/spam.json", document())
    bundle = make_bundle(documents=[url])
    bundle.initialize()
    assert "outside the allowed origins" in parse(bundle).errors["spam.json.py"]
    assert server.requests == []


def test_settings_that_cannot_be_read_keep_the_copies(
    make_bundle: MakeBundle, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake on this machine is no document's fault."""
    url = server.put("/spam.json", document())
    bundle = make_bundle(documents=[url])
    bundle.initialize()
    monkeypatch.setenv("PIPCOOK_RUNNER", "rocket")
    bundle.refresh()
    assert listed(bundle) == ["spam.json.py"]
    monkeypatch.delenv("PIPCOOK_RUNNER")
    assert list(parse(bundle).dags) == ["spam"]


def test_connection_authenticates_the_request(
    make_bundle: MakeBundle, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents behind a login are fetched with the Airflow connection that [pipcook] connections names."""
    monkeypatch.setenv("PIPCOOK_CONNECTIONS", "intranet")
    monkeypatch.setenv("AIRFLOW_CONN_INTRANET", server.url.replace("http://", "http://me:secret@"))
    bundle = make_bundle(documents=[server.put("/spam.json", document())])
    bundle.initialize()
    assert server.authorizations["/spam.json"] == "Basic bWU6c2VjcmV0"
    assert list(parse(bundle).dags) == ["spam"]


def test_broken_document_is_told_with_its_url(make_bundle: MakeBundle, server: Server) -> None:
    """Line, column and path stand behind the address that a person knows."""
    url = server.put("/spam.json", document(datasource=3))
    bundle = make_bundle(documents=[url])
    bundle.initialize()
    assert f"{url}:1:38: $.datasource: Expected" in parse(bundle).errors["spam.json.py"]


def test_answer_that_is_no_pipeline_is_an_import_error(make_bundle: MakeBundle, server: Server) -> None:
    """A listed address was meant to be a pipeline, unlike just any JSON file in a folder."""
    url = server.put("/spam.json", b'{"a": 1}')
    bundle = make_bundle(documents=[url])
    bundle.initialize()
    assert url in parse(bundle).errors["spam.json.py"]


def test_document_of_the_same_name_as_another_names_both(
    make_bundle: MakeBundle, write_document: WriteDocument, server: Server
) -> None:
    """The folder's document stays, as does the first of two addresses."""
    path = write_document("spam.json")
    urls = [server.put(f"/{number}/{name}.json", document()) for number in (1, 2) for name in ("spam", "faces")]
    bundle = make_bundle(documents=urls)
    bundle.initialize()
    parsed = parse(bundle)
    assert set(parsed.dags) == {"spam", "faces"}
    assert parsed.dags["spam"].fileloc == str(path)
    told = {file: error.splitlines()[-1] for file, error in parsed.errors.items()}
    assert sorted(told) == ["faces.json.2.py", "spam.json.2.py", "spam.json.3.py"]
    for file, places in {
        "faces.json.2.py": (urls[3], urls[1]),
        "spam.json.2.py": (urls[0], str(path)),
        "spam.json.3.py": (urls[2], str(path)),
    }.items():
        assert [place for place in places if place not in told[file]] == []


def test_copy_stays_in_use_when_a_newer_one_cannot_be_kept(
    make_bundle: MakeBundle, server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A task starts although the disk has no room for what was fetched; the log tells."""
    url = server.put("/spam.json", document())
    make_bundle(documents=[url]).initialize()

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(documents, "write_atomically", full)
    worker = make_bundle(documents=[url], refresh_interval=0)
    worker.initialize()
    assert list(parse(worker).dags) == ["spam"]
    assert "could not be kept" in caplog.text
    assert "No space left on device" in caplog.text


def test_document_that_is_no_longer_listed_goes(make_bundle: MakeBundle, server: Server) -> None:
    """Its DAG file and its copy go with the next refresh."""
    urls = [server.put(f"/{name}.json", document()) for name in ("spam", "faces")]
    make_bundle(documents=urls).refresh()
    bundle = make_bundle(documents=urls[:1])
    bundle.refresh()
    assert listed(bundle) == ["spam.json.py"]
    copies = (bundle.path.parent.parent / "documents").glob("*/*.json")
    assert [path.name for path in copies] == ["spam.json"]


def test_worker_asks_for_what_it_does_not_have_or_what_is_old(make_bundle: MakeBundle, server: Server) -> None:
    """A task's start costs no request while the copy is younger than the refresh interval."""
    url = server.put("/spam.json", document())
    make_bundle(documents=[url]).initialize()
    make_bundle(documents=[url]).initialize()
    assert server.hits["/spam.json"] == 1
    make_bundle(documents=[url], refresh_interval=0).initialize()
    assert server.hits["/spam.json"] == 2
    next((make_bundle(documents=[url]).path.parent.parent / "documents").glob("*/spam.json")).unlink()
    worker = make_bundle(documents=[url])
    worker.initialize()
    assert list(parse(worker).dags) == ["spam"]


def test_names_from_addresses(make_bundle: MakeBundle, server: Server) -> None:
    """A query is no part of the name, percent-encoding is undone, and a name needs no .json."""
    urls = [
        server.put("/digits", document()) + "?format=json",
        server.put("/a%20b%2Fc.json", document()),
    ]
    bundle = make_bundle(documents=urls)
    bundle.initialize()
    assert set(parse(bundle).dags) == {"digits", "a_b_c"}


@pytest.mark.parametrize("name", ["x" * 251, "%E6%97%A5" * 90])
def test_name_that_no_file_can_have_is_refused(make_bundle: MakeBundle, name: str) -> None:
    """An address that ends in more than 255 bytes is told when the bundle is made, not at each refresh."""
    make_bundle(documents=[f"https://example.com/{'x' * 250}.json"])
    with pytest.raises(SettingsError, match="end in a file's name"):
        make_bundle(documents=[f"https://example.com/{name}.json"])


def test_slow_server_is_left_in_peace(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow parses nothing while a server is waited for: one that was slow is not asked again for a while."""
    monkeypatch.setattr(documents, "_REST", 1000.0)
    monkeypatch.setenv("PIPCOOK_FETCH_TIMEOUT", "0.2")
    url = server.put("/spam.json", stalls=True, announced=10)
    kept = Documents(tmp_path / "documents", [url])
    answers = fetch(kept.due())
    kept.keep(answers)
    assert [answer.refused for answer in answers] == [False]
    assert kept.due() == []
    later = time.time() + 3600
    monkeypatch.setattr(documents.time, "time", lambda: later)
    assert kept.due() == [url]


def test_what_there_was_no_time_for_comes_first_next_time(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents that were not asked for keep their copies, and are the first ones of the next refresh."""
    urls = [server.put(f"/{number}.json", document()) for number in range(4)]
    kept = Documents(tmp_path / "documents", urls)
    kept.keep(fetch(urls[:2]))
    monkeypatch.setattr(documents, "_TIME", -1.0)
    kept.keep(fetch(kept.due()))
    assert kept.due() == [*urls[2:], *urls[:2]]
    assert [document.problem is None for document in kept.present()] == [True, True, False, False]
