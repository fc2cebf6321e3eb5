"""FID of two image folders, equal to pytorch-fid 0.3.0.

Shapes: N images, H x W pixels, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from media.pictures import opened_picture
from media.source import MediaError
from metrics.functional.frechet import (
    Gaussian,
    Moments,
    add_features,
    distance_between,
    gaussian,
    no_moments,
    warn_if_rank_deficient,
)

EXTENSIONS = ("bmp", "jpg", "jpeg", "pgm", "png", "ppm", "tif", "tiff", "webp")


def list_images(folder: Path) -> list[Path]:
    """Lists the images of a folder as pytorch-fid does: lower-case extensions, sorted, not recursive.

    Raises:
        ValueError: If the folder has no image.
    """
    found = sorted(path for extension in EXTENSIONS for path in folder.glob(f"*.{extension}"))
    if not found:
        raise ValueError(f"{folder}: has no image ({', '.join(EXTENSIONS)}; subfolders are not searched)")
    return found


def read_image(path: Path) -> Tensor:
    """Reads an image as (3, H, W) uint8 RGB.

    Raises:
        ValueError: If the file is not a readable image.
    """
    try:
        with opened_picture(path) as image:
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    except MediaError as error:
        raise ValueError(f"{error}, or remove it") from None


def image_batches(paths: list[Path], batch_size: int) -> Iterator[Tensor]:
    """Yields (B, 3, H, W) uint8 batches in order; the last batch may be smaller.

    Raises:
        ValueError: If the images differ in size.
    """
    size: torch.Size | None = None
    for start in range(0, len(paths), batch_size):
        images = [read_image(path) for path in paths[start : start + batch_size]]
        for path, image in zip(paths[start:], images, strict=False):
            size = size or image.shape
            if image.shape != size:
                raise ValueError(
                    f"{path}: has {image.shape[2]} x {image.shape[1]} pixels, expected {size[2]} x {size[1]} as in the "
                    "images before it; all images of a folder must have one size"
                )
        yield torch.stack(images)


def folder_moments(folder: Path, network: Callable[[Tensor], Tensor], dimensions: int, batch_size: int = 50) -> Moments:
    """Computes the feature moments of all images of a folder."""
    moments = no_moments(dimensions)
    for images in image_batches(list_images(folder), batch_size):
        moments = add_features(moments, network(images))
    return moments


def frechet_inception_distance(
    reference: str | Path,
    generated: str | Path,
    network: Callable[[Tensor], Tensor],
    dimensions: int = 2048,
    batch_size: int = 50,
) -> float:
    """Computes the FID of two folders of images; lower is better, 0 is equal.

    Protocol: pytorch-fid 0.3.0 (all frames pooled, its Inception network, covariance divided by N - 1, float64).
    Source: Heusel et al., NeurIPS 2017.

    Args:
        reference: Folder of the real images, or a ``.npz`` file with ``mu`` and ``sigma`` as written by pytorch-fid.
        generated: Folder or ``.npz`` file of the generated images.
        network: Feature network, (B, 3, H, W) uint8 to (B, D).
        dimensions: Number of dimensions D.
        batch_size: Number of images per forward pass; does not change the value.

    Examples:
        >>> from metrics.functional.fid import frechet_inception_distance
        >>> from metrics.networks.inception import InceptionFeatures
        >>> network = InceptionFeatures("pt_inception-2015-12-05-6726825d.pth")  # doctest: +SKIP
        >>> frechet_inception_distance("frames/real", "frames/fake", network)  # doctest: +SKIP
        12.34

    Raises:
        ValueError: If a folder has fewer than two images, an unreadable image, or images of different sizes.
    """
    sides: list[Gaussian] = []
    for path in (Path(reference), Path(generated)):
        if path.suffix == ".npz":
            with np.load(path) as stored:
                if not {"mu", "sigma"} <= set(stored.files):
                    raise ValueError(f"{path}: found {', '.join(stored.files)}, expected mu and sigma")
                mean, covariance = (torch.from_numpy(stored[key]).double() for key in ("mu", "sigma"))
            sides.append(Gaussian(mean, covariance=covariance))
        elif path.is_dir():
            moments = folder_moments(path, network, dimensions, batch_size)
            warn_if_rank_deficient(f"FID, {path}", moments.samples, dimensions)
            sides.append(gaussian(moments))
        else:
            raise ValueError(f"{path}: expected a folder of images or a .npz file of statistics")
    return float(distance_between(sides[0], sides[1]))
