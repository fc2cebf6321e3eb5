# Commands for users and developers. `make setup` needs Python 3.11 to 3.13 and make; it installs all extras that tests use.
# `make setup LOCK=requirements.lock` installs the tested versions.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup lock demo demo-real nightly table1-mini table2-synthetic table3-synthetic test test-fast lint format slurm-check clean

setup: .venv/.installed

.venv/.installed: pyproject.toml Makefile
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet $(if $(LOCK),-c $(LOCK)) '.[dev,app,deepspeed,sweep,tensorboard,wandb]'
	touch $@

# Writes requirements.lock: names and versions of the installed packages. Run it after the tests have passed.
lock: setup
	$(BIN)/uv pip list --python $(BIN)/python --format freeze --exclude emotivetalk --exclude pip > requirements.lock

# Demonstration on synthetic speakers, from data to demo/index.html. An interrupted run resumes with the same command.
demo: setup
	$(BIN)/python -m tools.demo

# Trains the small model of generate.py and app.py anew, generation/small.safetensors. An interrupted run resumes.
.PHONY: small
small: setup
	$(BIN)/python -m tools.small $(OPTIONS)

# Demonstration on your own videos: make demo-real VIDEOS=DIR [SPEAKER=PATTERN], see dataset.speaker of prepare.py
demo-real: setup
	@test -n "$(VIDEOS)" || { echo "VIDEOS is missing: make demo-real VIDEOS=DIR, a folder of talking-head videos"; exit 2; }
	$(BIN)/python -m tools.demo videos="$(VIDEOS)" $(if $(SPEAKER),"speaker=$(SPEAKER)")

# Earlier names, read for one version.
ifdef STANDINS
$(warning STANDINS=DIR is now PROXIES=DIR; the next version reads the new name only)
PROXIES ?= $(STANDINS)
endif

.PHONY: prove
prove:
	@echo "note: make prove is now make nightly; the next version reads the new name only" >&2
	@$(MAKE) nightly

# The nightly checks, which take hours. VIDEOS=DIR and CLIP=DIR (one clip) enable the checks on real videos.
nightly: setup
	$(BIN)/python -m tools.nightly $(if $(VIDEOS),videos="$(VIDEOS)") $(if $(CLIP),clip="$(CLIP)")

# The paper's tables from your own videos and runs (docs/evaluation.md). Interrupted runs resume.
TABLE := $(BIN)/python -m tools.reproduce
PROXY_KEYS = $(if $(PROXIES),proxies="$(PROXIES)")

# Table 1 on your own videos: make table1-mini VIDEOS=DIR ETHD=RUN SIZE=128 [PROXIES=DIR] [OPTIONS='clips=5']
table1-mini: setup
	@test -n "$(VIDEOS)" || { echo "VIDEOS is missing: make table1-mini VIDEOS=DIR, a folder of talking-head videos"; exit 2; }
	$(TABLE) table1 videos="$(VIDEOS)" $(if $(ETHD),ethd="$(ETHD)") $(if $(SIZE),size=$(SIZE)) $(PROXY_KEYS) $(OPTIONS)

# Table 2 (ablations), trained on synthetic speakers: about 100 minutes on two cores for each SEED.
table2-synthetic: setup
	$(TABLE) table2 $(if $(SEED),seed=$(SEED)) $(PROXY_KEYS) $(OPTIONS)

# Table 3 on synthetic speakers, up to 1500 frames: make table3-synthetic ETHD=RUN [PROXIES=DIR]
table3-synthetic: setup
	@test -n "$(ETHD)" || { echo "ETHD is missing: make table3-synthetic ETHD=RUN, an exported run of ethd/tiny"; exit 2; }
	$(TABLE) table3 ethd="$(ETHD)" $(PROXY_KEYS) $(OPTIONS)

# Three processes for two cores, because many tests wait for queues or stopped processes.
test: setup
	$(BIN)/pytest -n 3 --dist worksteal -m 'not nightly'

test-fast: setup
	$(BIN)/pytest -n 2 --dist worksteal -m 'not slow and not nightly'

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tools.check_words
	$(BIN)/codespell --toml pyproject.toml $$(git ls-files '*.py' '*.md' '*.yaml' '*.toml')

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# SLURM='--partition=a100 --account=mine' is passed to sbatch --test-only if SLURM is available.
slurm-check: setup
	$(BIN)/python -m tools.check_sbatch $(if $(SLURM),sbatch="$(SLURM)")

# The documentation as a site, build/site/index.html; docs-serve shows it while it is written.
.PHONY: docs docs-serve
docs docs-serve: export NO_MKDOCS_2_WARNING = 1
docs: setup
	$(BIN)/mkdocs build --strict --quiet

docs-serve: setup
	$(BIN)/mkdocs serve

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
