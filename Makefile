SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo check test protos schema clean

help: ## what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(BIN)/rlsd: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(BIN)/rlsd ## a virtual environment in .venv with everything

demo: setup ## train a small model with RLSD through the four services (about 2 minutes)
	$(BIN)/rlsd run examples/chain/rlsd.toml

check: setup ## format, lint, types, import layers, generated code up to date
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/generate.py --check

test: setup ## unit, contract, integration tests, then whole runs (about 10 minutes)
	$(BIN)/pytest
	$(BIN)/pytest -m slow

protos schema: setup ## regenerate the stubs and the configuration schema
	$(BIN)/python scripts/generate.py

clean: ## remove what the targets made
	rm -rf $(VENV) runs .mypy_cache .ruff_cache
