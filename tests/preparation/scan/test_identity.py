"""Who is who: shots of one clip, shots of a dataset, and the networks that are used if their weights are there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from configs.command_line import compose
from configs.preparation import PrepareConfig
from encoders.landmarks.sidecar import SidecarDetector
from media import VideoWriter
from metrics.networks import arcface
from metrics.networks.arcface import ArcFace
from preparation.clip_source import ClipSource
from preparation.scan.identity import people_of_clip, people_of_dataset, shape_distance
from preparation.scan.networks import ScanNetworks, present
from preparation.scan.scan_clip import scan_clip
from preparation.synthetic.synthetic_clip import render_clip
from preparation.synthetic.world import identity
from preparation.synthetic.write import openface_csv

SIZE = 160


@pytest.fixture(scope="module")
def network() -> ArcFace:
    """ArcFace with random weights, whose residuals are small: pictures that look alike get vectors that are near."""
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arcface, "load_strictly", lambda *_: None)
        return ArcFace({})


@pytest.fixture(scope="module")
def interview(tmp_path_factory) -> ClipSource:
    """Two synthetic speakers in turn: 24, 40, 30 and 20 frames."""
    folder = tmp_path_factory.mktemp("interview")
    a, b = (render_clip(identity(index), "neutral", 1, 10 + index, 4.8, SIZE) for index in (0, 3))
    pictures, points, start = [], [], 0
    for clip, frames in ((a, 24), (b, 40), (a, 30), (b, 20)):
        pictures += list(clip.frames())[start : start + frames]
        points.append(clip.landmarks[start : start + frames])
        start += frames
    path = folder / "talk.mp4"
    with VideoWriter(path, size=(SIZE, SIZE), sound=a.sound, sound_rate=16_000) as writer:
        for picture in pictures:
            writer.write(picture)
    path.with_suffix(".csv").write_text(openface_csv(replace(a, landmarks=np.concatenate(points))))
    return ClipSource(key="talk", path=path, name=path.name, speaker="a", split="train")


def test_people_of_a_clip_are_told_apart_by_the_shape_of_the_face(interview):
    rows = scan_clip(interview, SidecarDetector())
    assert [row["frames"] for row in rows] == [24, 40, 30, 20]
    assert [row["clip_person"] for row in rows] == [1, 0, 1, 0]
    assert [row["embedding"] for row in rows] == [row["identity_cosine"] for row in rows] == [None] * 4
    assert shape_distance(rows[0]["identity"], rows[2]["identity"]) < shape_distance(
        rows[0]["identity"], rows[1]["identity"]
    )


def test_vectors_are_of_the_faces_of_a_shot(interview, network):
    rows = scan_clip(interview, SidecarDetector(), networks=ScanNetworks(arcface=network))
    vectors = np.array([row["embedding"] for row in rows])
    assert vectors.shape == (4, 512)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    cosines = vectors @ vectors.T
    assert cosines[0, 2] > cosines[0, 1]
    assert cosines[1, 3] > cosines[1, 2]
    assert all(0.5 < row["identity_cosine"] <= 1.00001 for row in rows)


def face(frames: int, *vector: float) -> dict:
    unit = np.zeros(512)
    unit[: len(vector)] = vector
    points = np.random.default_rng(frames).normal(size=30).tolist()
    return {
        "frames": frames,
        "identity": points,
        "embedding": (unit / np.linalg.norm(unit)).tolist(),
        "key": str(frames),
    }


def test_vectors_decide_where_they_are():
    rows = [face(10, 1, 0), face(30, 0, 1), face(40, 0.9, 0.1), {"frames": 99, "identity": None}, face(35, 0.1, 1)]
    assert people_of_clip(rows) == [1, 0, 1, None, 0]
    assert people_of_dataset([face(1, 1, 0), face(2, 0, 1), {"embedding": None, "key": "x"}, face(3, 0.8, 0.1)]) == [
        "1", "2", None, "1",
    ]  # fmt: skip


def test_networks_are_used_if_their_weights_are_there(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOTIVETALK_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = compose("prepare", PrepareConfig, ["dataset=folder"]).networks
    assert names == ["arcface", "syncnet"]
    assert present(names) == {}
    assert ScanNetworks.load(names) == ScanNetworks()
