"""Each video is decoded once for all metrics; another metric or length reads the cache."""

import threading

import numpy as np
import pytest

from evaluation import one_pass
from evaluation.aligned_clips import Alignment
from evaluation.cache import FeatureStore
from evaluation.one_pass import decode_once
from evaluation.pairs import Pair
from media import FrameReader
from tests.helpers.files import overwrite
from tests.helpers.synthetic_videos import proxy_settings, untrained, write_clip, write_speakers


class Means:
    """Collector of the mean of each frame, from ``first`` on."""

    def __init__(self, side, name, first=0, count=None):
        self.key = {"what": name, **side.video, "first": first, "count": count}
        self.first, self.count = first, side.info.frames if count is None else count
        self.values = []

    def add(self, frames):
        self.values += [frame.mean(dtype=float) for frame in frames]

    def arrays(self):
        return {"features": np.array(self.values)[:, None]}


@pytest.fixture
def clip(tmp_path):
    def path(name, gain):
        frames = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.full((1, 32, 32, 3), gain, np.uint8)
        return write_clip(tmp_path / f"{name}.mp4", frames)

    store = FeatureStore(tmp_path / "cache")
    return Alignment(25.0, None, 0, 0.5).open(Pair("clip", path("made", 3), path("real", 5)), store), store


@pytest.fixture
def decoded(monkeypatch):
    """List of (file, number of decoded frames) of each decoding."""
    found = []
    original = FrameReader.__iter__

    def counted(self):
        found.append([self.path.name, 0])
        own = found[-1]
        for frame in original(self):
            own[1] += 1
            yield frame

    monkeypatch.setattr(FrameReader, "__iter__", counted)
    return found


def test_collectors_share_one_decoding(clip, decoded):
    pair, store = clip
    made = [pair.reference, pair.generated]

    def collectors(_, side):
        return [Means(side, "all"), Means(side, "some", 5, 20), Means(side, "all")]

    assert decode_once([pair], collectors, (store, store), lambda _: None) == []
    assert decoded == [["real.mp4", 40], ["made.mp4", 40]]
    for side, gain in zip(made, (5, 3), strict=True):
        values = store.stored(store.digest(Means(side, "all").key))["features"][:, 0]
        np.testing.assert_allclose(values, np.arange(40) * gain, atol=3)
        some = store.stored(store.digest(Means(side, "some", 5, 20).key))["features"][:, 0]
        np.testing.assert_array_equal(some, values[5:25])
    decoded.clear()
    decode_once([pair], collectors, (store, store), lambda _: None)
    assert decoded == []
    decode_once([pair], lambda _, side: [Means(side, "late", 30, 4)], (store, store), lambda _: None)
    assert [count for _, count in decoded] == [4, 4]  # known to be whole: only these frames


def test_next_video_is_decoded_while_the_first_is_used(clip, decoded, monkeypatch):
    monkeypatch.setattr(one_pass, "BATCH", 8)
    pair, store = clip
    ahead = threading.Event()

    class Slow(Means):
        def add(self, frames):
            if self.key["content"] == pair.reference.sha256 and len(self.values) == 32:
                assert ahead.wait(20)  # the last batch is only used when the other video has begun
            super().add(frames)

    watcher = threading.Thread(target=_wait_for, args=(decoded, ahead))
    watcher.start()
    decode_once([pair], lambda _, side: [Slow(side, "slow")], (store, store), lambda _: None)
    watcher.join()
    assert ahead.is_set()


def _wait_for(decoded, event):
    while len(decoded) < 2:
        threading.Event().wait(0.01)
    event.set()


def test_collectors_of_a_video_run_at_the_same_time(clip):
    pair, store = clip
    meeting = threading.Barrier(2, timeout=20)

    class Meeting(Means):
        def add(self, frames):
            meeting.wait()
            super().add(frames)

    decode_once([pair], lambda _, side: [Meeting(side, "a"), Meeting(side, "b")], (store, store), lambda _: None)
    assert store.has(Means(pair.reference, "a").key)
    assert store.has(Means(pair.generated, "b").key)


def test_a_failing_collector_does_not_disturb_the_others(clip):
    pair, store = clip

    class Failing(Means):
        def add(self, frames):
            raise ValueError("landmarks coincide")

    decode_once([pair], lambda _, side: [Failing(side, "bad"), Means(side, "good")], (store, store), lambda _: None)
    assert not store.has(Failing(pair.reference, "bad").key)
    assert store.has(Means(pair.reference, "good").key)


def test_damage_is_found_while_decoding(clip):
    pair, store = clip
    path = pair.generated.path
    overwrite(path, path.stat().st_size // 2, np.random.default_rng(0).bytes(200))
    for _ in range(2):  # never noted as whole
        found = decode_once([pair], lambda _, side: [Means(side, "all")], (store, store), lambda _: None)
        assert [(row.clip, row.side, row.metric) for row in found] == [("clip", "generated", None)]
        assert "made.mp4" in found[0].reason


@pytest.mark.slow
def test_evaluations_decode_each_video_once(evaluate, tmp_path, decoded):
    write_speakers(tmp_path / "real", 3)
    write_speakers(tmp_path / "made", 3, gain=0.8)
    settings = proxy_settings(untrained(tmp_path))
    first = evaluate(tmp_path / "made", tmp_path / "real", metrics=["fid", "fvd", "efid"], **settings)[1]
    assert len(decoded) == 6
    assert sum(count for _, count in decoded) == 6 * 30
    decoded.clear()
    second = evaluate(tmp_path / "made", tmp_path / "real", metrics=["fid", "fvd", "efid"], **settings)[1]
    assert decoded == []
    assert second["metrics"] == first["metrics"]
    evaluate(tmp_path / "made", tmp_path / "real", metrics=["fid", "fvd"], drift=0.7, offset=2, **settings)
    assert all(count <= 16 for _, count in decoded)  # pieces of FVD only
