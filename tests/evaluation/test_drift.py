"""Drift: the slope against SciPy, and values of windows against evaluations of cut videos."""

from pathlib import Path

import av
import numpy as np
import pytest
from scipy import stats

from evaluation.drift import slope_of
from evaluation.sync_faces import sidecar_boxes
from media import read_frames, read_sound
from metrics.networks.proxy import load_proxy
from metrics.sync_pipeline import score_clip, tracks_in_memory
from preparation.synthetic import identity, render_clip
from tests.helpers.synthetic_videos import proxy_settings, untrained, write_speakers
from tests.helpers.videos import copy_packets, encode_frames


def write_keyframes(path, frames):
    """Writes a video of key frames only, which can be cut without re-encoding."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encode_frames(path, frames, options={"crf": "4", "g": "1", "bf": "0"})


def cut(source, target, first, end):
    """Copies the packets of frames ``first`` to ``end`` of such a video."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux(video=0) if packet.dts is not None][first:end]
        begin = packets[0].pts
        for packet in packets:
            packet.pts = packet.dts = packet.pts - begin
        copy_packets(packets, new, stream)


def test_slope_matches_scipy():
    draw = np.random.default_rng(0)
    minutes = np.arange(12) / 12
    values = 0.6 + 0.3 * minutes + draw.normal(0, 0.05, 12)
    fit = stats.linregress(minutes, values)
    half = stats.t.ppf(0.975, 10) * fit.stderr
    slope = slope_of(minutes, values)
    assert (slope.per_minute, slope.low, slope.high) == pytest.approx((fit.slope, fit.slope - half, fit.slope + half))


def test_interval_covers_the_true_slope_in_95_percent():
    draw = np.random.default_rng(1)
    minutes = np.arange(8) / 12
    slopes = [slope_of(minutes, 2.0 * minutes + draw.normal(0, 1, 8)) for _ in range(2000)]
    coverage = np.mean([slope.low <= 2.0 <= slope.high for slope in slopes])
    assert 0.93 < coverage < 0.97


@pytest.mark.slow
def test_efid_window_equals_a_cut_video(assets, evaluate, tmp_path):
    video = assets / "data" / "mead_style" / "W011_front_neutral_level1_001.mp4"
    real = list(read_frames(video))[:18]
    noise = np.random.default_rng(0).normal(size=(18, *real[0].shape))
    noise *= 15 * (np.arange(18) // 6)[:, None, None, None] ** 2
    worse = np.clip(real + noise, 0, 255).astype(np.uint8)
    write_keyframes(tmp_path / "real" / "a.mp4", real)
    write_keyframes(tmp_path / "made" / "a.mp4", worse)
    keys = {"metrics": ["efid"], "bootstrap": 0}
    status, results = evaluate(tmp_path / "made", tmp_path / "real", drift=6 / 25, **keys)
    assert status == 0
    drift = results["metrics"]["efid"]["drift"]
    assert [window["start"] for window in drift["windows"]] == pytest.approx([0, 0.24, 0.48])
    values = [window["value"] for window in drift["windows"]]
    assert values[0] < values[1] < values[2]
    assert drift["slope_per_minute"] > 0
    assert drift["low"] < drift["slope_per_minute"] < drift["high"]
    for side in ("real", "made"):
        cut(tmp_path / side / "a.mp4", tmp_path / "cut" / side / "a.mp4", 12, 18)
    alone = evaluate(tmp_path / "cut" / "made", tmp_path / "cut" / "real", **keys)[1]
    assert values[2] == alone["metrics"]["efid"]["value"]  # bit-identical


@pytest.mark.slow
def test_fid_and_fvd_windows_equal_cut_videos(evaluate, tmp_path):
    first, length = 20, 20
    for side, people in (("real", (0, 1)), ("made", (2, 3))):
        for number, person in enumerate(people):
            frames = list(render_clip(identity(person), "happy", 1, person, 2.4, 64).frames())
            write_keyframes(tmp_path / side / f"{number}.mp4", frames)
            cut(tmp_path / side / f"{number}.mp4", tmp_path / "cut" / side / f"{number}.mp4", first, first + length)
    keys = {"metrics": ["fid", "fvd"], "bootstrap": 0, **proxy_settings(untrained(tmp_path))}
    whole = evaluate(tmp_path / "made", tmp_path / "real", drift=length / 25, **keys)[1]["metrics"]
    alone = evaluate(tmp_path / "cut" / "made", tmp_path / "cut" / "real", **keys)[1]["metrics"]
    for name in ("fid", "fvd"):
        values = [window["value"] for window in whole[name]["drift"]["windows"]]
        assert values[1] == alone[name]["value"]
        assert values[1] not in (values[0], values[2])


@pytest.mark.slow
def test_sync_window_equals_a_cut_clip(evaluate, tmp_path):
    video = write_speakers(tmp_path / "talk", 1, seconds=2.4) / "clip0.mp4"
    files = untrained(tmp_path)
    keys = {"metrics": ["sync"], "sync": proxy_settings(files)["sync"], "bootstrap": 0, "drift": 0.8}
    metrics = evaluate(tmp_path / "talk", tmp_path / "talk", **keys)[1]["metrics"]
    frames, sound = list(read_frames(video)), (read_sound(video) * 32767).round().astype(np.int16)
    boxes = sidecar_boxes(frames, video)
    assert np.ptp(np.concatenate(boxes), axis=0).max() > 0.5  # the boxes differ between windows
    network, _ = load_proxy(Path(files["sync"]), "sync")
    for window in range(3):
        frame_span, sound_span = slice(20 * window, 20 * window + 20), slice(12_800 * window, 12_800 * (window + 1))
        (track,) = tracks_in_memory(frames[frame_span], sound[sound_span], boxes[frame_span], 10, 16.0)
        scores = score_clip(track, network)
        found = [metrics[name]["drift"]["windows"][window]["value"] for name in ("sync_c", "sync_d")]
        assert found == pytest.approx([scores.confidence, scores.distance], abs=1e-6)


@pytest.mark.slow
def test_two_windows_have_no_slope(evaluate, tmp_path):
    write_speakers(tmp_path / "talk", 1)  # 30 frames
    keys = {"metrics": ["sync"], "bootstrap": 0, "drift": 0.6, **proxy_settings(untrained(tmp_path))}
    status, results = evaluate(tmp_path / "talk", tmp_path / "talk", **keys)
    assert status == 0
    for name in ("sync_c", "sync_d"):
        drift = results["metrics"][name]["drift"]
        assert [window["n"] for window in drift["windows"]] == [1, 1]
        assert all(window["value"] >= 0 for window in drift["windows"])
        assert drift["slope_per_minute"] is None
        assert drift["reason"] == "2 windows covered by all clips have a value, a slope needs 3"
