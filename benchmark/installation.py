"""Whether a system can be used on this machine: its repository, its weights, its interpreter and their packages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmark.job import Installation
from benchmark.process import environment
from benchmark.system import System
from benchmark.workspace import last_words
from configs.systems import RunSystemConfig
from runtime.errors import UserError

OWN_REPOSITORY = Path(__file__).resolve().parents[1]
LOOK_FOR_PACKAGES = (
    "import importlib.util, sys; print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name) is None])"
)
PATIENCE = 120  # seconds an interpreter may take to start from a slow disk


def find_installation(system: System, config: RunSystemConfig) -> Installation:
    """Where a system is, checked as far as that can be without running it.

    Raises:
        UserError: if its repository, weights, interpreter or packages are missing, or it cannot use the device.
    """
    scratch = Path(config.scratch or tempfile.gettempdir()).absolute()
    if odd := re.search(r"[^\w./+=@-]", str(scratch), re.ASCII):
        raise UserError(
            f"scratch={scratch}: holds {odd[0]!r}, and several systems hand paths to a shell as they are; choose a "
            "folder with letters, digits, _ and - alone"
        )
    place = Installation(
        python=_interpreter(config),
        repository=Path(config.repository).absolute() if config.repository else OWN_REPOSITORY,
        device=config.device,
        seed=config.seed,
        videos=Path(config.videos) if config.videos else None,
        scratch=scratch,
        limit=config.clip_timeout,
    )
    if system.kind == "folder" and (place.videos is None or not place.videos.is_dir()):
        raise UserError(f"videos={config.videos}: no such folder; name the one that holds the finished videos")
    if system.kind == "command":
        _check_repository(system, place, config)
        if place.device not in system.devices:
            can = ", ".join(system.devices)
            raise UserError(f"device={place.device}: {system.title} has no switch for that; it runs on {can}")
        _check_packages(system, place)
    return place


def _interpreter(config: RunSystemConfig) -> Path:
    if not config.python:
        return Path(sys.executable)
    # Not resolved: the link in a virtual environment's bin is what makes its packages visible.
    found = shutil.which(config.python)
    if found is None:
        raise UserError(f"python={config.python}: cannot be run; name the interpreter of the system's own environment")
    return Path(found).absolute()


def _check_repository(system: System, place: Installation, config: RunSystemConfig) -> None:
    named = f"repository={config.repository}" if config.repository else f"{place.repository}"
    if system.repository and not config.repository:
        raise UserError(
            f"{system.title} is not part of this project: add repository=PATH of a checkout of "
            f"https://github.com/{system.repository} at {system.commit[:8]}, and python=PATH of its interpreter"
        )
    if not (place.repository / system.entry).is_file():
        kind = "holds no " + system.entry if place.repository.is_dir() else "no such folder"
        source = (
            f"https://github.com/{system.repository} at {system.commit[:8]}" if system.repository else "this project"
        )
        raise UserError(f"{named}: {kind}; expected a checkout of {source}")
    for name in system.requires:
        if not (place.repository / name).exists():
            raise UserError(f"{named}: lacks {name}; its weights: {system.weights}")


def _check_packages(system: System, place: Installation) -> None:
    with tempfile.TemporaryDirectory() as folder:
        env = environment(place.python, {}, Path(folder))
        try:
            done = subprocess.run(
                [str(place.python), "-c", LOOK_FOR_PACKAGES, *system.packages],
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise UserError(f"python={place.python}: cannot be run ({error})") from error
    if done.returncode:
        raise UserError(f"python={place.python}: does not work: {last_words(done.stderr)}")
    if lacking := done.stdout.split():
        raise UserError(
            f"python={place.python}: lacks {', '.join(lacking)}, which {system.title} needs ({system.environment})"
        )


def commit_of(repository: Path) -> str | None:
    """The commit a working copy stands at, where git knows."""
    git = shutil.which("git")
    if git is None:
        return None
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        [git, "-C", str(repository), "rev-parse", "--show-toplevel", "HEAD"], capture_output=True, text=True, env=env
    )
    lines = done.stdout.split("\n")
    # A folder inside another project's working copy has no commit of its own.
    return lines[1] if done.returncode == 0 and Path(lines[0]) == repository.resolve() else None
