# Everything that people, hooks and CI do, under one name each.
BIN := .venv/bin
# Nothing phones home.
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true
export GX_ANALYTICS_ENABLED := false
export DVC_NO_ANALYTICS := true
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup setup-test run check test test-slow lint fuzz bench bench-data bench-features bench-train bench-serve lock

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed 's/:.*## /\t/'

# The locks lie on each other: base, then cpu or gpu, then what only tests and benchmarks need. The device and the Python
# that were chosen once (make setup EARMARK_DEVICE=gpu PYTHON=python3.12) stay chosen until others are.
-include .venv/chosen.mk
EARMARK_DEVICE ?= $(or $(CHOSEN_DEVICE),cpu)
PYTHON ?= $(or $(CHOSEN_PYTHON),python3)
LOCKS := requirements/base.lock requirements/$(EARMARK_DEVICE).lock requirements/installer.lock
ifneq ($(EARMARK_DEVICE) $(PYTHON),$(CHOSEN_DEVICE) $(CHOSEN_PYTHON))
.PHONY: .venv/.run .venv/.test
endif

.venv/.run .venv/.test: $(LOCKS) pyproject.toml requirements/install.py
	@rm -f .venv/.run .venv/.test
	@$(PYTHON) requirements/install.py base.lock $(EARMARK_DEVICE).lock $(if $(filter %test,$@),test.lock)
	@printf 'CHOSEN_DEVICE := %s\nCHOSEN_PYTHON := %s\n' '$(EARMARK_DEVICE)' '$(PYTHON)' > .venv/chosen.mk
	@touch .venv/.run $@

.venv/.test: requirements/test.lock

setup: .venv/.run  ## .venv from the locks: what running needs

setup-test: .venv/.test  ## the same, and what tests and benchmarks need

run: setup  ## the main job: ingest, validate, extract, train, evaluate, register
	@$(BIN)/python -m flows.retrain

# A file of tests is one worker's.
PYTEST := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: setup-test lint  ## lint, and the tests of functions: what to run before each commit
	@$(PYTEST) tests/unit

test: setup-test lint  ## lint, and all tests but slow ones
	@$(PYTEST) -m "not slow"

test-slow: fuzz  ## what does not fit into `make test`: the fuzz, real recordings, many kills, whole reproductions
	@$(PYTEST) -m slow

lint: setup-test  ## style, types and the order of the rooms
	@$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet . && $(BIN)/lint-imports --no-cache && $(BIN)/mypy

fuzz: setup-test  ## ten thousand hostile recordings, new ones each time
	@EARMARK_FUZZ=10000 $(BIN)/python -m pytest tests/unit/audio/test_fuzz_recordings.py

bench: bench-data bench-features bench-train bench-serve  ## every figure in docs/benchmarks.md

bench-data: setup-test  ## ingestion, validation, extraction and DVC on 64,727 clips: reports/bench-data.json
	@$(BIN)/python -m tests.benchmarks.data

bench-features: setup-test  ## feature extraction against other ways, and reading features: reports/bench-features.json
	@$(BIN)/python -m tests.benchmarks.features

bench-train: setup-test  ## candidates against the tutorial's network, on real recordings (SPEECH=archive): reports/bench-train.json
	@$(BIN)/python -m tests.benchmarks.train $(SPEECH)

bench-serve: setup-test  ## requests to a served model, and exported files, on real recordings (SPEECH=archive): reports/bench-serve.json
	@PYTHONPATH=tests $(BIN)/python -m tests.benchmarks.serve $(SPEECH)

# Versions are chosen once, for all of them together; what base.lock has is not repeated in the others.
COMPILE := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-annotate \
  --no-header --no-emit-index-url --quiet
WITHOUT = $$(sed -n 's/^\([a-z0-9._-]*\)==.*/--no-emit-package \1/p' $(1) | sort -u)
ALL := requirements/.all.partial.lock

lock: setup  ## requirements/*.lock from pyproject.toml
	$(COMPILE) --upgrade --extra cpu --extra test -o $(ALL)
	$(COMPILE) -c $(ALL) -o requirements/base.lock
	$(COMPILE) --extra cpu -c $(ALL) $(call WITHOUT,requirements/base.lock) -o requirements/cpu.lock
	$(COMPILE) --extra gpu -c $(ALL) $(call WITHOUT,requirements/base.lock) -o requirements/gpu.lock
	$(COMPILE) --extra cpu --extra test -c $(ALL) $(call WITHOUT,requirements/base.lock requirements/cpu.lock) \
	  -o requirements/test.lock
	echo uv | $(BIN)/uv pip compile - --universal --generate-hashes --no-annotate --no-header --quiet --upgrade \
	  -o requirements/installer.lock
	@rm $(ALL)
