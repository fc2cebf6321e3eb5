"""Made footage whose sound is shifted: the lag is found, and corrected while encoding. SyncNet with rule weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from configs.command_line import compose
from configs.preparation import PrepareConfig
from encoders.landmarks.boxes import face_extents
from encoders.landmarks.sidecar import SidecarDetector
from media import FrameReader, VideoWriter, decode_flac, read_sound
from metrics.networks.metric_weights import frozen
from metrics.networks.syncnet import SyncNet
from metrics.sync_pipeline import score_clip, tracks_in_memory
from preparation.choice.choose_shots import choose_shots, chosen_clips, lag_of
from preparation.clip_source import ClipSource
from preparation.encoders import Encoders
from preparation.prepare_clip import prepare_clip
from preparation.scan.columns import SCHEMA
from preparation.scan.networks import ScanNetworks
from preparation.scan.scan_clip import Row, scan_clip
from preparation.synthetic.synthetic_clip import SyntheticClip, render_clip
from preparation.synthetic.world import identity
from preparation.synthetic.write import openface_csv

SIZE, RATE, SECONDS = 96, 16_000, 4.0
LAGS = (-4, 0, 3)


@pytest.fixture(scope="module")
def talk() -> SyntheticClip:
    return render_clip(identity(1), "neutral", 1, 10, SECONDS, SIZE)


@pytest.fixture(scope="module")
def moved(talk, tmp_path_factory) -> dict[int, ClipSource]:
    """The clip with its sound behind the lips by some frames, or ahead of them."""
    folder, found = tmp_path_factory.mktemp("moved"), {}
    for lag in LAGS:
        path = folder / f"talk{lag}.mp4"
        sound = np.roll(talk.sound, lag * RATE // 25)
        with VideoWriter(path, size=(SIZE, SIZE), sound=sound, sound_rate=RATE) as writer:
            for picture in talk.frames():
                writer.write(picture)
        path.with_suffix(".csv").write_text(openface_csv(replace(talk, landmarks=talk.landmarks)))
        found[lag] = ClipSource(key=path.stem, path=path, name=path.name, speaker="a", split="train")
    return found


@pytest.fixture(scope="module")
def config() -> PrepareConfig:
    return compose("prepare", PrepareConfig, ["preset=tiny", "dataset=folder", "select="])


@pytest.fixture(scope="module")
def rows(moved) -> dict[int, Row]:
    return {lag: scan_clip(clip, SidecarDetector())[0] for lag, clip in moved.items()}


def chosen(row: Row, clip: ClipSource, config: PrepareConfig, most: int) -> ClipSource:
    table = pa.Table.from_pylist([row], SCHEMA)
    (found,) = chosen_clips(table, choose_shots(table, config), [clip], most)
    return found


def test_the_lag_of_made_footage_is_found(rows):
    usual = rows[0]["lip_envelope_offset"]
    assert abs(usual) <= 1
    assert [rows[lag]["lip_envelope_offset"] - usual for lag in LAGS] == list(LAGS)
    assert min(row["lip_envelope_r"] for row in rows.values()) > 0.45
    assert [row["syncnet_confidence"] for row in rows.values()] == [None] * 3


def test_the_sound_is_moved_back_while_encoding(moved, rows, config, talk):
    encoders = Encoders.build(config.encoders, "cpu")
    usual = rows[0]["lip_envelope_offset"]
    for lag in LAGS:
        row = rows[lag] | {"lip_envelope_offset": lag} if usual else rows[lag]
        clip = chosen(row, moved[lag], config, config.audio.correct_lag)
        prepared = prepare_clip(clip, encoders, config)
        assert prepared.meta is not None, prepared.report
        assert (prepared.meta.sound_lag, prepared.meta.frames) == (lag, 100 - abs(lag))
        assert prepared.report.notes == ([f"sound moved by {-lag * 40} ms"] if lag else [])
        speech = decode_flac(prepared.members["speech.flac"])
        begin = round(clip.start * RATE)
        assert begin == max(0, -lag) * 640
        assert np.corrcoef(speech, talk.sound[begin : begin + len(speech)])[0, 1] > 0.99
        assert chosen(row, moved[lag], config, 0).lag == 0


def test_only_a_certain_lag_within_the_limit_is_corrected():
    none = dict.fromkeys(("syncnet_confidence", "syncnet_offset", "lip_envelope_r", "lip_envelope_offset"))
    none |= {"frames": 100}
    lips = none | {"lip_envelope_r": 0.6, "lip_envelope_offset": 4}
    uncertain = (lips | {"lip_envelope_r": 0.2}, lips | {"frames": 60})
    assert [lag_of(row, 5) for row in (none, lips, *uncertain)] == [0, 4, 0, 0]
    network = lips | {"syncnet_confidence": 6.0, "syncnet_offset": -3}
    assert [lag_of(network, most) for most in (5, 2, 0)] == [-3, 0, 0]
    assert lag_of(network | {"syncnet_confidence": 1.5}, 5) == 0


def test_syncnets_columns_are_the_scores_of_its_pipeline(moved):
    """The network has random weights, so its scores mean nothing, but both ways must give the same."""
    torch.manual_seed(0)
    network, clip = SyncNet(None), moved[3]
    frozen(network)
    (row,) = scan_clip(clip, SidecarDetector(), networks=ScanNetworks(syncnet=network))
    frames = list(FrameReader(clip.path))
    faces = SidecarDetector().track(frames, clip.path).faces
    boxes = [face_extents(face.landmarks[None], "ibug68") for face in faces if face is not None]
    samples = np.round(read_sound(clip.path) * 32767).astype(np.int16)
    (track,) = tracks_in_memory(frames, samples, boxes, min_face=20)
    scores = score_clip(track, network)
    assert row["syncnet_confidence"] == pytest.approx(scores.confidence, abs=1e-4)
    assert row["syncnet_offset"] == -scores.offset


def test_borders_and_enlargement_are_in_the_metadata(moved, config, tmp_path, talk):
    encoders = Encoders.build(config.encoders, "cpu")
    path = tmp_path / "bars.mp4"
    with VideoWriter(path, size=(SIZE, SIZE), sound=talk.sound, sound_rate=RATE) as writer:
        for picture in talk.frames():
            barred = picture.copy()
            barred[:4] = barred[-6:] = 0
            writer.write(barred)
    Path(path.with_suffix(".csv")).write_text(openface_csv(talk))
    clip = replace(moved[0], path=path, key="bars", name=path.name)
    (row,) = scan_clip(clip, SidecarDetector())
    prepared = prepare_clip(clip, encoders, config)
    assert prepared.meta is not None, prepared.report
    for found in (
        prepared.meta.borders,
        [row[f"border_{side}"] for side in ("left", "top", "right", "bottom")],
    ):
        assert np.abs(np.subtract(found, (0, 4, 0, 6))).max() <= 1
    assert prepared.meta.enlargement == pytest.approx(config.frame_size / prepared.meta.crop[2], abs=1e-4)
