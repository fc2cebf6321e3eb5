# Everything a developer types. `make setup` needs only Python 3.11+ and make; it brings every extra the tests try out.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo demo-real nightly table1-mini table2-synthetic table3-synthetic test test-fast lint format slurm-check clean

setup: .venv/.installed

.venv/.installed: pyproject.toml Makefile
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet '.[dev,app,deepspeed,sweep,tensorboard,wandb]'
	touch $@

# The whole way in one command: demo/index.html. Interrupted, the same command goes on where it was.
demo: setup
	$(BIN)/python -m tools.demo

# The same on a folder of your own videos: make demo-real VIDEOS=DIR
demo-real: setup
	@test -n "$(VIDEOS)" || { echo "VIDEOS is missing: make demo-real VIDEOS=DIR, a folder of talking videos"; exit 2; }
	$(BIN)/python -m tools.demo videos="$(VIDEOS)"

# The nightly checks, hours of them; VIDEOS=DIR and CLIP=DIR (one clip) for those on real videos.
nightly: setup
	$(BIN)/python -m tools.nightly $(if $(VIDEOS),videos="$(VIDEOS)") $(if $(CLIP),clip="$(CLIP)")

# The paper's tables from what is at hand (docs/evaluation.md); each goes on where it was interrupted.
TABLE := $(BIN)/python -m tools.reproduce
PROXY_KEYS = $(if $(PROXIES),proxies="$(PROXIES)")

# Table 1 on your own videos: make table1-mini VIDEOS=DIR ETHD=RUN SIZE=128 [PROXIES=DIR] [OPTIONS='clips=5']
table1-mini: setup
	@test -n "$(VIDEOS)" || { echo "VIDEOS is missing: make table1-mini VIDEOS=DIR, a folder of talking videos"; exit 2; }
	$(TABLE) table1 videos="$(VIDEOS)" $(if $(ETHD),ethd="$(ETHD)") $(if $(SIZE),size=$(SIZE)) $(PROXY_KEYS) $(OPTIONS)

# The ablations, trained on synthetic speakers: at most 100 minutes on two cores for each SEED.
table2-synthetic: setup
	$(TABLE) table2 $(if $(SEED),seed=$(SEED)) $(PROXY_KEYS) $(OPTIONS)

# Up to 1500 frames of synthetic speakers: make table3-synthetic ETHD=RUN [PROXIES=DIR]
table3-synthetic: setup
	@test -n "$(ETHD)" || { echo "ETHD is missing: make table3-synthetic ETHD=RUN, an exported run of ethd/tiny"; exit 2; }
	$(TABLE) table3 ethd="$(ETHD)" $(PROXY_KEYS) $(OPTIONS)

# Three processes for two cores: many tests wait, for a queue or a process that was stopped.
test: setup
	$(BIN)/pytest -n 3 --dist worksteal -m 'not nightly'

test-fast: setup
	$(BIN)/pytest -n 2 --dist worksteal -m 'not slow and not nightly'

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell --toml pyproject.toml $$(git ls-files '*.py' '*.md' '*.yaml' '*.toml')

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# SLURM='--partition=a100 --account=mine' goes to sbatch --test-only, where SLURM is there.
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
