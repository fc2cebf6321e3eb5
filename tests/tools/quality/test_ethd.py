"""ETHD's quality measures on videos with known values."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from encoders.landmarks.mediapipe_detector import MediaPipeDetector
from tools.quality.ethd import VideoComparison, compare, contact_sheet, psnr
from tools.quality.ethd_synthetic import Reader, correlation, inside, picture_scores


def test_psnr_equals_its_definition():
    true = torch.full((3, 8, 8, 3), 100, dtype=torch.uint8)
    assert psnr(true + 5, true) == pytest.approx(20 * math.log10(255 / 5), abs=1e-5)
    assert psnr(true - 5, true) == pytest.approx(20 * math.log10(255 / 5), abs=1e-5)  # no wrap-around


def test_a_contact_sheet_has_a_row_per_video_from_first_to_last_frame(tmp_path):
    videos = [torch.arange(30, dtype=torch.uint8)[:, None, None, None].expand(30, 4, 4, 3) + k for k in (0, 100)]
    contact_sheet(videos, tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (8, 40, 3)
    assert [sheet[0, 0, 0], sheet[0, -1, 0], sheet[-1, 0, 0], sheet[-1, -1, 0]] == [0, 29, 100, 129]


def test_a_reader_uses_only_its_region():
    torch.manual_seed(0)
    region = inside(torch.tensor([[4.0, 4.0, 12.0, 12.0]]), 16)
    assert region.sum() == 64
    values = [torch.rand(60) for _ in range(3)]
    videos = [torch.rand(60, 16, 16, 3) * 0.02 for _ in values]
    for video, value in zip(videos, values, strict=True):
        video[:, 4:8, 4:12] += value[:, None, None, None]
    reader = Reader(videos[:2], [value[:, None] for value in values[:2]], region)
    assert correlation(reader(videos[2])[:, 0], values[2]) > 0.99
    outside = videos[2].clone()
    outside[:, ~region] = torch.rand(60, 192, 3)
    assert torch.equal(reader(outside), reader(videos[2]))


def test_sharpness_and_speckle_are_relative_to_the_true_video():
    torch.manual_seed(0)
    face = torch.zeros(32, 32, dtype=torch.bool)
    face[8:24, 8:24] = True
    flat = torch.full((4, 32, 32, 3), 100.0)
    flat[:, :, 15:17] = 200.0  # an edge through the face
    true = (flat + 4 * torch.rand(4, 32, 32, 1)).byte()
    same = picture_scores(true, true, face)
    assert (same["ssim"], same["sharpness"], same["speckle"]) == pytest.approx((1, 1, 1))
    assert same["psnr"] == math.inf
    blurred = picture_scores(flat.mean(2, keepdim=True).expand_as(flat).byte(), true, face)
    assert blurred["sharpness"] == 0
    assert blurred["speckle"] == 0
    noise = (flat + 40 * torch.rand(4, 32, 32, 1)).byte()
    noisy = picture_scores(noise, true, face)
    assert 1 < noisy["sharpness"] < 3  # the edge has most of the variance
    assert noisy["speckle"] > 30
    elsewhere = true.clone()
    elsewhere[:, :6] = 0
    outside = picture_scores(elsewhere, true, face)
    assert (outside["sharpness"], outside["speckle"]) == (1, 1)
    assert outside["ssim"] < 0.95


def test_videos_without_a_face_are_compared_by_their_pixels(asset_weights):
    true = torch.full((3, 64, 64, 3), 100, dtype=torch.uint8)
    found = compare(true + 5, true, MediaPipeDetector())
    assert found == VideoComparison(psnr(true + 5, true), 0.0, None, None)
