# `make compare` and `make test` set up everything they need in .venv; nothing is installed outside it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: api compare test test-all lint clean system

compare: $(VENV)/.core  ## PMBM, delta-GLMB, LMB and GNN on the demo scene
	$(BIN)/python -m sims.compare $(ARGS)

# Tests are shared out among processes, each with one thread: twice as fast as one process with two. Those of a
# file stay together where they are short, as they compile and make the same things.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test: $(VENV)/.dev  ## the tests that take seconds
	$(PYTEST) --dist loadfile -m "not slow" $(ARGS)

test-all: $(VENV)/.dev  ## every test
	$(PYTEST) --dist worksteal $(ARGS)

lint: $(VENV)/.dev  ## style, types and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

api: $(VENV)/.dev  ## the API reference, of the docstrings
	$(BIN)/python docs/reference/build.py build/api

clean:
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/pip:
	@command -v $(PYTHON) >/dev/null && $(PYTHON) -c "import sys, ensurepip; sys.exit(sys.version_info < (3, 11))" \
		|| { echo "Python 3.11 or newer with venv is needed: apt install python3 python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(PIP) -e .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(PIP) -e '.[dev]'
	@$(BIN)/python -c "import trackeval" 2>/dev/null || $(MAKE) --no-print-directory system
	touch $@ $(VENV)/.core

# OpenCV, which the evaluation library imports, links two libraries that a bare Debian does not have.
SYSTEM := libgl1 libglib2.0-0
system:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends $(SYSTEM); \
	else echo "system libraries are missing: sudo apt-get install $(SYSTEM)" >&2; exit 2; fi
	@$(BIN)/python -c "import trackeval"
