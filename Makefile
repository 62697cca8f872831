# The first Python on the path that is new enough; `make install` says so if there is none.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

.PHONY: help install hooks demo unit fix lint test test-all cov bench bench-demo lock docker-test docker-gpu-image clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

install:  ## create .venv from the lock file; takes a second if nothing changed
	@test -n "$(PYTHON)" || { echo "GRAPE needs Python 3.11, 3.12 or 3.13: install one, or point to it: make install PYTHON=/path/to/python3.11." >&2; exit 2; }
	@$(PYTHON) tools/install.py

hooks: install  ## run the quick checks of make lint before each git commit
	$(BIN)/pre-commit install

demo: install  ## prepare the demo and serve it on http://127.0.0.1:8000
	@$(BIN)/grape demo prepare
	@$(BIN)/grape serve

unit: install  ## after each edit: the tests that need no model and no engine, in under a minute
	$(BIN)/python -m pytest --ignore tests/e2e -m "not heavy and not slow" --durations=5

fix: install  ## let ruff fix and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: install  ## ruff, mypy, import order, declared dependencies, sizes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/deptry . --extend-exclude benchmarks --extend-exclude tools
	$(BIN)/deptry tests tools benchmarks --exclude .venv --ignore DEP002,DEP004
	$(BIN)/python -m tools.check_sizes

test: install  ## the whole suite on real models, without the slow tests
	@$(BIN)/grape demo prepare
	@$(BIN)/python -m tests.support.browser
	@$(BIN)/python -m tests.support.axe
	$(BIN)/python -m pytest

test-all: install  ## the slow tests too: vision models, adapters that change under load, ...
	@$(BIN)/grape demo prepare
	@$(BIN)/python -m tests.support.browser
	@$(BIN)/python -m tests.support.axe
	$(BIN)/python -m pytest -m "slow or not slow"

cov: install  ## branch coverage of make test; fails below the floor in pyproject.toml
	@$(BIN)/grape demo prepare
	@$(BIN)/python -m tests.support.browser
	@$(BIN)/python -m tests.support.axe
	$(BIN)/python -m pytest --cov --cov-report=term

bench: install  ## measure speed against its floors and bars; needs a quiet machine
	@$(BIN)/grape demo prepare
	$(BIN)/python -m benchmarks.bench

bench-demo: install  ## measure the demo's recall again; writes README.md and benchmarks/expected.yaml
	@$(BIN)/grape demo prepare
	$(BIN)/python -m benchmarks.demo --write

lock: install  ## resolve pyproject.toml into requirements/; keeps the pins that exist
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/lock.py $(PIP_FIND_LINKS)

docker-test: install  ## build the image and try it under compose; needs Docker and root
	$(BIN)/python -m tests.docker.cpu_image $(DOCKER_TEST)

docker-gpu-image: install  ## build the GPU image and report its size; needs 35 GB of disk
	$(BIN)/python -m tests.docker.gpu_image $(DOCKER_TEST)

clean:  ## remove .venv
	rm -rf .venv
