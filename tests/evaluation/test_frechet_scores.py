"""What an extractor returns is held against its protocol before it is kept."""

import numpy as np
import pytest

from evaluation.aligned_clips import Alignment
from evaluation.cache import FeatureStore
from evaluation.frechet_scores import features_of
from evaluation.pairs import EvaluationError, Pair
from tests.helpers.synthetic_videos import write_clip


class Levels:
    """Mean level of each colour channel, or what ``slip`` makes of it."""

    name, dimensions = "levels", 3
    slip = staticmethod(lambda features, seen: {"features": features, "seen": seen})

    def key(self, side):
        return {}

    def extract(self, side):
        features = np.stack([frame.reshape(-1, 3).mean(0) for frame in side.reader()])
        return self.slip(features, np.asarray(side.frames))


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        (lambda features, seen: {"features": features[:, :2], "seen": seen}, r"features \(4, 2\), seen \(\); expected"),
        (lambda features, seen: {"features": features[0], "seen": seen}, r"features \(3,\), seen \(\); expected"),
        (lambda features, seen: {"features": features}, r"returned features \(4, 3\); expected"),
        (lambda features, seen: {}, r"Levels.extract returned nothing; expected features \(samples, 3\)"),
    ],
)
def test_another_shape_is_refused_and_not_kept(slip, message, tmp_path):
    path = write_clip(tmp_path / "clip.mp4", [np.full((32, 32, 3), 40 * level, np.uint8) for level in range(4)])
    store = FeatureStore(tmp_path / "cache")
    clip = Alignment(25.0, None, 0, 0.5).open(Pair("clip", path, path), store)
    levels = Levels()
    levels.slip = slip
    with pytest.raises(EvaluationError, match=message):
        features_of(levels, clip, clip.reference, store)
    del levels.slip  # mended, under the same key
    assert features_of(levels, clip, clip.reference, store)["features"].shape == (4, 3)
