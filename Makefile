# make demo   install, then run the main job on the bundled sample with the bundled database
# make test   install, then run every test and the linters
# make test-thorough   the property tests' files with fifteen times the examples
# make setup  install only
# make lint   ruff and mypy
# make bench  the benchmarks, as tables and JSON in bench/
#
# PYTHON=python3.12 takes another interpreter, in an environment of its own.
# LEARNED=no leaves torch out.

PYTHON ?= python3
VENV := $(if $(filter python3,$(PYTHON)),.venv,.venv-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
OUT ?= demo

.PHONY: setup demo test test-thorough lint bench clean

$(VENV)/installed-run: pyproject.toml Testing/constraints.txt scripts/setup.sh
	sh scripts/setup.sh $(PYTHON) $(VENV) run
	touch $@

$(VENV)/installed-test: pyproject.toml Testing/constraints.txt scripts/setup.sh
	sh scripts/setup.sh $(PYTHON) $(VENV) test
	touch $@ $(VENV)/installed-run

setup: $(VENV)/installed-test

demo: $(VENV)/installed-run
	$(BIN)/tumorquery demo --out $(OUT)

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(VENV)/installed-test lint
	sh scripts/install_rendering_libraries.sh
	$(BIN)/python -m pytest

test-thorough: $(VENV)/installed-test
	TUMORQUERY_HYPOTHESIS=thorough $(BIN)/python -m pytest $$(grep -rl '^@given' Testing/unit)

bench: $(VENV)/installed-test
	mkdir -p bench
	$(BIN)/tumorquery bench solver --json bench/solver.json
	$(BIN)/tumorquery bench query --json bench/query.json
	$(BIN)/tumorquery bench pipeline --json bench/pipeline.json

clean:
	rm -rf .venv .venv-* build *.egg-info
