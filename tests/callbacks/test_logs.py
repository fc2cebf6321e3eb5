"""The local log: every row is there, and a resumed run's reads as one that never stopped."""

import csv
from types import SimpleNamespace

import pytest

from callbacks.logs import CsvLog, ProgressBar


def rows(log):
    with log.path.open(newline="") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def test_rows_are_written_at_once_and_columns_may_come_later(tmp_path):
    log = CsvLog(tmp_path)
    written = [(0, "train/loss", 0.5), (0, "val/loss", 0.25), (1, "train/loss", 1 / 3)]
    for step, name, value in written:
        log.log_metrics({name: value}, step)
    assert rows(log) == [{"step": str(step), name: repr(value)} for step, name, value in written]
    other = CsvLog(tmp_path)  # of another process
    other.log_metrics({"train/loss": 2.0}, 2)
    assert len(rows(other)) == 4


def test_a_log_is_cut_to_what_led_to_the_checkpoint(tmp_path):
    log = CsvLog(tmp_path)
    for step in range(4):
        log.log_metrics({"train/loss": float(step)}, step)
        log.log_metrics({"val/loss": float(step)}, step)
    again = CsvLog(tmp_path)
    again.cut(3)  # saved after batch 2, and before its validation, which is done again
    assert [row["step"] for row in rows(again) if "train/loss" in row] == ["0", "1", "2"]
    assert [row["step"] for row in rows(again) if "val/loss" in row] == ["0", "1"]
    again.log_metrics({"val/loss": 9.0}, 2)
    assert rows(again)[-1] == {"step": "2", "val/loss": "9.0"}


def test_a_run_that_starts_anew_keeps_the_old_log_aside(tmp_path):
    log = CsvLog(tmp_path)
    log.log_metrics({"train/loss": 1.0}, 0)
    old = log.path.read_bytes()
    anew = CsvLog(tmp_path)
    anew.cut(0)
    anew.log_metrics({"train/loss": 2.0}, 0)
    assert [row["train/loss"] for row in rows(anew)] == ["2.0"]
    assert (tmp_path / "csv" / "metrics-1.csv").read_bytes() == old


@pytest.mark.parametrize(("epoch", "message"), [(0, "Epoch 1/4"), (3, "Epoch 4/4")])
def test_epochs_are_counted_towards_the_last_step(epoch, message):
    bar = ProgressBar()
    bar._trainer = SimpleNamespace(max_steps=1800, num_training_batches=500)
    assert bar._get_train_description(epoch).strip() == message
