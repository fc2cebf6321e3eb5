"""Properties of boxes, and masks against a two-dimensional rasteriser."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from encoders.landmarks.boxes import LEVELS, bounding_boxes, face_boxes, face_extents, mask_pyramid
from encoders.landmarks.schemes import FACE, LIPS, MEDIAPIPE_TO_IBUG, as_ibug68, scheme_of
from encoders.protocols import LANDMARK_COUNTS
from tests.helpers.refusals import refuses


def random_faces(scheme, count=200, size=(512, 400), seed=0):
    """Random faces of many sizes with lips inside, some partly or completely outside the picture."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(-100, 600, (count, 1, 2))
    extent = rng.uniform(4, 700, (count, 1, 2))
    points = centre + extent * rng.uniform(-0.5, 0.5, (count, LANDMARK_COUNTS[scheme], 2))
    lips = list(LIPS[scheme])
    points[:, lips] = points[:, :1] * 0.3 + points[:, lips] * 0.1 + centre * 0.6
    return points.astype(np.float32)


def random_boxes(count, size, seed=0):
    """Random boxes inside the picture, down to 0.01 pixels."""
    rng = np.random.default_rng(seed)
    lengths = np.exp(rng.uniform(np.log(0.01), np.log(min(size)), (count, 2, 2)))
    low = rng.uniform(0, 1, (count, 2, 2)) * (np.array(size) - lengths)
    return torch.from_numpy(np.concatenate([low, low + lengths], -1).astype(np.float32))


@pytest.mark.parametrize("scheme", ["ibug68", "mediapipe478"])
@pytest.mark.parametrize("scale", [1.0, 1.2, 2.0])
def test_boxes_lie_in_the_picture_and_lips_in_the_face(scheme, scale):
    size = (512, 400)
    boxes = face_boxes(random_faces(scheme), scheme, scale, size)
    assert boxes.shape == (200, 2, 4)
    assert boxes.dtype == np.float32
    assert (boxes[..., :2] >= 0).all()
    assert (boxes[..., 2:] <= np.array(size)).all()
    assert (boxes[..., 2:] > boxes[..., :2]).all()
    lip, face = boxes[:, 0], boxes[:, 1]
    assert (lip[:, :2] >= face[:, :2] - 1e-3).all()
    assert (lip[:, 2:] <= face[:, 2:] + 1e-3).all()


def test_box_is_expanded_and_shifted_into_the_picture():
    points = np.zeros((1, 68, 2), np.float32)
    points[0, :48] = np.linspace([100, 50], [200, 150], 48)
    points[0, 48:] = np.linspace([140, 100], [160, 110], 20)
    lip, face = face_boxes(points, "ibug68", 1.2, (512, 512))[0]
    np.testing.assert_allclose(face, [90, 40, 210, 160], atol=1e-4)
    np.testing.assert_allclose(lip, [138, 99, 162, 111], atol=1e-4)
    _, face = face_boxes(points - [110, 0], "ibug68", 1.2, (512, 512))[0]
    np.testing.assert_allclose(face, [0, 40, 120, 160], atol=1e-4)  # shifted at full width
    _, face = face_boxes(points, "ibug68", 1.2, (512, 110))[0]
    np.testing.assert_allclose(face, [90, 0, 210, 110], atol=1e-4)  # higher than the picture


def test_nan_and_wrong_scheme_are_refused():
    points = random_faces("ibug68", 2)
    points[1, 3, 0] = np.nan
    refuses(ValueError, "NaN", face_boxes, points, "ibug68")
    refuses(ValueError, "478", face_boxes, points, "mediapipe478")


def test_extent_of_68_points_includes_a_forehead():
    points = random_faces("ibug68", 5)
    tight = bounding_boxes(points)
    extent = face_extents(points, "ibug68")
    np.testing.assert_allclose(extent[:, [0, 2, 3]], tight[:, [0, 2, 3]], rtol=1e-6)
    np.testing.assert_allclose(tight[:, 1] - extent[:, 1], 0.5 * (tight[:, 3] - tight[:, 1]), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(512, 512), (128, 128), (100, 70), (64, 64)])
def test_masks_equal_max_pooled_boxes(size):
    width, height = size
    boxes = random_boxes(60, size, seed=width)
    pyramid = mask_pyramid(boxes, size, (64, 32, 16, 8))
    rows, columns = np.mgrid[:height, :width]
    for clip, pair in enumerate(boxes.tolist()):
        for which, (x0, y0, x1, y1) in enumerate(pair):
            picture = ((columns + 1 > x0) & (columns < x1) & (rows + 1 > y0) & (rows < y1)).astype(np.float32)
            for level, masks in pyramid.items():
                expected = F.adaptive_max_pool2d(torch.from_numpy(picture)[None, None], level)[0, 0]
                assert torch.equal(masks[which][clip, 0], expected)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(512, 512), (64, 64), (1024, 1024)])
def test_masks_are_never_empty(size):
    for level, masks in mask_pyramid(random_boxes(2000, size), size).items():
        for mask in masks:
            assert mask.shape == (2000, 1, level, level)
            assert set(mask.unique().tolist()) <= {0.0, 1.0}
            assert (mask.amax((1, 2, 3)) == 1).all()


def test_masks_are_nested():
    size = (256, 256)
    boxes = torch.from_numpy(face_boxes(random_faces("mediapipe478", size=size), "mediapipe478", 1.2, size))
    pyramid = mask_pyramid(boxes, size)
    for lip, face in pyramid.values():
        assert (lip <= face).all()
    for fine, coarse in zip(LEVELS, LEVELS[1:], strict=False):
        for fine_mask, coarse_mask in zip(pyramid[fine], pyramid[coarse], strict=True):
            assert torch.equal(F.max_pool2d(fine_mask, 2), coarse_mask)


def test_wrong_boxes_are_refused():
    refuses(ValueError, r"\(B, 2, 4\)", mask_pyramid, torch.zeros(3, 4), (64, 64))


def test_point_lists():
    assert len(LIPS["mediapipe478"]) == len(set(LIPS["mediapipe478"])) == 20
    assert len(FACE["mediapipe478"]) == len(set(FACE["mediapipe478"])) == 36
    assert len(MEDIAPIPE_TO_IBUG) == len(set(MEDIAPIPE_TO_IBUG)) == 68
    assert set(MEDIAPIPE_TO_IBUG[48:60]) < set(LIPS["mediapipe478"])  # the outer mouth is part of the lip outline
    assert not set(MEDIAPIPE_TO_IBUG[60:]) & set(LIPS["mediapipe478"])
    points = np.arange(478 * 2).reshape(1, 478, 2)
    np.testing.assert_array_equal(as_ibug68(points, "mediapipe478")[0, 36], points[0, 33])
    assert as_ibug68(points[:, :68], "ibug68") is not None
    assert scheme_of(points) == "mediapipe478"
    refuses(ValueError, "no landmark scheme has 5 points", scheme_of, points[:, :5])
