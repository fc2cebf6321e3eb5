"""MTCNN (Zhang et al., SPL 2016) with facenet-pytorch's weights: the five landmarks of Deep3DFaceRecon's alignment.

The first network proposes boxes on an image pyramid, the second refines them, and the third refines them again and
predicts eye centres, nose tip and mouth corners. Thresholds, rounding and resizing are facenet-pytorch's defaults.
Boxes are (left, top, right, bottom) in pixels. Shapes: K boxes, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.functional.face_detection import nms
from metrics.networks.metric_weights import Weights, frozen, load_strictly, read_tensors
from metrics.networks.precision import full_precision

MIN_FACE = 20
SHRINK = 0.709
THRESHOLDS = (0.6, 0.7, 0.7)


class MTCNN(nn.Module):
    """Detects faces with five landmarks.

    Args:
        proposal: Path of ``pnet.pt``, or its tensors by name.
        refinement: Path of ``rnet.pt``, or its tensors by name.
        output: Path of ``onet.pt``, or its tensors by name.

    Raises:
        ValueError: If the weights do not fit.
    """

    def __init__(self, proposal: Weights, refinement: Weights, output: Weights) -> None:
        super().__init__()
        self.pnet = _Proposal()
        self.rnet = _Refinement()
        self.onet = _Output()
        for network, weights in ((self.pnet, proposal), (self.rnet, refinement), (self.onet, output)):
            load_strictly(network, read_tensors(weights, f"{type(network).__name__} of MTCNN"), str(_name(weights)))
        frozen(self)

    def forward(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Detects the faces of a frame.

        Args:
            frame: (H, W, 3) uint8 RGB.

        Returns:
            (K, 5) boxes with their probability, and (K, 5, 2) landmarks, the largest face first.
        """
        return self.detect([frame])[0]

    @full_precision
    def detect(self, frames: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Detects the faces of (H, W, 3) uint8 RGB frames of one size; as ``forward`` for each."""
        device = self.pnet.conv1.weight.device
        images = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).to(device).float()
        boxes = self._refine(images, self._propose(images))
        return [_sorted(faces, points) for faces, points in self._place(images, boxes)]

    def largest(self, frame: np.ndarray) -> np.ndarray | None:
        """Returns the (5, 2) landmarks of the largest face in pixels, or None.

        The order is left eye, right eye, nose, left and right mouth corner.
        """
        return self.largest_of([frame])[0]

    def largest_of(self, frames: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        """Returns the landmarks of the largest face of each (H, W, 3) frame of one size; as ``largest``."""
        return [points[0].astype(np.float64) if len(points) else None for _, points in self.detect(frames)]

    def _propose(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[2:]
        found = [[images.new_zeros(0, 9)] for _ in images]
        scale = 12 / MIN_FACE
        while min(height, width) * scale >= 12:
            size = (int(height * scale + 1), int(width * scale + 1))
            offsets, probability = self.pnet(_normalised(F.interpolate(images, size=size, mode="area")))
            for rows, move, sure in zip(found, offsets, probability, strict=True):
                rows.append(_cells(move, sure, scale))
            scale *= SHRINK
        return [_proposals(torch.cat(rows)) for rows in found]

    def _refine(self, images: Tensor, boxes: list[Tensor]) -> list[Tensor]:
        boxes, crops, counts = _all_crops(images, boxes, 24)
        if not len(crops):
            return boxes
        refined = []
        parts = [values.split(counts) for values in self.rnet(crops)]
        for own, offsets, probability in zip(boxes, *parts, strict=True):
            confident = probability > THRESHOLDS[1]
            own, scores, offsets = own[confident], probability[confident], offsets[confident]
            kept = nms(own, scores, 0.7)
            refined.append(_square(_moved(own[kept], offsets[kept])))
        return refined

    def _place(self, images: Tensor, boxes: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        boxes, crops, counts = _all_crops(images, boxes, 48)
        if not len(crops):
            return [(own.new_zeros(0, 5), own.new_zeros(0, 5, 2)) for own in boxes]
        placed = []
        parts = [values.split(counts) for values in self.onet(crops)]
        for own, offsets, points, probability in zip(boxes, *parts, strict=True):
            confident = probability > THRESHOLDS[2]
            own, scores = own[confident], probability[confident]
            offsets, points = offsets[confident], points[confident]
            sides = own[:, 2:] - own[:, :2] + 1
            points = points.unflatten(1, (2, 5)).transpose(1, 2) * sides[:, None] + own[:, None, :2] - 1
            moved = _moved(own, offsets)
            kept = _without_contained(moved, scores)
            placed.append((torch.cat([moved, scores[:, None]], dim=1)[kept], points[kept]))
        return placed


class _Proposal(nn.Module):
    """P-Net: fully convolutional network on 12 x 12 cells."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1, self.conv4_2 = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, 3, H, W) to offsets (B, 4, h, w) and probabilities (B, h, w)."""
        x = F.max_pool2d(self.prelu1(self.conv1(x)), 2, 2, ceil_mode=True)
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
        return self.conv4_2(x), self.conv4_1(x).softmax(dim=1)[:, 1]


class _Refinement(nn.Module):
    """R-Net: refines boxes on 24 x 24 crops."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.dense5_1, self.dense5_2 = nn.Linear(128, 2), nn.Linear(128, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (K, 3, 24, 24) to offsets (K, 4) and probabilities (K,)."""
        x = F.max_pool2d(self.prelu1(self.conv1(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = self.prelu3(self.conv3(x))
        x = self.prelu4(self.dense4(_columns_first(x)))
        return self.dense5_2(x), self.dense5_1(x).softmax(dim=1)[:, 1]


class _Output(nn.Module):
    """O-Net: refines boxes and predicts landmarks on 48 x 48 crops."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2, self.dense6_3 = nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps (K, 3, 48, 48) to offsets (K, 4), landmarks (K, 10) (five x, then five y) and probabilities (K,)."""
        x = F.max_pool2d(self.prelu1(self.conv1(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu3(self.conv3(x)), 2, 2, ceil_mode=True)
        x = self.prelu4(self.conv4(x))
        x = self.prelu5(self.dense5(_columns_first(x)))
        return self.dense6_2(x), self.dense6_3(x), self.dense6_1(x).softmax(dim=1)[:, 1]


def _cells(offsets: Tensor, probability: Tensor, scale: float) -> Tensor:
    """Returns (K, 9) boxes, probabilities and offsets of the confident cells of one frame at one scale."""
    cells = (probability >= THRESHOLDS[0]).nonzero()
    corner = cells.flip(1).float()
    low, high = torch.floor((2 * corner + 1) / scale), torch.floor((2 * corner + 12) / scale)
    scores = probability[cells[:, 0], cells[:, 1]]
    moves = offsets[:, cells[:, 0], cells[:, 1]].T
    rows = torch.cat([low, high, scores[:, None], moves], dim=1)
    return rows[nms(rows[:, :4], rows[:, 4], 0.5)]


def _proposals(rows: Tensor) -> Tensor:
    rows = rows[nms(rows[:, :4], rows[:, 4], 0.7)]
    sides = rows[:, 2:4] - rows[:, :2]
    return _square(rows[:, :4] + rows[:, 5:] * torch.cat([sides, sides], dim=1))


def _sorted(faces: Tensor, points: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Sorts faces by area, the largest first."""
    area = (faces[:, 2] - faces[:, 0]) * (faces[:, 3] - faces[:, 1])
    order = area.argsort(descending=True, stable=True)
    return faces[order].cpu().numpy(), points[order].cpu().numpy()


def _columns_first(x: Tensor) -> Tensor:
    """Flattens maps in the order of the original Caffe weights: width, height, channels."""
    return x.permute(0, 3, 2, 1).flatten(1)


def _normalised(x: Tensor) -> Tensor:
    return (x - 127.5) * 0.0078125


def _square(boxes: Tensor) -> Tensor:
    """Expands boxes about their centres to squares of the longer side."""
    sides = boxes[:, 2:] - boxes[:, :2]
    longest = sides.amax(dim=1, keepdim=True)
    low = boxes[:, :2] + sides / 2 - longest / 2
    return torch.cat([low, low + longest], dim=1)


def _moved(boxes: Tensor, offsets: Tensor) -> Tensor:
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    return boxes + offsets * torch.cat([sides, sides], dim=1)


def _crops(image: Tensor, boxes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Returns the boxes that overlap the image, and their (K, 3, size, size) crops; pixels count from 1 (Matlab)."""
    height, width = image.shape[2:]
    kept, crops = [], []
    for place, (left, top, right, bottom) in enumerate(boxes.trunc().int().tolist()):
        left, top, right, bottom = max(left, 1), max(top, 1), min(right, width), min(bottom, height)
        if bottom > top - 1 and right > left - 1:
            part = image[:, :, top - 1 : bottom, left - 1 : right]
            crops.append(F.interpolate(part, size=(size, size), mode="area"))
            kept.append(place)
    if not crops:
        return boxes[:0], image.new_zeros(0, 3, size, size)
    return boxes[kept], _normalised(torch.cat(crops))


def _all_crops(images: Tensor, boxes: list[Tensor], size: int) -> tuple[list[Tensor], Tensor, list[int]]:
    """Returns the overlapping boxes of each frame, the crops of all frames, and their number per frame."""
    parts = [_crops(image[None], own, size) for image, own in zip(images, boxes, strict=True)]
    kept = [own for own, _ in parts]
    return kept, torch.cat([crops for _, crops in parts]), [len(own) for own in kept]


def _without_contained(boxes: Tensor, scores: Tensor, overlap: float = 0.7) -> Tensor:
    """Non-maximum suppression by intersection over the smaller area; returns indices by descending score."""
    left = scores.argsort(descending=True, stable=True).tolist()
    areas = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        rest = []
        for other in left:
            low = torch.maximum(boxes[best, :2], boxes[other, :2])
            high = torch.minimum(boxes[best, 2:], boxes[other, 2:])
            inter = (high - low + 1).clamp(min=0).prod()
            if inter <= overlap * torch.minimum(areas[best], areas[other]):
                rest.append(other)
        left = rest
    return torch.tensor(kept, dtype=torch.long, device=boxes.device)


def _name(weights: Weights) -> object:
    return weights.name if isinstance(weights, Path) else weights if isinstance(weights, str) else "MTCNN's tensors"
