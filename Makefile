# Everything runs in .venv, which is made from requirements-dev.lock: a machine needs Python 3.11 or later and make.
PYTHON ?= python3
VENV := .venv/installed.lock
RUN := .venv/bin/python -m
PIP := $(RUN) pip install -qq --disable-pip-version-check
RESOLVE := $(RUN) uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
    --generate-hashes --no-emit-index-url --custom-compile-command "make lock"

# A project's description may hold quotes and dollars: it travels in the environment, unexpanded by make and shell.
ifdef SPEC
override SPEC := $(value SPEC)
export SPEC
endif
ifdef MODEL
override MODEL := $(value MODEL)
export MODEL
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help test demo chaos overload properties examples bench lint format types lock clean .venv

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z.]+:.*## / { printf "make %-11s%s\n", $$1, $$2 }' Makefile

.venv: $(VENV) ## Install the locked packages into .venv, if the lock changed since

# The lock that was installed is kept as the last step, so it isn't there after a half-finished install.
$(VENV): requirements-dev.lock
	@cmp -s requirements-dev.lock $@ && exec touch $@; \
	version=$$("$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 11))') || { \
	    echo "Python 3.11 or later is needed, and '$(PYTHON)' is $${version:-not there}. Name another: make PYTHON=python3.12" >&2; \
	    exit 1; }; \
	echo "Installing requirements-dev.lock into .venv (Python $$version) …"; \
	"$(PYTHON)" -m venv --clear .venv && $(PIP) --require-hashes -r requirements-dev.lock && cp requirements-dev.lock $@

test: lint types ## Check format, lint and types, and run the tests
	@$(RUN) pytest

demo: $(VENV) ## Run the example on a dev server; MODEL=openai/gpt-4o-mini and SPEC="…" are optional
	@$(RUN) console demo $${SPEC:+"$$SPEC"}

chaos: $(VENV) ## Kill workers, then the server, at bad moments of runs: KILLS=50 SEEDS=5, ten minutes
	@$(RUN) tests.system.chaos --kills $(or $(KILLS),50) --seeds $(or $(SEEDS),5)

overload: $(VENV) ## Start workers on a crowded core while runs wait, and ask 300 prompts at load 15
	@$(RUN) tests.system.overload

examples: $(VENV) ## Run every example by the two commands of its docstring
	@$(RUN) tests.system.two_commands

properties: $(VENV) ## Run random programs, disturbed and edited meanwhile: EXAMPLES=500 SEED=1
	@EXAMPLES=$(or $(EXAMPLES),500) $(RUN) pytest -n 0 tests/system/test_properties.py tests/system/test_properties_of_edits.py \
	    $(if $(SEED),--hypothesis-seed=$(SEED))

bench: $(VENV) ## Measure what the harness costs and how far it goes: ONLY=overhead,pools SCALE=0.1 CHECK=1
	@$(RUN) bench $(if $(ONLY),--only $(ONLY)) $(if $(SCALE),--scale $(SCALE)) $(if $(WORKERS),--workers $(WORKERS)) \
	    $(if $(CHECK),--check)

lint: $(VENV) ## Check format and style, and that no room imports another against the direction
	@$(RUN) ruff format --check .
	@$(RUN) ruff check .
	@.venv/bin/lint-imports --no-logo --no-cache > .venv/imports.log || { cat .venv/imports.log >&2; exit 1; }

types: $(VENV) ## Check types
	@$(RUN) mypy

format: $(VENV) ## Format the code and mend what ruff can
	@$(RUN) ruff format .
	@$(RUN) ruff check --fix .

lock: $(VENV) ## Resolve pyproject.toml into the two lock files; versions that still fit stay
	@$(PIP) uv
	@$(RESOLVE) -o requirements.lock
	@$(RESOLVE) -o requirements-dev.lock --extra dev -c requirements.lock

clean: ## Remove .venv and everything that tools left behind
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
