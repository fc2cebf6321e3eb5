"""Results of the nightly checks as committed files: what was measured, when, and by which code.

``tools/nightly/results/NAME.json`` is the result of one check. A clone without ``outputs/nightly`` has all of them, so
checks can run on several machines and days. ``code`` is a hash of the files that decide the results of a part, as
``commands.yaml`` lists them: results of a set, such as the seeds of an ablation, are shown together only if they agree.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path, PurePosixPath

from runtime.errors import UserError
from runtime.files import write_whole

# What the nightly checks write themselves.
WRITTEN = ("docs/results.md", "docs/results", "tools/nightly/results", "tools/profiling/reports")


class ResultError(UserError):
    """Raised if a result cannot be recorded or read."""


@dataclass(frozen=True)
class MeasuredCheck:
    """Result of a check.

    Attributes:
        finished: Time of completion, ISO 8601 in UTC.
        seconds: Duration.
        processor_seconds: Processor time.
        commit: Commit of the working tree, with ``+`` if it had changes.
        code: Hash of the files that decide the result.
        environment: Python, torch and the machine.
        numbers: Description -> number, None if it was not found.
        curves: Name of a loss -> (step, value) points, for trainings.
        picture: Name of its picture in ``docs/results``; empty for none.
        table: Name of its table in ``docs/results``, in Markdown; empty for none.
    """

    finished: str
    seconds: float
    processor_seconds: float
    commit: str
    code: str
    environment: str
    numbers: dict[str, float | None]
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    picture: str = ""
    table: str = ""

    @classmethod
    def read(cls, path: Path) -> MeasuredCheck:
        """Reads a result.

        Raises:
            ResultError: If the file is damaged or of another version.
        """
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ResultError(
                f"{path}: not a result of a nightly check ({error}); remove it and run the check"
            ) from error

    def write(self, path: Path) -> None:
        """Writes the result completely or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False)
        text = re.sub(r"\[\s+([^\[\]]+?),\s+([^\[\]]+?)\s+\]", r"[\1, \2]", text)  # a point in one line
        write_whole(path, text + "\n")


def read_results(folder: Path, names: Sequence[str]) -> dict[str, MeasuredCheck]:
    """Reads the results of the checks that have one, by name.

    Raises:
        ResultError: If a file is damaged.
    """
    paths = {name: folder / f"{name}.json" for name in names}
    return {name: MeasuredCheck.read(path) for name, path in paths.items() if path.exists()}


def current_commit(root: Path) -> str:
    """Commit of a working tree, with ``+`` if tracked files other than results differ from it.

    Raises:
        ResultError: If it is not a working tree of git.
    """
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *(f":!{path}" for path in WRITTEN))
    return _git(root, "rev-parse", "--short=8", "HEAD").strip() + ("+" if changed else "")


def code_of(root: Path, paths: Sequence[str]) -> str:
    """Hash of the tracked files below ``paths`` other than results, with their names and present content.

    Raises:
        ResultError: If a path has no tracked file, or ``root`` is not a working tree of git.
    """
    digest = hashlib.sha256()
    for path in paths:
        names = [name for name in _git(root, "ls-files", "-z", "--", path).split("\0") if name]
        if not names:
            raise ResultError(f"commands.yaml: code: {path} has no file in git")
        for name in sorted(name for name in names if not is_written(name)):
            content = (root / name).read_bytes() if (root / name).exists() else b""
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def is_written(name: str) -> bool:
    """Whether a file of the repository is a result."""
    return any(PurePosixPath(name).is_relative_to(path) for path in WRITTEN)


def this_environment() -> str:
    """Python, torch and the machine, in words."""
    machine = f"{platform.machine()} with {os.cpu_count()} cores"
    return f"Python {platform.python_version()}, torch {version('torch')}, {machine}"


def mixed_code(results: Mapping[str, MeasuredCheck]) -> str:
    """Why results of one set may not be shown together; empty if they may."""
    if len({result.code for result in results.values()}) <= 1:
        return ""
    latest = max(results.values(), key=lambda result: result.finished)
    old = sorted(name for name, result in results.items() if result.code != latest.code)
    return f"the code changed within this set: run {','.join(old)} again (others: commit {latest.commit})"


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ResultError(
            f"{root}: git {arguments[0]} failed; nightly checks run in a clone of the repository"
        ) from error
    return done.stdout
