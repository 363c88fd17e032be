# `make demo` and `make test` do all set-up on a bare machine with Python 3.11 or newer.
# The first of these that runs and is new enough; `make PYTHON=/path/to/python3 …` for another.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt

export MPLBACKEND := Agg

.PHONY: demo test test-slow lint bench docs notebooks gallery wheel environment clean help

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.base ## Train on the shipped sample, explain it, write hepxai-demo/report.html
	$(BIN)/hepxai demo --out hepxai-demo

test: $(VENV)/.dev ## All tests but the slow ones
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-slow: $(VENV)/.dev ## The slow tests: every analysis script, the shipped samples made again, ROOT's macro, coverage of errors
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

lint: $(VENV)/.dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev ## Ratios against named peers, one thread
	$(BIN)/python -m benchmarks

docs: $(VENV)/.dev ## Build the documentation site: build/docs/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

notebooks: $(VENV)/.dev ## Write the notebooks of the tutorials, docs/tutorials
	$(BIN)/python docs/site/notebooks.py

gallery: $(VENV)/.dev ## Draw the figures of docs/gallery.md and the house again
	$(BIN)/python docs/site/gallery.py
	$(BIN)/python docs/site/house.py

wheel: $(VENV)/.dev ## Build the wheel and try it in a clean environment from an unrelated folder
	bash .ci/wheel $(BIN)/python

environment: $(VENV)/.dev ## Set up .venv with everything that the other targets need

clean: ## Remove what the other targets made
	rm -rf $(VENV) hepxai-demo dist build

$(VENV)/.venv:
	@test -n "$(PYTHON)" || { echo "hepxai needs Python 3.11 or newer: make PYTHON=/path/to/python3 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.base: $(VENV)/.venv pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

# ROOT and the generators have wheels for some platforms only; their tests are skipped where they are missing.
# Of weaver-core and jetnet, the tests need the networks alone; torchvision's wheel would bring the CUDA libraries.
$(VENV)/.dev: $(VENV)/.base
	$(PIP) --editable ".[dev]"
	-$(PIP) --only-binary pythia8mc,fastjet --editable ".[simulate]"
	-$(PIP) --only-binary root --editable ".[root]"
	-$(PIP) --no-deps weaver-core jetnet torchvision zennit
	touch $@
