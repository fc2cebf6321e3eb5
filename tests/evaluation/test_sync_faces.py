"""Face boxes for Sync: a proxy gets boxes as in its training data from any detector."""

import numpy as np
import pytest
import torch

from configs.evaluation import SyncConfig
from evaluation.sync_faces import faces_for
from media import read_frames
from tests.helpers.synthetic_videos import write_speakers


def overlap(a, b):
    """Returns the intersection over union of two boxes."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    common = np.prod(np.maximum(high - low, 0))
    return common / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common)


@pytest.mark.slow
def test_mediapipe_boxes_of_a_proxy_match_landmark_files(asset_weights, tmp_path):
    video = write_speakers(tmp_path / "talk", 2, seconds=1, size=128) / "clip1.mp4"
    frames = list(read_frames(video))[::8]

    def found(detector, network="proxy"):
        boxes, _ = faces_for(SyncConfig(network=network, detector=detector, mode="fast"), torch.device("cpu"))
        return boxes(frames[:1], video, 0.0)[0][0]

    true = found("sidecar")
    assert overlap(found("mediapipe"), true) > 0.8
    assert (
        overlap(found("mediapipe", "syncnet"), true) < overlap(found("mediapipe"), true) - 0.1
    )  # includes the forehead
