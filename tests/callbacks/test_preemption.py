"""Preemption at any moment: the run saves, exits with status 75, and a resumed run equals an uninterrupted one."""

import os
import signal
import sys
from pathlib import Path

import pytest

from callbacks.preemption import EXIT_STOPPED, StopRequest, StopSignals, leave
from configs.errors import ConfigError
from configs.rules import check
from lightning_modules.vaid.checkpoint import load_vaid
from lightning_modules.vaid.module import VAIDModule
from tests.helpers.train_config import SMALLEST, logged, train_config, train_vaid
from tests.helpers.warm import run_ranks
from training.fit import exit_status

AGAIN = "resume with the same command and ckpt_path=last"
SETTINGS = ("experiment=vaid/tiny", *SMALLEST, "trainer.max_steps=6", "trainer.devices='2'", "trainer.strategy=ddp")


@pytest.fixture(scope="module")
def straight(shards, tmp_path_factory) -> Path:
    return train_vaid(shards, tmp_path_factory.mktemp("straight"), "run_id=straight").folder


def check_equal(folder: Path, straight: Path) -> None:
    for column in ("train/loss", "val/lip_mse"):
        assert logged(folder, column) == logged(straight, column)
    one, other = (load_vaid(each / "checkpoints" / "last.ckpt").state_dict() for each in (straight, folder))
    assert [name for name, weight in one.items() if not weight.equal(other[name])] == []


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["first", "validation", "save"])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(shards, straight, tmp_path, monkeypatch, capfd, moment):
    owners = {"first": ("training_step", 1), "validation": ("validation_step", 3), "save": ("on_save_checkpoint", 3)}
    owner, at = owners[moment]
    original = getattr(VAIDModule, owner)

    def signalled(self, *rest):
        if moment != "first" or self.global_step == 0:
            os.kill(os.getpid(), signal.SIGUSR1)
        return original(self, *rest)

    before = signal.getsignal(signal.SIGUSR1)
    with monkeypatch.context() as patch:
        patch.setattr(VAIDModule, owner, signalled)
        stopped = train_vaid(shards, tmp_path, "run_id=twice")
    assert stopped.preempted
    assert exit_status(stopped) == EXIT_STOPPED
    assert stopped.trainer.global_step == at
    assert f"Stopped at step {at}, checkpoint saved; {AGAIN}" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGUSR1) == before
    again = train_vaid(shards, tmp_path, "run_id=twice", "ckpt_path=last")
    assert not again.preempted
    assert exit_status(again) == 0
    check_equal(again.folder, straight)


@pytest.mark.slow
@pytest.mark.parametrize(("owner", "step"), [("training_step", 5), ("validation_step", 6)])
def test_a_signal_during_the_last_step_does_not_lose_its_validation(
    shards, straight, tmp_path, monkeypatch, owner, step
):
    original = getattr(VAIDModule, owner)

    def signalled(self, *rest):
        if self.global_step == step:
            os.kill(os.getpid(), signal.SIGUSR1)
        return original(self, *rest)

    monkeypatch.setattr(VAIDModule, owner, signalled)
    done = train_vaid(shards, tmp_path, "run_id=last")
    assert not done.preempted
    assert exit_status(done) == 0
    check_equal(done.folder, straight)


@pytest.mark.slow
def test_a_resumed_run_repeats_a_last_validation_that_was_killed(shards, straight, tmp_path, monkeypatch):
    original, validated = VAIDModule.validation_step, []

    def killed(self, *rest):
        validated.append(self.global_step)
        if validated.count(6) == 1:
            raise KeyboardInterrupt
        return original(self, *rest)

    monkeypatch.setattr(VAIDModule, "validation_step", killed)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train_vaid(shards, tmp_path, "run_id=killed")
    assert validated.count(6) == 1
    done = train_vaid(shards, tmp_path, "run_id=killed", "ckpt_path=last")
    assert validated.count(6) > 1
    check_equal(done.folder, straight)
    times = len(validated)
    train_vaid(shards, tmp_path, "run_id=killed", "ckpt_path=last")
    assert len(validated) == times  # the run is complete now
    check_equal(done.folder, straight)


def test_a_second_ctrl_c_raises_keyboard_interrupt(capfd):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with StopSignals([], train_config("experiment=vaid/tiny").preemption.stop_on) as signals:
            os.kill(os.getpid(), signal.SIGINT)
            assert signals.request is StopRequest.STOP
            assert "press Ctrl-C again to stop now" in capfd.readouterr().err
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with StopSignals([], ["SIGINT"]) as signals:
            os.kill(os.getpid(), signal.SIGINT)
            assert signals.request is StopRequest.NONE
    finally:
        signal.signal(signal.SIGINT, before)


def on_two_ranks(moment: str, shards: Path, output: Path, *more: str) -> tuple[list[int], str]:
    """Trains on two ranks and sends SIGTERM to rank 1 at a given moment; returns exit statuses and standard error."""
    command = [sys.executable, "tests/helpers/train_signalled.py", "1", moment, "SIGTERM", *SETTINGS, "run_id=two"]
    done = run_ranks([*command, f"data.root={shards}", f"output={output}", *more], 2)
    return [rank.returncode for rank in done], "".join(rank.stderr for rank in done)


@pytest.mark.slow
def test_a_signal_to_one_of_two_ranks_ends_both(shards, tmp_path):
    statuses, output = on_two_ranks("step:0", shards, tmp_path)
    assert statuses == [EXIT_STOPPED, 0], output  # rank 0 reports for the job
    assert output.count("Stopped at step 1, checkpoint saved") == 1


@pytest.mark.nightly
@pytest.mark.parametrize("moment", ["step:0", "validation", "save"])
def test_two_ranks_resume_after_a_signal_to_one(shards, straight, tmp_path, moment):
    statuses, output = on_two_ranks(moment, shards, tmp_path)
    assert statuses == [EXIT_STOPPED, 0], output  # rank 0 reports for the job
    assert output.count("Stopped at step") == 1
    statuses, output = on_two_ranks("never", shards, tmp_path, "ckpt_path=last")
    assert statuses == [0, 0], output
    for column in ("train/loss", "val/lip_mse"):
        expected, found = (logged(folder, column) for folder in (straight, tmp_path / "vaid" / "two"))
        assert sorted(found) == sorted(expected)
        for step, value in expected.items():
            assert float(found[step]) == pytest.approx(float(value), rel=1e-4)


def test_sigterm_ends_a_forked_loader_process():
    with StopSignals(["SIGUSR1"], ["SIGTERM"]) as signals:
        ready, started = os.pipe()
        child = os.fork()
        if not child:
            os.write(started, b"1")
            while True:
                signal.pause()
        os.read(ready, 1)  # the child runs its own handlers only from here
        os.kill(child, signal.SIGUSR1)  # a queue sends it to all processes of a job; it must not end the child
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGTERM
        assert signals.request is StopRequest.NONE
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.request is StopRequest.REQUEUE


@pytest.fixture
def scontrol(tmp_path, monkeypatch) -> Path:
    """A script in place of scontrol that records its arguments; tests/slurm uses the real one."""
    asked = tmp_path / "asked"
    program = tmp_path / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n[ "$2" != 13 ] || {{ echo "Job is pending" >&2; exit 1; }}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGCONT)}
    yield asked
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_job_is_requeued_up_to_the_limit(scontrol, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert "job 12 is requeued (1 of at most 2 times)" in leave(5, StopRequest.REQUEUE, 2)
    assert scontrol.read_text() == "requeue 12\n"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    text = leave(5, StopRequest.REQUEUE, 2)
    assert "Job 12 was requeued 2 times, the limit of preemption.max_requeues=2" in text
    assert "ckpt_path=last" in text
    assert "requeued" not in leave(5, StopRequest.STOP, 9)
    assert scontrol.read_text() == "requeue 12\n"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    leave(5, StopRequest.REQUEUE, 9)
    assert scontrol.read_text() == "requeue 12\nrequeue 7_3\n"


def test_a_failed_requeue_is_reported(scontrol, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "13")
    assert "scontrol requeue 13 failed (Job is pending); resume with" in leave(5, StopRequest.REQUEUE, 2)


def test_nothing_is_requeued_outside_of_slurm(scontrol, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert leave(5, StopRequest.REQUEUE, 2) == f"Stopped at step 5, checkpoint saved; {AGAIN}."
    assert not scontrol.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("preemption.requeue_on=[SIGNONE]", "requeue_on=SIGNONE: expected a signal that can be handled"),
        ("preemption.stop_on=[SIGKILL]", "stop_on=SIGKILL: expected a signal that can be handled"),
        ("preemption.stop_on=[SIGUSR1]", "SIGUSR1 cannot be both"),
        ("preemption.max_requeues=-1", r"preemption\.max_requeues=-1"),
    ],
)
def test_invalid_signals_are_rejected(change, message):
    with pytest.raises(ConfigError, match=message):
        check(train_config("experiment=vaid/tiny", "data.root=a", change))
