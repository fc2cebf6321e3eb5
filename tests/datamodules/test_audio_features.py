"""Audio features made while training equal those that prepare.py stores."""

from __future__ import annotations

import copy

import lightning as L
import pytest
import torch

from configs.command_line import compose
from configs.preparation import PrepareConfig
from datamodules.audio_features import AudioFeatures
from datamodules.clip_windows import micro_batches
from datamodules.datamodule import ShardDataModule
from datamodules.schema import Index, ShardError, array_layout
from encoders.audio.wav2vec2 import Wav2Vec2Encoder
from encoders.factory import EncoderError
from encoders.protocols import Identity
from preparation.check import check
from preparation.plan import bytes_per_frame, settings_of
from preparation.synthetic import write_dataset
from tests.helpers.prepare_command import prepare
from tests.helpers.refusals import refuses
from tests.helpers.shards import change_index

SETTINGS = {"dataset": "mead", "preset": "tiny", "workers": 1, "dataset__split": "train"}


@pytest.fixture(scope="module")
def shards(once):
    """The same clips, with audio features and without."""

    def make(folder):
        write_dataset(folder / "raw", layout="mead", identities=3, clips_per_identity=2, seconds=2.0, size=96, seed=4)
        for name, stored in (("stored", "true"), ("bare", "false")):
            done = prepare(**SETTINGS, source=folder / "raw", output=folder / name, store_audio=stored)
            assert done.returncode == 0, done.stderr

    folder = once("audio features", make)
    return folder / "stored", folder / "bare"


def module(root, **settings):
    data = ShardDataModule(root=str(root), **{"fields": ["audio", "lip"], "window": 30, "workers": 0, **settings})
    data.setup()
    return data


def test_shards_without_features_are_valid_and_smaller(shards):
    stored, bare = map(Index.read, shards)
    assert check(shards[1]) == []
    assert (stored.stores_audio, bare.stores_audio) == (True, False)
    assert (bare.dimensions, bare.encoders) == (stored.dimensions, stored.encoders)
    assert list(bare.samples.keys_of()) == list(stored.samples.keys_of())
    size = 4 * 80 * 2
    frames = int(stored.samples.frames.sum())
    saved = sum(shard.bytes for shard in stored.shards) - sum(shard.bytes for shard in bare.shards)
    assert saved == pytest.approx(frames * size, rel=0.02)
    assert bytes_per_frame(stored.dimensions) - bytes_per_frame(stored.dimensions, audio=False) == size


def test_outputs_that_were_begun_before_continue():
    settings = settings_of(compose("prepare", PrepareConfig, ["preset=tiny", "dataset=folder"]))
    assert "store_audio" not in settings
    bare = settings_of(compose("prepare", PrepareConfig, ["preset=tiny", "dataset=folder", "store_audio=false"]))
    assert bare["store_audio"] is False


@pytest.mark.parametrize("settings", [{}, {"pad": False, "micro_batch": 2, "batch_size": 4}, {"workers": 2}])
def test_training_batches_are_those_of_stored_features(shards, settings):
    stored, encoded = module(shards[0], **settings), module(shards[1], audio="encoded", **settings)
    both = zip(stored.train_dataloader(), encoded.train_dataloader(), range(3), strict=False)
    for wanted, found, _ in both:
        batch = encoded.on_after_batch_transfer(copy.deepcopy(found), 0)
        for ours, theirs in zip(micro_batches(batch), micro_batches(wanted), strict=True):
            assert ours.keys() == theirs.keys()
            assert ours["audio"].dtype == torch.float16
            for name, value in theirs.items():
                assert torch.equal(ours[name], value) if isinstance(value, torch.Tensor) else ours[name] == value


def test_stored_shards_may_be_encoded_and_whole_clips_too(shards):
    stored, encoded = module(shards[0]), module(shards[0], audio="encoded")
    for clip, same in zip(stored.clips["train"], encoded.clips["train"], strict=True):
        for frames in (None, 20):
            wanted = stored.whole(clip, ["audio"], frames)["audio"]
            assert torch.equal(encoded.whole(same, ["audio"], frames)["audio"], wanted)
    assert "clip_speech" not in encoded.whole(same, ["lip"])


def test_lightning_gives_the_features_to_the_module(shards):
    seen = []

    class Module(L.LightningModule):
        def training_step(self, batch, index):
            seen.append(batch["audio"])
            return

        def configure_optimizers(self):
            return

    trainer = L.Trainer(max_steps=-1, max_epochs=1, limit_train_batches=2, logger=False, accelerator="cpu",
                        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    trainer.fit(Module(), datamodule=module(shards[1], audio="encoded"))
    wanted = [batch["audio"] for batch, _ in zip(module(shards[0]).train_dataloader(), range(2), strict=False)]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(seen, wanted, strict=True))


def test_shards_without_features_say_what_to_set(shards):
    refuses(ShardError, "stores no audio features .* set data.audio=encoded", module, shards[1])
    module(shards[1], fields=["lip"])


def test_another_encoder_is_refused_before_training(shards, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for path in shards[1].glob("*.*"):
        (other / path.name).symlink_to(path) if path.suffix == ".tar" else (other / path.name).write_bytes(
            path.read_bytes()
        )
    index = Index.read(other)
    change_index(other, encoders={**index.encoders, "audio": Identity("mel", {"bands": 40})})
    refuses(EncoderError, "encoders.audio: found .*expected", module, other, audio="encoded")


def test_features_of_recent_clips_are_kept_within_a_limit(shards):
    data = module(shards[1], audio="encoded")
    index = Index.read(shards[1])
    clips = list(data.clips["train"])
    size = 2 * int(array_layout(index.dimensions, clips[0].entry.frames)["audio.npy"][1][0]) * 4 * 80
    features = AudioFeatures(index.encoders["audio"], index.dimensions, kept_bytes=2 * size)
    data._audio = features
    for clip in [*clips[:2], *clips[:2]]:
        data.whole(clip, ["audio"])
    assert features.encoded == 2
    for clip in [*clips[:3], clips[0]]:
        data.whole(clip, ["audio"])
    assert features.encoded == 4


def test_a_window_has_the_features_of_the_whole_clip(tmp_path, monkeypatch):
    """wav2vec 2.0 receives the whole clip: its features of a cut-out differ."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        hidden_size=48, num_attention_heads=4, intermediate_size=64, conv_dim=(32,) * 7, num_conv_pos_embeddings=16
    )
    transformers.Wav2Vec2Model(config).save_pretrained(tmp_path)
    encoder = Wav2Vec2Encoder(str(tmp_path), layers=3)
    speech = torch.randn(60 * 640).mul(0.1)
    whole = encoder(speech).half()
    assert (encoder(speech[20 * 640 : 40 * 640]).half() - whole[20:40]).abs().max() > 0.01
    dims = type("Sizes", (), {"audio_layers": 3, "audio_width": 48})
    features = AudioFeatures(encoder.identity, dims, str(tmp_path))
    batch = {
        "key": ["a", "b"], "mask": torch.ones(2, 20, dtype=torch.bool), "start": torch.tensor([20, 5]),
        "frames": torch.tensor([20, 10]), "clip_frames": torch.tensor([60, 30]),
        "clip_speech": torch.stack([speech, torch.cat([speech[: 30 * 640], torch.zeros(30 * 640)])]),
    }  # fmt: skip
    features.add_to(batch)
    assert torch.equal(batch["audio"][0], whole[20:40])
    assert torch.equal(batch["audio"][1, :10], encoder(speech[: 30 * 640]).half()[5:15])
    assert not batch["audio"][1, 10:].any()
