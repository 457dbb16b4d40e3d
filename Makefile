# footfall: the commands a person types. Each says what it does, and does nothing twice.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3.11
UV_VERSION := 0.13.9
BIN := .venv/bin
READY := .venv/.ready
PROMETHEUS := .venv/prometheus
# Debian's lists of packages, where those of the system are missing: no root, and nothing outside .venv.
OWN_APT := -o Dir::State=$(CURDIR)/.venv/apt -o Dir::Cache=$(CURDIR)/.venv/apt -o Debug::NoLocking=1
# Without bytecode, every worker process compiles what it imports anew: 25 s to be ready instead of 12.
unexport PYTHONDONTWRITEBYTECODE
export YOLO_AUTOINSTALL := False
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: help setup demo test test-long lint lock clean

help:  ## list these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 16

setup: $(READY)  ## make .venv from the lock, and fetch the default weights

$(READY): requirements.lock pyproject.toml
	@echo "setup: making .venv from requirements.lock (about 7 GB with CUDA's libraries)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' \
	  || { echo "setup: footfall needs Python 3.11 or newer; name one with make PYTHON=..." >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@echo "setup: fetching the default weights"
	@$(BIN)/python -m jobs.weights
	@touch $@

demo: setup  ## run the main job on footage with known truth; FOOTAGE=path runs it on yours
	@$(BIN)/python -m jobs.demo $(if $(FOOTAGE),--footage "$(FOOTAGE)")

test: lint $(PROMETHEUS)  ## set-up, lint, types, import floors, tests
	@echo "test: pytest"
	@$(BIN)/python -m pytest -q -m "not long"

test-long: setup $(PROMETHEUS)  ## the tests that take several whole runs each
	@echo "test-long: pytest"
	@$(BIN)/python -m pytest -q -m long

lint: setup
	@echo "lint: ruff, mypy, import floors, Dockerfile"
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache > .venv/lint-imports.log || { cat .venv/lint-imports.log; exit 1; }
	@$(BIN)/hadolint cluster/deploy/Dockerfile

# What a test scrapes a running job with. Debian's package is only unpacked; elsewhere that test is skipped.
$(PROMETHEUS): | $(READY)
	@if command -v prometheus > /dev/null || ! command -v apt-get > /dev/null; then mkdir $@; exit; fi; \
	  echo "test: fetching Prometheus"; \
	  rm -rf .venv/apt && mkdir -p .venv/apt/lists/partial .venv/apt/archives/partial && cd .venv/apt; \
	  { apt-get -qq download prometheus || { apt-get -qq $(OWN_APT) update && apt-get -qq $(OWN_APT) download prometheus; }; } \
	    > log 2>&1 || { cat log; echo "test: no Prometheus to be had: its test is skipped" >&2; exit 0; }; \
	  dpkg-deb -x prometheus_*.deb unpacked && mv unpacked $(CURDIR)/$@ && cd $(CURDIR) && rm -rf .venv/apt

lock: $(READY)  ## resolve the dependencies anew into requirements.lock
	@$(BIN)/uv pip compile -q --python-version 3.11 pyproject.toml --extra dev --extra int8 --generate-hashes --no-header -o requirements.lock

clean:  ## remove .venv and what the demo wrote
	@rm -rf .venv demo-output
