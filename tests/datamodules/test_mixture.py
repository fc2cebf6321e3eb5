"""Mixtures: exact weights, every clip once per pass without weights, and errors for datasets that do not match."""

import statistics
from collections import Counter
from pathlib import Path

import hydra
import pytest
from omegaconf import OmegaConf

from configs.data import DataConfig
from datamodules.mixture import MixtureDataModule, datamodule, whole_shares
from datamodules.schema import Index, LatentStatistics, ShardError
from encoders.protocols import Identity
from tests.helpers.shards import TINY, arrays_of, change_index, make_shards


@pytest.fixture
def roots(tmp_path):
    make_shards(tmp_path / "hdtf", samples=6, shards=2, dataset="hdtf", speech=False)
    make_shards(tmp_path / "mead", samples=9, shards=2, dataset="mead", speech=False, seed=1)
    return {"hdtf": str(tmp_path / "hdtf"), "mead": str(tmp_path / "mead")}


def mixture(roots, **changes):
    settings = {"fields": ["lip"], "workers": 0, "batch_size": 3, "steps_per_epoch": 5}
    return MixtureDataModule(roots=roots, **{**settings, **changes})


def test_without_weights_every_clip_is_drawn_once_per_pass(roots):
    keys = [key for batch in mixture(roots).train_dataloader() for key in batch["key"]]
    assert sorted(keys) == [f"{name}/clip_{i:04d}" for name, clips in (("hdtf", 6), ("mead", 9)) for i in range(clips)]


def test_weights_are_exact_in_every_batch(roots):
    keys = []
    for batch in mixture(roots, weights={"hdtf": 2, "mead": 1}).train_dataloader():
        assert Counter(batch["dataset"]) == {"hdtf": 2, "mead": 1}
        keys += [key for key in batch["key"] if key.startswith("hdtf/")]
    assert len(set(keys[:6])) == 6  # one pass over the smaller dataset


def test_a_mixture_by_frames_draws_each_second_equally_often(roots, tmp_path):
    """HDTF has 300 training frames in 6 clips, MEAD 1,200 in 9 clips."""
    make_shards(tmp_path / "long", samples=9, frames=(150, 120, 130), shards=2, dataset="mead", speech=False, seed=1)
    both = {"hdtf": roots["hdtf"], "mead": str(tmp_path / "long")}
    made = mixture(both, mix="frames", batch_size=25, steps_per_epoch=1)
    loader = made.train_dataloader()
    frames = Counter()
    for clip in made.clips["train"]:
        frames[clip.key.split("/")[0]] += clip.entry.frames
    assert frames == {"hdtf": 300, "mead": 1200}
    (batch,) = loader
    assert Counter(batch["dataset"])["hdtf"] == 5
    resumed = mixture({**both, "mead": roots["mead"]}, mix="frames", batch_size=25).train_dataloader()
    with pytest.raises(ShardError, match="data.weights: was"):
        resumed.load_state_dict(loader.state_dict())


def test_a_validation_has_clips_of_every_root(tmp_path):
    splits = ("train", "val")
    roots = {name: str(tmp_path / name) for name in ("hdtf", "mead")}
    for name, root in roots.items():
        make_shards(Path(root), samples=12, shards=2, dataset=name, speech=False, splits=splits, seed=len(name))
    made = mixture(roots)
    made.validation_clips = 4
    found = [key for batch in made.val_dataloader() for key in batch["key"]]
    assert found == ["hdtf/clip_0001", "hdtf/clip_0009", "mead/clip_0003", "mead/clip_0011"]


def test_whole_shares():
    assert whole_shares([1_420_000, 3_100_000]) == [5, 11]
    assert whole_shares([1, 10**6]) == [1, 32]
    assert whole_shares([3, 3, 3]) == [1, 1, 1]


def test_samples_come_from_the_right_root(roots):
    """Both roots have equal keys with different data."""
    for batch in mixture(roots, window=24).train_dataloader():
        for key, start, lip in zip(batch["key"], batch["start"].tolist(), batch["lip"], strict=True):
            name, clip = key.split("/")
            frames = (40, 50, 60)[int(clip[-4:]) % 3]
            whole = arrays_of(clip, frames, TINY, seed=("hdtf", "mead").index(name))["lip.npy"]
            assert lip.numpy().tolist() == whole[start : start + 24].tolist()


def test_other_encoders_or_sizes_are_rejected(roots, tmp_path):
    folder = Path(roots["mead"])
    encoders = Index.read(folder).encoders
    change_index(folder, encoders={**encoders, "audio": Identity("wav2vec2")})
    with pytest.raises(ShardError, match="audio: shards have Identity"):
        mixture(roots).setup()
    change_index(folder, encoders=encoders, frame_size=64)
    with pytest.raises(ShardError, match="64 px and .* another root of the mixture has 32 px"):
        mixture(roots).setup()


def test_latent_statistics_are_pooled(roots):
    """Compared with the moments of the union of the samples {0, 2} and {3, 3, 9, 9}."""
    for name, mean, std, frames in (("hdtf", 1.0, 1.0, 2), ("mead", 6.0, 3.0, 4)):
        change_index(Path(roots[name]), latent=LatentStatistics((mean,) * 4, (std,) * 4, frames))
    pooled = mixture(roots).latent_statistics
    values = [0, 2, 3, 3, 9, 9]
    assert pooled.mean == pytest.approx([statistics.fmean(values)] * 4)
    assert pooled.std == pytest.approx([statistics.pstdev(values)] * 4)
    assert pooled.frames == 6


def test_a_root_without_training_clips_is_rejected(roots, tmp_path):
    make_shards(tmp_path / "val", samples=3, shards=1, dataset="folder", splits=("val",), speech=False)
    three = {**roots, "extra": str(tmp_path / "val")}
    with pytest.raises(ShardError, match="no training clips; remove data.weights.extra"):
        mixture(three, weights={"hdtf": 1, "mead": 1, "extra": 1}).train_dataloader()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hdtf", "mead", "folder", "synthetic", "mixture"])
def test_committed_configurations_build(name, roots):
    overrides = [f"data.roots.{key}={root}" for key, root in roots.items()] if name == "mixture" else ["+data.root=/x"]
    with hydra.initialize_config_module("configs", version_base="1.3"):
        config = hydra.compose(overrides=[f"+data={name}", *overrides])
    typed = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(DataConfig), config.data))
    assert datamodule(typed).config.name == name


def test_the_name_selects_the_data_module(roots):
    assert not isinstance(datamodule(DataConfig(name="hdtf", root=roots["hdtf"])), MixtureDataModule)
    with pytest.raises(ValueError, match="data.name=x"):
        datamodule(DataConfig(name="x"))
