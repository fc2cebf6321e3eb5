"""The arrays of an extractor are checked before they are stored; FVD's real pieces are the same for every system."""

import shutil

import numpy as np
import pytest

from evaluation.aligned_clips import Alignment
from evaluation.cache import FeatureStore
from evaluation.frechet_scores import features_of
from evaluation.pairs import EvaluationError, Pair
from tests.helpers.synthetic_videos import proxy_settings, untrained, write_clip


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


LENGTHS = (52, 47, 60, 39, 55)


@pytest.fixture(scope="module")
def systems(tmp_path_factory):
    """Real videos, and three systems: complete, without the first video, and with four frames less."""
    root = tmp_path_factory.mktemp("systems")
    draw = np.random.default_rng(0)
    for number, length in enumerate(LENGTHS):
        frames = draw.integers(0, 255, (length, 4, 4, 3), np.uint8).repeat(8, 1).repeat(8, 2)
        write_clip(root / "real" / f"{number}.mp4", frames)
        write_clip(root / "shorter" / f"{number}.mp4", frames[: length - 4] // 2)
    shutil.copytree(root / "real", root / "complete")
    shutil.copytree(root / "real", root / "incomplete")
    (root / "incomplete" / "0.mp4").unlink()
    return root


def test_every_system_meets_the_same_real_pieces(systems, evaluate, tmp_path):
    keys = {"metrics": ["fvd"], "bootstrap": 0, "fvd": proxy_settings(untrained(tmp_path))["fvd"]}
    starts, kept = {}, {}
    for name in ("complete", "incomplete", "shorter"):
        _, results = evaluate(systems / name, systems / "real", allow_missing=True, **keys)
        starts[name] = {clip["clip"]: clip["metrics"]["fvd"]["first_frames"]["reference"] for clip in results["clips"]}
        kept[name] = {path.name for path in (tmp_path / "cache").rglob("*.npz")}
    assert starts["shorter"] == starts["complete"]
    assert starts["incomplete"] == {name: first for name, first in starts["complete"].items() if name != "0"}
    assert len(set(starts["complete"].values())) > 1
    assert kept["shorter"] >= kept["incomplete"] == kept["complete"]  # the real pieces are read from the cache
