# Airflow with this package, for docker/compose.yaml. The context is the repository.
ARG BASE_IMAGE=apache/airflow:3.3.2-python3.11
FROM ${BASE_IMAGE}
# What `pip install` adds must fit the Airflow that is there: its version and the providers' are those of constraints.txt.
COPY --chown=airflow:0 . /opt/pipcook/source
RUN --mount=type=secret,id=pip,uid=50000 --mount=type=secret,id=ca,uid=50000 \
    if [ -f /run/secrets/pip ]; then export PIP_CONFIG_FILE=/run/secrets/pip; fi; \
    if [ -f /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    pip install --no-cache-dir --constraint /opt/pipcook/source/constraints.txt /opt/pipcook/source
