# Each target sets up its own virtual environment; there need only be Python (3.11 or newer) and make.
PYTHON ?= python3
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
DEV := .venv-$(VERSION)
RUN := .venv-$(VERSION)-run

.DEFAULT_GOAL := help
.PHONY: help demo test check conformance lock bench endpoints clean

help: ## Show this.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1|\2/' | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

demo: $(RUN)/run.stamp ## Describe the installed Python packages: the main job on real input. ARGS="--workers 4"
	$(RUN)/bin/fanfold demo $(ARGS)

test: $(DEV)/dev.stamp ## Run the tests. ARGS="tests/test_codec.py"
	$(DEV)/bin/python -m pytest $(ARGS)

check: $(DEV)/dev.stamp ## The gate: ruff, format, mypy --strict, all tests with warnings as errors.
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy
	$(MAKE) test PYTHON="$(PYTHON)"

bench: $(DEV)/dev.stamp ## Measure: enqueue, drain, growth, latency.
	$(DEV)/bin/python bench/run.py $(ARGS)

endpoints: $(DEV)/dev.stamp ## Measure `fanfold serve` beside other SQS servers. ARGS="--growth", "--memory"
	PYTHONPATH=. $(DEV)/bin/python bench/endpoints.py $(ARGS)

conformance: $(DEV)/dev.stamp ## Ask others' SQS suites what they think of `fanfold serve`. ARGS="--suite moto"
	$(DEV)/bin/python -m conformance $(ARGS)

lock: ## Renew requirements-dev.lock (needs uv).
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --no-emit-index-url \
	  --generate-hashes --quiet --upgrade --output-file requirements-dev.lock

clean: ## Remove what these targets made.
	rm -rf .venv-* .conformance demo-run .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(DEV)/dev.stamp: pyproject.toml requirements-dev.lock
	scripts/venv.sh $(DEV) $(PYTHON) dev

$(RUN)/run.stamp: pyproject.toml
	scripts/venv.sh $(RUN) $(PYTHON) run
