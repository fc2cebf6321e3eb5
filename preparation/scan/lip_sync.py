"""Agreement of lips and sound: by SyncNet, and without it as correlation of jaw opening and speech envelope.

The correlation is weak evidence: on real clips in sync it reaches 0.08 to 0.56, on clips with another person's speech
up to 0.43. The lag is right where the correlation is high only. It is recorded, and no default rejects or corrects by
it.

Shapes: F frames at 25 fps, B blocks of 10 ms.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.signal import butter, sosfiltfilt

from encoders.landmarks.boxes import face_extents
from encoders.protocols import FPS, SAMPLE_RATE, Face, LandmarkScheme
from metrics.functional.tracking import Track
from metrics.networks.syncnet import SyncNet
from metrics.sync_pipeline import score_clip, track_in_memory

MAX_LAG = 5  # frames
BAND = (1.0, 8.0)  # Hz; syllables
SHORTEST = 50  # frames; below, a correlation means nothing
MISSING = 0.1  # largest share of frames without a face
LONGEST = 500  # frames of a shot that SyncNet scores, from its middle
BLOCKS = 100 // FPS  # of a frame


def lip_envelope(jaw: np.ndarray, level: np.ndarray) -> tuple[float, int] | None:
    """Correlation of jaw opening and speech envelope at the best lag.

    Args:
        jaw: (F,) jaw opening of each frame; NaN without a face.
        level: (B,) level of the sound in the band of speech from the first frame on, dBFS.

    Returns:
        Pearson's r and the lag of the sound behind the lips, -5 to 5 frames. None if the shot is shorter than two
        seconds, the face is missing in more than a tenth of it, or one of the two stands still.
    """
    frames = min(len(jaw), len(level) // BLOCKS)
    if frames < SHORTEST or np.isnan(jaw[:frames]).mean() > MISSING:
        return None
    jaw = jaw[:frames]
    present = np.flatnonzero(~np.isnan(jaw))
    jaw = np.interp(np.arange(frames), present, jaw[present])
    envelope = np.sqrt((10 ** (level[: frames * BLOCKS] / 10)).reshape(frames, BLOCKS).mean(1))
    if np.ptp(jaw) < 1e-4 or np.ptp(envelope) < 1e-6:
        return None
    syllables = butter(2, BAND, "band", fs=FPS, output="sos")
    jaw, envelope = (sosfiltfilt(syllables, series) for series in (jaw, envelope))

    def correlation(lag: int) -> float:
        a = jaw[max(0, -lag) : frames - max(0, lag)]
        b = envelope[max(0, lag) : frames - max(0, -lag)]
        return float(np.corrcoef(a, b)[0, 1])

    values = {lag: correlation(lag) for lag in sorted(range(-MAX_LAG, MAX_LAG + 1), key=abs)}
    best = max(values, key=lambda lag: values[lag])
    return values[best], best


def scored_span(faces: list[Face | None]) -> tuple[int, int] | None:
    """First frame, and frame after the last, of the part of a shot that SyncNet scores; None where it cannot."""
    frames = len(faces)
    if frames < SHORTEST or sum(face is None for face in faces) > MISSING * frames:
        return None
    length = min(frames, LONGEST)
    first = (frames - length) // 2
    known = [place for place in range(first, first + length) if faces[place] is not None]
    return (first, first + length) if known else None


def syncnet_scores(
    pictures: Iterable[np.ndarray],
    faces: list[Face | None],
    scheme: LandmarkScheme,
    sound: np.ndarray,
    network: SyncNet,
) -> tuple[float, int] | None:
    """SyncNet's confidence and the lag of the sound behind the lips, -15 to 15 frames.

    Args:
        pictures: F pictures (H, W, 3) uint8 RGB, read one at a time.
        faces: Face of each picture; missing ones are interpolated.
        scheme: Landmark scheme.
        sound: (S,) float32 samples at 16 kHz in [-1, 1] that start with the first picture.
        network: SyncNet.

    Returns:
        The scores; None if the sound is too short.
    """
    every = np.arange(len(faces))
    known = np.array([place for place, face in enumerate(faces) if face is not None])
    seen = np.stack([face.landmarks for face in faces if face is not None])
    extents = face_extents(seen, scheme)
    boxes = np.stack([np.interp(every, known, extents[:, side]) for side in range(4)], axis=1)
    samples = np.round(sound[: len(faces) * SAMPLE_RATE // FPS] * 32767).astype(np.int16)
    if len(samples) < SHORTEST * SAMPLE_RATE // FPS:
        return None
    scores = score_clip(track_in_memory(pictures, samples, Track(every, boxes, len(known))), network)
    return scores.confidence, -scores.offset
