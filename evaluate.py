"""The paper's metrics of generated videos against real ones, and its tables: ``python evaluate.py --help``."""

from __future__ import annotations

import sys

from configs.command_line import run
from configs.evaluation import EvaluateConfig
from configs.tables import TableConfig, validate_tables
from configs.validate_evaluate import validate_evaluate


def evaluate(config: EvaluateConfig) -> int:
    """Evaluates one folder of videos and returns the exit status."""
    validate_evaluate(config)
    from evaluation.evaluate_folders import (
        evaluate_folders,  # after the checks: what is wrong is said before torch is loaded
    )

    return evaluate_folders(config)


def tables(config: TableConfig) -> int:
    """Makes the paper's tables from results files and returns the exit status."""
    validate_tables(config)
    from benchmark.tables.rebuild_tables import make_tables

    return make_tables(config)


if __name__ == "__main__":
    if any(argument.startswith("table=") for argument in sys.argv[1:]):
        run("tables", TableConfig, tables)
    else:
        run("evaluate", EvaluateConfig, evaluate)
