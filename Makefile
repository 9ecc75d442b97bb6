# make help lists the targets. Needs python3 (3.10 or newer) with venv; everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs

.DEFAULT_GOAL := help
.PHONY: help setup demo models test slow check docs format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## make .venv and install the project with its tools

# Runs again only when a requirement changes. A .venv whose making was interrupted has no pip: it is created again.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("seq2seq needs Python 3.10 or newer" if sys.version_info < (3, 10) else 0)'
	@$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(RUN) -m pip install -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup ## train the bundled English-French task and translate with it; DEMO=--short for a quick look
	$(RUN) scripts/demo.py $(DEMO)

models: setup ## train small models on data of the project into models/; MODELS=--short for a quick look
	$(RUN) scripts/make_models.py $(MODELS)

test: setup ## the quick tests, in two processes
	$(RUN) -m pytest -n 2 --dist worksteal

slow: setup ## the tests that take minutes
	$(RUN) -m pytest -m slow --timeout 3600

check: setup ## lint, format and types
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy

$(DOCS_STAMP): $(STAMP)
	$(RUN) -m pip install -c constraints.txt -e '.[docs]'
	@touch $@

docs: $(DOCS_STAMP) ## the documentation site, build/docs/html/index.html; executes the chapters of docs/tutorials/
	$(RUN) scripts/docs/build_site.py $(DOCS)

format: setup ## apply the fixes of ruff
	$(RUN) -m ruff check --fix
	$(RUN) -m ruff format

clean: ## remove .venv, builds and caches; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis outputs multirun
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
