# Each target sets up its own virtual environment; there need only be Python (3.11 or newer) and make.
PYTHON ?= python3
VERSION := $(or $(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null),unknown)
DEV := .venv-$(VERSION)
RUN := .venv-$(VERSION)-run

.DEFAULT_GOAL := help
.PHONY: help demo test check conformance lock bench bench-quick endpoints clean dev run

help: ## Show this.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

demo: run ## Describe the installed Python packages: the main job on real input. ARGS="--workers 4"
	$(RUN)/bin/fanfold demo $(ARGS)

test: dev ## Run the tests. ARGS="tests/test_codec.py"
	$(DEV)/bin/python -m pytest $(ARGS)

check: dev ## The gate: ruff, format, shellcheck, mypy --strict, all tests with warnings as errors.
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/shellcheck scripts/*.sh .ci/run
	$(DEV)/bin/mypy
	$(MAKE) test PYTHON="$(PYTHON)"

bench: dev ## Measure beside peers, and growth, latency, distance, slow tasks. ARGS="--write"
	PYTHONPATH=. $(DEV)/bin/python bench/everything.py $(ARGS)
	$(DEV)/bin/python bench/run.py

bench-quick: dev ## Check requests a task and coarse ratios, in about a minute.
	PYTHONPATH=. $(DEV)/bin/python bench/everything.py --quick

endpoints: dev ## Measure `fanfold serve` beside other SQS servers. ARGS="--growth", "--memory"
	PYTHONPATH=. $(DEV)/bin/python bench/endpoints.py $(ARGS)

conformance: dev ## Ask others' SQS suites what they think of `fanfold serve`. ARGS="--suite moto"
	$(DEV)/bin/python -m conformance $(ARGS)

lock: ## Renew requirements-dev.lock, keeping what is locked. ARGS="--upgrade"
	scripts/lock.sh "$(PYTHON)" $(ARGS)

dev: ## Set up the development environment, .venv-3.11 and so on.
	@scripts/venv.sh $(DEV) "$(PYTHON)" dev

run: ## Set up the environment that the demo runs in.
	@scripts/venv.sh $(RUN) "$(PYTHON)" run

clean: ## Remove what these targets made.
	rm -rf .venv-* .conformance demo-run .pytest_cache .mypy_cache .ruff_cache .hypothesis
