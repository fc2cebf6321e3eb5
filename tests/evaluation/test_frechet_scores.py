"""The arrays of an extractor are checked before they are stored."""

import numpy as np
import pytest

from evaluation.aligned_clips import Alignment
from evaluation.cache import FeatureStore
from evaluation.frechet_scores import features_of
from evaluation.pairs import EvaluationError, Pair
from tests.helpers.synthetic_videos import write_clip


class MeanColour:
    """Extractor of the mean of each colour channel, changed by ``modify``."""

    name, dimensions = "mean_colour", 3
    modify = staticmethod(lambda features, seen: {"features": features, "seen": seen})

    def key(self, side):
        return {}

    def extract(self, side):
        features = np.stack([frame.reshape(-1, 3).mean(0) for frame in side.reader()])
        return self.modify(features, np.asarray(side.frames))


@pytest.mark.parametrize(
    ("modify", "message"),
    [
        (lambda features, seen: {"features": features[:, :2], "seen": seen}, r"features \(4, 2\), seen \(\); expected"),
        (lambda features, seen: {"features": features[0], "seen": seen}, r"features \(3,\), seen \(\); expected"),
        (lambda features, seen: {"features": features}, r"returned features \(4, 3\); expected"),
        (lambda features, seen: {}, r"MeanColour.extract returned nothing; expected features \(samples, 3\)"),
    ],
)
def test_other_shapes_are_refused_and_not_stored(modify, message, tmp_path):
    path = write_clip(tmp_path / "clip.mp4", [np.full((32, 32, 3), 40 * level, np.uint8) for level in range(4)])
    store = FeatureStore(tmp_path / "cache")
    clip = Alignment(25.0, None, 0, 0.5).open(Pair("clip", path, path), store)
    extractor = MeanColour()
    extractor.modify = modify
    with pytest.raises(EvaluationError, match=message):
        features_of(extractor, clip, clip.reference, store)
    del extractor.modify  # corrected, with the same key
    assert features_of(extractor, clip, clip.reference, store)["features"].shape == (4, 3)
