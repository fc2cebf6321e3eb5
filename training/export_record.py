"""The record of an export: which commit trained the run, on which data, and its scores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from callbacks.run_log import STARTS
from configs.errors import ConfigError
from lightning_modules.checkpoints import checkpoint_file, run_of
from runtime.json_text import parse_json

PACKAGES = ("python", "torch", "emotivetalk")  # whose versions are kept
WANTED = "expected JSON of tools.quality.ethd_synthetic"


def export_record(run: str | Path, scores: str | Path | None = None) -> dict[str, Any]:
    """Record of a run for its export: name of the experiment, seed, commit, data, versions and scores.

    It names no folder of the machine that trained the run.

    Args:
        run: Run directory or checkpoint.
        scores: JSON file with numbers, as ``tools.quality.ethd_synthetic`` prints them; its other values are left out.

    Raises:
        CheckpointError: If the run does not exist.
        ConfigError: If the scores cannot be read.
    """
    start = _last_start(run_of(checkpoint_file(run)) / STARTS)
    record = {name: start[name] for name in ("name", "seed") if name in start}
    git, data = _mapping(start.get("git")), _mapping(start.get("data"))
    if git:
        record |= {"commit": git.get("commit"), "changed": bool(git.get("dirty"))}
    if data:
        record["data"] = {"name": data.get("name"), "sha256": _mapping(start.get("data_sha256"))}
    if versions := _mapping(start.get("versions")):
        record["versions"] = {name: versions[name] for name in PACKAGES if name in versions}
    return record if scores is None else {**record, "scores": _numbers(Path(scores))}


def _last_start(file: Path) -> Mapping[str, Any]:
    """The last line of a run's log of starts; empty if there is none that can be read."""
    try:
        return _mapping(parse_json(file.read_text(encoding="utf-8").splitlines()[-1]))
    except (OSError, ValueError, IndexError):
        return {}


def _numbers(file: Path) -> dict[str, float]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        numbers = {name: value for name, value in found.items() if type(value) in (int, float)}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"scores={file}: cannot be read ({error}); expected JSON of tools.quality.ethd_synthetic"
        ) from error
    if not numbers:
        raise ConfigError(f"scores={file}: holds no numbers; {WANTED}")
    return numbers


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
