# The two commands of the README, `make demo` and `make test`, each work as the first one on a fresh checkout.

VENV ?= .venv
BIN := $(VENV)/bin
# The newest Python that works: pl supports 3.11 to 3.13. A name on the path may be a shim that does not run.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1 && echo $$p && break; done)
PACKAGES := kernel plugins/hif plugins/hifa plugins/hifv plugins/hsd plugins/hifas plugins/hsdn plugins/vlass plugins/sim
PYPROJECTS := $(addsuffix /pyproject.toml,$(PACKAGES))
DEMO ?= pl-demo
# Files side by side: those of one file share what their fixtures made.
PYTEST_ARGS ?= -n logical --dist loadfile

.PHONY: help install demo test fast soak lint types imports bench docs clean browser

help:
	@echo "make demo      reduce a real observation and write its web log into $(DEMO)"
	@echo "make test      lint, types, import direction, and all tests"
	@echo "make fast      the tests that need neither CASA nor a browser"
	@echo "make soak      30 runs killed or damaged at random points, each compared with one that was not; SEED=n repeats"
	@echo "make lint      ruff, mypy and the import contracts"
	@echo "make bench     what pl adds to the time inside CASA, per stage and in all, and on a simulated cluster"
	@echo "make docs      the guides and the stage reference, into site/"
	@echo "make install   all packages, editable, into $(VENV)"
	@echo "make clean     remove what these made"

install: $(VENV)/.installed

$(VENV)/.installed: $(PYPROJECTS)
	@test -n "$(PYTHON)" || { echo "pl needs Python 3.11, 3.12 or 3.13, and none is on the path."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) with $$($(BIN)/python -V); CASA and its data take about 1.5 GB."
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(addprefix -e ./,$(filter-out kernel,$(PACKAGES))) -e './kernel[test,lint]'
	@touch $@

# The tests of the web log drive a browser; where there is none and it cannot be installed, they are skipped.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null; \
	} || echo "No chromium: the browser tests will be skipped."

demo: install
	$(BIN)/pl demo -o $(DEMO)

test: install lint browser
	$(BIN)/python -m pytest $(PYTEST_ARGS)

fast: install
	$(BIN)/python -m pytest -m "not casa and not slow and not browser" $(PYTEST_ARGS)

soak: install
	$(BIN)/python tests/soak.py $(if $(SEED),--seed $(SEED)) $(if $(POINTS),--points $(POINTS))

lint: install
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: install
	$(BIN)/python benchmarks/bench_kernel.py
	$(BIN)/python benchmarks/bench_parallel.py
	$(BIN)/python benchmarks/bench_cube.py
	$(BIN)/python benchmarks/bench_hifv.py
	$(BIN)/python benchmarks/bench_baseline.py
	$(BIN)/python benchmarks/bench_scheduler.py
	$(BIN)/python benchmarks/bench_simulate.py
	$(BIN)/python benchmarks/bench_demo.py

docs: install
	$(BIN)/python -m pip install --quiet -e './kernel[docs]'
	$(BIN)/python docs/make_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist site docs/reference/stages .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -name '*.egg-info' -type d -prune -exec rm -rf {} +
