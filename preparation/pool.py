"""Pool of worker processes for clips: results in order, one retry after a crash, and a time limit for each clip."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as ClipTimeout
from multiprocessing import get_context
from typing import Any

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from preparation.clip_source import ClipSource, OutOfMemory, Reason, Rejected
from preparation.encoder_processes import EncoderDied
from preparation.interrupts import block_sigint

KILLED = -9  # exit code of a process that got SIGKILL


class ClipPool:
    """Pool of spawned processes; a context manager.

    Args:
        workers: Number of processes.
        start: Called once in every process.
        arguments: Arguments of ``start``.
        timeout: Time limit for a clip, seconds.
    """

    def __init__(self, workers: int, start: Callable[..., None], arguments: Sequence[Any], timeout: float) -> None:
        self.workers = workers
        self._timeout = timeout
        # Libraries leave semaphores behind in finished workers. Python's tracker removes them, so its warning is noise.
        sys.warnoptions.append("ignore::UserWarning:multiprocessing.resource_tracker")
        # Spawned, not forked: the parent has threads, and CUDA does not work in a forked process.
        self._pool = ProcessPool(workers, context=get_context("spawn"), initializer=start, initargs=arguments)

    def __enter__(self) -> ClipPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._pool.close()
        else:
            self._pool.stop()
        self._pool.join()

    def call(self, work: Callable[..., Any]) -> Any:
        """Runs ``work()`` in a worker and returns its result; raises its error."""
        return self._schedule(work).result()

    def each(
        self, work: Callable[[ClipSource], Any], clips: Sequence[ClipSource]
    ) -> Iterator[tuple[ClipSource, Any | Rejected]]:
        """Yields each clip and ``work(clip)``, in order; at most two clips per worker are worked on ahead.

        A clip that exceeds the time limit, or ends its worker or encoder process twice, yields a ``Rejected`` in place
        of the result.

        Raises:
            OutOfMemory: If the system kills its worker twice.
        """
        waiting: deque[tuple[ClipSource, ProcessFuture]] = deque()
        remaining = iter(clips)
        while True:
            for clip in remaining:
                waiting.append((clip, self._schedule(work, args=(clip,), timeout=self._timeout)))
                if len(waiting) >= 2 * self.workers:
                    break
            if not waiting:
                return
            clip, future = waiting.popleft()
            yield clip, self._result(work, clip, future)

    def _schedule(self, work: Callable[..., Any], **options: Any) -> ProcessFuture:
        with block_sigint():  # the first call starts the pool's threads, which start the worker processes
            return self._pool.schedule(work, **options)

    def _result(self, work: Callable[[ClipSource], Any], clip: ClipSource, future: ProcessFuture) -> Any | Rejected:
        try:
            try:
                return future.result()
            except (ProcessExpired, EncoderDied):  # once more: the system may have killed it for the memory of others
                return self._schedule(work, args=(clip,), timeout=self._timeout).result()
        except ClipTimeout:
            return Rejected(Reason.TIMEOUT, f"not finished after clip_timeout={self._timeout:g} s")
        except ProcessExpired as error:
            if error.exitcode == KILLED:
                raise OutOfMemory(
                    f"{clip.name}: its worker process was killed twice, as the system does when memory is short; set "
                    "fewer workers= or a smaller max_seconds=, or free memory, and run the same command again"
                ) from error
            return Rejected(Reason.CRASHED, f"the worker process died twice (exit code {error.exitcode})")
        except EncoderDied:
            return Rejected(Reason.CRASHED, "the encoder process ended twice during this clip")
        except CancelledError as error:
            raise KeyboardInterrupt from error
