"""A step of a chain: a command, the files it reads and writes, and whether it is done.

A step is done if its record has the digest of its command and of the content of its inputs, and its outputs exist. A
step that was started but not finished has the same record, so that a training can resume. If the digest differs, the
outputs are removed before the step starts.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Protocol

from runtime.errors import UserError
from runtime.files import below, remove, write_whole

BLOCK = 1 << 20
RECORDS = ".steps"  # folder of the records, in the chain's folder


class ChainError(UserError):
    """Raised if a chain cannot go on. The message says what was found and what to do next."""


class Progress(Protocol):
    """Progress of a running command, measured by the files it has written."""

    @property
    def unit(self) -> str:
        """Unit of the count."""
        ...

    @property
    def total(self) -> int:
        """Largest possible count."""
        ...

    def done(self) -> int:
        """Current count."""
        ...


@dataclass(frozen=True)
class TrainingSteps:
    """Optimizer steps of a run of ``train.py``, from its table of logged values.

    Attributes:
        run: Run directory.
        total: Value of trainer.max_steps.
    """

    run: Path
    total: int
    unit: str = "steps"

    def done(self) -> int:
        """Number of the last step with a row."""
        return min(max((int(row["step"]) + 1 for row in read_log(self.run)), default=0), self.total)


def read_log(run: Path) -> list[dict[str, str]]:
    """Reads the rows of a training's table of logged values that have a step; none if it has not started."""
    table = run / "csv" / "metrics.csv"
    if not table.exists():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if (row.get("step") or "").isdecimal()]


@dataclass(frozen=True)
class Files:
    """Number of files that appear one by one.

    Attributes:
        folder: Folder, including subfolders.
        pattern: Pattern of file names.
        total: Expected number of files.
        unit: Name of one item.
    """

    folder: Path
    pattern: str
    total: int
    unit: str

    def done(self) -> int:
        """Current number of files. Partial files start with a dot and do not count."""
        names = (path.name for path in below(self.folder))
        return sum(fnmatch(name, self.pattern) and not name.startswith(".") for name in names)


@dataclass(frozen=True)
class Step:
    """A command with its inputs and outputs.

    Attributes:
        name: Name of its record and log.
        title: What it does, in one line.
        command: Arguments of ``python``, run in the repository's root.
        reads: Files and folders; the step runs again if their content changes.
        writes: Files and folders that exist when it is done; removed when it starts anew.
        stdout: File for its standard output, like ``>`` in a shell; None for the log.
        accepted: Exit statuses that count as success.
        progress: Progress, if it can be measured.
        seconds: Approximate duration on two cores, or None if unknown.
        why: Reason for the step.
        cores: Number of cores that it keeps busy; None for all, so that nothing else runs at the same time.
    """

    name: str
    title: str
    command: tuple[str, ...]
    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()
    stdout: Path | None = None
    accepted: tuple[int, ...] = (0,)
    progress: Progress | None = field(default=None, compare=False)
    seconds: float | None = None
    why: str = ""
    cores: int | None = None

    @property
    def typed(self) -> str:
        """The command as typed in a shell."""
        return shlex.join(["python", *self.command]) + (f" > {shlex.quote(str(self.stdout))}" if self.stdout else "")

    @property
    def products(self) -> tuple[Path, ...]:
        """All its outputs."""
        return (*self.writes, self.stdout) if self.stdout else self.writes

    def digest(self) -> str:
        """Hash of the command and the content of its inputs.

        Raises:
            ChainError: If an input is missing.
        """
        content = [self.typed, *(fingerprint(path) for path in self.reads)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True)
class StepRecord:
    """Record of a step.

    Attributes:
        digest: Hash of the command and the inputs.
        done: Whether it succeeded; otherwise it was only started.
        seconds: Duration, including interrupted attempts.
        processor_seconds: Processor time, including interrupted attempts.
        finished: Time of completion, ISO 8601 in UTC; empty if not done.
        command: Command as typed, for information.
    """

    digest: str
    done: bool
    seconds: float
    processor_seconds: float
    finished: str
    command: str

    @classmethod
    def read(cls, folder: Path, step: Step) -> StepRecord | None:
        """Reads the record of a step from a chain's folder; None if there is none."""
        try:
            raw: dict[str, Any] = json.loads((folder / RECORDS / f"{step.name}.json").read_text(encoding="utf-8"))
            return cls(**raw)
        except (OSError, ValueError, TypeError):
            return None

    def write(self, folder: Path, step: Step) -> None:
        """Writes the record completely or not at all."""
        path = folder / RECORDS / f"{step.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(vars(self), indent=1) + "\n")


def elapsed(ended: Iterable[tuple[str, float]]) -> float:
    """Returns the time in seconds in which at least one step ran.

    Args:
        ended: Time of completion and duration of each step, as of ``StepRecord``. An interrupted step counts as if its
            attempts had followed one another.
    """
    ends = [(datetime.fromisoformat(finished).timestamp(), seconds) for finished, seconds in ended]
    total, until = 0.0, float("-inf")
    for start, end in sorted((end - seconds, end) for end, seconds in ends):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def is_done(step: Step, folder: Path, digest: str) -> bool:
    """Returns whether a step is done."""
    record = StepRecord.read(folder, step)
    return bool(record and record.done and record.digest == digest and all(path.exists() for path in step.products))


def remove_products(step: Step, folder: Path) -> None:
    """Removes the outputs of a step.

    Raises:
        ChainError: If an output is outside the chain's folder.
    """
    for path in step.products:
        if folder.resolve() not in path.resolve().parents:
            raise ChainError(f"step {step.name}: writes {path}, which is outside {folder}; remove it by hand")
        remove(path)


def fingerprint(path: Path) -> str:
    """Hash of the content of a file, or of all files of a folder and their names.

    Raises:
        ChainError: If it does not exist.
    """
    if not path.exists():
        raise ChainError(f"{path}: does not exist")
    digest = hashlib.sha256()
    for file in _files(path):
        digest.update(f"{file.relative_to(path) if path.is_dir() else ''}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as content:
            while block := content.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for file in sorted(path.rglob("*")):
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts):
            yield file
