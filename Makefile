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

# The stamp holds the lock that the environment was made from: another lock means another environment.
$(BIN)/.earmark: requirements.lock pyproject.toml
	@cmp -s requirements.lock $@ || { \
	  $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	    || { echo "earmark: $$($(PYTHON) --version) is too old or too new; allowed are Python 3.11 to 3.13: make PYTHON=python3.11" >&2; exit 2; }; \
	  rm -rf .venv && $(PYTHON) -m venv .venv; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@cp requirements.lock $@

setup: $(BIN)/.earmark  ## .venv from the lock; nothing to do where it is up to date

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
