"""A pipeline in Airflow's web UI, as a person sees and starts it: in headless Chromium, on a real Airflow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from airflow_server import Airflow, running_airflow, wait_for
from browser import Browser, needs_browser, running_browser
from playwright.sync_api import Locator, Page, expect
from postgresql import PostgreSQL

from tools.demo.standalone import PIPELINES

pytestmark = needs_browser

DATASOURCE = """
from pipcook_provider.runtime import DatasetPool, Sample

def datasource(options, context):
    return DatasetPool.from_samples(train=[Sample(float(number)) for number in range(int(options["count"]))])
"""

MODEL = """
def train(runtime, options, context):
    for epoch in range(options["epochs"]):
        print("epoch", epoch + 1, "with", len(runtime.dataset.train), "samples")
    runtime.save_model("done".encode(), "model.txt")
"""

DOCUMENT = """{
  "specVersion": "2.0",
  "datasource": "scripts/datasource.py?count=4",
  "model": "scripts/model.py",
  "artifact": [],
  "options": {
    "train": {"epochs": 2, "learningRate": 0.5, "gpu": false, "optimizer": {"name": "adam"}},
    "notes": "an unknown key"
  }
}
"""


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, postgresql: PostgreSQL) -> Iterator[Airflow]:
    """An Airflow with one pipeline, of the DAG ``count``."""
    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    (dags / "scripts").mkdir(parents=True)
    for name, text in {"scripts/datasource.py": DATASOURCE, "scripts/model.py": MODEL, "count.json": DOCUMENT}.items():
        (dags / name).write_text(text, encoding="utf-8")
    with running_airflow(home, dags, PIPELINES, postgresql.database(home)) as airflow:
        wait_for(lambda: airflow.request("GET", "dags")["dags"], bool)
        yield airflow


@pytest.fixture(scope="module")
def browser(airflow: Airflow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("pictures")) as browser:
        browser.log_in(f"{airflow.url}/auth/token/login")
        yield browser


def open_form(page: Page) -> Locator:
    """Open the trigger form on a DAG's page."""
    page.get_by_role("button", name="Trigger Dag").click()
    return page.get_by_role("dialog")


def field(form: Locator, name: str) -> Locator:
    """Return the field for a parameter."""
    return form.locator(f'[name="element_{name}"]')


def trigger(form: Locator) -> None:
    form.get_by_role("button", name="Trigger", exact=True).click()


def run_ids(airflow: Airflow) -> list[str]:
    return [run["dag_run_id"] for run in airflow.request("GET", "dags/count/dagRuns")["dag_runs"]]


def test_dags_documentation(airflow: Airflow, browser: Browser) -> None:
    """It has a table of the stages, what lint warns of, with its line, and the command that does the same elsewhere."""
    with browser.page(f"{airflow.url}/dags/count") as page:
        page.get_by_role("button", name="Dag Docs").click()
        documentation = page.get_by_role("dialog")
        table = documentation.get_by_role("table")
        expect(table.get_by_role("row", name="datasource scripts/datasource.py")).to_be_visible()
        expect(table.get_by_role("row", name="count=4")).to_be_visible()
        expect(table.get_by_role("row", name="model scripts/model.py")).to_be_visible()
        expect(table.get_by_role("row", name="epochs=2")).to_be_visible()
        expect(documentation).to_contain_text('line 8, $.options.notes: Unknown key "notes"')
        expect(documentation.get_by_text("pipcook train count.json", exact=False)).to_be_visible()


def test_code_tab_shows_the_document(airflow: Airflow, browser: Browser) -> None:
    """The source is the JSON that a person wrote, not the DAG file that stands for it."""
    with browser.page(f"{airflow.url}/dags/count/code") as page:
        expect(page.locator("body")).to_contain_text('"scripts/datasource.py?count=4"')
        expect(page.locator("body")).to_contain_text('"notes": "an unknown key"')
        expect(page.locator("body")).not_to_contain_text("stub")


def test_form_has_typed_fields_in_sections(airflow: Airflow, browser: Browser) -> None:
    """There are numbers with their least value, switches, texts, each with its default, in sections that open."""
    with browser.page(f"{airflow.url}/dags/count") as page:
        form = open_form(page)
        expect(field(form, "epochs")).to_have_value("2")
        expect(field(form, "epochs")).to_have_role("spinbutton")
        expect(field(form, "epochs")).to_have_attribute("aria-valuemin", "1")
        expect(field(form, "learningRate")).to_have_value("0.5")
        expect(field(form, "gpu")).to_have_attribute("type", "checkbox")
        expect(field(form, "gpu")).not_to_be_checked()
        expect(field(form, "optimizer.name")).to_have_value("adam")
        expect(form).to_contain_text("How many times the training samples are gone through.")
        expect(field(form, "datasource.count")).to_be_hidden()
        form.get_by_role("button", name="datasource: datasource.py").click()
        expect(field(form, "datasource.count")).to_have_value("4")
        form.get_by_role("button", name="Framework").click()
        expect(field(form, "framework")).to_be_visible()


def test_wrong_values_start_no_run(airflow: Airflow, browser: Browser) -> None:
    """A number field takes no text and nothing out of its range; what is of another type Airflow refuses, and says why."""
    before = run_ids(airflow)
    with browser.page(f"{airflow.url}/dags/count") as page:
        form = open_form(page)
        epochs = field(form, "epochs")
        epochs.clear()
        epochs.press_sequentially("many")
        expect(epochs).not_to_have_value("many")
        epochs.fill("0")
        epochs.blur()
        expect(epochs).to_have_value("1")
        epochs.fill("1.5")
        epochs.blur()
        trigger(form)
        expect(form).to_contain_text("Invalid input for param epochs: 1.5 is not of type 'integer'")
    assert run_ids(airflow) == before


def test_run_trains_with_what_was_entered(airflow: Airflow, browser: Browser) -> None:
    """What was changed in the form is in the run's configuration, in its scripts, and shown on its pages."""
    with browser.page(f"{airflow.url}/dags/count") as page:
        form = open_form(page)
        field(form, "epochs").fill("3")
        field(form, "epochs").blur()
        form.get_by_role("button", name="datasource: datasource.py").click()
        field(form, "datasource.count").fill("6")
        trigger(form)
        page.wait_for_url("**/dags/count/runs/*")
        run_id = unquote(urlsplit(page.url).path.rpartition("/")[2])
        assert airflow.finished("count", run_id) == "success", airflow.tasks("count", run_id)
        page.goto(f"{page.url}/tasks/prepare/rendered_templates")
        parameters = page.get_by_role("row", name="parameters")
        for shown in (r'"epochs"\s*:\s*3', r'"datasource.count"\s*:\s*"6"', r'"learningRate"\s*:\s*0.5'):
            expect(parameters).to_contain_text(re.compile(shown))
        page.goto(page.url.replace("/rendered_templates", ""))
        expect(page.locator("body")).to_contain_text("3 instead of 2")
    prepared = airflow.result("count", run_id, "prepare")
    assert prepared["changed"] == {"epochs": 3, "datasource.count": "6"}
    document = json.loads((Path(prepared["workspace"]) / "pipeline-config.json").read_text(encoding="utf-8"))
    assert document["options"]["train"]["epochs"] == 3
    assert document["datasource"].endswith("?count=6")
    log = airflow.log("count", run_id, "model")
    assert "epoch 3 with 6 samples" in log
    assert "epoch 4" not in log
