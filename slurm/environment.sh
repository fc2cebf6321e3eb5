# Sourced by every job: Python, no network, threads. ADAPT what is marked so; the rest holds everywhere.
# shellcheck shell=bash

# ADAPT: what brings Python on the compute nodes. Here it is the environment `make setup` made, or another one's
# `activate`, named in EMOTIVETALK_ENV; with conda or modules, put `module load ...` and `conda activate ...` here.
# shellcheck disable=SC1090
source "${EMOTIVETALK_ENV:-.venv/bin/activate}"

# Compute nodes have no network. What is needed was fetched on the login node by `python prepare.py task=weights`, into
# a folder all nodes see; without EMOTIVETALK_WEIGHTS that is ~/.cache/emotivetalk/weights.
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1

export PYTHONUNBUFFERED=1 PYTHONFAULTHANDLER=1
export OMP_NUM_THREADS=1 # the loader's processes and the encoders bring their own parallelism
