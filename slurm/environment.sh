# Sourced by every job: sets up Python, offline mode and threads. Change the lines marked ADAPT.
# shellcheck shell=bash

# ADAPT: activates Python on the compute nodes. The default is the environment of `make setup`; EMOTIVETALK_ENV can name
# the `activate` script of another one. With conda or modules, put `module load ...` and `conda activate ...` here.
# shellcheck disable=SC1090
source "${EMOTIVETALK_ENV:-.venv/bin/activate}"

# Compute nodes have no network. Download weights on the login node with `python prepare.py task=weights`, into a folder
# that all nodes share: EMOTIVETALK_WEIGHTS, or ~/.cache/emotivetalk/weights by default.
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1

export PYTHONUNBUFFERED=1 PYTHONFAULTHANDLER=1
export OMP_NUM_THREADS=1 # the loader's processes and the encoders are already parallel
# Windows of many lengths would otherwise leave gaps in a GPU's memory that no later window fits into.
export PYTORCH_ALLOC_CONF="${PYTORCH_ALLOC_CONF:-expandable_segments:True}"
