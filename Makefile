# Everything starts here. `make run` and `make test` set up what they need in .venv.
.DEFAULT_GOAL := help
.PHONY: help run test lowest check format demo e2e lab fuzz soak audit mutants bench clean

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEV := $(VENV)/.dev-ready
LOWEST := .venv-lowest
POLICY ?=
KEEP ?=
ARGS ?=

help: ## show this
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9]+):.*## (.*)/  make \1\t\2/'

run: $(READY) ## start mitmdump with the addon (POLICY=file.yaml, ARGS="more options")
	$(BIN)/mitmdump -s addon/egress.py $(if $(POLICY),--set egress_policy=$(POLICY)) $(ARGS)

test: $(DEV) ## run the fast tests
	$(BIN)/python -m pytest -n auto $(ARGS)

lowest: $(LOWEST)/.ready ## run the fast tests at the lowest versions that pyproject.toml allows
	$(LOWEST)/bin/python -m pytest -n auto $(ARGS)

check: $(DEV) ## the whole gate: lint, format, types, import rules, tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

format: $(DEV) ## format and fix what can be fixed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

demo: $(DEV) ## two proxies, a nameserver, an origin and mitmdump on loopback (KEEP=1 leaves them running)
	@$(BIN)/python -m tests.lab.demo $(if $(KEEP),--keep)

e2e: $(DEV) ## through squid, danted, haproxy, nginx, PostgreSQL, Chromium and others
	$(BIN)/python -m pytest -m e2e -n 2 $(ARGS)

lab: $(DEV) ## count packets in network namespaces: no family, proxy or name that is not allowed (root)
	$(BIN)/python -m tests.lab
	$(BIN)/python -m tests.lab --prove

fuzz: $(DEV) ## fuzz every decoder for SECONDS each (60 by default)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group fuzz
	$(BIN)/python -m tests.fuzz $(or $(SECONDS),60) $(ARGS)

audit: $(DEV) ## known weaknesses of what is installed (asks an advisory service, and says where it cannot)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group audit
	$(BIN)/python -m tests.audit

mutants: $(DEV) ## change model, policy and wire in one place at a time: do their tests notice?
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group mutants
	$(BIN)/python -m tests.mutants $(ARGS)

soak: $(DEV) ## load for SECONDS (180) while proxies flap; pools with a member away for OUTAGE (20) (root)
	$(BIN)/python -m tests.soak $(or $(SECONDS),180)
	$(BIN)/python -m tests.soak.outages $(or $(OUTAGE),20)

bench: $(DEV) ## measure against stock mitmdump, squid and privoxy
	$(BIN)/python -m tests.bench $(ARGS)

clean: ## remove what was set up
	rm -rf $(VENV) $(LOWEST) .venv-3.1? build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@.ci/python -m venv $(VENV)

$(READY): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(DEV): pyproject.toml $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	@touch $@

$(LOWEST)/.ready: pyproject.toml
	@.ci/python -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m tests.lowest >$(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check \
		--editable . --group dev --constraint $(LOWEST)/constraints.txt
	@touch $@
