"""Computes the paper's metrics of generated videos, and its tables: ``python evaluate.py --help``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from configs.command_line import names_key, run
from configs.evaluation import EvaluateConfig
from configs.loggers import ScoreLoggerConfig
from configs.tables import TableConfig

if TYPE_CHECKING:
    from evaluation.results import Results


def evaluate(config: EvaluateConfig) -> int:
    """Evaluates one folder of videos and returns the exit status."""
    check_logger(config.logger)
    from benchmark.cell_names import check_names

    check_names(config.cell)
    from evaluation.evaluate_folders import (
        evaluate_folders,  # imported here so that configuration errors appear before torch is loaded
    )

    def log(results: Results) -> None:
        if config.logger.chosen:
            from training.score_logs import log_scores

            log_scores(config.logger, Path(config.output), results.record())

    return evaluate_folders(config, log)


def tables(config: TableConfig) -> int:
    """Writes the paper's tables from results files and returns the exit status."""
    check_logger(config.logger)
    from benchmark.tables.rebuild_tables import make_tables

    return make_tables(config)


def check_logger(config: ScoreLoggerConfig) -> None:
    """Checks W&B's server and ``logger.run`` before any work starts.

    Raises:
        ConfigError: If the server cannot be used, or ``logger.run`` is not a run directory.
    """
    if "wandb" in config.chosen:
        from training.wandb_mode import wandb_mode

        wandb_mode(config)
    if config.run:
        from training.wandb_runs import scored_run

        scored_run(config.run)


if __name__ == "__main__":
    if names_key(sys.argv[1:], "table"):
        run("tables", TableConfig, tables)
    else:
        run("evaluate", EvaluateConfig, evaluate)
