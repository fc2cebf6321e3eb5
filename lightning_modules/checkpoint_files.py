"""Checkpoint files of a run: listing, integrity check, atomic commit and pruning.

A checkpoint is written as ``step=N.ckpt.part`` and renamed once it is complete. Then the link ``last.ckpt`` is
replaced. A kill at any moment leaves the previous ``last.ckpt`` intact. A checkpoint is a folder under DeepSpeed, and
otherwise a file.
"""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lightning_modules.checkpoints import DEEPSPEED_WEIGHTS, CheckpointError, content_damage, open_checkpoint
from runtime.platforms import sync, usable_cores

LAST, BEST, PART = "last.ckpt", "best.ckpt", ".part"
MAX_RANKS = 1 << 16
_STEP = re.compile(r"step=(\d+)\.ckpt")


def step_name(step: int) -> str:
    """Name of the file or folder of the checkpoint after ``step`` steps."""
    return f"step={step}.ckpt"


def steps_of(folder: Path) -> dict[int, Path]:
    """Maps each step to its checkpoint, oldest first."""
    found = ((_STEP.fullmatch(path.name), path) for path in folder.glob("step=*.ckpt"))
    return dict(sorted((int(match.group(1)), path) for match, path in found if match))


def commit(part: Path) -> Path:
    """Renames a complete ``NAME.part`` to ``NAME`` and points ``last.ckpt`` to it.

    Returns:
        The path of the checkpoint.
    """
    final = part.with_name(part.name.removesuffix(PART))
    _sync(part)
    last = final.with_name(LAST)
    if final.is_dir():  # left by a run that was resumed from an earlier step; os.replace cannot replace a full folder
        point(last, part.name)
        remove(final)
    os.replace(part, final)
    point(last, final.name)
    return final


def point(link: Path, name: str) -> None:
    """Atomically makes ``link`` a symbolic link to ``name`` in the same folder."""
    fresh = link.with_name(f".{link.name}{PART}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(name)
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)
    os.replace(fresh, link)
    sync(link.parent)


def prune(folder: Path, keep: int) -> None:
    """Removes all but the ``keep`` newest checkpoints; the targets of ``last.ckpt`` and ``best.ckpt`` always stay."""
    named = {(folder / name).resolve() for name in (LAST, BEST)}
    for path in list(steps_of(folder).values())[:-keep]:
        if path.resolve() not in named:
            remove(path)


def clear_parts(folder: Path) -> None:
    """Removes the incomplete checkpoints of a killed run."""
    last = (folder / LAST).resolve()
    for path in [*folder.glob(f"*{PART}"), *folder.glob(f".*{PART}")]:
        if path.resolve() != last:
            remove(path)


def remove(path: Path) -> None:
    """Removes a checkpoint. Renames it first, so that a kill leaves no incomplete checkpoint under a valid name."""
    doomed = path if path.name.endswith(PART) else path.with_name(f".{path.name}{PART}")
    if doomed != path:
        if doomed.exists():
            remove(doomed)
        os.replace(path, doomed)
    if doomed.is_dir() and not doomed.is_symlink():
        shutil.rmtree(doomed)
    else:
        doomed.unlink()


def check_whole(path: Path) -> None:
    """Checks that a checkpoint is complete and that its content has the checksums that torch wrote.

    Raises:
        CheckpointError: If it is missing, truncated, damaged or lacks a part; the message names the newest whole one.
    """
    problem = damage_of(path)
    if problem:
        raise CheckpointError(f"{_shown(path)}: {problem}. {_fallback(path)}")


def zero_ranks(path: Path) -> int:
    """Number of ranks whose optimizer states a DeepSpeed checkpoint holds."""
    return len(zero_files(path))


def zero_files(path: Path) -> list[Path]:
    """Optimizer state files of a DeepSpeed checkpoint, ordered by rank."""
    files = (path / DEEPSPEED_WEIGHTS).parent.glob("*zero_pp_rank_*_optim_states.pt")
    return sorted(files, key=lambda file: int(file.name.split("zero_pp_rank_")[1].split("_")[0]))


def damage_of(path: Path, again: bool = False) -> str | None:
    """What is missing or damaged in a checkpoint, by the checksums of its content; None if it is whole.

    Args:
        path: Checkpoint.
        again: Whether to read it also if an earlier process found it whole.
    """
    if not path.exists():
        return "no such checkpoint" if not path.is_symlink() else f"links to {os.readlink(path)}, which does not exist"
    if path.is_file():
        return content_damage(path, again)
    if not (path / DEEPSPEED_WEIGHTS).is_file():
        return f"not a readable checkpoint (a folder without {DEEPSPEED_WEIGHTS})"
    parts = sorted((path / DEEPSPEED_WEIGHTS).parent.glob("*.pt"))
    damaged = [part.name for part in parts if not zipfile.is_zipfile(part)]
    if damaged:
        return f"not a readable checkpoint ({', '.join(damaged)} truncated)"
    numbers = {int(match.group(1)) for part in parts if (match := re.search(r"zero_pp_rank_(\d+)_", part.name))}
    try:
        ranks = open_checkpoint(path).get("dp_world_size", max(numbers, default=-1) + 1)  # DeepSpeed's key
    except CheckpointError as error:
        return str(error).removeprefix(f"{path}: ")
    if not isinstance(ranks, int) or not 0 <= ranks <= MAX_RANKS:
        return f"not a readable checkpoint (dp_world_size is {ranks!r}, expected a number of ranks)"
    if missing := sorted(set(range(ranks)) - numbers):
        return f"not a readable checkpoint (the optimizer states of ranks {missing} are missing)"
    with ThreadPoolExecutor(min(8, usable_cores())) as threads:
        return next(filter(None, threads.map(lambda part: content_damage(part, again), parts)), None)


def _fallback(path: Path) -> str:
    for other in reversed(steps_of(path.parent).values()):
        if other.resolve() != path.resolve() and damage_of(other) is None:
            return f"The newest complete one in its folder is {other.name}: resume with ckpt_path={other}"
    return "Its folder holds no other complete checkpoint: start a new run with another run_id"


def _shown(path: Path) -> str:
    return f"{path} ({os.readlink(path)})" if path.is_symlink() else str(path)


def _sync(path: Path) -> None:
    """Flushes a file, or every file of a folder, to disk."""
    for file in [path] if path.is_file() else [*path.rglob("*")]:
        if file.is_file():
            sync(file)
