"""Who a shot shows: a vector of ArcFace where its weights are, and the shape of the face from landmarks without them.

Shapes: P landmarks, K identity points, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from encoders.landmarks.schemes import as_ibug68
from encoders.protocols import Face, LandmarkScheme
from metrics.functional.efid import five_points
from metrics.functional.face_identity import SAME_PERSON, aligned_face, groups_of_people
from metrics.networks.arcface import ArcFace

EMBEDDED = 8  # pictures of a shot that are embedded
SAME_SHAPE = 0.03  # distance; shots of one clip below it show one person
# Corners of the eyes, bridge, tip, base and wings of the nose, hairline, chin, sides and cheekbones: what moves little.
IDENTITY_POINTS: dict[LandmarkScheme, tuple[int, ...]] = {
    "mediapipe478": (33, 133, 362, 263, 4, 2, 168, 48, 278, 10, 152, 234, 454, 50, 280),
    "ibug68": (36, 39, 42, 45, 30, 33, 27, 31, 35, 8, 0, 16, 2, 14, 28),
}


def identity_shape(seen: Sequence[Face], scheme: LandmarkScheme) -> list[float]:
    """Median of the identity points over a shot, turned to the front where depth is known, of unit size."""
    points = list(IDENTITY_POINTS[scheme])
    shapes = []
    for face in seen:
        shape = face.landmarks[points].astype(np.float64) * [1, -1]
        if face.depth is not None and face.rotation is not None:
            solid = np.column_stack([shape, -face.depth[points].astype(np.float64)])
            shape = ((solid - solid.mean(0)) @ face.rotation)[:, :2]
        shape = shape - shape.mean(0)
        shapes.append(shape / np.sqrt((shape**2).sum(1).mean()))
    return [round(float(value), 5) for value in np.median(shapes, axis=0).ravel()]


def shape_distance(a: Sequence[float], b: Sequence[float]) -> float:
    """Root mean square difference of the logarithms of all distances between two shots' identity points.

    ``tools/profiling/scan_reliability.py`` measures how well it tells people apart: well enough for shots of one video,
    not for people of a dataset.
    """
    first, second = (_log_distances(np.asarray(points, np.float64).reshape(-1, 2)) for points in (a, b))
    return float(np.sqrt(((first - second) ** 2).mean()))


def _log_distances(points: np.ndarray) -> np.ndarray:
    pairs = np.array(list(combinations(range(len(points)), 2)))
    distances = np.hypot(*(points[pairs[:, 0]] - points[pairs[:, 1]]).T)
    return np.log(np.maximum(distances, 1e-6) / max(distances.mean(), 1e-6))


def embedding_measures(
    pictures: Mapping[int, np.ndarray], faces: Mapping[int, Face], scheme: LandmarkScheme, network: ArcFace
) -> dict[str, Any]:
    """Columns of the vector of a shot; empty without a face.

    Args:
        pictures: Frame -> (H, W, 3) uint8 picture.
        faces: Frame -> face.
        scheme: Landmark scheme.
        network: ArcFace.
    """
    import torch

    both = sorted(pictures.keys() & faces.keys())
    chosen = [both[place] for place in np.linspace(0, len(both) - 1, min(EMBEDDED, len(both))).round().astype(int)]
    if not chosen:
        return {}
    crops = [
        aligned_face(pictures[frame], five_points(as_ibug68(faces[frame].landmarks, scheme).astype(np.float64)))
        for frame in chosen
    ]
    vectors = network(torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)).double().numpy()
    mean = vectors.mean(0)
    mean /= max(float(np.linalg.norm(mean)), 1e-12)
    return {
        "embedding": [round(float(value), 5) for value in mean],
        "identity_cosine": float((vectors @ mean).min()),
    }


def people_of_clip(rows: Sequence[Mapping[str, Any]]) -> list[int | None]:
    """Number of the person of each shot of a clip: 0 is seen longest. None where no face was found.

    Shots are compared by their vectors where both have one, else by the shape of the face.
    """
    people: list[list[Mapping[str, Any]]] = []
    found: list[int | None] = [None] * len(rows)
    for place in sorted(range(len(rows)), key=lambda place: (-rows[place]["frames"], place)):
        if rows[place].get("identity") is not None:
            number = next((n for n, shots in enumerate(people) if _same_person(rows[place], shots[0])), len(people))
            if number == len(people):
                people.append([])
            people[number].append(rows[place])
            found[place] = number
    frames = [sum(row["frames"] for row in shots) for shots in people]
    order = {number: rank for rank, number in enumerate(sorted(range(len(people)), key=lambda n: (-frames[n], n)))}
    return [None if number is None else order[number] for number in found]


def _same_person(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    if a.get("embedding") is not None and b.get("embedding") is not None:
        return float(np.dot(a["embedding"], b["embedding"])) >= SAME_PERSON
    return shape_distance(a["identity"], b["identity"]) < SAME_SHAPE


def people_of_dataset(rows: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """Key of the first shot of the same person for each shot of a dataset; None without a vector."""
    places = [place for place, row in enumerate(rows) if row["embedding"] is not None]
    found: list[str | None] = [None] * len(rows)
    if not places:
        return found
    groups = groups_of_people(np.array([rows[place]["embedding"] for place in places], np.float32))
    first: dict[int, str] = {}
    for place, group in zip(places, groups, strict=True):
        found[place] = first.setdefault(int(group), rows[place]["key"])
    return found
