# The first Python on the path that is new enough; tools/install.py says so when there is none.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

.PHONY: help install demo test test-all lint bench bench-demo lock docker-test docker-gpu-image clean

help:  ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

install:  ## .venv from the lock file; seconds when there is nothing to do
	@test -n "$(PYTHON)" || { echo "GRAPE needs Python 3.11, 3.12 or 3.13: install one, or name it with make install PYTHON=/path/to/python3.11." >&2; exit 2; }
	@$(PYTHON) tools/install.py

demo: install  ## prepares the demo and serves it on http://127.0.0.1:8000
	@$(BIN)/grape demo prepare
	@$(BIN)/grape serve

test: install  ## the tests, with the real parts; without the slow ones
	@$(BIN)/grape demo prepare
	@$(BIN)/python -m tests.support.browser
	$(BIN)/python -m pytest

test-all: install  ## the slow ones too: vision models, adapters changed under load, ...
	@$(BIN)/grape demo prepare
	@$(BIN)/python -m tests.support.browser
	$(BIN)/python -m pytest -m "slow or not slow"

lint: install  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install  ## speed against the floors, as a table
	@$(BIN)/grape demo prepare
	$(BIN)/python -m benchmarks.serve

bench-demo: install  ## the demo's recall anew, into README.md and benchmarks/expected.yaml
	@$(BIN)/grape demo prepare
	$(BIN)/python -m benchmarks.demo --write

lock: install  ## resolves pyproject.toml anew
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/lock.py $(PIP_FIND_LINKS)

docker-test: install  ## builds the image and tries it by compose; needs Docker and root
	$(BIN)/python -m tests.docker.run $(DOCKER_TEST)

docker-gpu-image: install  ## builds the gpu image and says how large it is; needs 35 GB of disk
	$(BIN)/python -m tests.docker.gpu_image $(DOCKER_TEST)

clean:  ## removes .venv
	rm -rf .venv
