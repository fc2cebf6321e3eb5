"""Stopping work at a module of a network, while a network is built, and between frames."""

import threading

import pytest
import torch
from torch import nn

from runtime.stopping import checked, checkpoint, stoppable


class Stopped(Exception):
    pass


class After:
    """A check that raises at its n-th call."""

    def __init__(self, calls):
        self.left = calls

    def __call__(self):
        self.left -= 1
        if self.left < 0:
            raise Stopped


@pytest.mark.parametrize(
    "work",
    [
        lambda: nn.Sequential(*[nn.Identity() for _ in range(9)])(torch.zeros(1)),
        lambda: nn.Sequential(*[nn.Linear(2, 2) for _ in range(9)]),
        lambda: list(checked(range(9))),
        lambda: [checkpoint() for _ in range(9)],
    ],
    ids=["forward", "building", "frames", "loop"],
)
def test_work_ends_at_the_next_checkpoint(work):
    check = After(5)
    with pytest.raises(Stopped), stoppable(check):
        work()
    assert check.left == -1
    work()  # and is not affected afterwards


def test_only_the_own_thread_is_stopped():
    done = []
    with stoppable(After(0)):
        thread = threading.Thread(target=lambda: done.append(nn.Linear(2, 2)(torch.zeros(2))))
        thread.start()
        thread.join()
    assert len(done) == 1
