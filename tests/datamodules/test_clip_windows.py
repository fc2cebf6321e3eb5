"""Windows and references against the arrays from which the shards were written."""

import dataclasses
import io

import numpy as np
import pytest
import torch

from datamodules.clip_windows import EMOTIONS
from datamodules.datamodule import ShardDataModule
from datamodules.decoding import decode_frames
from datamodules.schema import Index, ShardError
from runtime.files import sha256_of
from tests.helpers.files import overwrite
from tests.helpers.shards import TINY, arrays_of, change_index, flac, make_shards, ramp
from tests.helpers.videos import encode_frames

FIELDS = ["audio", "lip", "expression", "latent", "boxes", "portraits", "speech", "factors"]


def loader(folder, **changes):
    settings = {"fields": FIELDS, "window": 45, "batch_size": 6, "steps_per_epoch": 4, "workers": 0}
    return ShardDataModule(root=str(folder), **{**settings, **changes}).train_dataloader()


def frames_of(key):
    return (30, 45, 60)[int(key.removeprefix("clip_")) % 3]


@pytest.mark.slow
@pytest.mark.parametrize("pad", [True, False])
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_contain_the_frames_of_their_windows(folder, pad, workers):
    for batch in loader(folder, pad=pad, workers=workers):
        length = 45 if pad else 30
        for i, key in enumerate(batch["key"]):
            clip, total = int(key.removeprefix("clip_")), frames_of(key)
            arrays = arrays_of(key, total, TINY)
            start, frames = int(batch["start"][i]), int(batch["frames"][i])
            assert frames == (min(45, total) if pad else 30)
            assert 0 <= start <= total - frames
            assert batch["mask"][i].tolist() == [True] * frames + [False] * (length - frames)
            for field in ("audio", "lip", "expression", "latent", "boxes", "factors"):
                whole, found = arrays[f"{field}.npy"], batch[field][i].numpy()
                assert found.dtype == whole.dtype
                np.testing.assert_array_equal(found[:frames], whole[start : start + frames])
                assert not found[frames:].any()
            speech = np.zeros(length * 640, np.float32)
            speech[: frames * 640] = ramp(total)[start * 640 : (start + frames) * 640] / 2**15
            np.testing.assert_array_equal(batch["speech"][i].numpy(), speech)

            reference = int(batch["reference_frame"][i])
            portrait = (1, 7, total // 2, total - 1).index(reference)
            np.testing.assert_array_equal(batch["reference_portrait"][i].numpy(), arrays["portraits.npy"][portrait])
            for field in ("latent", "expression", "boxes"):
                np.testing.assert_array_equal(batch[f"reference_{field}"][i].numpy(), arrays[f"{field}.npy"][reference])
            np.testing.assert_array_equal(batch["first_expression"][i].numpy(), arrays["expression.npy"][0])

            assert batch["emotion"][i] == ("happy", "sad", None)[clip % 3]
            index = int(batch["emotion_index"][i])
            assert (EMOTIONS[index] if index >= 0 else None) == batch["emotion"][i]
            assert int(batch["level"][i]) == 1 + clip % 3


def test_all_portraits_and_many_starts_occur(folder):
    seen = {}
    for batch in loader(folder, batch_size=12, steps_per_epoch=40, window=24, fields=["expression"]):
        for key, start, reference in zip(batch["key"], batch["start"], batch["reference_frame"], strict=True):
            seen.setdefault(key, []).append((int(start), int(reference)))
    for key, drawn in seen.items():
        frames = frames_of(key)
        assert {reference for _, reference in drawn} == {1, 7, frames // 2, frames - 1}
        assert len({start for start, _ in drawn}) >= 5  # out of frames - 23 possible starts, in 40 passes


def test_length_without_padding_is_that_of_the_shortest_clip(folder):
    lengths = set()
    for batch in loader(folder, pad=False, window=50, batch_size=2, steps_per_epoch=30, fields=["lip"]):
        assert batch["lip"].shape[1] == min(50, *map(frames_of, batch["key"]))
        assert batch["mask"].all()
        lengths.add(batch["lip"].shape[1])
    assert lengths == {30, 45, 50}


def test_a_field_that_was_not_stored_is_named(folder):
    with pytest.raises(ShardError, match=r"clip_\d+.video.mp4: the sample has no such member; remove its field"):
        next(iter(loader(folder, fields=["video"])))


def test_decode_frames_returns_the_frames_of_the_window():
    """Frame n of the video is grey with value 4 n."""
    out = io.BytesIO()
    encode_frames(out, (np.full((32, 32, 3), 4 * number, np.uint8) for number in range(50)), format="mp4")
    frames = decode_frames(out.getvalue(), 7, 30, "x")
    assert frames.shape == (30, 32, 32, 3)
    np.testing.assert_allclose(frames.mean((1, 2, 3)), 4 * np.arange(7, 37), atol=2)
    with pytest.raises(ShardError, match="ends at frame 50"):
        decode_frames(out.getvalue(), 40, 11, "x")
    with pytest.raises(ShardError, match="cannot be decoded"):
        decode_frames(b"not an mp4" * 100, 0, 1, "x")


def test_speech_of_another_length_is_rejected(tmp_path):
    first, *others = make_shards(tmp_path, samples=3, shards=1, frames=(30,)).samples
    longer, (place, _) = flac(ramp(31)), first.members["speech.flac"]
    overwrite(tmp_path / first.shard, place, longer)
    members = {**first.members, "speech.flac": (place, len(longer))}
    (shard,) = Index.read(tmp_path).shards
    shard = dataclasses.replace(shard, sha256=sha256_of(tmp_path / shard.name))
    change_index(tmp_path, shards=(shard,), samples=(dataclasses.replace(first, members=members), *others))
    with pytest.raises(ShardError, match="speech.flac has 19840 samples, expected 19200 for 30 frames"):
        list(loader(tmp_path, fields=["speech"], batch_size=3, steps_per_epoch=1))


def test_lightning_can_move_batches(folder):
    from lightning.fabric.utilities import move_data_to_device

    batch = next(iter(loader(folder, batch_size=6)))
    moved = move_data_to_device(batch, torch.device("meta"))
    assert all(value.device.type == "meta" for value in moved.values() if isinstance(value, torch.Tensor))
    assert moved["key"] == batch["key"]
