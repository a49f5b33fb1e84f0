# Tensors to Detectors. `make` lists what can be done here.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
READY := $(VENV)/.ready
FLOOR := .venv-floor
SEEDS := 3
FLOOR_READY := $(FLOOR)/.ready
PERTURBED := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help book test run lint clean repository figures costs test-slow test-sweeps test-perturbed test-noise test-device test-floor test-colab test-real test-training data experiments

help:
	@echo "Tensors to Detectors"
	@echo
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):[^#]*## ?/\1\t/' | expand -t 18 | sed 's/^/  make /'

$(READY): requirements.txt pyproject.toml
	@sh booktools/make_venv.sh $(VENV) requirements.txt
	@touch $@

book: $(READY)  ## render the book to _build/html/index.html
	@$(PY) -m course_utils.weights || true
	@$(PY) -m booktools.render

test: $(READY)  ## unit tests, and every stored output compared with a fresh run
	@$(PY) -m course_utils.weights || echo "Tests that need these weights are skipped."
	$(PY) -m pytest -n logical --costs

costs: $(READY)  ## the same, and record what each file cost
	@$(PY) -m course_utils.weights || true
	$(PY) -m pytest -n logical --update-costs

run: $(READY)  ## re-execute a chapter in place: make run CHAPTER=03_tensors
	@$(PY) -m booktools.run_chapter "$(CHAPTER)"

lint: $(READY)  ## ruff (package, tools, tests, chapters) and codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check course_utils experiments booktools benchmarks tests conftest.py _ext
	$(BIN)/codespell *.md chapters template course_utils experiments booktools benchmarks tests

repository: $(READY)  ## set the public address: make repository URL=https://github.com/you/fork
	@$(PY) -m booktools.repository "$(URL)"

figures: $(READY)  ## draw the cover, logo and favicon again
	@$(PY) -m booktools.artwork

data: $(READY)  ## draw the bundled street scenes again (data/README.md)
	$(PY) -m experiments.scenes --out data/pedestrians

experiments: $(READY)  ## run chapter 27's experiments again (an hour and a half)
	$(PY) -m experiments.starts _build/experiments

test-slow: test-sweeps test-perturbed test-noise test-device test-floor test-colab test-training test-real  ## all slow proofs; run before an issue is closed

test-sweeps: $(READY)  ## the tests marked slow: full sweeps over seeds and cases
	$(PY) -m pytest -n logical -m slow tests

test-perturbed: $(READY)  ## all chapters with one thread and no vector instructions
	$(PERTURBED) $(PY) -m pytest -n logical chapters

test-noise: SEEDS := 1 2 3
test-noise: $(READY)  ## all chapters with the last bits moved: SEEDS="1 2" CHAPTERS="03 04"
	@$(PY) -m booktools.instruments noise --seeds $(SEEDS) --chapters $(CHAPTERS)

test-device: SEEDS :=
test-device: $(READY)  ## all chapters on a stand-in for a GPU; CHAPTERS, SEEDS as above
	@$(PY) -m booktools.instruments device --seeds $(SEEDS) --chapters $(CHAPTERS)

test-floor: $(FLOOR_READY)  ## all chapters with the oldest torch supported (Python 3.12 or 3.13)
	$(FLOOR)/bin/python -m pytest -n logical chapters tests

$(FLOOR_READY): requirements-floor.txt pyproject.toml
	@PYTHONS="python3.12 python3.13 $$(echo $$HOME/.pyenv/versions/3.1[23].*/bin/python) python3.11 python3" \
		sh booktools/make_venv.sh $(FLOOR) requirements-floor.txt
	@touch $@

test-colab: $(READY)  ## every chapter whole, in a stand-in for Google Colab
	COURSE_COLAB=all $(PY) -m pytest -n logical tests/book/test_colab_standin.py

test-training: $(READY)  ## fine-tune on the bundled scenes, 3 seeds, and assert floors
	$(PY) -m experiments.floors bundled

test-real: $(READY)  ## the same on the real Penn-Fudan, found through COURSE_REAL_DATA
	@$(PY) -m experiments.floors real --seeds $(SEEDS) $(if $(UPDATE),--update)

clean:  ## remove what was rendered and cached (not the environment)
	rm -rf _build .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
