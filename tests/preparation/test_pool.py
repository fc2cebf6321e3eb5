"""The pool of worker processes: order, time limits, retries, and processes that are killed at any moment."""

import multiprocessing
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from preparation.clip_source import ClipSource, OutOfMemory, Reason
from preparation.pool import ClipPool

pytestmark = pytest.mark.slow


def ready():
    """Nothing to prepare in a process."""


def broken():
    raise ValueError("no weights here")


def number_of_process():
    return os.getpid()


def name_of(clip):
    return clip.key


def name_after_a_while(clip):
    time.sleep(random.random() / 50)
    return clip.key


def name_and_process(clip):
    time.sleep(random.random() / 20)
    return clip.key, os.getpid()


def misbehave(clip):
    """Does what the clip's key says; with a file, only the first time."""
    if clip.path.exists() or clip.key.endswith("always"):
        clip.path.unlink(missing_ok=True)
        match clip.key.split("-")[0]:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                os._exit(3)
            case "hang":
                time.sleep(600)
            case "raise":
                raise LookupError(clip.key)
            case "lambda":
                return lambda: clip
    return clip.key


def clips_of(*keys, folder=Path()):
    return [ClipSource(key, folder / f"{key}.mp4", key, "one", "train") for key in keys]


def found_in(pool, work, clips):
    return [(clip.key, found) for clip, found in pool.each(work, clips)]


def children():
    return [process for process in multiprocessing.active_children() if process.name == "clips"]


def test_results_come_in_the_order_of_the_clips():
    keys = [str(number) for number in range(40)]
    with ClipPool(3, ready, (), timeout=60) as pool:
        assert found_in(pool, name_after_a_while, clips_of(*keys)) == [(key, key) for key in keys]
    assert not children()


def test_a_process_that_is_killed_while_it_waits_is_replaced():
    with ClipPool(1, ready, (), timeout=60) as pool:
        first = pool.call(number_of_process)
        os.kill(first, signal.SIGKILL)
        assert found_in(pool, name_of, clips_of(*"abc")) == [(key, key) for key in "abc"]
        assert pool.call(number_of_process) != first


def test_processes_killed_at_any_moment_cost_no_clip():
    """Each process is killed once it has finished a clip, so no clip meets two deaths, which would end the run."""
    keys = [str(number) for number in range(400)]
    killed = set()
    found = []
    with ClipPool(2, ready, (), timeout=60) as pool:
        for clip, (key, process) in pool.each(name_and_process, clips_of(*keys)):
            found.append((clip.key, key))
            if process not in killed and len(killed) < 3:
                killed.add(process)
                threading.Timer(random.random() / 10, os.kill, (process, signal.SIGKILL)).start()
    assert found == [(key, key) for key in keys]
    assert len(killed) == 3


def test_a_clip_is_tried_once_more(tmp_path):
    clips = clips_of("kill-once", "exit-once", "kept", folder=tmp_path)
    for clip in clips:
        clip.path.touch()
    with ClipPool(2, ready, (), timeout=60) as pool:
        assert found_in(pool, misbehave, clips) == [(clip.key, clip.key) for clip in clips]


def test_two_crashes_and_a_time_limit_reject_one_clip(tmp_path):
    with ClipPool(1, ready, (), timeout=2) as pool:
        found = dict(found_in(pool, misbehave, clips_of("exit-always", "a", "hang-always", "b", folder=tmp_path)))
    for key, reason, detail in [
        ("exit-always", Reason.CRASHED, "the worker process died twice (exit code 3)"),
        ("hang-always", Reason.TIMEOUT, "not finished after clip_timeout=2 s"),
    ]:
        assert (found[key].reason, found[key].detail) == (reason, detail)
    assert (found["a"], found["b"]) == ("a", "b")


def test_a_clip_whose_process_is_killed_twice_ends_the_run(tmp_path):
    started = time.monotonic()
    with (
        pytest.raises(OutOfMemory, match=r"kill-always.*killed twice.*fewer workers="),
        ClipPool(2, ready, (), timeout=600) as pool,
    ):
        found_in(pool, misbehave, clips_of("kill-always", "hang-always", folder=tmp_path))
    assert time.monotonic() - started < 300  # the other clip is not waited for
    assert not children()


def test_errors_of_work_and_of_the_start_are_raised(tmp_path):
    with ClipPool(1, ready, (), timeout=60) as pool:
        with pytest.raises(LookupError, match="raise-always") as raised:
            found_in(pool, misbehave, clips_of("raise-always", folder=tmp_path))
        assert "in misbehave" in raised.value.__notes__[0]  # where it happened
        with pytest.raises(RuntimeError, match="the answer of misbehave cannot be pickled"):
            found_in(pool, misbehave, clips_of("lambda-always", folder=tmp_path))
        assert found_in(pool, name_of, clips_of("a")) == [("a", "a")]
    with ClipPool(1, broken, (), timeout=60) as pool, pytest.raises(ValueError, match="no weights here"):
        pool.call(number_of_process)


@pytest.mark.parametrize("moment", ["shutdown", "close"])
def test_a_signal_while_the_pool_ends_leaves_no_process(monkeypatch, moment):
    pool = ClipPool(2, ready, (), timeout=60)
    owner = pool._threads if moment == "shutdown" else pool._processes[0]
    original, raised = getattr(owner, moment), []

    def interrupted(*arguments, **named):
        if not raised:
            raised.append(moment)
            raise KeyboardInterrupt
        return original(*arguments, **named)

    pool.call(number_of_process)
    monkeypatch.setattr(owner, moment, interrupted)
    with pytest.raises(KeyboardInterrupt), pool:
        pass
    assert multiprocessing.active_children() == []
