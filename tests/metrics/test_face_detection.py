"""S3FD and its post-processing against syncnet_python's detector."""

import json

import numpy as np
import pytest
import torch

from metrics.functional.face_detection import (
    detect_faces,
    detect_faces_of,
    detections_of,
    faces_in_pixels,
    network_input,
    priors_of,
    shrink,
    suppress_overlaps,
)
from metrics.networks.s3fd import S3FDNet
from tests.helpers.refusals import refuses


@pytest.fixture(scope="module")
def oracle(oracle_folder):
    folder = oracle_folder / "syncnet"
    texts = [json.loads((folder / f"{name}.json").read_text()) for name in ("expected", "expected_extra")]
    return texts[0]["s3fd"], texts[1]["detect_faces"], folder


def test_post_processing(oracle):
    stored = np.load(oracle[2] / "s3fd_post.npz")
    priors = priors_of((135, 240), [(34, 60), (17, 30), (9, 15), (4, 8), (2, 4), (1, 2)])
    np.testing.assert_array_equal(priors, stored["priors"])
    got = detections_of(torch.from_numpy(stored["loc"][0]), torch.from_numpy(stored["conf"][0]), priors)
    assert len(got) == oracle[0]["n_detections_after_nms"]
    np.testing.assert_allclose(got, stored["detections"], rtol=1e-6, atol=1e-7)


def test_second_suppression_keeps_rows_and_order(oracle):
    stored = np.load(oracle[2] / "s3fd_nms.npz")
    np.testing.assert_array_equal(suppress_overlaps(stored["boxes"]), stored["keep"])


def test_input_and_boxes_of_an_image(oracle):
    want = oracle[1]
    image = np.random.RandomState(33).randint(0, 256, (100, 160, 3)).astype(np.uint8)
    x = network_input([image])
    assert list(x.shape) == want["net_input_shape"]
    assert x.sum((0, 2, 3)).tolist() == want["net_input_sum_per_channel"]
    assert x[0, :, 3, 7].tolist() == want["net_input_probe_[0,:,3,7]"]
    rows = torch.tensor(want["net_rows_score_x1y1x2y2"])
    np.testing.assert_allclose(faces_in_pixels([rows], (100, 160)), want["boxes_scale0.25"], rtol=1e-6)
    np.testing.assert_allclose(faces_in_pixels([rows, rows], (100, 160)), want["boxes_scales_1_and_0.5"], rtol=1e-6)
    assert len(faces_in_pixels([rows[-1:]], (100, 160))) == 0


@pytest.mark.slow
def test_network_matches_the_original(oracle, rule_weights):
    want = oracle[0]["net_probe_rule_weights"]
    network = S3FDNet(rule_weights("s3fd_S3FDNet"))
    random = np.random.RandomState(21)
    random.standard_normal((1, 2727, 4))
    random.standard_normal((1, 2727, 2))
    x = image = torch.from_numpy((random.randint(0, 256, (1, 3, 135, 240)) - 110).astype(np.float32))
    with torch.inference_mode():
        for layer in network.vgg[:16]:
            x = layer(x)
        x = network.L2Norm3_3(x)
        raw = network.conf[0](x)[0, :, 5, 7]
    assert float(x.mean()) == pytest.approx(want["L2Norm3_3_mean"], rel=1e-5)
    np.testing.assert_allclose(raw, want["conf0"], atol=1e-5)
    offsets, logits, sizes = network.heads(image)
    assert sizes == [(33, 60), (17, 30), (8, 15), (4, 7), (2, 4), (1, 2)]
    cell = 5 * 60 + 7
    np.testing.assert_allclose(offsets[0, cell], want["loc0"], atol=1e-5)
    np.testing.assert_allclose(logits[0, cell], [max(want["conf0"][:3]), want["conf0"][3]], atol=1e-5)
    faces = detect_faces(np.zeros((160, 256, 3), np.uint8), network, min_confidence=0.5)
    assert faces.shape[1] == 5
    refuses(ValueError, "at least 128 pixels", detect_faces, np.zeros((96, 128, 3), np.uint8), network)
    refuses(ValueError, "the weights are not those of S3FDNet", S3FDNet, {"conv1_1.weight": torch.zeros(64, 3, 3, 3)})


@pytest.mark.slow
def test_batches_find_the_faces_of_single_images(rule_weights):
    network = S3FDNet(rule_weights("s3fd_S3FDNet"))
    images = list(np.random.RandomState(3).randint(0, 256, (5, 160, 256, 3)).astype(np.uint8))
    calls = []

    def counted(batch):
        calls.append(len(batch))
        return network(batch)

    found = detect_faces_of(images, counted, min_confidence=0.3, batch_size=2)
    assert calls == [2, 2, 1]
    assert sum(map(len, found)) > 0
    for image, faces in zip(images, found, strict=True):
        np.testing.assert_allclose(faces, detect_faces(image, network, min_confidence=0.3), rtol=1e-4)


@pytest.mark.parametrize("size", [(100, 160), (101, 163), (37, 54)])
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_shrink_matches_opencv(size, factor):
    cv2 = pytest.importorskip("cv2")
    image = np.random.RandomState(1).randint(0, 256, (*size, 3)).astype(np.uint8)
    want = cv2.resize(image, (0, 0), fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_LINEAR)
    got = shrink(image, factor)
    assert got.shape == want.shape
    inner = (slice(None),) if factor != 2 else tuple(slice(n // 2) for n in size)
    np.testing.assert_array_equal(got[inner], want[inner])
    with pytest.raises(ValueError, match="1 or even"):
        shrink(image, 3)
