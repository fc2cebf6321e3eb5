"""Lets a caller stop long work in its own thread, at the next module of a network or the next frame of a video.

    with stoppable(check):  # check raises to stop
        pipeline.generate(case)

Networks need no code for this: torch calls a hook before each module's forward pass, and at each parameter while a
network is built. Loops outside of networks call ``checkpoint``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

Item = TypeVar("Item")
_CHECK: ContextVar[Callable[[], object] | None] = ContextVar("check", default=None)


@contextmanager
def stoppable(check: Callable[[], object]) -> Iterator[None]:
    """Calls ``check`` often while the block runs in this thread. An exception that it raises ends the block."""
    from torch.nn.modules import module as hooks

    before = _CHECK.set(check)
    with ExitStack() as registered:
        for register in (hooks.register_module_forward_pre_hook, hooks.register_module_parameter_registration_hook):
            registered.callback(register(_hook).remove)
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


def _hook(*_: Any) -> None:
    checkpoint()
