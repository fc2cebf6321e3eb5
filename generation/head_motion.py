"""Amount of head motion of a driving expression, for motion encoders whose expression latent has the head's pose.

    pose = mean + strength (pose - mean)

The mean over the video is kept, so that the head stays where the emotion holds it.

Shapes: B videos, F frames, d_e expression width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from encoders.protocols import MotionEncoder
from generation.errors import GenerationError


def pose_of(motion: MotionEncoder, strength: float) -> Sequence[int]:
    """Dimensions of an encoder's expression latent that are the pose of the head.

    Args:
        motion: Motion encoder.
        strength: Strength that was asked for, for the message.

    Raises:
        GenerationError: If the encoder has none.
    """
    pose: Sequence[int] = getattr(motion, "pose_dimensions", ())
    if not pose:
        raise GenerationError(
            f"motion.head={strength:g}: the expression latent of the motion encoder {motion.identity.name} has no "
            "pose of the head; leave motion.head out, or use a network whose data were prepared with "
            "encoders/motion=landmarks_pose or blendshapes_pose"
        )
    return pose


def with_head_motion(e_dri: Tensor, pose: Sequence[int], strength: float) -> Tensor:
    """Scales how far the head moves from its mean pose.

    Args:
        e_dri: (B, F, d_e) driving expressions, in any units.
        pose: Dimensions of the pose.
        strength: 0 keeps the head still, 1 changes nothing, 2 doubles its motion.

    Returns:
        (B, F, d_e); dimensions that are not the pose are not changed.
    """
    moved, places = e_dri.clone(), list(pose)
    mean = e_dri[..., places].mean(1, keepdim=True)
    moved[..., places] = mean + strength * (e_dri[..., places] - mean)
    return moved
