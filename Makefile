# Everything runs in .venv, which is made from requirements-dev.lock: a machine needs Python 3.11 or later and make.
PYTHON ?= python3
VENV := .venv/installed.lock
RUN_AUDIT := .venv/bin/python .ci/audit.py
AUDIT := .venv-audit/installed.lock
LOCKS := requirements.lock requirements-dev.lock requirements-audit.lock
RUN := .venv/bin/python -m
INSTALLER := pip install -qq --disable-pip-version-check
PIP := $(RUN) $(INSTALLER)
COMPILE := $(RUN) uv pip compile --quiet --universal --python-version 3.11 \
    --generate-hashes --no-emit-index-url --custom-compile-command "make lock"
RESOLVE := $(COMPILE) pyproject.toml

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
.PHONY: help test demo large builders chaos overload properties examples bench soak webhooks audit lint format types lock clean .venv

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z.]+:.*## / { printf "make %-11s%s\n", $$1, $$2 }' Makefile

.venv: $(VENV) ## Install the locked packages into .venv, if the lock changed since

$(VENV): requirements-dev.lock
	$(INSTALL)

$(AUDIT): requirements-audit.lock
	$(INSTALL)

# The lock that was installed is kept as the last step, so it isn't there after a half-finished install.
define INSTALL
@cmp -s $< $@ && exec touch $@; \
version=$$("$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 11))') || { \
    echo "Python 3.11 or later is needed, and '$(PYTHON)' is $${version:-not there}. Name another: make PYTHON=python3.12" >&2; \
    exit 1; }; \
echo "Installing $< into $(@D) (Python $$version) …"; \
"$(PYTHON)" -m venv --clear $(@D) && $(@D)/bin/python -m $(INSTALLER) --require-hashes -r $< && cp $< $@
endef

test: lint types ## Check format, lint and types, and run the tests
	@$(RUN) tests.again

demo: $(VENV) ## Run the example on a dev server; MODEL=openai/gpt-4o-mini and SPEC="…" are optional
	@$(RUN) console demo $${SPEC:+"$$SPEC"}

builders: $(VENV) ## Kill workers while teams build in one repository: KILLS=20, ten minutes
	@$(RUN) tests.system.builders --kills $(or $(KILLS),20)

chaos: $(VENV) ## Kill workers, then the server, at bad moments of runs: KILLS=50 SEEDS=5, ten minutes
	@$(RUN) tests.system.chaos --kills $(or $(KILLS),50) --seeds $(or $(SEEDS),5)

large: $(VENV) ## Send what is large through runs, encrypted, while a worker is killed: MB=20
	@LARGE_MB=$(or $(MB),20) $(RUN) pytest -n 0 --timeout 600 tests/system/test_large.py

overload: $(VENV) ## Start workers on a crowded core while runs wait, and ask 300 prompts at load 15
	@$(RUN) tests.system.overload

examples: $(VENV) ## Run every example by the two commands of its docstring
	@$(RUN) tests.system.two_commands

properties: $(VENV) ## Run random programs, disturbed and edited meanwhile: EXAMPLES=500 SEED=1
	@EXAMPLES=$(or $(EXAMPLES),500) $(RUN) pytest -n 0 tests/system/test_properties.py tests/system/test_properties_of_edits.py \
	    $(if $(SEED),--hypothesis-seed=$(SEED))

webhooks: $(VENV) ## Tell webhooks through a receiver that fails, is slow, and is away for a minute: AWAY=60, five minutes
	@$(RUN) tests.system.webhooks --away $(or $(AWAY),60)

bench: $(VENV) ## Measure what the harness costs and how far it goes: ONLY=overhead,pools SCALE=0.1 CHECK=1
	@$(RUN) bench $(if $(ONLY),--only $(ONLY)) $(if $(SCALE),--scale $(SCALE)) $(if $(WORKERS),--workers $(WORKERS)) \
	    $(if $(CHECK),--check)

soak: $(VENV) ## Run all kinds of runs while things are killed and the provider fails: MINUTES=20 SEED=1
	@$(RUN) bench.soak --minutes $(or $(MINUTES),20) $(if $(SEED),--seed $(SEED))

lint: $(VENV) ## Check format and style, and that no room imports another against the direction
	@$(RUN) ruff format --check .
	@$(RUN) ruff check .
	@.venv/bin/lint-imports --no-logo --no-cache > .venv/imports.log || { cat .venv/imports.log >&2; exit 1; }

types: $(VENV) ## Check types
	@$(RUN) mypy

format: $(VENV) ## Format the code and mend what ruff can
	@$(RUN) ruff format .
	@$(RUN) ruff check --fix .

lock: $(VENV) ## Resolve pyproject.toml into the three lock files; versions that still fit stay
	@$(PIP) uv
	@$(RESOLVE) -o requirements.lock
	@$(RESOLVE) -o requirements-dev.lock --extra dev -c requirements.lock
	@$(COMPILE) --group audit -o requirements-audit.lock

audit: $(VENV) $(AUDIT) ## Check hashes, licences and known vulnerabilities, and write build/bom.json: ADVISORIES=folder
	@$(RUN_AUDIT) hashes $(LOCKS)
	@$(RUN_AUDIT) licences
	@mkdir -p build && PYTHONWARNINGS=ignore .venv-audit/bin/cyclonedx-py requirements requirements.lock \
	    --pyproject pyproject.toml --output-reproducible -o build/bom.json && echo "bill of materials: build/bom.json"
ifdef ADVISORIES
	@$(RUN_AUDIT) advisories $(ADVISORIES) $(LOCKS)
else
	@for lock in $(LOCKS); do .venv-audit/bin/pip-audit --strict --require-hashes --disable-pip -r $$lock || { \
	    echo "Where PyPI can't be asked: make audit ADVISORIES=folder, a checkout of PyPA's advisory database." >&2; \
	    exit 1; }; done
endif

clean: ## Remove .venv and everything that tools left behind
	rm -rf .venv .venv-audit .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
