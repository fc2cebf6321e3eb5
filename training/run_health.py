"""Findings about a run directory: its checkpoints, its configuration, and who writes it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from configs.stored import load_stored
from lightning_modules.checkpoint_files import BEST, LAST, PART, damage_of, steps_of
from lightning_modules.checkpoints import CheckpointError, open_checkpoint
from runtime.errors import first_line, message_of
from runtime.files import below, bytes_below
from runtime.health import Finding, fine, note, problem, size_text
from runtime.locks import owner_of

LOCK = ".lock"  # file of a run directory that its process holds


def run_findings(folder: Path, deep: bool, on_file: Callable[[str], None] = lambda name: None) -> Iterator[Finding]:
    """Checks a run directory.

    Args:
        folder: Run directory.
        deep: Whether checkpoints are read and compared with their checksums; otherwise only their form is.
        on_file: Called with the name of each checkpoint before it is read.
    """
    yield from _config(folder)
    if owner := owner_of(folder / LOCK):
        yield note("lock", f"is being trained by {owner}", "wait for it before you resume the run")
    checkpoints = folder / "checkpoints"
    whole: list[Path] = []
    damaged: list[tuple[Path, str]] = []
    for path in steps_of(checkpoints).values():
        on_file(path.name)
        try:
            wrong = (damage_of(path, again=True) or _unreadable(path)) if deep else _form(path)
        except FileNotFoundError:
            wrong = "was removed"
        if not path.exists():
            continue  # removed meanwhile by the run, which keeps its newest
        if wrong:
            damaged.append((path, wrong))
        else:
            whole.append(path)
    for path, wrong in damaged:
        remedy = f"remove it; resume with ckpt_path={whole[-1]}" if whole else "no checkpoint is whole: start a new run"
        yield problem(path.name, wrong, remedy)
    if whole:
        size = sum(map(bytes_below, whole))
        checked = "compared with their checksums" if deep else "complete by form"
        yield fine("checkpoints", f"{len(whole)} {checked}, {size_text(size)}, up to {whole[-1].name}")
    elif not damaged:
        yield note("checkpoints", "none yet", "the first is written after checkpoints.every steps")
    for name in (LAST, BEST):
        link = checkpoints / name
        if link.is_symlink() and not link.exists():
            remedy = f"resume with ckpt_path={whole[-1]}" if whole else f"remove {link}"
            yield problem(name, "links to a checkpoint that does not exist", remedy)
    if left := sorted(checkpoints.glob(f"*{PART}")):
        text = f"{len(left)} unfinished checkpoint(s), e.g. {left[0].name}"
        yield note("left behind", text, "the next start of the run removes them")


def _config(folder: Path) -> Iterator[Finding]:
    file = folder / "config.yaml"
    try:
        stage = str(OmegaConf.to_container(load_stored(file))["stage"])  # type: ignore[index, call-overload]
        yield fine("config", f"stage {stage[:40]}")
    except FileNotFoundError:
        yield problem("config", f"{file} is missing", "restore it; without it a run is not recognised")
    except (OSError, KeyError, ValueError, OmegaConfBaseException) as error:
        yield problem("config", f"{file} cannot be read ({first_line(error)})", "restore it, or remove it")


def _unreadable(path: Path) -> str | None:
    """Why resuming would refuse a checkpoint whose checksums are right, e.g. since it holds more than tensors."""
    try:
        open_checkpoint(path)
    except CheckpointError as error:
        return message_of(error).removeprefix(f"{path}: ")
    return None


def _form(path: Path) -> str | None:
    """What is wrong with the form of a checkpoint, without reading it."""
    files = [path] if path.is_file() else sorted(file for file in below(path) if file.suffix == ".pt")
    cut = [file.name for file in files if not zipfile.is_zipfile(file)]
    if not files:
        return "has no file"
    return f"not a readable checkpoint ({', '.join(cut[:3])} truncated)" if cut else None
