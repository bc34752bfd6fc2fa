# Everything is set up in .venv: only Python (3.11 or newer) and make are needed.
#
# With another Python, beside the first: make PYTHON=python3.13 VENV=build/venv-3.13 demo smoke

PYTHON ?= python3
VENV := .venv
ifeq ($(OS),Windows_NT)
SCRIPTS := Scripts
else
SCRIPTS := bin
endif
BIN := $(VENV)/$(SCRIPTS)
DEMO := $(if $(filter .venv,$(VENV)),build/demo,$(VENV)/demo)
PIP := python -m pip install -qq --disable-pip-version-check --constraint constraints.txt

# An environment with what `pip install skyexport` gives, and nothing else; tests run its command.
BASE := $(VENV)/base

# The native renderer is built with the package: SKYEXPORT_NATIVE=auto, require or off, and CC, say whether and how.
NATIVE = hatch_build.py tools/build_native.py $(wildcard native/*.[ch])
PACKAGED = pyproject.toml README.md LICENSE $(NATIVE) \
  $(shell find src docs/share -type f ! -name '*.pyc' ! -name 'native_renderer.*')

# Modules are compiled once, and not by each of the many processes that tests start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test check smoke manual base sanitize fuzz slow faults bench bench-whole clean FORCE

help: ## Show what can be made.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

# Looked at every time: the environment is made anew when its Python is not $(PYTHON), or does not run.
$(VENV)/made: FORCE
	@$(PYTHON) tools/make_environment.py $(VENV)
	@test -f $@ || touch $@

$(BIN)/skyexport: $(VENV)/made pyproject.toml constraints.txt $(NATIVE)
	@echo 'installing skyexport into $(VENV)'
	@$(BIN)/$(PIP) --editable .
	@$(BIN)/skyexport --version
	@touch $@

$(VENV)/dev: $(BIN)/skyexport
	@echo 'installing what checks and tests need into $(VENV)'
	@$(BIN)/$(PIP) --editable '.[dev,bench]'
	@touch $@

demo: $(BIN)/skyexport ## Make a demo archive of 20,000 posts, export it to JSON and CSV, show the result.
	@$(BIN)/python tools/demo.py $(DEMO)

check: $(VENV)/dev ## Check format, lint and types.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --python-version 3.14

manual: $(BIN)/skyexport ## Make the manual page and the completion of shells anew, when options have changed.
	$(BIN)/python tools/make_manual.py

base: $(BASE)/installed ## Build the wheel, and install it by itself, without any extra.

$(BASE)/made: $(VENV)/made pyproject.toml constraints.txt
	@rm -rf $(BASE)
	@$(PYTHON) tools/make_environment.py $(BASE)
	@touch $@

$(BASE)/installed: $(BASE)/made $(PACKAGED)
	@echo 'building the wheel, and installing it into $(BASE)'
	@rm -rf $(BASE)/wheel
	@$(BASE)/$(SCRIPTS)/python -m pip wheel -qq --disable-pip-version-check --no-deps --wheel-dir $(BASE)/wheel .
	@$(BASE)/$(SCRIPTS)/$(PIP) $(BASE)/wheel/*.whl
	@$(BASE)/$(SCRIPTS)/$(PIP) --force-reinstall --no-deps $(BASE)/wheel/*.whl
	@touch $@

test: check base ## Set up, check, and run the tests, here and with the built wheel.
	$(BIN)/python -m pytest --numprocesses 3 --dist worksteal

smoke: $(VENV)/dev ## Check types, and run the tests that show another Python to be fit: bytes, and the command.
	$(BIN)/mypy
	$(BIN)/python -m pytest -m 'smoke and not slow' --numprocesses 3 --dist worksteal

sanitize: $(VENV)/dev ## Run the tests of the native renderer with the sanitizers of gcc; ARGUMENTS of pytest.
	PYTHON=$(BIN)/python sh native/sanitize.sh $(ARGUMENTS)

fuzz: ## Fuzz the native renderer for SECONDS=60, with clang.
	sh native/fuzz/run.sh $(or $(SECONDS),60)

slow: $(VENV)/dev ## Run the tests that take long, and write down what came of them; FILES=… chooses some.
	$(BIN)/python -m tests.slow

faults: $(VENV)/dev ## Try all faults; ROWS=kill,fuzz SEED=1 JOBS=2 MINUTES=8 choose some, and how long.
	$(BIN)/python -m tests.faults

bench: $(VENV)/dev ## Measure the parts; nothing else should run meanwhile.
	$(BIN)/python -m pytest bench --benchmark-only

bench-whole: $(VENV)/dev ## Measure whole commands, other exporters too; takes long, and nothing else should run.
	$(BIN)/$(PIP) --editable '.[peers]'
	$(BIN)/python bench/scale.py --archives build/bench
	$(BIN)/python bench/compare.py build/bench/bench-1000000.db

clean: ## Remove what make made, the virtual environment included.
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
