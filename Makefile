# Two commands: `make repro` and `make test`. Each makes .venv and installs what it needs; `make help` has the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
# Where to install: an activated environment (conda's base is left alone), else .venv; or VENV=/any/path.
CONDA := $(if $(filter-out base,$(CONDA_DEFAULT_ENV)),$(CONDA_PREFIX))
VENV ?= $(firstword $(VIRTUAL_ENV) $(CONDA) .venv)
# The versions that were tested; CONSTRAINTS= takes the newest that pyproject.toml allows.
CONSTRAINTS ?= constraints.txt
# For pip, for example an index with CPU builds of PyTorch: make repro PIP_ARGS='--extra-index-url URL'
PIP_ARGS ?=
PYTEST_ARGS ?=
RTX ?= tensorrt-rtx>=1.7,<1.8

BIN := $(abspath $(VENV))/bin
PIP := $(BIN)/python -m pip install --quiet --quiet $(PIP_ARGS) $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
# two processes; the failures and the reruns of tests/pipeline share a reproduced project each
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup
# A stamp's name holds the hash of what was installed: git sets times as it likes, and starts no installation.
HASH := $(shell cat pyproject.toml setup.py $(CONSTRAINTS) | sha256sum | cut -c1-16)
stamp = $(VENV)/.enginewright-$(1)-$(HASH)
CHECK := $(call stamp,check)
HOST := $(call stamp,host)
TEST := $(call stamp,test)

# `cmd: exec python -m stages...` in dvc.yaml takes the first python of the PATH.
export PATH := $(BIN):$(PATH)

.PHONY: repro test-fast test test-full check fix sync rtx bench plots clean help

repro: $(HOST) ## run what is stale of the pipeline, then what differs from the committed metrics, and the precisions
	$(BIN)/dvc repro
	@echo "every metric that differs from the committed ones (of another machine, if this is a fresh clone):"
	$(BIN)/dvc metrics diff
	$(BIN)/enginewright compare

test-fast: $(TEST) ## the tests that take about a second at most (PYTEST_ARGS='tests/config' for some of them)
	$(PYTEST) -m 'not (slow or pipeline or full)' $(PYTEST_ARGS)

test: $(TEST) check ## check, then every test but the long ones; what .ci/run runs
	$(PYTEST) -m 'not full' $(PYTEST_ARGS)

test-full: $(TEST) check ## check, then every test: long fuzz, sweeps, every experiment, fresh environments
	$(PYTEST) $(PYTEST_ARGS)

check: $(CHECK) ## ruff, mypy --strict, the import direction, params.yaml against conf/; installs no torch
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/runtimes/tensorrt/typings.py .typings
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/enginewright configure --check
	$(BIN)/enginewright lock --check

fix: $(CHECK) ## let ruff repair and format what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

sync: $(HOST) ## write toolchain.yaml after an edit of the library, and say what it makes stale
	$(BIN)/enginewright lock

plots: $(HOST) ## write the page of plots, dvc_plots/index.html
	$(BIN)/dvc plots show

rtx: $(HOST) ## add TensorRT-RTX, which builds engines for RTX GPUs without one (230 MB)
	$(PIP) '$(RTX)'
	$(BIN)/python -c 'import tensorrt_rtx as t; print("TensorRT-RTX", t.__version__)'

bench: $(TEST) ## measure the price of the harness itself; writes benchmarks/results/
	$(BIN)/python -m benchmarks.noop_repro
	$(BIN)/python -m benchmarks.stage_startup

clean: ## remove outputs and caches of tools; keeps .venv, committed metrics, and DVC's cache with the outputs
	rm -rf dvc_plots outputs multirun build *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	if [ -d artifacts ]; then \
	  find artifacts -mindepth 1 -maxdepth 1 ! -name metrics ! -name toolchain -exec rm -rf {} +; \
	fi
	find . -name __pycache__ -not -path './.venv/*' -exec rm -rf {} +

help: ## print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(HOST): | $(VENV)/bin/python
	@echo "installing into $(VENV) (a few minutes the first time)"
	$(PIP) -e '.[host]'
	@rm -f $(VENV)/.enginewright-host-*
	@touch $@

$(CHECK): | $(VENV)/bin/python
	@echo "installing into $(VENV)"
	$(PIP) -e '.[pipeline,dev]'
	@# stubs only: its dependency is TensorRT itself, of gigabytes
	$(PIP) --no-deps tensorrt-stubs
	@rm -f $(VENV)/.enginewright-check-*
	@touch $@

$(TEST): $(HOST) $(CHECK)
	$(PIP) -e '.[host,dev,loadgen,plugins]'
	@rm -f $(VENV)/.enginewright-test-*
	@touch $@
