"""What generate.py fills in without a run: the small model and a synthetic speaker, the same on every machine."""

import numpy as np
import pytest
import torch

from configs.emotion import EmotionConfig
from configs.generation import DrivingEmotionConfig, GenerateConfig
from generation.batch import VideoCase
from generation.examples import SPEAKERS, draw_example, draw_examples, with_example, with_face
from generation.model_files import ModelFiles
from generation.small import SMALL
from lightning_modules.ethd.export import export
from preparation.synthetic import identity, split_of
from tools.quality.ethd import psnr


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "emotivetalk" / "examples"


def test_examples_are_held_out_speakers_and_equal_on_every_machine(tmp_path):
    assert {split_of(identity(index)) for index in SPEAKERS} <= {"test", "val"}
    first, again = (draw_examples(tmp_path / name, 1.0) for name in ("a", "b"))
    assert [one.name for one in first] == ["Cyrus", "Jun", "Dora"]
    for one, other in zip(first, again, strict=True):
        for file in ("portrait", "landmarks", "speech"):
            assert getattr(one, file).read_bytes() == getattr(other, file).read_bytes()


def test_what_is_left_out_is_filled_in(cache):
    config, speaker = with_example(GenerateConfig())
    assert (config.ethd, config.portrait, config.speech) == (str(SMALL), str(speaker.portrait), str(speaker.speech))
    assert config.output == "talking.mp4"
    assert (config.emotion.label, config.emotion.level) == (speaker.emotion, 3)
    assert speaker.portrait.parent == cache
    assert speaker.landmarks.exists()


def test_what_is_given_stays(cache):
    words = DrivingEmotionConfig(text="a warm smile", strength=0.5)
    config, _ = with_example(GenerateConfig(speech="mine.wav", output="mine.mp4", emotion=words, seed=3))
    assert (config.speech, config.output, config.seed) == ("mine.wav", "mine.mp4", 3)
    assert config.emotion == words
    assert with_example(GenerateConfig(emotion=DrivingEmotionConfig(label="sad")))[0].emotion.label == "sad"
    assert with_example(GenerateConfig(drive="lips"))[0].emotion.label is None


@pytest.mark.slow
def test_a_video_of_the_small_file_is_that_of_the_folder_but_for_rounding(runs, tmp_path):
    file = export(runs / "ethd", output=tmp_path / "small.safetensors", half=True)
    speaker = draw_example(tmp_path, 9, 1.0)
    case = VideoCase(speaker.portrait, speaker.speech, tmp_path / "x.mp4", EmotionConfig(), steps=2)
    videos = []
    for source in (runs / "ethd", file):
        pipeline = ModelFiles(source, device="cpu").load()
        assert with_face([speaker], pipeline) == [speaker]
        videos.append(torch.from_numpy(np.stack(list(pipeline.frames(pipeline.prepare(case))))))
    assert videos[0].shape == videos[1].shape
    assert psnr(*videos) > 45
