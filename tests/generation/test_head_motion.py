"""Amount of head motion: what of a driving expression it scales, and encoders without the pose of the head."""

import pytest
import torch

from encoders.motion.geometry import POSE_FEATURES, LandmarkMotion
from generation.errors import GenerationError
from generation.head_motion import pose_of, with_head_motion


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 2.0])
def test_the_head_moves_by_as_much_around_the_same_mean(strength):
    e_dri, pose = torch.randn(2, 50, 19), pose_of(LandmarkMotion(pose=True), strength)
    moved = with_head_motion(e_dri, pose, strength)
    assert torch.equal(moved[..., :13], e_dri[..., :13])
    torch.testing.assert_close(moved[..., 13:].mean(1), e_dri[..., 13:].mean(1))
    torch.testing.assert_close(moved[..., 13:].std(1), strength * e_dri[..., 13:].std(1))


def test_the_dimensions_are_those_of_the_pose():
    encoder = LandmarkMotion(pose=True)
    assert tuple(encoder.expression_names[place] for place in pose_of(encoder, 1)) == POSE_FEATURES


def test_an_encoder_without_pose_is_refused():
    with pytest.raises(GenerationError, match=r"^motion\.head=2: .* encoder landmarks has no pose of the head; leave"):
        pose_of(LandmarkMotion(), 2)
