"""Trains one stage on prepared shards, rehearses or exports it. Usage: ``python train.py --help``."""

from __future__ import annotations

import sys
from typing import NoReturn

from configs.command_line import all_keys, groups, names_key, run
from configs.errors import ConfigError
from configs.experiments import require_experiment
from configs.generation import ExportConfig
from configs.sweeps import TaskResult, maximizes
from configs.training import TrainConfig
from training.wandb_mode import wandb_mode


def train(config: TrainConfig) -> TaskResult:
    """Trains one stage.

    Returns:
        Exit status 0 if finished, or 75 if stopped by the queue with its state saved; and the value of the objective.
    """
    if "wandb" in config.logger.chosen:
        wandb_mode(config.logger)
    from training.fit import exit_status, fit  # late, so that configuration errors appear before torch is loaded
    from training.objective import best_value

    run = fit(config)
    if status := exit_status(run):
        return TaskResult(status)
    return TaskResult(0, best_value(config.objective, run.folder, largest=maximizes()) if config.objective else None)


def export(config: ExportConfig) -> int:
    """Exports a run and returns the exit status."""
    from lightning_modules.ethd.export import export as export_run
    from training.export_record import export_record

    record = export_record(config.run, config.scores)
    file = export_run(
        config.run,
        config.vaid,
        config.emotion,
        output=config.output,
        half=config.half,
        record=record,
        sampling=config.sampling(),
    )
    print(f"export  {file} ({file.stat().st_size / 1e6:.1f} MB)")
    if config.output:  # a file to give away is no artifact of the run
        return 0
    from training.loggers import show_export

    if shown := show_export(file):
        print(f"shown   {shown}")
    return 0


def rehearse(config: TrainConfig) -> int:
    """Rehearses a training on CPUs with a narrow network and returns the exit status."""
    from training.rehearsal import Rehearsal

    return 1 if Rehearsal(config, lambda line: print(line, flush=True)).run() else 0


TASKS = ("export", "rehearse")  # other than training


def main() -> None:
    """Runs the task that the command line names; none is training."""
    words = sys.argv[1:]
    named = [word for word in words if word.partition("=")[0] == "task"]
    task = named[-1].partition("=")[2] if named else None
    if task not in (None, *TASKS):
        refuse(f"task={task}: expected one of {', '.join(TASKS)}; leave it out to train")
    if names_key(words, "task") and task != "rehearse":
        run("export", ExportConfig, export)
    if task and {"-m", "--multirun"} & {*words}:
        refuse("task=rehearse: rehearse one run of a sweep, without -m and with its values as key=value")
    sys.argv[1:] = [word for word in words if word not in named]
    require_experiment(sys.argv[1:], {"task", *all_keys(TrainConfig), *groups()})
    run("train", TrainConfig, rehearse if task else train)


def refuse(message: str) -> NoReturn:
    """Ends a command that cannot be run."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(ConfigError.exit_status)


if __name__ == "__main__":
    main()
