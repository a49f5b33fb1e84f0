# Tensors to Detectors. `make` lists what can be done here.
SHELL := /bin/sh
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
FLOOR := .venv-floor
SEEDS := 3
STORED := classify residual sorting train_classifier transfer transfer_photos detectors small_transformers detr scaling shipping digits
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

# A moved checkout keeps its environment, as long as nothing is called by a script's
# path; one whose Python is gone is said to be stale.
.PHONY: environment
environment: $(READY)
	@$(PY) -c "" 2>/dev/null || { echo "$(PY) does not run: the Python that $(VENV) was made with is gone. Make it anew: rm -rf $(VENV), then the same command." >&2; exit 1; }

book: environment  ## render the book to _build/html/index.html
	@$(PY) -m course_utils.weights || true
	@$(PY) -m booktools.render

test: environment  ## unit tests, and every stored output compared with a fresh run
	@$(PY) -m course_utils.weights || echo "Tests that need these weights are skipped."
	$(PY) -m pytest -n logical --costs

costs: environment  ## the same, and record what each file cost
	@$(PY) -m course_utils.weights || true
	$(PY) -m pytest -n logical --update-costs

run: environment  ## re-execute a chapter in place: make run CHAPTER=03_tensors
	@$(PY) -m booktools.run_chapter "$(CHAPTER)"

lint: environment  ## ruff (package, examples, tools, tests, chapters) and codespell
	$(PY) -m ruff check .
	$(PY) -m ruff format --check course_utils examples experiments booktools benchmarks tests conftest.py _ext
	$(PY) -m codespell_lib *.md chapters template course_utils examples experiments booktools benchmarks tests

repository: environment  ## set the public address: make repository URL=https://github.com/you/fork
	@$(PY) -m booktools.repository "$(URL)"

figures: environment  ## draw the cover, logo and favicon again
	@$(PY) -m booktools.artwork

data: environment  ## draw the bundled pictures again (data/README.md)
	$(PY) -m experiments.scenes --out data/pedestrians
	$(PY) -m experiments.objects --out data/objects

experiments: environment  ## make data/results again (about three hours)
	$(PY) -m experiments.starts _build/experiments
	set -e; for name in $(STORED); do $(PY) -m experiments.$$name; done

test-slow: test-sweeps test-perturbed test-noise test-device test-floor test-colab test-training test-real  ## all slow proofs; run before an issue is closed

test-sweeps: environment  ## the tests marked slow: full sweeps over seeds and cases
	$(PY) -m pytest -n logical -m slow tests

test-perturbed: environment  ## all chapters with one thread and no vector instructions
	$(PERTURBED) $(PY) -m pytest -n logical chapters

test-noise: SEEDS := 1 2 3
test-noise: environment  ## all chapters with the last bits moved: SEEDS="1 2" CHAPTERS="03 04"
	@$(PY) -m booktools.instruments noise --seeds $(SEEDS) --chapters $(CHAPTERS)

test-device: SEEDS :=
test-device: environment  ## all chapters on a stand-in for a GPU; CHAPTERS, SEEDS as above
	@$(PY) -m booktools.instruments device --seeds $(SEEDS) --chapters $(CHAPTERS)

test-floor: $(FLOOR_READY)  ## all chapters with the oldest torch supported (Python 3.12 or 3.13)
	$(FLOOR)/bin/python -m pytest -n logical chapters tests

$(FLOOR_READY): requirements-floor.txt pyproject.toml
	@PYTHONS="python3.12 python3.13 $$(echo $$HOME/.pyenv/versions/3.1[23].*/bin/python) python3.11 python3" \
		sh booktools/make_venv.sh $(FLOOR) requirements-floor.txt
	@touch $@

test-colab: environment  ## every chapter whole, in a stand-in for Google Colab
	COURSE_COLAB=all $(PY) -m pytest -n logical tests/book/test_colab_standin.py

test-training: environment  ## fine-tune on the bundled scenes, 3 seeds, and assert floors
	$(PY) -m experiments.floors bundled

test-real: environment  ## the same on real pictures, found through COURSE_REAL_DATA
	@$(PY) -m experiments.floors real --seeds $(SEEDS) $(if $(UPDATE),--update)
	@$(PY) -m experiments.digits $(if $(UPDATE),,--check)
	@$(PY) -m experiments.transfer_photos $(if $(UPDATE),,--check)

clean:  ## remove what was rendered and cached (not the environment)
	rm -rf _build .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
