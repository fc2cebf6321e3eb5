"""The queue for the device: order, places, shares and Stop."""

import threading
import time

import pytest

from generation.errors import GenerationError
from generation.web.device_queue import HOUR, DeviceQueue


class Stopped(Exception):
    pass


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def never(*_):
    return None


def in_turn(queue, visitor, order, clock=None, seconds=0.0, waits=None, check=never):
    """Starts a request that notes its visitor when it has the device."""

    def work():
        with queue.turn(visitor, check, (waits if waits is not None else []).append):
            order.append(visitor)
            if clock is not None:
                clock.now += seconds

    thread = threading.Thread(target=work)
    thread.start()
    until = time.monotonic() + 10
    while thread.is_alive() and not any(name == visitor for _, name in queue._waiting):
        assert time.monotonic() < until
        time.sleep(0.01)
    return thread


def test_requests_are_served_in_order_and_told_their_place():
    queue, order, waits = DeviceQueue(8, 2, 30), [], []
    with queue.turn("a", never, never):
        threads = [in_turn(queue, "b", order), in_turn(queue, "c", order, waits=waits)]
        while not waits:
            time.sleep(0.01)
    for thread in threads:
        thread.join(10)
    assert order == ["b", "c"]
    assert waits[0] == 2


def test_who_used_up_their_share_waits_for_others():
    clock, order = Clock(), []
    queue = DeviceQueue(8, 2, 10, clock)
    with queue.turn("greedy", never, never):
        clock.now += 601
        assert not queue.is_over("greedy")  # nobody waits
        threads = [in_turn(queue, name, order) for name in ("greedy", "b", "c")]
        assert queue.is_over("greedy")
    for thread in threads:
        thread.join(10)
    assert order == ["b", "c", "greedy"]
    clock.now += HOUR + 1
    with queue.turn("d", never, never):
        pass
    assert list(queue._used) == ["d"]  # others are forgotten


def test_places_are_limited_for_a_visitor_and_for_all():
    queue = DeviceQueue(2, 2, 30)
    with queue.place("a"), queue.place("a"):
        with pytest.raises(GenerationError, match="2 of your videos are being made"), queue.place("a"):
            pass
        with queue.place("b"), pytest.raises(GenerationError, match="2 people wait already"), queue.place("c"):
            pass
        with queue.place("c"):
            pass
    assert not queue._held


def test_stop_ends_the_waiting_and_the_next_one_is_served():
    queue, order, stopped = DeviceQueue(8, 2, 30), [], threading.Event()

    def check():
        if stopped.is_set():
            raise Stopped

    def work():
        with pytest.raises(Stopped), queue.turn("b", check, never):
            order.append("b")
        order.append("stopped")

    with queue.turn("a", never, never):
        thread = threading.Thread(target=work)
        thread.start()
        stopped.set()
        thread.join(10)
        last = in_turn(queue, "c", order)
    last.join(10)
    assert order == ["stopped", "c"]
    assert queue._running is None
