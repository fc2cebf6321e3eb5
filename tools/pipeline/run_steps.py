"""Runs the steps of a chain. Shows the title and command of each step, its progress and its duration.

Each step runs in a thread, which starts its command and waits for it. Steps that keep few cores busy can run at the
same time.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Literal

from rich.console import Console
from rich.markup import escape

from runtime.files import partial_of, remove, take_name
from runtime.ownership import refuse
from runtime.platforms import inheritable_lock
from tools.pipeline.command import Command
from tools.pipeline.display import ChainDisplay, StepClock, format_duration
from tools.pipeline.step import ChainError, Step, StepRecord, elapsed, is_done, remove_products

LOGS = "logs"
LOCK = ".lock"
REFRESH = 0.5  # seconds between two updates of the display
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
    cores: int | None = None,
) -> list[StepResult]:
    """Runs the steps that are not done yet.

    Args:
        steps: Steps with unique names. Their inputs exist or are written by earlier steps.
        folder: Folder of records, logs and outputs.
        console: Console for progress.
        keep_going: If a step fails, skip only the steps that read its outputs; otherwise the chain ends.
        ended: Called with the result of each step before the steps that depend on it, from one thread at a time.
        cores: Cores that steps may share which run at the same time; None runs one step after the other.

    Returns:
        One result per step that was reached, in the order of the steps.

    Raises:
        ChainError: If another chain is running in the folder.
        ForeignFileError: If an output of a step that was never started exists.
        KeyboardInterrupt: After Ctrl-C or SIGTERM, when the running commands have ended.
    """
    results: dict[str, StepResult] = {}
    waiting, running = list(steps), dict[Future[StepResult], Step]()
    threads = ThreadPoolExecutor(max(1, len(steps)))
    with _locked(folder) as lock, ChainDisplay(console, named=cores is not None) as display, threads:
        chain = _Chain(folder, display, lock, cores is not None, ended)
        try:
            while waiting or running:
                while (step := next_step(waiting, list(running.values()), cores)) is not None:
                    waiting.remove(step)
                    display.title(step, steps.index(step) + 1, len(steps))
                    running[threads.submit(chain.run, step)] = step
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    result = results[running.pop(future).name] = future.result()
                    if not result.done and not keep_going:
                        waiting.clear()
        except BaseException:
            chain.stopped.set()  # the threads end their commands, and the executor waits for them
            raise
    return [results[step.name] for step in steps if step.name in results]


def next_step(waiting: Sequence[Step], running: Sequence[Step], cores: int | None) -> Step | None:
    """Returns the first waiting step that may start: its inputs are complete and there are cores for it.

    Args:
        waiting: Steps that have not started, in order.
        running: Running steps.
        cores: Cores of all running steps together; None for one step after the other.
    """
    if cores is None or any(step.cores is None for step in running):
        return waiting[0] if waiting and not running else None
    free = cores - sum(step.cores or 0 for step in running)
    for place, step in enumerate(waiting):
        room = not running or (step.cores is not None and step.cores <= free)
        if room and not any(_depends(step, other) for other in (*running, *waiting[:place])):
            return step
    return None


def _depends(step: Step, other: Step) -> bool:
    """Whether a step reads what another one writes, or writes it too."""
    mine = (*step.reads, *step.products)
    return any(one == two or one in two.parents or two in one.parents for one in mine for two in other.products)


def expected_seconds(steps: Sequence[Step], cores: int | None) -> float:
    """Returns how long a chain takes if each step takes its approximate duration.

    Args:
        steps: All steps.
        cores: Cores of the steps that run at the same time, as of ``run_chain``.
    """
    waiting, running, now = list(steps), list[tuple[float, Step]](), 0.0
    while waiting or running:
        while (step := next_step(waiting, [one for _, one in running], cores)) is not None:
            waiting.remove(step)
            running.append((now + (step.seconds or 0.0), step))
        first = min(running, key=lambda one: one[0])
        running.remove(first)
        now = first[0]
    return now


def conclude(results: Sequence[StepResult], result: Path, console: Console) -> int:
    """Prints how a chain ended and where its result is; returns the exit status."""
    if not all(step_result.done for step_result in results):
        console.print("\nFix what the log reports and run the same command again; finished steps are kept.")
        return 1
    spent = elapsed((result.finished, result.seconds) for result in results)
    busy = sum(result.processor_seconds for result in results)
    console.print(f"\n[bold]All done[/] in {format_duration(spent)}, {format_duration(busy)} of processor time.")
    console.print(f"Open {escape(str(result))}", soft_wrap=True)
    return 0


@dataclass(frozen=True)
class _Chain:
    """What the steps of a running chain share.

    Attributes:
        folder: Folder of records, logs and outputs.
        display: Display of their progress.
        lock: Descriptors of the folder's lock. Commands inherit them and hold it until they end.
        shared: Whether steps run at the same time.
        ended: Called with the result of each step, from one thread at a time; None for nothing.
        stopped: Set when the running commands are to end.
    """

    folder: Path
    display: ChainDisplay
    lock: tuple[int, ...]
    shared: bool
    ended: Callable[[StepResult], None] | None
    stopped: threading.Event = field(default_factory=threading.Event)
    _one: threading.Lock = field(default_factory=threading.Lock)

    def run(self, step: Step) -> StepResult:
        """Runs a step unless it is done, and reports its result."""
        result = self._run(step)
        if self.ended is not None:
            with self._one:
                self.ended(result)
        return result

    def _run(self, step: Step) -> StepResult:
        folder, show = self.folder, partial(self.display.print, step)
        try:
            digest = step.digest()
        except ChainError as error:
            show(f"[yellow]waiting[/] {escape(str(error))}")
            return StepResult(step, "waiting", reason=str(error))
        record = StepRecord.read(folder, step)
        if record and is_done(step, folder, digest):
            show(f"[green]done before[/] in {format_duration(record.seconds)}")
            return StepResult(step, "done before", record.seconds, record.processor_seconds, record.finished)
        begun = record if record and record.digest == digest and not record.done else None
        if record is None:  # never started, so what has the names of its outputs is not ours
            for path in filter(os.path.lexists, step.products):
                refuse(path, f"step {step.name}")
        if begun is None:
            remove_products(step, folder)
        spent = (begun.seconds, begun.processor_seconds) if begun else (0.0, 0.0)
        show(f"[cyan]$ {escape(step.typed)}[/]")
        if begun:
            show("[dim]resuming an interrupted step[/]")
        start, command = time.monotonic(), Command(step, self.lock, self.shared)

        def note(done: bool) -> StepRecord:
            seconds = spent[0] + time.monotonic() - start
            now = datetime.now(UTC).isoformat(timespec="milliseconds") if done else ""
            made = StepRecord(digest, done, seconds, spent[1] + command.processor_seconds, now, step.typed)
            made.write(folder, step)
            return made

        note(done=False)
        try:
            status = self._execute(step, command)
        except BaseException:
            note(done=False)
            raise
        missing = [path for path in step.products if not path.exists()]
        if status in step.accepted and not missing:
            made = note(done=True)
            busy = format_duration(made.processor_seconds)
            show(f"[green]done[/] in {format_duration(made.seconds)}, {busy} of processor time")
            return StepResult(step, "done", made.seconds, made.processor_seconds, made.finished)
        made = note(done=False)
        why = f"ended with status {status}" if status not in step.accepted else f"did not write {missing[0]}"
        log = _log_of(step, folder)
        show(f"[red]failed[/]: {escape(why)}; the end of {escape(str(log))}:")
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[-SHOWN:]:
            show(f"  {escape(line)}")
        return StepResult(step, "failed", made.seconds, made.processor_seconds, reason=why)

    def _execute(self, step: Step, command: Command) -> int:
        """Runs the command. Its output goes to the log, or to ``stdout`` if it succeeds."""
        log = _log_of(step, self.folder)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            output.write(f"$ {step.typed}\n".encode())
            output.flush()
            if step.stdout is None:
                return self._finish(step, command, output, output)
            step.stdout.parent.mkdir(parents=True, exist_ok=True)
            unfinished = partial_of(step.stdout)
            try:
                with unfinished.open("wb") as answer:
                    status = self._finish(step, command, answer, output)
                if status in step.accepted:
                    take_name(unfinished, step.stdout)
                else:
                    output.write(unfinished.read_bytes())
                return status
            finally:
                remove(unfinished)

    def _finish(self, step: Step, command: Command, stdout: IO[bytes], stderr: IO[bytes]) -> int:
        """Runs the command and shows its progress until it has ended or the chain is stopped."""
        command.start(stdout, stderr)
        try:
            with StepClock(step, self.display) as clock:
                while (status := command.wait(REFRESH)) is None:
                    clock.refresh()
                    if self.stopped.is_set():
                        raise KeyboardInterrupt
                return status
        except BaseException:
            command.end()
            raise


def _log_of(step: Step, folder: Path) -> Path:
    return folder / LOGS / f"{step.name}.log"


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
