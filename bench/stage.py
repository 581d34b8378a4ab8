"""What stages cost: an empty one, and the digits pipeline against its scripts in one bare Python process.

A stage's own overhead is the wall time of a stage whose script does next to nothing, without a framework. The digits
pipeline runs through ``pipcook train``; its peer calls the same three scripts one after the other in one Python
process, with the same framework, datasets handed on in memory. Runs alternate, and ratios are taken pair by pair.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from pipcook_provider.frameworks import ensure_framework
from pipcook_provider.launchers.process import ProcessLauncher
from pipcook_provider.runtime.messages import Message
from pipcook_provider.settings import Settings
from pipcook_provider.spec import parse_pipeline
from pipcook_provider.stages import StageRunner
from pipcook_provider.store.workspace import Workspace

DIGITS = Path(__file__).resolve().parents[1] / "dags" / "digits-image-classification.json"
ROUNDS = 5

EMPTY = """
from pipcook_provider.runtime import DatasetPool, Sample

def datasource(options, context):
    return DatasetPool.from_samples(train=[Sample(1.0, 0)])

def train(runtime, options, context):
    runtime.save_model(b"", "model")
"""

#: What a person would write to run the scripts without Pipcook.
BARE = """
import json, sys
from pathlib import Path
framework, root, document = (Path(word) for word in sys.argv[1:])
sys.path.insert(0, str(framework / "site-packages"))
from pipcook_provider.runtime import DatasetPool
from pipcook_provider.runtime.context import Context, ScriptWorkspace, TaskType
from pipcook_provider.runtime.loading import initialize_framework, load_function
from pipcook_provider.runtime.roles import ModelRuntime
from pipcook_provider.spec import load_pipeline_spec

class Deaf:
    def send(self, message):
        pass

spec = load_pipeline_spec(document)
for name in ("data", "model", "cache"):
    (root / name).mkdir(parents=True)
context = Context(ScriptWorkspace.at(root, str(framework)), TaskType.TRAIN, spec.origin, root / "downloads")
initialize_framework(framework, spec.options)
pool = load_function(spec.datasource.path, "datasource")(spec.datasource.parameters, context)
for script in spec.dataflow:
    lazy = load_function(script.path, "dataflow")(pool, script.parameters, context)
    # As a person would: transform once and keep the result in memory, not again in every epoch.
    splits = {name: getattr(lazy, name) for name in ("train", "test", "valid")}
    pool = DatasetPool.from_samples(**{name: list(split) for name, split in splits.items() if split}, meta=lazy.meta)
parameters = {**spec.train, **spec.model.parameters}
load_function(spec.model.path, "model")(ModelRuntime(pool, context.workspace.model_dir, Deaf()), parameters, context)
"""


class Deaf:
    """A listener that does not listen."""

    def message(self, message: Message) -> None:
        pass

    def output(self, line: str) -> None:
        pass


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        overhead = empty_stage(folder)
        print(f"an empty stage          {overhead:6.3f} s  (limit 0.4)")
        ratio = digits(folder)
    return int(overhead > 0.4 or ratio > 1.35)


def empty_stage(folder: Path) -> float:
    """Return the median wall time of a datasource stage that does next to nothing, in seconds."""
    (folder / "empty.py").write_text(EMPTY, encoding="utf-8")
    settings = Settings(home=folder / "home")
    runner = StageRunner(settings, ProcessLauncher(settings), Deaf())
    text = '{"specVersion": "2.0", "datasource": "empty.py", "model": "empty.py"}'
    workspace = Workspace.create(folder / "empty-run")
    runner.prepare(parse_pipeline(text, str(folder / "empty.json")), workspace)
    return median(runner.run(workspace, "datasource").seconds for _ in range(11))


def digits(folder: Path) -> float:
    """Print both contenders' medians; return the median ratio."""
    home = Path(os.environ.get("PIPCOOK_HOME", folder / "home"))
    framework = ensure_framework("tensorflow@2.21", Settings(home=home)).path
    environment = {**os.environ, "PIPCOOK_HOME": str(home), "PYTHONPATH": ""}
    pairs = []
    for number in range(ROUNDS + 1):
        pipcook = timed(
            [sys.executable, "-m", "pipcook_provider.cli", "train", str(DIGITS), "-o", str(folder / f"run-{number}")],
            environment,
        )
        bare = timed(
            [sys.executable, "-c", BARE, str(framework), str(folder / f"bare-{number}"), str(DIGITS)], environment
        )
        pairs.append((pipcook, bare))
    del pairs[0]
    ratio = median(pipcook / bare for pipcook, bare in pairs)
    print(f"digits, pipcook train   {median(pipcook for pipcook, _ in pairs):6.2f} s")
    print(f"digits, bare process    {median(bare for _, bare in pairs):6.2f} s")
    print(f"to bare process         {ratio:6.2f}    (limit 1.35)")
    return ratio


def timed(command: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    elapsed = time.perf_counter() - started
    if told.returncode != 0:
        sys.exit(f"{' '.join(command[:4])} failed:\n{told.stderr[-2000:]}")
    return elapsed


if __name__ == "__main__":
    sys.exit(main())
