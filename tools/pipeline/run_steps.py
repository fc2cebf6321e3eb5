"""Runs the steps of a chain. Shows the title and command of each step, its progress and its duration."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Literal

from rich.console import Console
from rich.markup import escape

from runtime.files import partial_of, remove, take_name
from runtime.ownership import refuse
from runtime.platforms import inheritable_lock
from tools.pipeline.clock import StepClock, format_duration
from tools.pipeline.step import ChainError, Step, StepRecord, is_done, remove_products

ROOT = Path(__file__).resolve().parents[2]
LOGS = "logs"
LOCK = ".lock"
REFRESH = 0.5  # seconds between two updates of the display
CTRL_C_GRACE = 3.0  # seconds to wait for a command that got the terminal's Ctrl-C itself
GRACE = 20.0  # seconds between SIGTERM and SIGKILL
SHOWN = 15  # lines of a failed command's log
State = Literal["done", "done before", "failed", "waiting"]


@dataclass(frozen=True)
class StepResult:
    """Result of a step.

    Attributes:
        step: Step.
        state: ``waiting`` if an input is missing because an earlier step failed.
        seconds: Duration, including interrupted attempts.
        processor_seconds: Processor time, including interrupted attempts.
        finished: Time of completion, ISO 8601 in UTC.
        reason: Reason why it is not done.
    """

    step: Step
    state: State
    seconds: float = 0.0
    processor_seconds: float = 0.0
    finished: str = ""
    reason: str = ""

    @property
    def done(self) -> bool:
        """Whether its outputs exist."""
        return self.state in ("done", "done before")


def run_chain(
    steps: Sequence[Step],
    folder: Path,
    console: Console,
    keep_going: bool = False,
    ended: Callable[[StepResult], None] | None = None,
) -> list[StepResult]:
    """Runs the steps that are not done yet, in order.

    Args:
        steps: Steps with unique names. Their inputs exist or are written by earlier steps.
        folder: Folder of records, logs and outputs.
        console: Console for progress.
        keep_going: If a step fails, skip only the steps that read its outputs; otherwise the chain ends.
        ended: Called with the result of each step, before the next one starts.

    Returns:
        One result per step that was reached.

    Raises:
        ChainError: If another chain is running in the folder.
        ForeignFileError: If an output of a step that was never started exists.
        KeyboardInterrupt: After Ctrl-C or SIGTERM, when the running command has ended.
    """
    results = []
    with _locked(folder) as lock:
        for number, step in enumerate(steps, 1):
            console.print(f"\n[bold]Step {number} of {len(steps)}[/]  {escape(step.title)}", soft_wrap=True)
            step_result = _run(step, folder, console, lock)
            results.append(step_result)
            if ended is not None:
                ended(step_result)
            if not step_result.done and not keep_going:
                break
    return results


def conclude(results: Sequence[StepResult], result: Path, console: Console) -> int:
    """Prints how a chain ended and where its result is; returns the exit status."""
    if not all(step_result.done for step_result in results):
        console.print("\nFix what the log reports and run the same command again; finished steps are kept.")
        return 1
    spent, busy = (sum(getattr(one, key) for one in results) for key in ("seconds", "processor_seconds"))
    console.print(f"\n[bold]All done[/] in {format_duration(spent)}, {format_duration(busy)} of processor time.")
    console.print(f"Open {escape(str(result))}", soft_wrap=True)
    return 0


def _run(step: Step, folder: Path, console: Console, lock: tuple[int, ...]) -> StepResult:
    try:
        digest = step.digest()
    except ChainError as error:
        console.print(f"[yellow]waiting[/] {escape(str(error))}", soft_wrap=True)
        return StepResult(step, "waiting", reason=str(error))
    record = StepRecord.read(folder, step)
    if record and is_done(step, folder, digest):
        console.print(f"[green]done before[/] in {format_duration(record.seconds)}")
        return StepResult(step, "done before", record.seconds, record.processor_seconds, record.finished)
    begun = record if record and record.digest == digest and not record.done else None
    if record is None:  # never started, so what has the names of its outputs is not ours
        for path in filter(os.path.lexists, step.products):
            refuse(path, f"step {step.name}")
    if begun is None:
        remove_products(step, folder)
    spent = (begun.seconds, begun.processor_seconds) if begun else (0.0, 0.0)
    console.print(f"[cyan]$ {escape(step.typed)}[/]", soft_wrap=True, highlight=False)
    if begun:
        console.print("[dim]resuming an interrupted step[/]")
    start, processor = time.monotonic(), _processor_seconds()

    def note(done: bool) -> StepRecord:
        seconds = spent[0] + time.monotonic() - start
        now = datetime.now(UTC).isoformat(timespec="seconds") if done else ""
        made = StepRecord(digest, done, seconds, spent[1] + _processor_seconds() - processor, now, step.typed)
        made.write(folder, step)
        return made

    note(done=False)
    try:
        status = _execute(step, folder, console, lock)
    except BaseException:
        note(done=False)
        raise
    missing = [path for path in step.products if not path.exists()]
    if status in step.accepted and not missing:
        made = note(done=True)
        console.print(
            f"[green]done[/] in {format_duration(made.seconds)}, "
            f"{format_duration(made.processor_seconds)} of processor time"
        )
        return StepResult(step, "done", made.seconds, made.processor_seconds, made.finished)
    made = note(done=False)
    why = f"ended with status {status}" if status not in step.accepted else f"did not write {missing[0]}"
    _show_failure(step, _log_of(step, folder), why, console)
    return StepResult(step, "failed", made.seconds, made.processor_seconds, reason=why)


def _execute(step: Step, folder: Path, console: Console, lock: tuple[int, ...]) -> int:
    """Runs the command. Its output goes to the log, or to ``stdout`` if it succeeds."""
    log = _log_of(step, folder)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        output.write(f"$ {step.typed}\n".encode())
        output.flush()
        if step.stdout is None:
            return _wait(lambda: _start(step, output, output, lock), step, console)
        step.stdout.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_of(step.stdout)
        try:
            with partial.open("wb") as answer:
                status = _wait(lambda: _start(step, answer, output, lock), step, console)
            if status in step.accepted:
                take_name(partial, step.stdout)
            else:
                output.write(partial.read_bytes())
            return status
        finally:
            remove(partial)


def _start(step: Step, stdout: IO[bytes], stderr: IO[bytes], lock: tuple[int, ...]) -> subprocess.Popen[bytes]:
    """Starts the command in the repository's root. It inherits the folder's lock and holds it until it ends."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, *step.command],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        pass_fds=lock,
    )


@contextmanager
def _signals_held() -> Iterator[None]:
    """Holds SIGINT and SIGTERM back until the block has ended, so that what it starts is known when they end it."""
    came: list[int] = []
    before = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM)
        if callable(handler := signal.getsignal(number)) and threading.current_thread() is threading.main_thread()
    }
    for number in before:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for held in came:
        signal.raise_signal(held)


def _wait(start: Callable[[], subprocess.Popen[bytes]], step: Step, console: Console) -> int:
    """Starts the command, waits for it and shows its progress. After Ctrl-C the command gets time to end."""
    process = None
    try:
        with _signals_held():
            process = start()
        with StepClock(step, console) as clock:
            while True:
                try:
                    return process.wait(REFRESH)
                except subprocess.TimeoutExpired:
                    clock.refresh()
    except BaseException:
        if process is None:
            raise
        for ending, patience in ((None, CTRL_C_GRACE), (process.terminate, GRACE), (process.kill, None)):
            if ending is not None:
                ending()
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience)
                break
        raise


def _show_failure(step: Step, log: Path, why: str, console: Console) -> None:
    console.print(f"[red]failed[/]: {escape(why)}; the end of {escape(str(log))}:", soft_wrap=True)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines[-SHOWN:]:
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _log_of(step: Step, folder: Path) -> Path:
    return folder / LOGS / f"{step.name}.log"


def _processor_seconds() -> float:
    """Processor time of all commands that have ended, including their children."""
    used = os.times()
    return used.children_user + used.children_system


@contextmanager
def _locked(folder: Path) -> Iterator[tuple[int, ...]]:
    """Locks the folder; yields the lock's descriptors. A command that outlives its chain still holds them.

    Raises:
        ChainError: If the folder is locked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(inheritable_lock(folder / LOCK))
        except OSError as error:
            raise ChainError(
                f"{folder}: another run, or a command of a killed run, is still at work there; wait for it or end it"
            ) from error
        yield lock
