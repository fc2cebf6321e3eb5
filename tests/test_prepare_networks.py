"""prepare.py in a shell with the networks of presets small and paper, on real clips."""

import itertools
import os
import shutil
import subprocess

import diffusers
import numpy as np
import pytest
import torch
import transformers

from datamodules.schema import Index
from encoders.motion.fan import FanEncoder
from media import read_frames, read_sound
from preparation.check import check
from tests.helpers import ROOT
from tests.helpers.prepare_command import command, made, prepare, report
from tests.helpers.videos import write_video

pytestmark = pytest.mark.slow


@pytest.mark.nightly
def test_hdtf_annotations_cut_and_crop_a_download(assets, asset_weights, tmp_path):
    source, notes, output = tmp_path / "videos", tmp_path / "notes", tmp_path / "out"
    source.mkdir()
    notes.mkdir()
    shutil.copy(assets / "data/video/hdtf_WDA_AOC_000.mp4", source / "WDA_Anna.mp4")
    tables = {
        "video_url": ["Anna https://example.org/1", "Gone https://example.org/2"],
        "annotion_time": ["Anna.mp4 00:01-00:02 00:03-00:04 00:05-01:30", "Gone.mp4 00:00-00:09"],
        "resolution": ["Anna.mp4 1024", "Gone.mp4 720"],
        "crop_wh": ["Anna_0.mp4 0 1024 0 1024", "Anna_2.mp4 0 1024 0 1024", "Gone_0.mp4 0 512 0 512"],
    }
    for name, lines in tables.items():
        (notes / f"WDA_{name}.txt").write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    prepare(dataset="hdtf", preset="small", source=source, output=output, dataset__annotations=notes, max_rejected=1)
    reasons = sorted(str(clip["reason"]) for clip in report(output).values())
    assert reasons == ["None", "missing_crop", "missing_video", "outside_video"]
    assert [sample.frames for sample in Index.read(output).samples] == [25]
    assert check(output) == []


def test_real_clips_with_preset_small(assets, asset_weights, tmp_path):
    source, output = tmp_path / "videos", tmp_path / "out"
    source.mkdir()
    shutil.copy(assets / "data/video/hdtf_RD_Radio10_0_clip_0.mp4", source / "a (1).mp4")
    shutil.copy(assets / "data/mead_style/M030_front_happy_level3_001.mp4", source)
    index = made(output, dataset="folder", preset="small", source=source, workers=1)
    clips = report(output)
    assert clips["a (1).mp4"]["status"] == "kept"
    assert clips["M030_front_happy_level3_001.mp4"]["reason"] == "no_audio"
    assert index.encoders["codec"].weights.keys() == {"taef2_encoder.pth", "taef2_decoder.pth"}
    assert index.dimensions.latent_size == 16
    assert 0.3 < np.mean(index.latent.std) < 2


@pytest.mark.nightly
def test_the_papers_networks_fit_each_other(assets, tmp_path):
    """Uses the real architectures, small and untrained: the parts of preset paper must fit each other."""
    weights, source, output = tmp_path / "weights", tmp_path / "videos", tmp_path / "out"
    source.mkdir()
    torch.manual_seed(0)
    speech = transformers.Wav2Vec2Config(
        hidden_size=48, num_attention_heads=4, intermediate_size=64, conv_dim=(32,) * 7, num_conv_pos_embeddings=16
    )
    transformers.Wav2Vec2Model(speech).save_pretrained(weights / "wav2vec2")
    diffusers.AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32, 64, 64), layers_per_block=1, down_block_types=("DownEncoderBlock2D",) * 4
    ).save_pretrained(weights / "vae")
    torch.save(FanEncoder().state_dict(), weights / "motion_model.pth")
    shutil.copy(assets / "weights/face_landmarker.task", weights)
    clip = sorted((assets / "data/video").glob("hdtf_RD*.mp4"))[0]
    write_video(source / "a second.mp4", itertools.islice(read_frames(clip), 26), sound=read_sound(clip)[: 26 * 640])
    done = subprocess.run(
        command(
            dataset="folder", preset="paper", source=source, output=output, frame_size=128,
            encoders__audio__options__model=weights / "wav2vec2", encoders__codec__options__model=weights / "vae",
        ),
        cwd=ROOT, capture_output=True, text=True, timeout=280,
        env={**os.environ, "EMOTIVETALK_WEIGHTS": str(weights), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert check(output) == []
    index = Index.read(output)
    assert (index.dimensions.audio_layers, index.dimensions.audio_width) == (12, 48)
    assert (index.dimensions.lip_width, index.dimensions.expression_width) == (512, 30)
    assert (index.dimensions.latent_channels, index.dimensions.latent_size, index.codec_scale) == (4, 16, 0.18215)
    assert [sample.frames for sample in index.samples] == [26]
    assert "leaked" not in done.stderr
