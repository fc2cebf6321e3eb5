"""Computes the paper's metrics of generated videos, and its tables: ``python evaluate.py --help``."""

from __future__ import annotations

import sys

from configs.command_line import names_key, run
from configs.evaluation import EvaluateConfig
from configs.tables import TableConfig


def evaluate(config: EvaluateConfig) -> int:
    """Evaluates one folder of videos and returns the exit status."""
    from evaluation.evaluate_folders import (
        evaluate_folders,  # imported here so that configuration errors appear before torch is loaded
    )

    return evaluate_folders(config)


def tables(config: TableConfig) -> int:
    """Writes the paper's tables from results files and returns the exit status."""
    from benchmark.tables.rebuild_tables import make_tables

    return make_tables(config)


if __name__ == "__main__":
    if names_key(sys.argv[1:], "table"):
        run("tables", TableConfig, tables)
    else:
        run("evaluate", EvaluateConfig, evaluate)
