"""Self-check of Sync: shifted sound changes the offset by the shift. Errors of the machine are no missing video."""

import threading

import numpy as np
import pytest
import torch

from evaluation.aligned_clips import Side
from evaluation.sync_videos import SyncedVideos, cut_out, shifted_scores
from media import read_frames, read_sound
from metrics.functional.sync import audio_windows
from metrics.networks.syncnet import SyncNet
from metrics.sync_pipeline import FFmpeg
from runtime.files import sha256_of
from tests.helpers.synthetic_videos import proxy_settings, untrained, write_speakers


class IdentityAudio:
    """Network whose audio embedding is its input, so that equal lip embeddings are in perfect sync."""

    def audio(self, windows: torch.Tensor) -> torch.Tensor:
        return windows.flatten(1)


@pytest.mark.parametrize("shift", [0, 3, 5])
def test_shifted_sound_changes_the_offset(shift):
    samples = np.random.default_rng(0).normal(scale=3000, size=60 * 640).astype(np.int16)
    lip = IdentityAudio().audio(audio_windows(samples, 55))
    scores = shifted_scores(lip, samples, IdentityAudio(), shift)
    assert scores.offset == shift
    assert scores.windows == 55 - shift


def test_out_of_memory_is_no_missing_video(evaluate, tmp_path, monkeypatch):
    write_speakers(tmp_path / "talk", 1)
    keys = {"metrics": ["sync"], "bootstrap": 0, "sync": proxy_settings(untrained(tmp_path))["sync"]}

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(SyncNet, "lip", full)
    with pytest.raises(torch.OutOfMemoryError):
        evaluate(tmp_path / "talk", tmp_path / "talk", allow_missing=True, **keys)


def test_the_next_video_is_decoded_while_the_networks_score(evaluate, tmp_path, monkeypatch):
    write_speakers(tmp_path / "real", 2)
    write_speakers(tmp_path / "made", 2, gain=0.8)
    keys = {"metrics": ["sync"], "bootstrap": 0, "sync": proxy_settings(untrained(tmp_path))["sync"]}
    begun = [threading.Event() for _ in range(4)]
    decode, lip, scored = SyncedVideos._decode, SyncNet.lip, []

    def decoding(videos, side, span, work):
        begun[int(work.name)].set()
        return decode(videos, side, span, work)

    def scoring(network, frames):
        scored.append(len(scored))
        assert len(scored) == 4 or begun[len(scored)].wait(20)
        return lip(network, frames)

    monkeypatch.setattr(SyncedVideos, "_decode", decoding)
    monkeypatch.setattr(SyncNet, "lip", scoring)
    assert evaluate(tmp_path / "made", tmp_path / "real", **keys)[1]["metrics"]["sync_d"]["n"] == 2
    assert len(scored) == 4


def test_short_sound_of_a_panel_stays_short(tmp_path):
    ffmpeg = FFmpeg.find()
    video, sound, clip = (tmp_path / name for name in ("video.mp4", "sound.wav", "clip.mp4"))
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=96x64:rate=25:duration=2", "-pix_fmt", "yuv420p", video)
    ffmpeg("-f", "lavfi", "-i", "sine=sample_rate=16000:duration=1", sound)
    ffmpeg("-i", video, "-i", sound, "-map", "0:v", "-map", "1:a", "-c:v", "copy", clip)
    side = Side(clip, sha256_of(clip), "generated", None, 0, 50, 25.0, (32, 0, 64, 64), (0, 50))
    part = cut_out(side, None, tmp_path, ffmpeg)
    assert len(list(read_frames(part))) == 50
    assert len(read_sound(part, rate=16_000)) == pytest.approx(16_000, abs=1100)  # AAC rounds up to its frames


@pytest.mark.slow
def test_windows_are_cached(evaluate, tmp_path, monkeypatch):
    write_speakers(tmp_path / "talk", 2)
    keys = {"metrics": ["sync"], "bootstrap": 0, "drift": 0.5, "sync": proxy_settings(untrained(tmp_path))["sync"]}
    first = evaluate(tmp_path / "talk", tmp_path / "talk", **keys)[1]
    monkeypatch.setattr(SyncNet, "lip", None)
    assert evaluate(tmp_path / "talk", tmp_path / "talk", **keys)[1]["metrics"] == first["metrics"]
