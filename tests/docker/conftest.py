"""Tests on a real Docker engine. `make test-docker` runs them; where no engine was asked for, they are left out."""

from __future__ import annotations

import json
import os
import secrets
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from http_server import server

from pipcook_provider import __version__
from pipcook_provider.launchers import Launch, Needs
from pipcook_provider.launchers.docker import ContainerOptions, DockerLauncher, Engine
from pipcook_provider.settings import Settings

__all__ = ["server"]

#: Set by `make test-docker`: the CPU image to test, or 1 for the one that `make images` made.
_ASKED_FOR = os.environ.get("PIPCOOK_TEST_DOCKER")
collect_ignore_glob = [] if _ASKED_FOR else ["test_*.py"]

GOOD_RETURN = """
    from pipcook_provider.runtime import DatasetPool, Sample
    return DatasetPool.from_samples(train=[Sample(1.0, 0)])
"""


@dataclass(frozen=True)
class StageMaker:
    """Makes launches of a datasource script that run in real containers, and knows what these leave behind.

    :param folder: where workspaces are.
    :param labels: what tells this test's containers from all others.
    """

    engine: Engine
    settings: Settings
    image: str
    folder: Path
    heard: Any
    labels: Mapping[str, str] = field(default_factory=lambda: {"pipcook-test": secrets.token_hex(8)})

    def launcher(
        self, settings: Settings | None = None, engine: Engine | None = None, **options: Any
    ) -> DockerLauncher:
        """Return a launcher with these options."""
        chosen = ContainerOptions(**{"image": self.image, "labels": self.labels, **options})
        return DockerLauncher(engine or self.engine, settings or self.settings, chosen)

    def launch(self, launcher: DockerLauncher, body: str, needs: Needs | None = None, **changes: Any) -> Launch:
        """Return the launch of a script whose function has this body; it ends with a result by itself."""
        workspace = self.folder / "run"
        for name in ("scripts", "output", "cache"):
            (workspace / name).mkdir(parents=True, exist_ok=True)
        text = f"def datasource(options, context):\n{textwrap.indent(textwrap.dedent(body), '    ')}\n{GOOD_RETURN}"
        (workspace / "scripts" / "datasource.py").write_text(text, encoding="utf-8")
        context = {
            "protocol": 1,
            "stage": "datasource",
            "role": "datasource",
            "parameters": {},
            "options": {},
            "origin": "file:///pipeline.json",
            "downloads": str(workspace / "cache"),
            "script": "scripts/datasource.py",
            "output": "output",
            "framework": str(changes["framework"]) if "framework" in changes else None,
        }
        (workspace / "context.json").write_text(json.dumps(context), encoding="utf-8")
        return Launch(
            **{
                "workspace": workspace,
                "context": Path("context.json"),
                "subject": "datasource script d.py",
                "site": launcher.open(needs or Needs(), self.heard),
                "reads": ("scripts",),
                "read_only": ("scripts",),
                "writes": ("output", "cache"),
                **changes,
            }
        )

    def run(self, body: str, needs: Needs | None = None, launcher: DockerLauncher | None = None, **changes: Any) -> Any:
        """Run a script and return its result."""
        launcher = launcher or self.launcher()
        return launcher.run(self.launch(launcher, body, needs, **changes), self.heard)

    def containers(self) -> list[str]:
        """Return the ids of this test's containers, whatever their state."""
        wanted = {"label": [f"{name}={value}" for name, value in self.labels.items()]}
        return [found["Id"] for found in self.engine.client.containers(all=True, filters=wanted)]

    def through(self, engine: Engine, settings: Settings | None = None) -> StageMaker:
        """Return a maker for the same engine at another address."""
        return replace(self, engine=engine, settings=settings or self.settings)


@pytest.fixture(scope="session")
def engine() -> Engine:
    """This machine's engine."""
    return Engine.connect(Settings())


@pytest.fixture(scope="session")
def stage_image() -> str:
    """The CPU image."""
    return f"pipcook-stage:{__version__}-cpu" if _ASKED_FOR in (None, "1") else _ASKED_FOR


@pytest.fixture
def stages(engine: Engine, settings: Settings, stage_image: str, tmp_path: Path, heard) -> Iterator[StageMaker]:
    """What makes stages; whatever it leaves behind is removed."""
    maker = StageMaker(engine, settings, stage_image, tmp_path, heard)
    yield maker
    for container in maker.containers():
        engine.client.remove_container(container, force=True, v=True)
