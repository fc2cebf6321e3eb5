"""ArcFace against facexlib 0.3.0, the alignment of faces against geometry, and the groups of people."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from encoders.weights import WEIGHTS
from metrics.functional.face_identity import FACE_SIZE, TEMPLATE, aligned_face, groups_of_people
from metrics.networks import arcface
from metrics.networks.arcface import ArcFace

# facexlib 0.3.0, Backbone(50, 0.6, "ir_se") with the weights of ``calmed`` and the faces of ``patterns``.
FIRST_VALUES = [
    [0.02076639, -0.00818026, -0.01664828, -0.00933372],
    [-0.01007438, 0.00772671, 0.03146338, 0.00287954],
]
COSINE = 0.24298827


@pytest.fixture(scope="module")
def network(oracle_folder) -> ArcFace:
    """Rule weights, with residuals small enough that rounding does not grow from block to block."""
    spec = importlib.util.spec_from_file_location("rule_weights", oracle_folder / "rule_weights.py")
    rules = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rules)

    def calmed(name: str, value: torch.Tensor) -> torch.Tensor:
        rule = torch.from_numpy(np.array(rules.rule_tensor(name, value.shape))).to(value.dtype)
        return rule * 0.05 if name.endswith("res_layer.4.weight") else rule

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arcface, "load_strictly", lambda *_: None)
        shapes = ArcFace({}).state_dict()
    return ArcFace({name: calmed(name, value) for name, value in shapes.items()})


def patterns() -> torch.Tensor:
    y, x = np.mgrid[0:FACE_SIZE, 0:FACE_SIZE]
    faces = [[x * 2, y * 2, (x + y) % 256], [255 - x * 2, y, (x * y) // 49]]
    return torch.from_numpy(np.array(faces).astype(np.uint8))


def test_the_network_equals_facexlib(network):
    vectors = network(patterns())
    assert torch.allclose(vectors.norm(dim=1), torch.ones(2))
    assert torch.allclose(vectors[:, :4], torch.tensor(FIRST_VALUES), atol=1e-6)
    assert float(vectors[0] @ vectors[1]) == pytest.approx(COSINE, abs=1e-5)


def test_the_tensors_fill_the_published_file(network):
    """The file has a header of 178 bytes for each tensor on average, so no tensor is missing or too large."""
    tensors = network.state_dict().values()
    payload = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    (file,) = WEIGHTS["arcface"].files
    assert 100 * len(tensors) < file.size - payload < 300 * len(tensors)
    assert "non-commercial" in WEIGHTS["arcface"].licence


@pytest.mark.parametrize("degrees", [0, 30, -90])
@pytest.mark.parametrize("scale", [0.7, 1.0, 2.5, 6.3])
def test_a_face_is_turned_and_scaled_to_the_template(scale, degrees):
    turn = scale * np.exp(1j * np.radians(degrees))
    points = TEMPLATE[:, 0] + 1j * TEMPLATE[:, 1]
    placed = turn * (points - points.mean()) + 500 + 480j
    y, x = np.mgrid[0:1000, 0:1000] + 0.5
    picture = np.stack([x / 4, y / 4, 0 * x], -1).astype(np.uint8)
    crop = aligned_face(picture, np.column_stack([placed.real, placed.imag]))
    assert crop.shape == (FACE_SIZE, FACE_SIZE, 3)
    for point in (40 + 45j, 60 + 90j):
        value = crop[int(point.imag), int(point.real), :2]
        where = turn * (complex(int(point.real) + 0.5, int(point.imag) + 0.5) - points.mean()) + 500 + 480j
        assert np.abs(value - np.array([where.real, where.imag]) / 4).max() < 1.5


def test_points_that_coincide_are_refused():
    with pytest.raises(ValueError, match="coincide"):
        aligned_face(np.zeros((50, 50, 3), np.uint8), np.zeros((5, 2)))


def test_faces_of_one_person_are_one_group():
    generator = np.random.default_rng(0)
    people = generator.normal(size=(200, 512))
    who = generator.integers(0, 200, 1500)
    vectors = people[who] + generator.normal(size=(1500, 512)) * 0.7
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    groups = groups_of_people(vectors.astype(np.float32))
    assert len(set(zip(groups, who, strict=True))) == len(set(who)) == groups.max() + 1
    first = [groups[np.flatnonzero(groups == group)[0]] for group in range(groups.max() + 1)]
    assert first == list(range(groups.max() + 1))
    assert groups[0] == 0
    assert groups_of_people(np.zeros((0, 512))).tolist() == []
