"""One step of a chain: a command, the files it reads and writes, and whether it is done.

A step is done when its record says that this very command was run on files of this very content, and what it wrote is
still there. The record of a step that was begun holds the same, so that a training goes on where it stopped, while what
another command or other files left behind is removed before the step starts.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from runtime.errors import UserError
from runtime.files import remove, write_whole

BLOCK = 1 << 20
RECORDS = ".steps"  # folder of the records, in the chain's own


class ChainError(UserError):
    """A chain that cannot go on; the message says what was found and what to do."""


class Progress(Protocol):
    """How far a running command is, read off what it has written so far."""

    @property
    def unit(self) -> str:
        """What is counted."""
        ...

    @property
    def total(self) -> int:
        """How many there will be at most."""
        ...

    def done(self) -> int:
        """How many there are."""
        ...


@dataclass(frozen=True)
class TrainingSteps:
    """Optimizer steps of a run of ``train.py``, from its table of losses.

    Attributes:
        run: its run directory.
        total: trainer.max_steps.
    """

    run: Path
    total: int
    unit: str = "steps"

    def done(self) -> int:
        """The last step with a row."""
        return min(max((int(row["step"]) + 1 for row in read_log(self.run)), default=0), self.total)


def read_log(run: Path) -> list[dict[str, str]]:
    """The rows of a training's table of logged values that have a step; none where it has not begun."""
    table = run / "csv" / "metrics.csv"
    if not table.exists():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if (row.get("step") or "").isdecimal()]


@dataclass(frozen=True)
class Files:
    """Files that appear one by one.

    Attributes:
        folder: where they lie, subfolders included.
        pattern: of their names.
        total: how many there will be.
        unit: what one is.
    """

    folder: Path
    pattern: str
    total: int
    unit: str

    def done(self) -> int:
        """How many there are; those that are being written have names with a dot in front."""
        return sum(not path.name.startswith(".") for path in self.folder.rglob(self.pattern))


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        name: of its record and its log.
        title: a line that says what happens.
        command: what stands after ``python``, from the repository's root.
        reads: files and folders whose content decides whether it is done.
        writes: files and folders that are there when it is done; removed when it starts anew.
        stdout: file its output goes to, as a shell's ``>`` would; None for the log.
        accepted: exit statuses that count as done.
        progress: how far it is, where that can be seen.
        seconds: how long it takes on two cores, roughly; None where nobody knows.
        why: what it is for, in plain words.
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

    @property
    def typed(self) -> str:
        """The command as a person types it."""
        return shlex.join(["python", *self.command]) + (f" > {shlex.quote(str(self.stdout))}" if self.stdout else "")

    @property
    def products(self) -> tuple[Path, ...]:
        """Everything it writes."""
        return (*self.writes, self.stdout) if self.stdout else self.writes

    def digest(self) -> str:
        """Of the command and the content of what it reads.

        Raises:
            ChainError: if something it reads is not there.
        """
        content = [self.typed, *(fingerprint(path) for path in self.reads)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True)
class StepRecord:
    """What is known of a step.

    Attributes:
        digest: of the command and what it reads.
        done: it ended well; else it was only begun.
        seconds: how long it took, interrupted attempts included.
        processor_seconds: the same of the processors.
        finished: when, as ISO 8601 in UTC; empty where it is not done.
        command: as typed, for people.
    """

    digest: str
    done: bool
    seconds: float
    processor_seconds: float
    finished: str
    command: str

    @classmethod
    def read(cls, folder: Path, step: Step) -> StepRecord | None:
        """The record of a step in a chain's folder; None where there is none that can be read."""
        try:
            raw: dict[str, Any] = json.loads((folder / RECORDS / f"{step.name}.json").read_text(encoding="utf-8"))
            return cls(**raw)
        except (OSError, ValueError, TypeError):
            return None

    def write(self, folder: Path, step: Step) -> None:
        """Keeps it, whole or not at all."""
        path = folder / RECORDS / f"{step.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(vars(self), indent=1) + "\n")


def is_done(step: Step, folder: Path, digest: str) -> bool:
    """Whether a step need not be run again."""
    record = StepRecord.read(folder, step)
    return bool(record and record.done and record.digest == digest and all(path.exists() for path in step.products))


def remove_products(step: Step, folder: Path) -> None:
    """Removes what a step wrote.

    Raises:
        ChainError: if it writes outside the chain's folder, where nothing is removed.
    """
    for path in step.products:
        if folder.resolve() not in path.resolve().parents:
            raise ChainError(f"step {step.name}: writes {path}, outside {folder}; nothing is removed there")
        remove(path)


def fingerprint(path: Path) -> str:
    """A text that is equal for equal content: of a file, or of a folder's files and their names.

    Raises:
        ChainError: if it is not there.
    """
    if not path.exists():
        raise ChainError(f"{path}: is not there")
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
