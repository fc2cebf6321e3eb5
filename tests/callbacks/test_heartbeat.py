"""Heartbeats over a real store and of real processes."""

import os
import socket
import subprocess
import time

import pytest
from torch.distributed import TCPStore

from callbacks.heartbeat import ENDING, SAVING, STEPPING, VALIDATING, WAITING, Heartbeat, HeartbeatStore
from callbacks.watchdog import Watchdog
from configs.training import WatchdogConfig
from runtime.platforms import process_is_gone

HERE = socket.gethostname()


@pytest.fixture
def heartbeat_store():
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    yield HeartbeatStore("127.0.0.1", store.port, ranks=3, dead_seconds=60)
    del store


def test_heartbeats_are_read_unchanged_and_the_first_fault_is_kept(heartbeat_store):
    assert heartbeat_store.others(0) == []
    heartbeat = Heartbeat(2, HERE, 5, count=3, step=7, phase=STEPPING, seconds=1.5, clips=("a/b", "ü"))
    heartbeat_store.publish(heartbeat)
    assert heartbeat_store.others(0) == [heartbeat]
    assert heartbeat_store.others(2) == []
    assert str(heartbeat) == f"rank 2 ({HERE}, process 5), step 7, clips a/b, ü"
    assert heartbeat_store.fault() is None
    assert heartbeat_store.report_fault("one") == "one"
    assert heartbeat_store.report_fault("two") == "one"
    assert heartbeat_store.fault() == "one"


@pytest.mark.slow
def test_an_ended_process_is_dead_unless_it_announced_its_end(heartbeat_store):
    own = Heartbeat(0, HERE, os.getpid())
    living, killed = (subprocess.Popen(["sleep", "60"]) for _ in range(2))
    try:
        heartbeat_store.publish(Heartbeat(1, HERE, living.pid))
        heartbeat_store.publish(Heartbeat(2, HERE, killed.pid, step=4, phase=WAITING))
        assert heartbeat_store.dead(own) is None
        killed.kill()  # a zombie, since it is not waited for
        end = time.monotonic() + 60
        while (found := heartbeat_store.dead(own)) is None and time.monotonic() < end:
            time.sleep(0.1)
        assert (found.rank, found.step, found.phase) == (2, 4, WAITING)
        heartbeat_store.publish(Heartbeat(2, HERE, killed.pid, phase=ENDING))
        assert heartbeat_store.dead(own) is None
        assert not process_is_gone(living.pid)
    finally:
        living.kill()
        living.wait()
        killed.wait()
    assert process_is_gone(killed.pid)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (Heartbeat(1, HERE, 5, step=4, phase=WAITING, seconds=700), "rank 1"),  # rank 1 is behind, beyond its limit
        (Heartbeat(1, HERE, 5, step=4, phase=VALIDATING, seconds=700), None),  # rank 1 is behind, within its limit
        (Heartbeat(1, HERE, 5, step=4, phase=SAVING, seconds=7300), "rank 1"),
        (Heartbeat(1, HERE, 5, step=4, phase=STEPPING, seconds=650), "rank 0"),  # neither is behind
        (Heartbeat(1, HERE, 5, step=5, phase=WAITING, seconds=700), "rank 0"),
    ],
)
def test_the_rank_furthest_behind_is_reported(heartbeat_store, tmp_path, other, named):
    dog = Watchdog(WatchdogConfig(), tmp_path)
    dog._store = heartbeat_store
    heartbeat_store.publish(other)
    found = dog._stalled(Heartbeat(0, HERE, 1, step=4, phase=STEPPING, seconds=690, clips=("a",)))
    assert found == heartbeat_store.fault()
    if named is None:
        assert found is None
    else:
        assert found.startswith(f"{named} (")
