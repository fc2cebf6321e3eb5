"""Logs scores and tables of ``evaluate.py`` as separate jobs, linked to the training that is scored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger

from callbacks.logs import log_table
from callbacks.run_log import versions, without_home
from configs.loggers import PROJECT, ScoreLoggerConfig
from runtime.json_text import parse_json
from training.loggers import chosen_loggers, close_loggers
from training.wandb_runs import ScoredRun, scored_run

Numbers = dict[str, float]


def log_scores(config: ScoreLoggerConfig, output: Path, record: Mapping[str, Any]) -> None:
    """Logs an evaluation: every value with its interval, the settings, and a table of the clips.

    Args:
        config: Loggers, and the run that is scored.
        output: Results file; loggers write their files to its folder.
        record: Content of the results file.

    Raises:
        ConfigError: If a logger cannot be created, or W&B must be online and its server cannot be used.
    """
    found = {name: value for name, value in record["metrics"].items() if value["value"] is not None}
    numbers: Numbers = {name: value["value"] for name, value in found.items()}
    for name, value in found.items():
        if interval := value["interval"]:
            numbers |= {f"{name}/low": interval["low"], f"{name}/high": interval["high"]}
    run = scored_run(config.run) if config.run else None
    facts = {
        "cell": record["settings"]["cell"],
        "settings": {key: value for key, value in record["settings"].items() if key not in ("cell", "logger")},
        "official": {name: value["official"] for name, value in found.items()},
        "not_computed": {name: v["not_computed"] for name, v in record["metrics"].items() if "not_computed" in v},
        "weights": _weights(Path(record["settings"]["generated"])),
        "environment": record["environment"],
    }
    rows = [(clip["clip"], clip["frames"], _flat(clip["metrics"])) for clip in record["clips"]]
    columns = sorted({name for *_, values in rows for name in values})
    clips = [[clip, frames, *map(values.get, columns)] for clip, frames, values in rows]
    with _job(config, "eval", output.absolute().parent, output.stem, [run] if run else [], facts) as loggers:
        _log(loggers, numbers)
        log_table(loggers, "clips", ["clip", "frames", *columns], clips, 0)


def log_tables(
    config: ScoreLoggerConfig,
    output: Path,
    tables: Mapping[str, tuple[Sequence[str], Sequence[Sequence[object]]]],
    numbers: Numbers,
    sources: Mapping[str, str],
    runs: Sequence[str],
) -> None:
    """Logs the paper's tables.

    Args:
        config: Loggers, and the run that is scored.
        output: Folder of the tables.
        tables: Name -> columns and rows.
        numbers: Name of each cell -> its value.
        sources: Results file -> sha256.
        runs: Run directories named in the results files.

    Raises:
        ConfigError: If a logger cannot be created, or W&B must be online and its server cannot be used.
    """
    named = [config.run] if config.run else [run for run in runs if (Path(run) / "config.yaml").is_file()]
    scored = [scored_run(run) for run in dict.fromkeys(named)]
    with _job(config, "tables", output.absolute(), "tables", scored, {"results_sha256": dict(sources)}) as loggers:
        _log(loggers, numbers)
        for name, (columns, rows) in tables.items():
            log_table(loggers, name, columns, rows, 0)


@contextmanager
def _job(
    config: ScoreLoggerConfig, kind: str, folder: Path, name: str, runs: Sequence[ScoredRun], facts: Mapping[str, Any]
) -> Iterator[list[Logger]]:
    """Loggers of a job. Its configuration has the facts and the runs; project and group are those of the runs."""
    known = [run.wandb for run in runs if run.wandb]
    groups = {run.group for run in known}
    first = known[0] if known else None
    job = {
        "project": config.project or (first.project if first else PROJECT),
        "entity": config.entity or (first.entity if first else None),
        "group": config.group or (groups.pop() if len(groups) == 1 else kind),
        "job_type": kind,
        "tags": [kind, *config.tags],
    }
    loggers = chosen_loggers(config, folder, name, job)
    try:
        linked = {"runs": [run.plain() for run in runs], **facts, "versions": versions()}
        for logger in loggers:
            logger.log_hyperparams(without_home(json.loads(json.dumps(linked, default=str))))
        yield loggers
    except BaseException:
        _finalize(loggers, "failed")
        raise
    else:
        _finalize(loggers, "success")
    finally:
        close_loggers(loggers)


def _finalize(loggers: Sequence[Logger], status: str) -> None:
    for logger in loggers:
        if not isinstance(logger, WandbLogger):
            logger.finalize(status)


def _log(loggers: Sequence[Logger], numbers: Numbers) -> None:
    for logger in loggers:
        logger.log_metrics(numbers, step=0)


def _weights(folder: Path) -> dict[str, str]:
    """sha256 of the weights in the records of the generated videos; empty if there is none, or more than one set."""
    found = {}
    for path in sorted(folder.rglob("*.json")):
        try:
            weights = parse_json(path.read_text(encoding="utf-8"))["weights"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(weights, dict):
            found[json.dumps(weights, sort_keys=True)] = weights
    return found.popitem()[1] if len(found) == 1 else {}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Numbers:
    """Numbers of a nested mapping; nested names are joined by a slash."""
    found: Numbers = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{name}"] = float(value)
    return found
