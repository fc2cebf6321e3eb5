"""Shots of made footage: cuts are found, and what only looks like one is not."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from media import FrameReader
from preparation.scan.pictures import thin, thumbnail
from preparation.scan.shots import find_shots
from preparation.synthetic.synthetic_clip import render_clip
from preparation.synthetic.world import identity


def scene(seed: int, frames: int) -> np.ndarray:
    """(F, 32, 32) thumbnails of one picture with a little motion."""
    generator = np.random.default_rng(seed)
    picture = generator.uniform(0, 255, (32, 32)).astype(np.float32)
    return picture + generator.normal(0, 1, (frames, 32, 32)).astype(np.float32)


def test_a_hard_cut_is_found_at_its_frame():
    shots = find_shots(np.concatenate([scene(1, 30), scene(2, 40)]))
    assert [(start, end) for start, end, _ in shots] == [(0, 30), (30, 70)]


def test_a_flash_is_no_cut():
    thumbnails = scene(1, 60)
    thumbnails[30] += 150
    assert len(find_shots(thumbnails)) == 1


def test_a_small_step_everywhere_is_a_jump_cut_and_a_large_one_in_a_few_places_is_not():
    generator = np.random.default_rng(2)
    still = scene(1, 60)
    jump = still.copy()
    jump[30:] += generator.choice([-2.8, 2.8], (32, 32))
    assert [start for start, _, _ in find_shots(jump)] == [0, 30]
    assert len(find_shots(jump, [place == 30 for place in range(60)])) == 1  # where a keyframe comes
    hand = still.copy()
    hand[30:, 20:28, 4:12] += 20
    assert len(find_shots(hand)) == 1


@pytest.fixture(scope="module")
def talks() -> list[list[np.ndarray]]:
    """Frames of synthetic speakers in front of a plain wall, who were not used to choose the thresholds."""
    clips = (render_clip(identity(index), "neutral", 1, 40 + index, 4.0, 96) for index in range(4))
    return [list(clip.frames()) for clip in clips]


def shots_of(path: Path, frames: list[np.ndarray], **options: str) -> tuple[list[int], list[int]]:
    """Cuts of the encoded frames, with and without the knowledge of keyframes."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    reader = FrameReader(path)
    thumbnails = np.stack([thumbnail(thin(frame)) for frame in reader])
    found = (find_shots(thumbnails, keys) for keys in (reader.keys, ()))
    return tuple([start for start, _, _ in shots][1:] for shots in found)  # type: ignore[return-value]


def test_most_jump_cuts_of_one_speaker_in_equal_framing_are_found(talks, tmp_path):
    found, wrong = 0, []
    for frames in talks:
        for first, last in ((30, 60), (20, 50), (40, 55), (25, 70)):
            cuts, _ = shots_of(tmp_path / "talk.mp4", [*frames[:first], *frames[last:]])
            found += first in cuts
            wrong += [cut for cut in cuts if cut != first]
        wrong += shots_of(tmp_path / "talk.mp4", frames)[0]
    assert found >= 9  # of 16; the others are too small
    assert wrong == []


def test_a_keyframe_of_a_coarse_video_is_no_jump_cut(talks, tmp_path):
    """Each group of an encoder starts with a picture of another quality, which differs everywhere."""
    found = [shots_of(tmp_path / "talk.mp4", [wall(frame) for frame in frames], crf="34", g="25") for frames in talks]
    assert [cuts for cuts, _ in found] == [[]] * len(found)
    assert any(unaware for _, unaware in found)


def wall(frame: np.ndarray) -> np.ndarray:
    """The frame in front of fine noise, which coarse coding smooths."""
    noise = np.random.default_rng(0).normal(0, 8, frame.shape)
    return np.clip(frame + noise, 0, 255).astype(np.uint8)
