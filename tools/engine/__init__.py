"""A Docker engine for ``make test-docker`` and ``.ci/run``, and the images of docker/Dockerfile on it."""
