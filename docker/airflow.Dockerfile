# Airflow with this package, for docker/compose.yaml; the context is the repository.
ARG BASE_IMAGE=apache/airflow:3.3.2-python3.11
FROM ${BASE_IMAGE}
COPY pyproject.toml README.md LICENSE /source/
COPY pipcook_provider /source/pipcook_provider
# What the image has stays as it is, since its versions were tested together; only what is missing is installed.
RUN --mount=type=secret,id=ca,mode=0444 --mount=type=secret,id=pip,mode=0444 \
    if [ -f /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    if [ -f /run/secrets/pip ]; then export PIP_CONFIG_FILE=/run/secrets/pip; fi; \
    python3 -m pip freeze | grep == > /tmp/constraints.txt || true; \
    python3 -m pip install --no-cache-dir --constraint /tmp/constraints.txt /source && rm /tmp/constraints.txt
