"""Emotions and levels by text over several seeds."""

import pytest

from lightning_modules.emotion.emotion_table import EmotionTable
from tests.helpers.emotion import synthetic_table
from tools.quality import emotion_texts


@pytest.mark.slow
def test_every_seed_is_scored(tmp_path, capsys):
    full = synthetic_table(1)
    few = EmotionTable(full.cells[:4], full.latents[:4], (1,) * 4, full.mean, full.std, full.motion)
    few.save(tmp_path / "emotion_table.safetensors")
    emotion_texts.main([str(tmp_path), "seeds=2", "steps=2"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:2]] == [["seed", "0"], ["seed", "1"]]
    assert "paraphrases_level" in lines[5]
    assert lines[6].startswith("level 1 is found as")
