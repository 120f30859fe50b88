# Two commands do everything on a fresh machine with Python 3.11 or newer: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Only its tritonserver for the CPU is used; what it depends on (an older numpy) is not wanted.
TRITON := 'nvidia-pytriton>=0.7'

.PHONY: help demo test lint types imports pytest notebooks test-lowest stress bench clean
help:  ## Say what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /: /'

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "gpu-partitioner needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Installed again only when the list of dependencies changes.
$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(TRITON)
	@touch $@ $(VENV)/.installed

demo: $(VENV)/.installed  ## Plan a small real fleet, print the plan, write its picture to demo/
	$(BIN)/python examples/demo.py

test: lint types imports pytest notebooks  ## Everything that CI checks

lint: $(VENV)/.installed-test  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test  ## mypy --strict
	$(BIN)/mypy

imports: $(VENV)/.installed-test  ## import-linter: the architecture
	$(BIN)/lint-imports --no-cache

pytest: $(VENV)/.installed-test  ## Tests, doctests and examples
	@tests/system.sh
	$(BIN)/python -m pytest -q -n auto

notebooks: $(VENV)/.installed-test  ## Run the notebooks
	$(BIN)/python -m pytest -q -p no:doctest --override-ini addopts= -W default --nbmake notebooks

test-lowest: pyproject.toml  ## Tests against the lowest versions that pyproject.toml allows
	$(PYTHON) tests/lowest.py > .lowest.txt
	$(MAKE) pytest VENV=.venv-lowest PIP_CONSTRAINT=$(CURDIR)/.lowest.txt
	@rm -f .lowest.txt
export PIP_CONSTRAINT

stress: $(VENV)/.installed-test  ## Random fleets against brute force, for ten minutes
	$(BIN)/python tests/stress.py --seconds 600

bench: $(VENV)/.installed-test  ## Speed and quality of the planner, quality of measurement, as in the README
	$(BIN)/python -m benchmarks.planner speed
	$(BIN)/python -m benchmarks.planner quality
	$(BIN)/python -m benchmarks.planner services
	$(BIN)/python -m benchmarks.planner fleets
	$(BIN)/python -m benchmarks.planner reconfigure
	$(BIN)/python -m benchmarks.planner steps
	$(BIN)/python -m benchmarks.planner online
	$(BIN)/python -m benchmarks.quality

clean:  ## Remove what the other commands made
	rm -rf $(VENV) .venv-lowest demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
