# Everything is set up in .venv: only Python (3.11 or newer) and make are needed.

PYTHON ?= python3
VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
DEMO := build/demo

# Modules are compiled once, and not by each of the many processes that tests start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test check manual wheel faults bench bench-whole clean

help: ## Show what can be made.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

$(BIN)/skyexport: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/dev: $(BIN)/skyexport
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	@touch $@

demo: $(BIN)/skyexport ## Make a demo archive of 20,000 posts, export it to JSON and CSV, show the result.
	@mkdir -p $(DEMO)
	@test -f $(DEMO)/archive.db || $(BIN)/python tools/make_archive.py $(DEMO)/archive.db --posts 20000 --seed 1
	@echo; echo '$$ skyexport inspect archive.db'
	@$(BIN)/skyexport inspect $(DEMO)/archive.db
	@echo; echo '$$ skyexport export archive.db'
	@$(BIN)/skyexport export $(DEMO)/archive.db --output-dir $(DEMO)/exports
	@echo; echo '$$ skyexport export archive.db --format csv'
	@$(BIN)/skyexport export $(DEMO)/archive.db --format csv --output-dir $(DEMO)/exports
	@for directory in $(DEMO)/exports/all/*; do \
	  echo; echo "$$ skyexport verify $$directory"; $(BIN)/skyexport verify $$directory || exit; done
	@echo; echo '$$ head -n 8 posts.json'
	@head -n 8 $$(ls -d $(DEMO)/exports/all/*/posts.json | tail -n 1)
	@echo; echo '$$ head -n 2 posts.csv'
	@head -n 2 $$(ls -d $(DEMO)/exports/all/*/posts.csv | tail -n 1)

check: $(VENV)/dev ## Check format, lint and types.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

manual: $(BIN)/skyexport ## Make the manual page and the completion of shells anew, when options have changed.
	$(BIN)/python tools/make_manual.py

wheel: $(VENV)/dev ## Build the wheel, install it by itself, and compare an export of it with ours.
	rm -rf build/wheel && mkdir -p build/wheel
	$(BIN)/python tools/make_archive.py build/wheel/archive.db --posts 3000 --seed 1
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel .
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/$(notdir $(BIN))/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt build/wheel/*.whl
	build/wheel/venv/$(notdir $(BIN))/skyexport export build/wheel/archive.db -j 2 -q --to build/wheel/theirs.json
	$(BIN)/skyexport export build/wheel/archive.db -j 0 -q --to build/wheel/ours.json
	cmp build/wheel/theirs.json build/wheel/ours.json
	for file in $$(cd docs/share && find * -type f); do cmp docs/share/$$file build/wheel/venv/share/$$file || exit; done

test: check wheel ## Set up, check, and run the tests, here and with the built wheel.
	$(BIN)/python -m pytest --numprocesses 3 --dist worksteal

faults: $(VENV)/dev ## Try all faults; ROWS=1,2,fuzz SEED=1 JOBS=2 MINUTES=8 choose some, and how long.
	$(BIN)/python -m tests.faults

bench: $(VENV)/dev ## Measure the parts; nothing else should run meanwhile.
	$(BIN)/python -m pytest bench --benchmark-only

bench-whole: $(VENV)/dev ## Measure whole commands, other exporters too; takes long, and nothing else should run.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[peers]'
	$(BIN)/python bench/scale.py --archives build/bench
	$(BIN)/python bench/compare.py build/bench/bench-1000000.db

clean: ## Remove what make made, the virtual environment included.
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
