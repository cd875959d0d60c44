# Everything that people, hooks and CI run.
BIN := .venv/bin
# No telemetry.
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true
export GX_ANALYTICS_ENABLED := false
export DVC_NO_ANALYTICS := true
export PATH := $(CURDIR)/$(BIN):$(PATH)

.NOTPARALLEL:
.PHONY: help setup setup-test secrets stack stack-status stack-down run check test test-slow lint docs picture fuzz bench bench-data bench-features bench-train bench-serve bench-gpu lock

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed 's/:.*## /\t/'

# The locks build on each other: base, then cpu or gpu, then test. `make setup EARMARK_DEVICE=gpu PYTHON=python3.12`
# chooses a device and a Python; .venv/chosen.mk remembers both until others are chosen, or the checkout is moved.
-include .venv/chosen.mk
EARMARK_DEVICE ?= $(or $(CHOSEN_DEVICE),cpu)
PYTHON ?= $(or $(CHOSEN_PYTHON),python3)
LOCKS := requirements/base.lock requirements/$(EARMARK_DEVICE).lock requirements/installer.lock
ifneq ($(EARMARK_DEVICE) $(PYTHON) $(CURDIR),$(CHOSEN_DEVICE) $(CHOSEN_PYTHON) $(CHOSEN_FOLDER))
.PHONY: .venv/.run .venv/.stack .venv/.test
endif

.venv/.run .venv/.stack .venv/.test: $(LOCKS) pyproject.toml requirements/install.py
	@rm -f .venv/.run .venv/.stack .venv/.test
	@$(PYTHON) requirements/install.py base.lock $(EARMARK_DEVICE).lock $(MORE_LOCKS)
	@printf 'CHOSEN_DEVICE := %s\nCHOSEN_PYTHON := %s\nCHOSEN_FOLDER := %s\n' \
	  '$(EARMARK_DEVICE)' '$(PYTHON)' '$(CURDIR)' > .venv/chosen.mk
	@touch .venv/.run $(if $(MORE_LOCKS),.venv/.stack) $@

.venv/.stack: MORE_LOCKS := server.lock
.venv/.stack: requirements/server.lock
.venv/.test: MORE_LOCKS := server.lock test.lock
.venv/.test: requirements/server.lock requirements/test.lock

setup: .venv/.run  ## install .venv from the locks, for running

setup-test: .venv/.test  ## the same, with the packages of tests and benchmarks

secrets: .venv/.stack  ## draw the passwords of the team's service into infra/.state/secrets
	@$(BIN)/python -m infra.secret_files

stack: .venv/.stack  ## start the team's whole service on this machine: PostgreSQL, S3, MLflow, Prefect, a worker
	@$(BIN)/python -m infra.stack up

stack-status: .venv/.stack  ## say which services are healthy, and where
	@$(BIN)/python -m infra.stack status

stack-down: .venv/.stack  ## stop the service; its data stays in infra/.state
	@$(BIN)/python -m infra.stack down

run: setup  ## ingest, validate, extract, train, evaluate, register: whatever is not up to date
	@$(BIN)/python -m flows.retrain

# Each test file runs in one worker.
PYTEST := -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# Lines that the tests reach in their own processes, not in the commands that they start.
COVERAGE := logs/coverage
FLOOR := 90

check: setup-test lint  ## lint and unit tests: run it before each commit
	@$(BIN)/python $(PYTEST) tests/unit

test: setup-test lint  ## lint, all tests except slow ones, and their coverage
	@mkdir -p logs
	@$(BIN)/python -m slipcover --source src/earmark --json --out $(COVERAGE).json $(PYTEST) -m "not slow"
	@$(BIN)/python -m slipcover --merge $(COVERAGE).json --out $(COVERAGE).json --skip-covered --fail-under $(FLOOR) \
	  > $(COVERAGE).txt || { cat $(COVERAGE).txt; echo 'coverage is below $(FLOOR) %'; exit 1; }
	@echo "coverage: lines, not covered, percent:" && tail -1 $(COVERAGE).txt

test-slow: fuzz  ## slow tests: fuzz, real recordings, many kills, whole reproductions
	@$(BIN)/python $(PYTEST) -m slow

lint: setup-test  ## style, import order and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet . && $(BIN)/lint-imports --no-cache && $(BIN)/mypy

docs: setup  ## generate docs/params.md from the parameters' types and params.yaml
	@$(BIN)/python -m earmark.reporting.params_markdown > docs/.params.partial.md
	@mv docs/.params.partial.md docs/params.md

picture: setup-test  ## draw docs/report.png from reports/registered.html; needs Chromium
	@PYTHONPATH=tests $(BIN)/python -m tests.support.report_picture

fuzz: setup-test  ## ten thousand malformed recordings, different ones each time
	@EARMARK_FUZZ=10000 $(BIN)/python -m pytest tests/unit/audio/test_fuzz_recordings.py

bench: bench-data bench-features bench-train bench-serve  ## measure every figure in docs/benchmarks.md

bench-data: setup-test  ## ingestion, validation, extraction and DVC on 64,727 clips: reports/bench-data.json
	@$(BIN)/python -m tests.benchmarks.data

bench-features: setup-test  ## feature extraction against other ways, and reading features: reports/bench-features.json
	@$(BIN)/python -m tests.benchmarks.features

bench-train: setup-test  ## candidates against the tutorial's network, on real recordings (SPEECH=archive): reports/bench-train.json
	@$(BIN)/python -m tests.benchmarks.train $(SPEECH)

bench-serve: setup-test  ## requests to a served model, and exported files, on real recordings (SPEECH=archive): reports/bench-serve.json
	@PYTHONPATH=tests $(BIN)/python -m tests.benchmarks.serve $(SPEECH)

# It installs nothing: PYTHON is one that has JAX for its card, and .venv/bin comes first on PATH.
bench-gpu:  ## training on one GPU under JAX, in any Python that has it (PYTHON=, SPEECH=archive): reports/bench-gpu.json
	@KERAS_BACKEND=jax CUDA_VISIBLE_DEVICES=$${CUDA_VISIBLE_DEVICES:-0} PYTHONPATH=src \
	  $(PYTHON) -m tests.benchmarks.gpu $(SPEECH)

# Versions are chosen once for all locks together; packages of base.lock are not repeated in the others.
COMPILE := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-annotate \
  --no-header --no-emit-index-url --quiet
WITHOUT = $$(sed -n 's/^\([a-z0-9._-]*\)==.*/--no-emit-package \1/p' $(1) | sort -u)
ALL := requirements/.all.partial.lock

lock: setup  ## make requirements/*.lock from pyproject.toml
	$(COMPILE) --upgrade --extra cpu --extra server --extra test -o $(ALL)
	$(COMPILE) -c $(ALL) -o requirements/base.lock
	$(COMPILE) --extra cpu -c $(ALL) $(call WITHOUT,requirements/base.lock) -o requirements/cpu.lock
	$(COMPILE) --extra gpu -c $(ALL) $(call WITHOUT,requirements/base.lock) -o requirements/gpu.lock
	$(COMPILE) --extra server -c $(ALL) $(call WITHOUT,requirements/base.lock) -o requirements/server.lock
	$(COMPILE) --extra cpu --extra server --extra test -c $(ALL) \
	  $(call WITHOUT,requirements/base.lock requirements/cpu.lock requirements/server.lock) -o requirements/test.lock
	echo uv | $(BIN)/uv pip compile - --universal --generate-hashes --no-annotate --no-header --quiet --upgrade \
	  -o requirements/installer.lock
	@rm $(ALL)
