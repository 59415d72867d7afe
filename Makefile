# make demo           install, then run the main job on the bundled sample with the bundled database
# make test           install, then the linters and every test, with the library's coverage; the module's tests,
#                     which are Qt's and VTK's, in a process of their own
# make test-fast      the tests that take at most half a second each, without coverage
# make test-thorough  the files of the property tests, with fifteen times the examples
# make fuzz           crafted and damaged files by the thousand; SHARE=0.1 a tenth of them
# make kills          infer, cohort, build and embed, each ended N times (100) at random moments, and infer and cohort
#                     with registration and refinement a tenth as often
# make soak           a hundred inferences in one process: does its memory stay
# make setup          install only
# make lint           ruff, mypy, the layers of the imports, the size of a full clone
# make mutate         mutation tests in mutation/, N mutants (300), JOBS at a time (2)
# make bench          the benchmarks, as tables and JSON in bench/
# make verify-quick   the figures of the documents that take seconds to measure, measured again
# make docs           the site of docs/ in site/, its tutorials run and the panel's pictures drawn anew (TUTORIALS=off
#                     leaves both out); a link or reference that leads nowhere fails
#
# PYTHON=python3.12 takes another interpreter, in an environment of its own.
# LEARNED=no leaves torch out.

PYTHON ?= python3
VENV := $(if $(filter python3,$(PYTHON)),.venv,.venv-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
OUT ?= demo
N ?= 300
JOBS ?= 2
SHARE ?= 1
# Two tests at a time; TOGETHER= one after the other.
TOGETHER ?= --numprocesses 2 --dist worksteal
# Of Qt's and VTK's tests whole files, since what a file began with stays in its process, in the order of their conftest.
SLICER_TOGETHER = $(TOGETHER:worksteal=loadfile --no-loadscope-reorder)
KILLS = $(if $(filter file,$(origin N)),100,$(N))

# A test each on two cores: BLAS's threads would wait for one another, and memory that goes back to the system at once is
# cleared anew.
test test-fast test-thorough: export OPENBLAS_NUM_THREADS = 1
test test-fast test-thorough: export OMP_NUM_THREADS = 1
test test-fast test-thorough: export MALLOC_MMAP_THRESHOLD_ = 1073741824
test test-fast test-thorough: export MALLOC_TRIM_THRESHOLD_ = 1073741824

.PHONY: setup demo test test-fast test-thorough fuzz kills soak lint compiled mutate bench docs verify-quick clean

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
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/python scripts/check_size.py

compiled: $(VENV)/installed-test
	$(BIN)/python Testing/unit/compile_kernels.py

test: $(VENV)/installed-test
	$(MAKE) --no-print-directory --jobs 2 lint compiled
	sh scripts/install_rendering_libraries.sh
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(TOGETHER) Testing/unit
	$(BIN)/python -m pytest $(SLICER_TOGETHER) Testing/slicer
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

test-fast: $(VENV)/installed-test
	$(BIN)/python -m pytest $(TOGETHER) -m "not slow" Testing/unit
	$(BIN)/python -m pytest $(SLICER_TOGETHER) -m "not slow" Testing/slicer

test-thorough: $(VENV)/installed-test
	TUMORQUERY_HYPOTHESIS=thorough $(BIN)/python -m pytest $(TOGETHER) $$(grep -rl '^@given' Testing/unit)

fuzz: $(VENV)/installed-test
	$(BIN)/python Testing/fuzz --share $(SHARE)

kills: $(VENV)/installed-test
	for command in infer cohort build embed; do $(BIN)/python Testing/fuzz/kills.py $$command $(KILLS) || exit 1; done
	for command in infer-whole cohort-whole; do \
		$(BIN)/python Testing/fuzz/kills.py $$command $$(( ($(KILLS) + 9) / 10 )) || exit 1; done

soak: $(VENV)/installed-test
	$(BIN)/python Testing/fuzz/soak.py

mutate: $(VENV)/installed-test
	$(BIN)/python -m pip --disable-pip-version-check --quiet install --constraint Testing/constraints.txt --group mutation
	$(BIN)/python scripts/mutate.py --mutants $(N) --jobs $(JOBS)

bench: $(VENV)/installed-test
	mkdir -p bench
	$(BIN)/tumorquery bench solver --json bench/solver.json
	$(BIN)/tumorquery bench query --json bench/query.json
	$(BIN)/tumorquery bench pipeline --json bench/pipeline.json
	$(BIN)/tumorquery bench brain --json bench/brain.json

verify-quick: $(VENV)/installed-run
	$(BIN)/python Testing/verification

docs: $(VENV)/installed-run
	$(BIN)/python -m pip --disable-pip-version-check --quiet install --constraint Testing/constraints.txt --group docs
	-$(BIN)/python -m pip --disable-pip-version-check --quiet install --constraint Testing/constraints.txt --group slicer-test
	sh scripts/install_rendering_libraries.sh
	[ "$(TUTORIALS)" = off ] || $(BIN)/python scripts/make_panel_pictures.py build/panel
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --doctree-dir build/doctrees docs site

clean:
	rm -rf .venv .venv-* build site *.egg-info
