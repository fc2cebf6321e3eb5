"""The paper's metrics of generated videos against real ones: ``python evaluate.py --help``."""

from __future__ import annotations

from configs.command_line import run
from configs.schema import EvaluateConfig
from configs.validate import validate_evaluate


def evaluate(config: EvaluateConfig) -> int:
    """Evaluates one folder of videos and returns the exit status."""
    validate_evaluate(config)
    from evaluation.run import evaluate_folders  # after the checks: what is wrong is said before torch is loaded

    return evaluate_folders(config)


if __name__ == "__main__":
    run("evaluate", EvaluateConfig, evaluate)
