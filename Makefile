# Everything a developer types. `make setup` needs only Python 3.11+ and make; it brings every extra the tests try out.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup test test-fast lint format slurm-check clean

setup: .venv/.installed

.venv/.installed: pyproject.toml Makefile
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev,deepspeed,sweep,tensorboard,wandb]'
	touch $@

test: setup
	$(BIN)/pytest -n 2 --dist worksteal

test-fast: setup
	$(BIN)/pytest -n 2 --dist worksteal -m 'not slow'

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
	$(BIN)/python slurm/check.py $(SLURM)

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
