"""Which checkpoint a run goes on from, and whether it may: the same configuration, a whole file, the right strategy."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from configs.errors import ConfigError
from configs.training import TrainConfig
from lightning_modules.checkpoint_files import LAST, check_whole
from lightning_modules.checkpoints import CheckpointError, open_checkpoint
from runtime.files import write_whole

# What a resumed run may change without a word: where things lie, how long and on what it trains, what it shows.
FREE = (
    *("run_id", "output", "ckpt_path", "logger", "objective", "videos", "checkpoints", "resume", "preemption"),
    "watchdog",
)
FREE_DATA = ("root", "workers", "stage_to", "stage_gib")
FIXED_TRAINER = ("precision", "gradient_clip")


def run_folder(config: TrainConfig) -> Path:
    """``output/stage/run_id``; without a run_id, the experiment's name and a digest of the configuration.

    Time, place and what a resumed run may change do not enter the digest: the same command finds its run again.
    """
    run_id = config.run_id
    if not run_id:
        settings = asdict(config)
        for key in (*FREE, "trainer"):
            settings.pop(key)
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:6]
        run_id = f"{config.name}-{digest}"
    return Path(config.output) / config.stage / run_id


def resume_path(config: TrainConfig, folder: Path) -> str | None:
    """The checkpoint to resume from; ``last`` without one in the run directory is a new run."""
    if config.ckpt_path != "last":
        return config.ckpt_path
    last = folder / "checkpoints" / LAST
    return str(last) if last.exists() or last.is_symlink() else None


def check_resume(config: TrainConfig, folder: Path) -> str | None:
    """The checkpoint to resume from, which is whole and fits.

    Raises:
        CheckpointError: when it is damaged, of another strategy, the run's stored configuration differs, or a run that
            starts afresh would overwrite one.
    """
    path = resume_path(config, folder)
    if path is None:
        last = folder / "checkpoints" / LAST
        if not config.trainer.fast_dev_run and (last.exists() or last.is_symlink()):
            raise CheckpointError(
                f"{folder}: holds a run already, up to {last.resolve().name}; go on with it by ckpt_path=last, take "
                "another run_id, or remove the folder"
            )
        return None
    if not Path(path).exists() and not Path(path).is_symlink():
        raise CheckpointError(f"{path}: no such checkpoint; train.py writes them to its run directory")
    check_whole(Path(path))
    open_checkpoint(path)  # Lightning's errors for a damaged one say nothing
    of_deepspeed = Path(path).is_dir()
    if of_deepspeed != (config.trainer.strategy == "deepspeed"):
        kind, other = ("a folder that DeepSpeed wrote", "deepspeed") if of_deepspeed else ("a single file", "ddp")
        raise CheckpointError(
            f"{path}: is {kind}, which trainer.strategy={config.trainer.strategy} cannot go on from; set "
            f"trainer.strategy={other}, or start a new run"
        )
    if Path(path).parent.parent == folder:
        check_same_config(config, folder / "config.yaml")
    return path


def check_same_config(config: TrainConfig, file: Path) -> None:
    """Refuses to go on with another configuration than the run's stored one.

    Raises:
        CheckpointError: with what differs, line by line.
    """
    if config.resume.allow_config_change or not file.exists():
        return
    try:
        stored = OmegaConf.to_container(OmegaConf.load(file))
    except (OSError, ValueError, OmegaConfBaseException) as error:
        raise CheckpointError(f"{file}: cannot be read ({error}); restore it, or remove it") from error
    lines = difference(stored, plain(config))
    if lines:
        raise CheckpointError(
            f"{file.parent}: this run was started with another configuration:\n"
            + "\n".join(lines)
            + "\nRestore these; take another run_id; or go on with resume.allow_config_change=true"
        )


def plain(config: TrainConfig) -> dict[str, Any]:
    """The configuration as plain types."""
    return OmegaConf.to_container(OmegaConf.structured(config))  # type: ignore[return-value]


def difference(stored: Any, now: dict[str, Any]) -> list[str]:
    """A line for each value that decides what is trained and differs; a key that is new counts as its default then."""
    before, after = _flat(_fingerprint(stored)), _flat(_fingerprint(now))
    return [
        f"  {key}: was {before[key]}, is {after[key]}"
        for key in sorted({*before} & {*after})
        if before[key] != after[key]
    ]


def store_config(config: TrainConfig, folder: Path) -> None:
    """Writes ``config.yaml``; one that differs stays beside it under a number.

    Raises:
        ConfigError: when the folder cannot be written.
    """
    file, text = folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.structured(config))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file.exists() and file.read_text(encoding="utf-8") == text:
            return
        if file.exists():
            file.rename(folder / f"config-{1 + len(list(folder.glob('config-*.yaml')))}.yaml")
        write_whole(file, text)
    except OSError as error:
        raise ConfigError(f"output={config.output}: cannot be written ({error.strerror}: {error.filename})") from None


def _fingerprint(config: Any) -> dict[str, Any]:
    kept = {key: value for key, value in config.items() if key not in FREE}
    kept["data"] = {key: value for key, value in config.get("data", {}).items() if key not in FREE_DATA}
    trainer = config.get("trainer", {})
    fixed = [*FIXED_TRAINER]
    if config.get("model", {}).get("lr_decay", "none") != "none":
        fixed.append("max_steps")  # the learning rate falls towards it
    kept["trainer"] = {key: trainer[key] for key in fixed if key in trainer}
    return kept


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict) or not tree:
        return {prefix.rstrip("."): tree}
    return {key: value for name, part in tree.items() for key, value in _flat(part, f"{prefix}{name}.").items()}
