"""Shots of made footage: cuts are found, and what only looks like one is not."""

from __future__ import annotations

import numpy as np

from preparation.scan.shots import find_shots


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
