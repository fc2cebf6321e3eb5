"""Drift over windows: the slope against SciPy's, and windows of a video that gets worse step by step."""

import numpy as np
import pytest
from scipy import stats

from evaluation.drift import slope_of
from media import read_frames
from tests.evaluation.conftest import write_clip


def test_the_slope_is_scipys_least_squares():
    draw = np.random.default_rng(0)
    minutes = np.arange(12) / 12
    values = 0.6 + 0.3 * minutes + draw.normal(0, 0.05, 12)
    fit = stats.linregress(minutes, values)
    half = stats.t.ppf(0.975, 10) * fit.stderr
    slope = slope_of(minutes, values)
    assert (slope.per_minute, slope.low, slope.high) == pytest.approx((fit.slope, fit.slope - half, fit.slope + half))


def test_the_interval_holds_the_true_slope_in_19_of_20_cases():
    draw = np.random.default_rng(1)
    minutes = np.arange(8) / 12
    slopes = [slope_of(minutes, 2.0 * minutes + draw.normal(0, 1, 8)) for _ in range(2000)]
    held = np.mean([slope.low <= 2.0 <= slope.high for slope in slopes])
    assert 0.93 < held < 0.97


def test_windows_see_their_own_part_of_the_video(assets, evaluate, tmp_path):
    video = assets / "data" / "mead_style" / "W011_front_neutral_level1_001.mp4"
    real = list(read_frames(video))[:18]
    noise = np.random.default_rng(0).normal(size=(18, *real[0].shape))
    worse = [
        np.clip(frame + 15 * (k // 6) ** 2 * n, 0, 255).astype(np.uint8)
        for k, (frame, n) in enumerate(zip(real, noise, strict=True))
    ]
    write_clip(tmp_path / "real" / "a.mp4", real)
    write_clip(tmp_path / "made" / "a.mp4", worse)
    keys = {"metrics": ["efid"], "bootstrap": 0}
    status, results = evaluate(tmp_path / "made", tmp_path / "real", drift=6 / 25, **keys)
    assert status == 0
    drift = results["metrics"]["efid"]["drift"]
    assert [window["start"] for window in drift["windows"]] == pytest.approx([0, 0.24, 0.48])
    values = [window["value"] for window in drift["windows"]]
    assert values[0] < values[1] < values[2]
    assert drift["slope_per_minute"] > 0
    assert drift["low"] < drift["slope_per_minute"] < drift["high"]


def test_sync_per_window_and_two_windows_have_no_slope(speakers, evaluate, rule_files, tmp_path):
    pictures, sound = speakers[0]
    write_clip(tmp_path / "talk" / "a.mp4", pictures[:24], sound)
    sync = {
        "weights": rule_files("syncnet"),
        "detector": "mediapipe",
        "min_track": 10,
        "min_face": 60.0,
        "mode": "fast",
    }
    keys = {"metrics": ["sync"], "sync": sync, "bootstrap": 0, "drift": 12 / 25}
    status, results = evaluate(tmp_path / "talk", tmp_path / "talk", **keys)
    assert status == 0
    for name in ("sync_c", "sync_d"):
        drift = results["metrics"][name]["drift"]
        assert [window["n"] for window in drift["windows"]] == [1, 1]
        assert all(window["value"] >= 0 for window in drift["windows"])
        assert drift["slope_per_minute"] is None
        assert drift["reason"] == "2 windows that all clips cover have a value, a slope needs 3"
