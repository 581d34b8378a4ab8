"""What stages see of the worker's environment: never credentials of Airflow's."""

from __future__ import annotations

import os

from pipcook_provider.settings import Settings

#: How the network is reached, how people write here, how many threads to use.
_EVERYWHERE = frozenset(
    {"LANG", "LANGUAGE", "TZ"}
    | {name for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY") for name in (proxy, proxy.lower())}
)
_EVERYWHERE_PREFIXES = ("LC_", "OMP_", "OPENBLAS_", "MKL_")

#: Where things are on this machine, and which devices it has.
_ON_THIS_MACHINE = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TEMP", "TMP", "LD_LIBRARY_PATH"}
    | {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "CUDA_VISIBLE_DEVICES"}
)
_ON_THIS_MACHINE_PREFIXES = ("NVIDIA_",)


def worker_environment(settings: Settings, *, on_this_machine: bool) -> dict[str, str]:
    """Return the worker's variables that a stage sees beside ``[pipcook] child_environment``.

    :param on_this_machine: whether the stage runs where the worker does, so that what says where things are is right.
    """
    names = _EVERYWHERE | set(settings.child_environment) | (_ON_THIS_MACHINE if on_this_machine else set())
    prefixes = _EVERYWHERE_PREFIXES + (_ON_THIS_MACHINE_PREFIXES if on_this_machine else ())
    return {name: value for name, value in os.environ.items() if name in names or name.startswith(prefixes)}
