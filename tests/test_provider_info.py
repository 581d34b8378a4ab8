"""What Airflow is told about the provider, read by Airflow's own code."""

from __future__ import annotations

import json
from pathlib import Path

import airflow
import jsonschema
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

from pipcook_provider.provider_info import get_provider_info


def test_schema() -> None:
    """The info is valid by Airflow's schema."""
    schema = Path(airflow.__file__).with_name("provider_info.schema.json")
    jsonschema.validate(get_provider_info(), json.loads(schema.read_text(encoding="utf-8")))


def test_form() -> None:
    """The connection's form has a field for a token, which is hidden as a password is, and says what the others mean."""
    (form,) = [meta for meta in HookMetaService.hook_meta_data() if meta.connection_type == "pipcook_framework"]
    assert form.extra_fields is not None
    assert form.extra_fields["token"]["schema"]["format"] == "password"
    assert form.standard_fields is not None
    assert form.standard_fields.host is not None
    assert form.standard_fields.host.title == "Mirror"
