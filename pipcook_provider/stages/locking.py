"""Writing the lock beside a document."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pipcook_provider.errors import LockError
from pipcook_provider.frameworks import FrameworkPin, absolute_reference, ensure_framework, platform_key
from pipcook_provider.frameworks.report import Report
from pipcook_provider.lockfile import (
    Lock,
    LockedFramework,
    describe_processor,
    describe_script,
    describe_scripts,
    lock_path,
)
from pipcook_provider.settings import Settings
from pipcook_provider.spec import Gpu, PipelineSpec
from pipcook_provider.stages.scripts import collect_scripts


def lock_pipeline(spec: PipelineSpec, settings: Settings, report: Report) -> Path:
    """Write the lock beside a document: what it runs now is what it may run from now on.

    A lock that is there keeps what it says of the framework on other platforms, as long as it is the same framework.

    :returns: the lock's path.
    :raises LockError: the document is none on this machine, or the lock cannot be written.
    :raises PipcookError: something that the document names is not there.
    """
    path = lock_path(spec.origin)
    if path is None:
        raise LockError(
            f"a lock lies beside its document, so the document was expected on this machine, but {spec.origin} is in the "
            "network. Save the document, and lock that."
        )
    try:
        former = Lock.beside(spec.origin)
    except LockError:
        report.warning(f"{path} cannot be read as a lock; it is written anew.")
        former = None
    with tempfile.TemporaryDirectory(prefix="pipcook-lock-") as folder:
        collected = collect_scripts(spec, Path(folder), settings, report)
        scripts = describe_scripts(spec, map(describe_script, collected))
    processors = {artifact.processor: describe_processor(artifact.processor) for artifact in spec.artifacts}
    framework = _lock_framework(spec, former, settings, report) if spec.framework else None
    Lock(scripts, processors, framework).write(path)
    return path


def _lock_framework(spec: PipelineSpec, former: Lock | None, settings: Settings, report: Report) -> LockedFramework:
    assert spec.framework is not None
    framework = ensure_framework(
        absolute_reference(spec.framework, spec.origin),
        settings,
        gpu=spec.gpu is not Gpu.NO,
        verify=True,
        report=report,
    )
    # A path is said as the document says it: the lock moves with the document.
    is_named = framework.reference == f"{framework.name}@{framework.version}"
    reference = framework.reference if is_named else spec.framework
    known = former.framework if former else None
    same = known is not None and (known.asked, known.reference) == (spec.framework, reference)
    others = known.platforms if known is not None and same else {}
    pin = FrameworkPin.of(framework)
    return LockedFramework(spec.framework, reference, {**others, platform_key(gpu=spec.gpu is not Gpu.NO): pin})
