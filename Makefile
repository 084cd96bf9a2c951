# Every target sets itself up: the virtual environment .venv is made on first use.
# The user's own pip settings hold (pip.conf, PIP_* variables); PIP_ARGS adds to them.
PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: setup quality test
.DEFAULT_GOAL := help

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install $(PIP_ARGS) --constraint constraints.txt --editable ".[dev]"
	touch $@

quality: $(STAMP)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .

test: $(STAMP)
	$(PY) -m pytest
