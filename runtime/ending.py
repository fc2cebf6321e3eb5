"""Ending a command: SIGTERM and SIGHUP act like Ctrl-C, and worker processes end with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait
from types import FrameType

from runtime.platforms import signals_named

BASE = 128  # the exit status after a signal is this and its number, as in shells: 130 after Ctrl-C


class Ended(KeyboardInterrupt):
    """A signal asked the command to end, as Ctrl-C does.

    Attributes:
        exit_status: Exit status of the command.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_status = BASE + number


def end_like_ctrl_c() -> None:
    """Makes SIGTERM, sent by queues and containers, and SIGHUP, sent by a closed terminal, raise ``Ended`` once.

    A signal that the command was started to ignore, as by nohup, stays ignored. Forked workers end at once instead.
    Does nothing outside of the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    owner, asked = os.getpid(), False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if os.getpid() != owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not asked:  # queues repeat their signal, which must not end the tidying up
            asked = True
            raise Ended(number)

    for number in signals_named(["SIGTERM", "SIGHUP"]):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, end)


def end_with_parent() -> None:
    """In a worker of ``multiprocessing``: ends this process when its parent has ended, also when it was killed."""
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_wait_for_end, args=(parent.sentinel,), daemon=True, name="parent").start()


def _wait_for_end(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
