"""Resuming a run: finds its checkpoint and checks integrity, strategy and configuration."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from configs.errors import ConfigError
from configs.renamed import RUN_FOLDERS, STORED, replace_old_values
from configs.stored import load_stored
from configs.training import TrainConfig
from lightning_modules.checkpoint_files import LAST, check_whole
from lightning_modules.checkpoints import CheckpointError, open_checkpoint
from runtime.errors import first_line
from runtime.files import write_whole
from runtime.ownership import refuse
from training.zero_parts import check_parts

# Keys that a resumed run may change: paths, duration, hardware and logging.
FREE = (
    *("run_id", "output", "ckpt_path", "logger", "objective", "videos", "checkpoints", "resume", "preemption"),
    "watchdog",
)
# Keys that only a new run reads; a resumed run has its own weights and holds its V-AID.
START = ("init", "vaid")
CONFIG_FILE = "config.yaml"
INIT_FILE = "init.txt"  # file of a run that names its initial weights
# Files of a run that a new run with the same name would replace or append to; none is written before ``config.yaml``.
OF_A_RUN = (
    "config*.yaml", INIT_FILE, "*.jsonl", "*.json", "*.safetensors", "csv/*", "checkpoints/*", "samples/*", "export/*",
)  # fmt: skip
FREE_DATA = ("root", "workers", "stage_to", "stage_gib")
FIXED_TRAINER = ("precision", "gradient_clip")


def run_folder(config: TrainConfig) -> Path:
    """Run directory ``output/stage/run_id``. The default run_id is the experiment's name and a configuration digest.

    Keys that a resumed run may change are not part of the digest, so the same command finds its run. A run
    that lies under its stage's earlier name stays there.
    """
    run_id = config.run_id
    if not run_id:
        settings = asdict(config)
        for key in (*FREE, "trainer"):
            settings.pop(key)
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:6]
        run_id = f"{config.name}-{digest}"
    folder = Path(config.output) / config.stage / run_id
    earlier = Path(config.output) / RUN_FOLDERS.get(config.stage, config.stage) / run_id
    return earlier if earlier.is_dir() and not folder.is_dir() else folder


def resume_path(config: TrainConfig, folder: Path) -> str | None:
    """Path of the checkpoint to resume from; None for a new run, also for ``last`` if there is no checkpoint yet."""
    if config.ckpt_path != "last":
        return config.ckpt_path
    last = folder / "checkpoints" / LAST
    return str(last) if last.exists() or last.is_symlink() else None


def check_resume(config: TrainConfig, folder: Path) -> str | None:
    """Returns the path of the checkpoint to resume from after checking it, or None for a new run.

    Raises:
        CheckpointError: If the checkpoint is damaged or of another strategy, if the stored configuration of the run
            differs, or if a new run would overwrite an existing one.
    """
    path = resume_path(config, folder)
    if path is None:
        last = folder / "checkpoints" / LAST
        if not config.trainer.fast_dev_run and (last.exists() or last.is_symlink()):
            raise CheckpointError(
                f"{folder}: already contains a run, up to {last.resolve().name}; resume it with ckpt_path=last, set "
                "another run_id, or remove the folder"
            )
        return None
    if not Path(path).exists() and not Path(path).is_symlink():
        raise CheckpointError(f"{path}: no such checkpoint; train.py writes them to its run directory")
    check_whole(Path(path))
    of_deepspeed = Path(path).is_dir()
    open_checkpoint(path)  # raises a clear error for a damaged file, unlike Lightning
    if of_deepspeed != (config.trainer.strategy == "deepspeed"):
        kind, other = ("a folder written by DeepSpeed", "deepspeed") if of_deepspeed else ("a single file", "ddp")
        raise CheckpointError(
            f"{path}: is {kind}, which trainer.strategy={config.trainer.strategy} cannot resume; set "
            f"trainer.strategy={other}, or start a new run from its weights with init={path}"
        )
    if of_deepspeed:
        check_parts(Path(path))
    if Path(path).parent.parent == folder:
        check_same_config(config, folder / CONFIG_FILE)
    return path


def check_same_config(config: TrainConfig, file: Path) -> None:
    """Checks that the configuration equals the stored one of the run, except for keys that may change.

    Raises:
        CheckpointError: If they differ, with one line per key.
    """
    if config.resume.allow_config_change or not file.exists():
        return
    try:
        loaded = load_stored(file)
        replace_old_values(loaded, STORED)
        stored = OmegaConf.to_container(loaded)
    except (OSError, ValueError, TypeError, AttributeError, OmegaConfBaseException) as error:
        raise CheckpointError(f"{file}: cannot be read ({first_line(error)}); restore it, or remove it") from error
    lines = difference(stored, plain(config))
    if lines:
        raise CheckpointError(
            f"{file.parent}: this run was started with another configuration:\n"
            + "\n".join(lines)
            + "\nRestore these values, resume with resume.allow_config_change=true, or start a new run from its "
            f"weights: another run_id, no ckpt_path, init={file.parent}"
        )


def plain(config: TrainConfig) -> dict[str, Any]:
    """The configuration as plain types."""
    return OmegaConf.to_container(OmegaConf.structured(config))  # type: ignore[return-value]


def difference(stored: Any, now: dict[str, Any]) -> list[str]:
    """One line per differing key, except for keys that may change. Keys in only one configuration are ignored."""
    before, after = _flat(_fingerprint(stored)), _flat(_fingerprint(now))
    return [
        f"  {key}: was {before[key]}, is {after[key]}"
        for key in sorted({*before} & {*after})
        if before[key] != after[key]
    ]


def require_own_run(config: TrainConfig, folder: Path) -> None:
    """Checks that a run directory holds nothing that a new run would replace or append to, unless it is of a run.

    Raises:
        ForeignFileError: If there are such files and no configuration that ``train.py`` stored.
    """
    file, setting = folder / CONFIG_FILE, f"output={config.output} run_id={folder.name}"
    if file.is_file():
        text = file.read_text(encoding="utf-8", errors="replace")
        if all(re.search(rf"^{key}:", text, re.MULTILINE) for key in ("stage", "trainer", "data")):
            return
    for name in OF_A_RUN:
        for path in sorted(folder.glob(name)):
            refuse(path, setting)


def store_config(config: TrainConfig, folder: Path) -> None:
    """Writes ``config.yaml``. An existing file with other content is renamed to ``config-N.yaml``.

    Raises:
        ConfigError: If the folder cannot be written.
    """
    file, text = folder / CONFIG_FILE, OmegaConf.to_yaml(OmegaConf.structured(config))
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
    kept = {key: value for key, value in config.items() if key not in (*FREE, *START)}
    kept["data"] = {key: value for key, value in _keys(config, "data").items() if key not in FREE_DATA}
    trainer = _keys(config, "trainer")
    fixed = [*FIXED_TRAINER]
    if _keys(config, "model").get("lr_decay", "none") != "none":
        fixed.append("max_steps")  # the learning rate schedule depends on it
    kept["trainer"] = {key: trainer[key] for key in fixed if key in trainer}
    return kept


def _keys(config: Any, key: str) -> dict[str, Any]:
    """A part of a stored configuration; empty where it is missing or no mapping."""
    part = config.get(key)
    return part if isinstance(part, dict) else {}


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict) or not tree:
        return {prefix.rstrip("."): tree}
    return {key: value for name, part in tree.items() for key, value in _flat(part, f"{prefix}{name}.").items()}
