# Everything here needs only make and a Python of 3.10 or newer (3.11 for `make study`). The environment is made in
# .venv from requirements.lock on first use, and brought up to date when requirements.lock or pyproject.toml change.

PYTHON  ?= python3
PROFILE ?= quick
CORES   ?= all
RUNS    ?= all
ARGS    ?=

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
# Programs started by name (papermill in a Snakemake rule, python in a kernel) are those of the environment. Only the
# recipes that run something get this: the environment itself is made by the PYTHON outside it. Why threads should not
# spin for long while they wait stands in colorstudy/__init__.py, which is too late where a notebook imports torch first.
RUN   := PATH="$(CURDIR)/$(BIN):$$PATH" JUPYTER_PREFER_ENV_PATH=1 GOMP_SPINCOUNT=$${GOMP_SPINCOUNT:-1000}

# The stamp holds the folder it was made in. A moved or copied checkout has scripts that point elsewhere, and an upgrade
# of the system's Python can leave an environment that does not start: such an environment counts as missing.
SOUND := $(shell $(BIN)/python -c 'import pip' 2>/dev/null && \
           { [ ! -f $(STAMP) ] || [ "$$(cat $(STAMP))" = "$(CURDIR)" ]; } && echo yes)

# The file or line that follows CHECKED comes with hashes, and nothing else is fetched: no dependency that it does not
# name, and no setuptools to build what has no wheel. torch has no hash; the header of requirements.lock says why.
PIP     := $(BIN)/python -m pip install -qq --disable-pip-version-check
CHECKED := $(PIP) --require-hashes --no-deps --no-build-isolation --requirement

.DEFAULT_GOAL := help
.PHONY: help study notebooks paper docs test lab bench lock clean unsound

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  Profiles of make study, in notebooks/profiles:"
	@awk 'FNR == 1 { gsub(/.*\/|\.yaml/, "", FILENAME); sub(/^# /, ""); printf "  %-11s %s\n", FILENAME, $$0 }' notebooks/profiles/*.yaml
	@echo
	@echo "  PROFILE=$(PROFILE), CORES=$(CORES) and RUNS=$(RUNS) are study's; RUNS=done takes only the runs that are done."
	@echo "  ARGS=\"...\" goes to Snakemake, pytest, Jupyter or uv."
	@echo "  PYTHON=$(PYTHON) makes the environment. After a killed study: make study ARGS=--unlock, then make study."

study: $(STAMP)  ## run the experiments of PROFILE (tiny, quick, ...) and make tables, figures and paper
	@[ -x $(BIN)/snakemake ] || { echo "make study runs Snakemake, which needs Python 3.11 or newer; .venv has" \
	  "$$($(BIN)/python -V). Try: make clean, then make study PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(RUN) snakemake --cores $(CORES) --config profile=$(PROFILE) runs=$(RUNS) --rerun-incomplete --scheduler greedy \
	  --keep-going --quiet host $(ARGS)

# Each notebook is executed with its defaults: what it shows comes from committed scores, 03 and 04 train for half a
# minute. `pytest --nbval notebooks/05-compare.ipynb` then compares what it prints with what is stored.
notebooks: $(STAMP)  ## execute the notebooks whose source changed, and keep their outputs; ARGS=--all or ARGS=05
	$(RUN) OMP_NUM_THREADS=1 python notebooks/execute.py $(ARGS)

paper: $(STAMP)  ## docs/paper.pdf from the result files, without running anything else (needs Chromium)
	@start=$$(date +%s); $(RUN) sphinx-build -E -q -W -c docs -t paper . build/paper && \
	browser=$$(command -v chromium || command -v chromium-browser || command -v google-chrome || command -v chrome) && \
	$$browser --headless --no-sandbox --disable-gpu --no-pdf-header-footer --generate-pdf-document-outline \
	  --print-to-pdf=docs/paper.pdf build/paper/docs/paper.html 2>/dev/null || \
	  { echo "docs/paper.pdf was not made: see the error above, or install Chromium" >&2; exit 1; }; \
	echo "docs/paper.pdf: $$(($$(date +%s) - start)) s"

docs: $(STAMP)  ## the site with the paper and the notebooks as they are committed, in build/site
	@start=$$(date +%s); rm -rf docs/api; $(RUN) sphinx-build -q -W --keep-going -c docs . build/site && \
	echo "build/site/index.html: $$(($$(date +%s) - start)) s"

# One thread a worker, or every worker would start as many as the machine has cores. Tests run in random order, so that
# none rests on another; a failure names the seed, and ARGS=--random-order-seed=... repeats it.
test: $(STAMP)  ## check the types and run the tests, the notebooks' included; ARGS="tests/core -x" for some of them
	$(RUN) OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} python -m pytest --numprocesses auto --maxprocesses 8 \
	  --dist loadfile --random-order --ignore=tests/benchmarks $(ARGS)

lab: $(STAMP)  ## open the notebooks in JupyterLab
	$(RUN) jupyter lab $(ARGS) notebooks

bench: $(STAMP)  ## time the parts that matter, one after the other
	$(RUN) OMP_NUM_THREADS=1 python -m pytest -p no:xdist -s $(ARGS) tests/benchmarks

# setuptools is first, as it builds what has no wheel, and torch last: what it depends on is there by then, checked, but
# for what its CUDA builds bring themselves. The other way round, pip would take that unchecked, and leave it there.
$(STAMP): requirements.lock pyproject.toml $(if $(SOUND),,unsound)
	@echo "Installing requirements.lock into $(VENV) (minutes the first time) ..."
	@[ -n "$(SOUND)" ] || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "colorstudy needs Python 3.10 or newer: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@[ -n "$(SOUND)" ] || $(PYTHON) -m venv --clear $(VENV)
	@printf '%s\n' "$(CURDIR)" > $(STAMP).new
	@awk '/^[^ ]/ { here = /^setuptools==/ } here' requirements.lock | $(CHECKED) /dev/stdin
	@grep -v '^torch==' requirements.lock | $(CHECKED) /dev/stdin
	@$(PIP) $$(grep '^torch==' requirements.lock)
	@$(PIP) --no-deps --no-build-isolation --editable .
	@mv $(STAMP).new $(STAMP)

lock:  ## rewrite requirements.lock from pyproject.toml; ARGS=--upgrade renews every version
	@$(RUN) command -v uv >/dev/null || { echo "make lock needs uv: python3 -m pip install uv" >&2; exit 1; }
	@header=$$(grep '^#' requirements.lock) && \
	$(RUN) uv pip compile pyproject.toml --all-extras --group lock --universal --python-version 3.10 \
	  --no-annotate --no-header --generate-hashes --output-file requirements.lock --quiet $(ARGS) && \
	{ printf '%s\n' "$$header"; \
	  awk '/^[^ ]/ { torch = /^torch==/ } torch && /^ / { next } torch { sub(/ \\$$/, "") } 1' requirements.lock; \
	} > requirements.lock.new && \
	mv requirements.lock.new requirements.lock

clean:  ## remove the environment and all caches; results stay
	rm -rf $(VENV) .snakemake .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . \( -path ./results -o -path ./.git \) -prune -o \
	  -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
