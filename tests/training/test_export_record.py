"""The record of an export names commit, data and scores, and no folder of the machine."""

import json

import pytest

from callbacks.run_log import STARTS
from configs.errors import ConfigError
from tests.helpers.refusals import refuses
from training.export_record import export_record

START = {
    "name": "ethd-tiny", "seed": 3, "output": "/home/me/runs", "vaid": "/home/me/vaid",
    "data": {"name": "synthetic", "root": "/home/me/data"}, "data_sha256": {"synthetic": "ab"},
    "git": {"commit": "cd", "dirty": True}, "versions": {"torch": "2.11", "wandb": "1"}, "machine": {"host": "mine"},
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "last.ckpt").touch()
    return tmp_path / "run"


def test_the_last_start_of_a_run_is_recorded(run):
    (run / STARTS).write_text(json.dumps({"name": "older"}) + "\n" + json.dumps(START) + "\n")
    record = export_record(run)
    assert record == {
        "name": "ethd-tiny", "seed": 3, "commit": "cd", "changed": True,
        "data": {"name": "synthetic", "sha256": {"synthetic": "ab"}}, "versions": {"torch": "2.11"},
    }  # fmt: skip
    assert export_record(run / "checkpoints" / "last.ckpt") == record


@pytest.mark.parametrize("text", ["", "{", "[]", "7\n", '{"git": 1, "data": [], "versions": "x"}'])
def test_a_run_without_a_log_has_no_record(run, text):
    assert export_record(run) == {}
    (run / STARTS).write_text(text)
    assert export_record(run) == {}


def test_numbers_of_scores_are_kept(run, tmp_path):
    scores = tmp_path / "scores.json"
    scores.write_text(json.dumps({"M102": {"psnr": 1}, "psnr": 21.5, "ssim": 1, "name": "x", "flag": True}))
    assert export_record(run, scores) == {"scores": {"psnr": 21.5, "ssim": 1}}
    for text in ("", "[]", "{}", "[" * 100_000):
        scores.write_text(text)
        refuses(
            ConfigError,
            "scores=.*scores.json: .* expected JSON of tools.quality.ethd_synthetic",
            export_record,
            run,
            scores,
        )
    refuses(ConfigError, "scores=none.json: cannot be read", export_record, run, "none.json")
