# `make` alone lists the commands. All of them make .venv first when it is missing or out of date.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The interpreter to make .venv with: Python 3.11 or newer; found by tools/venv.sh when it is not given.
PYTHON ?=
# ONCE=1: `make demo` stops Airflow when the run is over.
ONCE ?=
# The image that `make images` builds on: one with Python; python:3.11-slim-bookworm when it is not given.
BASE_IMAGE ?=
# A framework for `make images` to bake in, and the variants to build: FRAMEWORK=tensorflow@2.21.0 VARIANTS=cpu
FRAMEWORK ?=
VARIANTS ?=
# More arguments for the command behind a target: make test ARGS="-k spec -x"
ARGS ?=

bin := .venv/bin
made := .venv/.made
oldest := .venv-oldest/bin

# The tests of all that touches Airflow.
airflow_tests := tests/bundles tests/dag_factory tests/hooks tests/operators tests/system tests/test_airflow_cli.py \
    tests/test_imports.py tests/test_plugin.py tests/test_provider_info.py tests/test_triggers.py

# Two files of tests at a time, many of which wait more than they work; those of one file share what they set up.
parallel := --numprocesses 2 --dist loadfile

.PHONY: help
help: ## list the commands
	@echo "usage: make COMMAND [PYTHON=python3.11] [ONCE=1] [ARGS=...]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: $(made) ## start Airflow, train the digits model in it, keep the web UI up until Ctrl-C (ONCE=1: stop at the end)
	@exec $(bin)/python -m tools.demo $(if $(filter-out 0,$(ONCE)),--once) $(ARGS)

.PHONY: test
test: $(made) ## run the tests
	@$(bin)/python -m pytest $(parallel) $(ARGS)

.PHONY: test-oldest
test-oldest: .venv-oldest/.made ## run the tests that touch Airflow with the oldest Airflow that is supported
	@$(oldest)/python -m pytest $(parallel) $(airflow_tests) --ignore tests/system/test_digits.py --ignore tests/system/test_thousand.py $(ARGS)

.PHONY: images
images: $(made) ## build the images that stages run in (BASE_IMAGE=..., FRAMEWORK=name@version, VARIANTS="cpu cuda")
	@$(bin)/python -m tools.engine images --base-image "$(BASE_IMAGE)" --framework "$(FRAMEWORK)" $(VARIANTS)

.PHONY: test-docker
test-docker: $(made) ## build the images, then run the tests that need a Docker engine
	@$(bin)/python -m tools.engine images --base-image "$(BASE_IMAGE)"
	@PIPCOOK_TEST_DOCKER=1 $(bin)/python -m pytest tests/docker $(ARGS)

.PHONY: lint
lint: $(made) ## check style, types and the layers' contracts
	@$(bin)/ruff check .
	@$(bin)/ruff format --check .
	@$(bin)/mypy
	@$(bin)/lint-imports

.PHONY: format
format: $(made) ## rewrite the code in the project's style
	@$(bin)/ruff check --fix --exit-zero .
	@$(bin)/ruff format .

.PHONY: bench
bench: $(made) ## measure parsing, stages, datasets, frameworks and containers against their limits
	@failed=; for script in bench/*.py; do echo "== $$script"; $(bin)/python -P "$$script" $(ARGS) || failed="$$failed $$script"; done; \
	    test -z "$$failed" || { echo "A limit was missed, or something could not be measured, in:$$failed" >&2; exit 1; }

.PHONY: venv
venv: $(made) ## make .venv, which the other commands do by themselves

$(made): pyproject.toml constraints.txt tools/venv.sh
	@PYTHON="$(PYTHON)" sh tools/venv.sh .venv constraints.txt test lint bench
	@touch $@

# With the Python and the uv of .venv.
.venv-oldest/.made: $(made) constraints-oldest.txt
	@PATH="$(CURDIR)/$(bin):$$PATH" PYTHON=$(bin)/python sh tools/venv.sh .venv-oldest constraints-oldest.txt test
	@touch $@

compile := $(bin)/uv pip compile pyproject.toml --universal --python-version 3.11 --upgrade --quiet --group test \
    --no-emit-index-url --no-annotate --no-header

.PHONY: constraints
constraints: $(made) ## raise the versions in constraints.txt and constraints-oldest.txt to the newest that go together
	@$(compile) --group lint --group bench --output-file constraints.txt
	@sed -n 's/^ *"\(apache-airflow\)>=\([0-9.]*\)",$$/\1==\2.*/p' pyproject.toml | \
	    $(compile) - --output-file constraints-oldest.txt

.PHONY: clean
clean: ## remove both .venv, the demo's Airflow and frameworks, and all caches
	@rm -rf .venv .venv-oldest .airflow .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
