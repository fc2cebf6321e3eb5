"""Protection of worker processes from Ctrl-C.

A terminal sends Ctrl-C (SIGINT) to all its processes. Workers must ignore it: their parent stops them.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

from runtime.platforms import without_interrupts


@contextmanager
def block_sigint() -> Iterator[None]:
    """Blocks SIGINT in all processes and threads that are started inside the context; defers it in this thread.

    The signal mask is inherited, so processes that such a thread starts later are protected, too.
    """
    if hasattr(signal, "pthread_sigmask"):  # Windows has neither signal masks nor a resource tracker
        resource_tracker.ensure_running()  # otherwise it starts with the first worker, and that unblocks SIGINT
    with without_interrupts():
        yield
