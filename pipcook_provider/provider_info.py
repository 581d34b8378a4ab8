"""What Airflow is told about this provider. Imported by every ``airflow`` command: light on purpose."""

from __future__ import annotations

from typing import Any

import pipcook_provider
from pipcook_provider.settings import SECTION, declared_options

_HOOK = "pipcook_provider.hooks.framework.PipcookFrameworkHook"

#: How the connection's form shows the standard fields, and the field of its own.
FORM: dict[str, Any] = {
    "hidden-fields": [],
    "relabeling": {"schema": "Scheme", "host": "Mirror", "login": "User"},
    "placeholders": {
        "schema": "https",
        "host": "mirror.example.com/framework",
        "extra": '{"headers": {"X-Api-Key": "..."}}',
    },
}
TOKEN: dict[str, Any] = {
    "label": "Token",
    "description": "Sent as a bearer token, in the place of user and password.",
    "schema": {"type": ["string", "null"], "format": "password"},
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's info in the form of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "pipcook-provider",
        "name": "Pipcook",
        "description": "Pipcook pipelines: a JSON document becomes a DAG that trains a machine-learning model.",
        "versions": [pipcook_provider.__version__],
        "integrations": [
            {
                "integration-name": "Pipcook",
                "external-doc-url": "https://alibaba.github.io/pipcook/",
                "tags": ["software"],
            }
        ],
        "operators": [
            {
                "integration-name": "Pipcook",
                "python-modules": [
                    "pipcook_provider.operators.artifact",
                    "pipcook_provider.operators.docker",
                    "pipcook_provider.operators.prepare",
                    "pipcook_provider.operators.stage",
                ],
            }
        ],
        "hooks": [{"integration-name": "Pipcook", "python-modules": ["pipcook_provider.hooks.framework"]}],
        "triggers": [{"integration-name": "Pipcook", "python-modules": ["pipcook_provider.triggers"]}],
        "bundles": [{"integration-name": "Pipcook", "python-modules": ["pipcook_provider.bundles"]}],
        "asset-uris": [{"schemes": ["pipcook"], "handler": None}],
        "hook-class-names": [_HOOK],
        "connection-types": [
            {
                "connection-type": "pipcook_framework",
                "hook-class-name": _HOOK,
                "hook-name": "Pipcook framework",
                "conn-fields": {"token": TOKEN},
                "ui-field-behaviour": FORM,
            }
        ],
        "cli": ["pipcook_provider.airflow_cli.get_pipcook_commands"],
        "config": {
            SECTION: {
                "description": "Pipcook pipelines. Each option can also be set by an environment variable PIPCOOK_<OPTION>.",
                "options": declared_options(),
            }
        },
    }
