# make test    set up .venv and run all tests            make lint   ruff and mypy
# make demo    the main job on real input, with pictures  make bench  figures against the peers
#
# Needs a Python >= 3.11 with venv, and the package registry; everything lands in .venv and .venv-bench.
# Settings: PYTHON, VENV, PYTEST_ARGS, DEMO_SIZE (full, small), DEMO_OUT, BENCH_PYTHON, BENCH_ARGS.

.DEFAULT_GOAL := test
.DELETE_ON_ERROR:

USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
# Recursive, so that nobody pays for the search but who makes an environment.
FIND_PYTHON = for python in python3 python3.13 python3.12 python3.11 python3.14 python \
	$(HOME)/.pyenv/versions/3.*/bin/python3 /usr/local/bin/python3 /opt/*/bin/python3; do \
	if $$python -c '$(USABLE)' >/dev/null 2>&1; then echo $$python; exit; fi; done; \
	echo 'no Python >= 3.11 with venv found: set PYTHON=/path/to/python3' >&2; echo false

PYTHON ?= $(shell $(FIND_PYTHON))
# Some peers have newer versions for a newer Python; any will do.
BENCH_PYTHON ?= $(shell for python in python3.13 $(HOME)/.pyenv/versions/3.13.*/bin/python3 \
	python3.12 $(HOME)/.pyenv/versions/3.12.*/bin/python3; do \
	if $$python -c '$(USABLE)' >/dev/null 2>&1; then echo $$python; exit; fi; done; echo $(PYTHON))
VENV ?= .venv
BENCH_VENV ?= .venv-bench
BIN := $(VENV)/bin
BENCH_BIN := $(BENCH_VENV)/bin

PYTEST_ARGS ?= -n auto --dist worksteal
DEMO_SIZE ?= full
DEMO_OUT ?= demo-output
BENCH_ARGS ?=

READY := $(VENV)/.ready
BENCH_READY := $(BENCH_VENV)/.ready

.PHONY: setup test demo bench lint format typecheck layout wheel clean

setup: $(READY)

# The stamp: a second call finds it newer than what it was made from, and installs nothing.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(BENCH_READY): pyproject.toml benchmarks/requirements.txt
	$(BENCH_PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_BIN)/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/requirements.txt \
		--editable .
	@touch $@

test: $(READY)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

demo: $(READY)
	$(BIN)/python examples/demo.py --size $(DEMO_SIZE) --out $(DEMO_OUT)

bench: $(BENCH_READY)
	$(BENCH_BIN)/python -m benchmarks $(BENCH_ARGS)

lint: $(READY) typecheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(READY)
	$(BIN)/mypy

layout: $(READY)
	$(BIN)/python -m pytest tests/test_layout.py

# sdist first, then the wheel from it: what the sdist lacks is missed here and not by a packager.
wheel: $(READY)
	rm -rf build dist
	$(BIN)/python -m build --outdir dist .

clean:
	rm -rf $(VENV) $(BENCH_VENV) build dist *.egg-info demo-output benchmarks/results \
		.mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
