"""The command that trains the small model: its steps can be typed, its file fits the tree, and its record is shown."""

import shutil

from configs.command_line import compose
from configs.generation import ExportConfig
from configs.preparation import PrepareConfig
from configs.training import TrainConfig
from generation.small import SMALL
from lightning_modules.ethd.export import export, load_export
from runtime.errors import UserError
from tests.helpers.files import touch
from tests.helpers.refusals import refuses
from tools.doctor.places import findings_of
from tools.small import MOST, adopt, small_plan

CONFIGS = {"prepare.py": ("prepare", PrepareConfig), "train.py": ("train", TrainConfig)}


def test_every_step_can_be_typed_and_reads_what_an_earlier_one_writes(tmp_path):
    written: list = []
    for step in small_plan(tmp_path, "ethd/tiny", ["trainer.max_steps=3"]):
        for path in step.reads:
            assert any(path == made or made in path.parents for made in written), path
        written += step.products
        assert all(tmp_path in path.parents for path in step.products)
        script, *keys = step.command
        if script in CONFIGS:
            name, config = ("export", ExportConfig) if "task=export" in keys else CONFIGS[script]
            compose(name, config, [key for key in keys if key != "ckpt_path=last"])
    assert step.products == (tmp_path / SMALL.name,)


def test_an_export_changes_nothing_that_its_own_step_reads(runs, tmp_path):
    """Or the same command would export and score again."""
    run = tmp_path / "runs" / "ethd" / "small"
    shutil.copytree(runs / "ethd", run)
    touch(tmp_path / "runs" / "emotion" / "small", "emotion_table.safetensors")
    draft = next(step for step in small_plan(tmp_path) if step.name == "draft")
    before = draft.digest()
    export(run, output=tmp_path / "draft.safetensors", half=True)
    touch(run / "emotion", "emotion_table.safetensors")
    assert draft.digest() == before


def test_a_new_file_takes_its_place_if_it_is_small_and_whole(runs, tmp_path, monkeypatch):
    file = export(runs / "ethd", output=tmp_path / "new.safetensors", half=True)
    target = tmp_path / "tree" / "small.safetensors"
    target.parent.mkdir()
    adopt(file, target)
    assert load_export(target).step == load_export(file).step
    file.write_bytes(file.read_bytes()[:1000])
    refuses(UserError, "new.safetensors: cannot be read as safetensors", adopt, file, target)
    assert load_export(target)
    monkeypatch.setattr("tools.small.MOST", 10)
    refuses(UserError, "the tree keeps at most 0 MB", adopt, file, target)


def test_the_small_model_of_the_tree_is_small_and_its_record_is_shown():
    assert SMALL.stat().st_size <= MOST
    found = {finding.what: finding.text for finding in findings_of(SMALL, lambda name: None)[1]}
    assert "with emotion by label" in found["export"]
    assert "at commit" in found["trained"]
    assert "synthetic" in found["data"]
    assert "torch" in found["versions"]


def test_the_scores_of_an_export_are_shown(runs, tmp_path):
    record = {"scores": {"lips_neutral": 0.9123, "emotion_relative": 1.0}}
    file = export(runs / "ethd", output=tmp_path / "scored.safetensors", record=record)
    found = {finding.what: finding.text for finding in findings_of(file, lambda name: None)[1]}
    assert found["scores"] == "emotion_relative 1, lips_neutral 0.912"


def test_the_record_of_a_stranger_is_one_line_each(runs, tmp_path):
    record = {"name": "a\nb" * 100, "commit": ["x"], "data": {"name": {}, "sha256": [1]}, "versions": {"\n": "\r\n"},
              "scores": {"a\nb": 1.0, "c": "d", "e": True}}  # fmt: skip
    file = export(runs / "ethd", output=tmp_path / "odd.safetensors", record=record)
    for finding in findings_of(file, lambda name: None)[1]:
        assert len(finding.text.splitlines()) == 1
        assert len(finding.text) < 400
