"""GPUs, asked of the real engine of a machine that has none."""

from __future__ import annotations

import pytest
from docker_images import small_image

from pipcook_provider.errors import GpuError
from pipcook_provider.launchers.base import Needs
from pipcook_provider.launchers.docker.engine import Engine
from pipcook_provider.launchers.docker.gpu import device_requests, has_gpu, preflight
from pipcook_provider.settings import Settings


@pytest.fixture
def engine() -> Engine:
    engine = Engine.connect(Settings())
    if has_gpu(engine):
        pytest.skip("this engine has a GPU: what happens without one cannot be seen here")
    return engine


def test_engine_without_gpu(engine: Engine, heard) -> None:
    """The engine tells that it has no GPU: required is an error, "auto" a warning."""
    with pytest.raises(GpuError, match=r"asks for a GPU, but the Docker engine .* has none"):
        preflight(engine, Needs(gpus=1, gpu_required=True), heard)
    assert heard.messages == []
    assert preflight(engine, Needs(gpus=1), heard) == 0
    assert [message.level for message in heard.messages] == ["warning"]


def test_engine_refuses_a_gpu(engine: Engine) -> None:
    """A container that asks for a GPU all the same is refused at its start, and the error says what to do."""
    with small_image(engine) as image:
        host = engine.client.create_host_config(device_requests=device_requests(1))
        container = engine.client.create_container(image, host_config=host)["Id"]
        try:
            with (
                pytest.raises(
                    GpuError, match=r"could not select device driver.*nvidia-ctk runtime configure"
                ) as caught,
                engine.translated("start the container"),
            ):
                engine.client.start(container)
        finally:
            engine.client.remove_container(container, force=True)
    assert not caught.value.retryable
