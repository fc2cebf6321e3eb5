"""Ending a command: SIGTERM and SIGHUP act like Ctrl-C, and processes end with the one that started them."""

from __future__ import annotations

import _thread
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from types import FrameType
from typing import Any

from runtime.platforms import process_is_gone, signals_named

BASE = 128  # the exit status after a signal is this and its number, as in shells: 130 after Ctrl-C
AGAIN_SECONDS = 1.0  # pause after which a signal is repeated whose exception a library has swallowed
EXIT_SECONDS = 30.0  # time limit for the threads of a command that has ended
LAUNCHER = "EMOTIVETALK_LAUNCHER"  # environment variable: the process that may start ranks with its own environment
TORCHRUN = "TORCHELASTIC_RUN_ID"  # set by torchrun for its ranks


class Ended(KeyboardInterrupt):
    """A signal asked the command to end, as Ctrl-C does.

    Attributes:
        exit_status: Exit status of the command.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_status = BASE + number


class _Command:
    """The signals of the command of this process."""

    def __init__(self) -> None:
        self.process, self.thread = os.getpid(), threading.get_ident()
        self.asked = 0  # number of the first signal
        self.repeats = False  # whether the next signal is a repetition by ``_insist``
        self.caught = threading.Event()
        self.finished = False  # whether it has ended
        self.defaults: dict[int, Any] = {}  # handlers that ``end`` replaces

    def end(self, number: int, frame: FrameType | None) -> None:
        """Handler of all signals."""
        repeats, self.repeats = self.repeats, False
        if os.getpid() != self.process:  # a forked worker
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif self.finished:
            if self._others_go_on():
                for replaced, handler in self.defaults.items():
                    signal.signal(replaced, handler)
                signal.raise_signal(number)
        elif not self.asked:
            self.asked = number
            _thread.start_new_thread(self._insist, ())  # threading's locks may be held by what was interrupted
            raise Ended(number)
        else:
            pressed_again = number == signal.SIGINT and not repeats  # by somebody who does not want to wait
            if pressed_again or not (self.caught.is_set() or _handled(sys.exception())):
                raise Ended(self.asked)

    def _insist(self) -> None:
        while not self.caught.wait(AGAIN_SECONDS):
            if hasattr(signal, "pthread_kill"):
                self.repeats = True
                signal.pthread_kill(self.thread, self.asked)
        time.sleep(EXIT_SECONDS)
        if not (self.finished and self._others_go_on()):
            os._exit(BASE + self.asked)

    def is_ending(self) -> bool:
        """Whether a signal has asked this process to end."""
        asked_here = self.asked != 0 and os.getpid() == self.process
        return asked_here and not (self.finished and self._others_go_on())

    def _others_go_on(self) -> bool:
        """Whether the process does not end with its command, as in a notebook that ran it."""
        return threading.main_thread().is_alive() and not sys.is_finalizing()


_command: _Command | None = None


def end_like_ctrl_c() -> None:
    """Makes SIGTERM, sent by queues and containers, and SIGHUP, sent by a closed terminal, act like Ctrl-C.

    They raise ``Ended``. A repeated SIGTERM or SIGHUP does not disturb the tidying up. An exception of a signal handler
    can be swallowed, by a bare ``except`` during an import or in a destructor; the signal is then repeated until
    ``caught`` is called. A signal that the command was started to ignore, as by nohup, stays ignored. Forked workers
    end at once instead. Does nothing outside of the main thread.
    """
    global _command, _reported
    if threading.current_thread() is not threading.main_thread():
        return
    if sys.unraisablehook is not _report:
        _reported, sys.unraisablehook = sys.unraisablehook, _report
    before, _command = _command, _Command()
    for number in signals_named(["SIGTERM", "SIGHUP", "SIGINT"]):
        handler = signal.getsignal(number)
        if before is not None and handler == before.end:
            handler = before.defaults[number]
        if handler in (signal.SIG_DFL, signal.default_int_handler):
            _command.defaults[number] = handler
            signal.signal(number, _command.end)


def _report(unraisable: Any) -> None:
    """Hook for exceptions in destructors. An ``Ended`` is no fault, and its signal is repeated.

    After a signal, neither are those of objects that it left half made.
    """
    if not (isinstance(unraisable.exc_value, Ended) or (_command is not None and _command.is_ending())):
        _reported(unraisable)


_reported = sys.unraisablehook


def caught() -> None:
    """Tells that the command ends, as after ``Ended``: a process whose threads do not end in time then exits."""
    if _command is not None:
        _command.caught.set()


def finished() -> None:
    """Tells that the command has ended. If other code goes on in this process, signals act on it as before."""
    if _command is not None:
        _command.finished = True


def _handled(error: BaseException | None) -> bool:
    """Whether the end of the command is being handled: by ``except``, ``finally`` or ``with``."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def end_with_launcher() -> None:
    """Ends this rank with the process that started it, also when that was killed: torchrun, or the first rank.

    Ranks that start others, as Lightning's first rank does, call this before. Other launchers end their ranks
    themselves.
    """
    parent, first = os.getppid(), os.environ.get(LAUNCHER, "")
    if TORCHRUN in os.environ:
        _watch(_wait_for_other, parent)
    elif first.isdecimal() and os.environ.get("LOCAL_RANK", "0") != "0" and _is_or_was_parent(int(first), parent):
        _watch(_wait_for_other, int(first))
    os.environ[LAUNCHER] = str(os.getpid())


def _is_or_was_parent(first: int, parent: int) -> bool:
    """Whether the first rank is the parent of this process, or was until it ended."""
    return first == parent or process_is_gone(first)


def end_with_parent() -> None:
    """In a worker of ``multiprocessing``: ends this process when its parent has ended, also when it was killed."""
    if (parent := multiprocessing.parent_process()) is not None:
        _watch(_wait_for_end, parent.sentinel)


def _watch(wait_for: Callable[[int], None], other: int) -> None:
    threading.Thread(target=wait_for, args=(other,), daemon=True, name="end").start()


def _wait_for_end(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _wait_for_other(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(AGAIN_SECONDS)
    os._exit(1)
