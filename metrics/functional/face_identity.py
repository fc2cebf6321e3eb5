"""Alignment of faces for ArcFace, and groups of faces of one person by the cosine of their vectors.

Shapes: N faces, D vector width, H x W picture.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

FACE_SIZE = 112
# Left eye, right eye, nose tip, left and right corner of the mouth in the crop: the template of insightface, pixels.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
BLOCK = 1024  # rows of a matrix of cosines that are in memory at a time
SAME_PERSON = 0.4  # cosine of ArcFace vectors; of other people it rarely exceeds 0.3


def similarity(points: np.ndarray, target: np.ndarray) -> tuple[complex, complex]:
    """Fits rotation, scale and shift by least squares (Umeyama, 1991): target = turn * points + shift.

    Args:
        points: (N, 2) points.
        target: (N, 2) points that they are mapped to.

    Returns:
        Turn and shift as complex numbers; x + iy is a point.

    Raises:
        ValueError: If the points coincide.
    """
    a, b = (values[:, 0] + 1j * values[:, 1] for values in (points, target))
    centred = a - a.mean()
    spread, other = float((np.abs(centred) ** 2).sum()), float((np.abs(b - b.mean()) ** 2).sum())
    if not (spread > 1e-6 and other > 1e-6):  # also where one of them is no number
        raise ValueError("the points of the face coincide, so it cannot be aligned; check the landmarks")
    turn = complex((centred.conj() * (b - b.mean())).sum() / spread)
    return turn, complex(b.mean() - turn * a.mean())


def aligned_face(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Cuts out a face such that its five points lie on ``TEMPLATE``.

    Args:
        picture: (H, W, 3) uint8 RGB.
        points: (5, 2) left eye, right eye, nose tip, left and right corner of the mouth, pixels.

    Returns:
        (112, 112, 3) uint8 RGB, bilinear; black outside the picture. Large faces are reduced before, so that nothing
        is skipped.

    Raises:
        ValueError: If the points coincide.
    """
    turn, shift = similarity(TEMPLATE, np.asarray(points, np.float64))
    image = Image.fromarray(np.ascontiguousarray(picture))
    factor = max(1, math.floor(abs(turn)))
    if factor > 1:
        image = image.reduce(factor)
    # Pixel centres are at half-integers in the crop, in the picture and in Pillow's coefficients alike.
    turn, shift = turn / factor, shift / factor
    coefficients = (turn.real, -turn.imag, shift.real, turn.imag, turn.real, shift.imag)
    size = (FACE_SIZE, FACE_SIZE)
    return np.asarray(image.transform(size, Image.Transform.AFFINE, coefficients, resample=Image.Resampling.BILINEAR))


def groups_of_people(vectors: np.ndarray, least: float = SAME_PERSON) -> np.ndarray:
    """Numbers the people of faces: each face joins the nearest person, or is the first one of another.

    A person is the mean of their faces. People whose means come as near to each other as ``least`` are one in the end.

    Args:
        vectors: (N, D) unit vectors, in an order that is the same every time.
        least: Smallest cosine of a face and a person.

    Returns:
        (N,) number of the person, from 0 in the order of the first face.
    """
    count = len(vectors)
    groups = np.zeros(count, int)
    people = np.zeros((min(count, 64), vectors.shape[1] if count else 0))  # sums of the faces
    means = people.copy()
    found = 0
    for place, vector in enumerate(np.asarray(vectors, np.float64)):
        near = means[:found] @ vector
        person = int(near.argmax()) if found and near.max() >= least else found
        if person == found:
            found += 1
            if found > len(people):
                people, means = (np.concatenate([rows, np.zeros_like(rows)]) for rows in (people, means))
        people[person] += vector
        means[person] = people[person] / max(float(np.linalg.norm(people[person])), 1e-12)
        groups[place] = person
    return _first_order(_joined(means[:found], least)[groups])


def _joined(means: np.ndarray, least: float) -> np.ndarray:
    """Maps people to people, with those joined whose means are near, also over others."""
    rows, columns = [], []
    for first in range(0, len(means), BLOCK):
        near = means[first : first + BLOCK] @ means.T
        row, column = np.nonzero(near >= least)
        rows.append(row + first)
        columns.append(column)
    if not rows:
        return np.zeros(0, int)
    pairs = (np.concatenate(rows), np.concatenate(columns))
    graph = coo_array((np.ones(len(pairs[0]), bool), pairs), shape=(len(means), len(means)))
    people: np.ndarray = connected_components(graph, directed=False)[1]
    return people


def _first_order(groups: np.ndarray) -> np.ndarray:
    """Renumbers groups in the order of their first members."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    ordered: np.ndarray = np.argsort(np.argsort(first))[inverse]
    return ordered
