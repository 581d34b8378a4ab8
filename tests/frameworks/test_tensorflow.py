from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pipcook_provider.frameworks import Framework

USE = """
import sys, importlib.util
sys.path[:0] = sys.argv[1:2]
spec = importlib.util.spec_from_file_location("index", sys.argv[2])
index = importlib.util.module_from_spec(spec)
spec.loader.exec_module(index)
index.initialize({"train": {"gpu": False}})
assert "tensorflow" not in sys.modules
import tensorflow
print(tensorflow.__version__, tensorflow.__file__, len(tensorflow.config.list_physical_devices("GPU")))
"""


def test_used(tensorflow_framework: Path) -> None:
    """The shipped recipe gives the CPU variant; TensorFlow comes from it, and its script imports nothing."""
    framework = Framework.load(tensorflow_framework)
    assert (framework.name, framework.variant) == ("tensorflow", "cpu")
    command = [sys.executable, "-c", USE, str(framework.site_packages), str(framework.init_script)]
    version, file, gpus = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert version == framework.version
    assert version.startswith("2.21.")
    assert Path(file).is_relative_to(framework.path)
    assert gpus == "0"
