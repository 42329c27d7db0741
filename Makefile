# The chores are words: `make help` lists them, and each sets up .venv by itself.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHONS := python3.13 python3.12 python3.11 python3
PYTHON ?= $(shell for each in $(PYTHONS); do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$each; break; }; done)
BIN := .venv/bin
READY := .venv/.ready

PACKAGES := sdc_node consumers providers mdib_models
FLOOR := 85

.PHONY: help demo test lint fmt bench soak docs clean

help: ## list the chores
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## simulated devices, receivers and the node in one go, until Ctrl-C (options in ARGS="...")
	@$(BIN)/sdc-node demo $(ARGS)

test: lint ## lint, all tests but the soak, and the coverage floor of each package
	@mkdir -p build && rm -f .coverage .coverage.*
	@tests=0; $(BIN)/python -P -m pytest -m "not soak" --cov --cov-report= $(ARGS) 2>&1 | tee build/pytest.log || tests=$$?; \
	floor=0; for package in $(PACKAGES); do \
		covered=$$($(BIN)/coverage report --include="$$package/*" --precision=2 --format=total) || covered=none; \
		echo "branch coverage of $$package: $$covered %"; \
		$(BIN)/coverage report --include="$$package/*" --precision=2 --fail-under=$(FLOOR) >build/coverage.$$package.txt \
			|| { floor=1; echo "  below the floor of $(FLOOR) %: see build/coverage.$$package.txt" >&2; }; \
	done; \
	tail -n 1 build/pytest.log; \
	exit $$((tests | floor))

lint: $(READY) ## format, style, types and import contracts, changing nothing
	@$(BIN)/ruff format --check --quiet . || { echo "not formatted: run make fmt" >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fmt: $(READY) ## format, and repair what can be repaired
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

bench: $(READY) ## each benchmark in turn, ratios measured side by side
	@for each in $(wildcard benchmarks/*.py); do echo "== $$each"; $(BIN)/python -P $$each; done

soak: $(READY) ## the long hammering that `make test` leaves out
	@$(BIN)/python -P -m pytest -m soak --timeout=7200 $(ARGS)

docs: $(READY) ## write docs/reference/ anew from the code
	@$(BIN)/python -P docs/generate.py

clean: ## remove what these chores made; demo runs stay
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or later found (looked for $(PYTHONS)): make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
