# Everything that people, hooks and CI do, under one name each.
PYTHON ?= python3
BIN := .venv/bin
# Nothing phones home.
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true
export GX_ANALYTICS_ENABLED := false
export DVC_NO_ANALYTICS := true
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup run test lint fuzz bench bench-data bench-features bench-train bench-serve lock

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

# The locks lie on each other: base, then cpu or gpu (make LOCK=gpu setup), then what only tests and benchmarks need.
LOCK ?= cpu
LOCKS := requirements/base.lock requirements/$(LOCK).lock requirements/installer.lock
INSTALL := $(PYTHON) requirements/install.py

.venv/.run-$(LOCK): $(LOCKS) pyproject.toml requirements/install.py
	@rm -f .venv/.run-* .venv/.test-*
	@$(INSTALL) base.lock $(LOCK).lock
	@touch $@

.venv/.test-$(LOCK): $(LOCKS) requirements/test.lock pyproject.toml requirements/install.py
	@rm -f .venv/.run-* .venv/.test-*
	@$(INSTALL) base.lock $(LOCK).lock test.lock
	@touch .venv/.run-$(LOCK) $@

setup: .venv/.run-$(LOCK)  ## .venv from the locks: what running needs

setup-test: .venv/.test-$(LOCK)  ## the same, and what tests and benchmarks need

run: setup  ## the main job: ingest, validate, extract, train, evaluate, register
	@$(BIN)/python -m flows.retrain

test: setup lint  ## lint, then all tests
	@$(BIN)/python -m pytest

lint: setup  ## style and the order of the rooms
	@$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet . && $(BIN)/lint-imports --no-cache

fuzz: setup  ## ten thousand hostile recordings, new ones each time
	@EARMARK_FUZZ=10000 $(BIN)/python -m pytest tests/test_fuzz_recordings.py

bench: bench-data bench-features bench-train bench-serve  ## every figure in docs/benchmarks.md

bench-data: setup  ## ingestion, validation, extraction and DVC on 64,727 clips: reports/bench-data.json
	@$(BIN)/python -m tests.benchmarks.data

bench-features: setup  ## feature extraction against other ways, and reading features: reports/bench-features.json
	@$(BIN)/python -m tests.benchmarks.features

bench-train: setup  ## candidates against the tutorial's network, on real recordings (SPEECH=archive): reports/bench-train.json
	@$(BIN)/python -m tests.benchmarks.train $(SPEECH)

bench-serve: setup  ## requests to a served model, and exported files, on real recordings (SPEECH=archive): reports/bench-serve.json
	@PYTHONPATH=tests $(BIN)/python -m tests.benchmarks.serve $(SPEECH)

lock: setup  ## requirements.lock from pyproject.toml
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --extra dev --no-emit-index-url --no-header --quiet --upgrade pyproject.toml -o requirements.lock
