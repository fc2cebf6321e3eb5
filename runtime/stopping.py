"""Lets a caller stop long work in its own thread: at the next module of a network, frame of a video, or look at a file.

    with stoppable(check):  # check raises to stop
        pipeline.generate(case)

Networks need no code for this: torch calls a hook before each module's forward pass, and at each parameter while a
network is built. Loops outside of networks call ``checkpoint``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

Item = TypeVar("Item")
_CHECK: ContextVar[Callable[[], object] | None] = ContextVar("check", default=None)
_registering = threading.Lock()
_registered = False


@contextmanager
def stoppable(check: Callable[[], object]) -> Iterator[None]:
    """Calls ``check`` often while the block runs in this thread. An exception that it raises ends the block."""
    _register()
    before = _CHECK.set(check)
    try:
        yield
    finally:
        _CHECK.reset(before)


def checkpoint() -> None:
    """Raises if the work of this thread was stopped."""
    if (check := _CHECK.get()) is not None:
        check()


def checked(items: Iterable[Item]) -> Iterator[Item]:
    """Yields the items, with a checkpoint before each."""
    for item in items:
        checkpoint()
        yield item


def _register() -> None:
    """Registers torch's hooks, once: removing one while another thread calls them would be an error in that thread."""
    global _registered
    from torch.nn.modules import module as hooks

    with _registering:
        if not _registered:
            hooks.register_module_forward_pre_hook(_hook)
            hooks.register_module_parameter_registration_hook(_hook)
            _registered = True


def _hook(*_: Any) -> None:
    checkpoint()
