"""Mean and standard deviation of a training set's lip and expression latents, stored with V-AID's weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from datamodules.schema import ShardError


@dataclass(frozen=True)
class MotionStatistics:
    """Mean and standard deviation per dimension over all frames of the training clips."""

    lip_mean: tuple[float, ...]
    lip_std: tuple[float, ...]
    expression_mean: tuple[float, ...]
    expression_std: tuple[float, ...]


def motion_statistics(clips: Iterable[tuple[str, np.ndarray, np.ndarray]]) -> MotionStatistics:
    """Computes the statistics over all frames of all clips in float64.

    Args:
        clips: Key, (F, d_l) lip and (F, d_e) expression latents of each clip.

    Raises:
        ShardError: If a value is not finite, naming clip and member, or if there is no clip.
    """
    sums: dict[str, list[np.ndarray]] = {}
    frames = 0
    for key, lip, expression in clips:
        frames += len(lip)
        for name, latent in (("lip", lip), ("expression", expression)):
            if not np.isfinite(latent).all():
                frame = int(np.flatnonzero(~np.isfinite(latent).all(1))[0])
                raise ShardError(
                    f"{key}.{name}.npy: frame {frame} has a value that is not finite; prepare this clip again"
                )
            wide = latent.astype(np.float64)
            # Shifted by the first frame, to avoid cancellation in the variance.
            shift, total, square = sums.setdefault(name, [wide[0].copy(), 0.0 * wide[0], 0.0 * wide[0]])
            total += (wide - shift).sum(0)
            square += np.square(wide - shift).sum(0)
    if not frames:
        raise ShardError("no training clips: expected at least one to compute the statistics of the latents")

    def moments(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
        shift, total, square = sums[name]
        mean = total / frames
        deviation = np.sqrt(np.maximum(square / frames - np.square(mean), 0))
        return tuple((mean + shift).tolist()), tuple(deviation.tolist())

    return MotionStatistics(*moments("lip"), *moments("expression"))
