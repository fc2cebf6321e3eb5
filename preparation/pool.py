"""Pool of worker processes for clips: results in order, one retry after a crash, and a time limit for each clip.

Each process has a pipe of its own and a thread of the parent that waits for it. Processes share no lock, so one that is
killed at any moment, also while it waits, stops no other.
"""

from __future__ import annotations

import pickle
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from queue import LifoQueue
from typing import Any

from preparation.clip_source import ClipSource, OutOfMemory, Reason, Rejected
from preparation.encoder_processes import EncoderDied
from preparation.interrupts import block_sigint

KILLED = -9  # exit code of a process that got SIGKILL


class ProcessEnded(Exception):
    """A worker process ended during its work.

    Attributes:
        exit_code: Its exit status, or the negative number of the signal.
    """

    def __init__(self, exit_code: int | None) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class ClipTimeout(Exception):
    """A clip exceeded its time limit."""


class ClipPool:
    """Pool of spawned processes; a context manager.

    Args:
        workers: Number of processes. Each is started with its first work.
        start: Called once in every process.
        arguments: Arguments of ``start``.
        timeout: Time limit for a clip, seconds; the start of a process does not count.
    """

    def __init__(self, workers: int, start: Callable[..., None], arguments: Sequence[Any], timeout: float) -> None:
        self.workers = workers
        self._timeout = timeout
        # Libraries leave semaphores behind in finished workers. Python's tracker removes them, so its warning is noise.
        sys.warnoptions.append("ignore::UserWarning:multiprocessing.resource_tracker")
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="clips")
        self._processes = [_Process(start, arguments) for _ in range(workers)]
        self._free: LifoQueue[_Process] = LifoQueue()  # a process that has started, and built its encoders, comes first
        for process in self._processes:
            self._free.put(process)

    def __enter__(self) -> ClipPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        done = False
        try:
            if kind is None:
                self._close(cancel=False)
                done = True
        finally:  # also if a signal ends the command while the pool waits: it would wait for these processes for ever
            if not done:
                for process in self._processes:
                    process.kill()
                self._close(cancel=True)

    def _close(self, cancel: bool) -> None:
        self._threads.shutdown(cancel_futures=cancel)
        for process in self._processes:
            process.close()

    def call(self, work: Callable[[], Any]) -> Any:
        """Runs ``work()`` in a worker and returns its result; raises its error."""
        return self._submit(self._run, work).result()

    def each(
        self, work: Callable[[ClipSource], Any], clips: Sequence[ClipSource]
    ) -> Iterator[tuple[ClipSource, Any | Rejected]]:
        """Yields each clip and ``work(clip)``, in order; at most two clips per worker are worked on ahead.

        A clip that exceeds the time limit, or ends its worker or encoder process twice, yields a ``Rejected`` in place
        of the result.

        Raises:
            OutOfMemory: If the system kills its worker twice.
        """
        waiting: deque[tuple[ClipSource, Future[Any]]] = deque()
        remaining = iter(clips)
        while True:
            for clip in remaining:
                waiting.append((clip, self._submit(self._result, work, clip)))
                if len(waiting) >= 2 * self.workers:
                    break
            if not waiting:
                return
            clip, future = waiting.popleft()
            yield clip, future.result()

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        with block_sigint():  # the threads start the processes
            return self._threads.submit(function, *arguments)

    def _result(self, work: Callable[[ClipSource], Any], clip: ClipSource) -> Any | Rejected:
        try:
            try:
                return self._run(work, clip, timeout=self._timeout)
            except (ProcessEnded, EncoderDied):  # once more: the system may have killed it for the memory of others
                return self._run(work, clip, timeout=self._timeout)
        except ClipTimeout:
            return Rejected(Reason.TIMEOUT, f"not finished after clip_timeout={self._timeout:g} s")
        except ProcessEnded as error:
            if error.exit_code == KILLED:
                raise OutOfMemory(
                    f"{clip.name}: its worker process was killed twice, as the system does when memory is short; set "
                    "fewer workers= or a smaller max_seconds=, or free memory, and run the same command again"
                ) from error
            return Rejected(Reason.CRASHED, f"the worker process died twice (exit code {error.exit_code})")
        except EncoderDied:
            return Rejected(Reason.CRASHED, "the encoder process ended twice during this clip")

    def _run(self, work: Callable[..., Any], *arguments: Any, timeout: float | None = None) -> Any:
        process = self._free.get()
        try:
            return process.run(work, arguments, timeout)
        finally:
            self._free.put(process)


class _Process:
    """A spawned process that does one work at a time, and is started again if it has ended.

    Args:
        start: Called first in the process.
        arguments: Arguments of ``start``.
    """

    def __init__(self, start: Callable[..., None], arguments: Sequence[Any]) -> None:
        self._start, self._arguments = start, arguments
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._killed = False

    def run(self, work: Callable[..., Any], arguments: Sequence[Any], timeout: float | None) -> Any:
        """Returns ``work(*arguments)``, or raises its error.

        Raises:
            ClipTimeout: If it takes more than ``timeout`` seconds.
            ProcessEnded: If the process ends during the work or its start.
        """
        process, pipe = self._running()
        try:
            pipe.send((work, arguments))
        except OSError:  # it has just ended
            process.join()
            raise ProcessEnded(process.exitcode) from None
        return self._answer(process, pipe, timeout)

    def kill(self) -> None:
        """Ends the process now and for ever; its work raises ``ProcessEnded``."""
        self._killed = True
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """Ends the process after its work."""
        if self._process is not None and self._pipe is not None:
            self._pipe.close()
            self._process.join()

    def _running(self) -> tuple[BaseProcess, Connection]:
        if self._process is not None and self._pipe is not None and self._process.is_alive():
            return self._process, self._pipe
        self.close()
        if self._killed:
            raise ProcessEnded(KILLED)
        # Spawned, not forked: the parent has threads, and CUDA does not work in a forked process.
        spawned = get_context("spawn")
        pipe, theirs = spawned.Pipe()
        process = spawned.Process(target=_serve, args=(theirs, self._start, self._arguments), name="clips")
        process.start()
        theirs.close()  # so that the pipe ends with the process
        self._process, self._pipe = process, pipe
        if self._killed:  # while it was started
            process.kill()
        self._answer(process, pipe, None)
        return process, pipe

    def _answer(self, process: BaseProcess, pipe: Connection, timeout: float | None) -> Any:
        ready = wait([pipe, process.sentinel], timeout)
        if not ready:
            process.kill()
            process.join()
            raise ClipTimeout
        try:
            if pipe not in ready and not pipe.poll():
                raise EOFError
            result, error = pipe.recv()
        except (EOFError, OSError):
            process.join()
            raise ProcessEnded(process.exitcode) from None
        if error is not None:
            raise error
        return result


def _serve(pipe: Connection, start: Callable[..., None], arguments: Sequence[Any]) -> None:
    """The life of a process: ``start``, then work after work until the pipe ends. Answers are (result, error)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, OSError):  # the parent has ended, or needs no more
        _send(pipe, start, arguments)
        while True:
            work, arguments = pipe.recv()
            _send(pipe, work, arguments)


def _send(pipe: Connection, work: Callable[..., Any], arguments: Sequence[Any]) -> None:
    answer: tuple[Any, Exception | None]
    try:
        answer = work(*arguments), None
    except Exception as error:
        error.add_note(traceback.format_exc())  # tracebacks are not pickled
        answer = None, error
    try:
        pipe.send(answer)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        pipe.send((None, RuntimeError(f"the answer of {work.__name__} cannot be pickled: {error}")))
