"""Ctrl-C reaches every process of a terminal; workers must not see it, since their parent ends them in good order."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

from runtime.platforms import without_interrupts


@contextmanager
def shielded() -> Iterator[None]:
    """Processes and threads started inside never see Ctrl-C, from their first import on; here it comes afterwards.

    The mask of signals is inherited: workers that a thread started inside starts later are shielded, too.
    """
    if hasattr(signal, "pthread_sigmask"):  # Windows has neither masks nor this tracker
        resource_tracker.ensure_running()  # multiprocessing starts it with the first worker, and it would lift the mask
    with without_interrupts():
        yield
