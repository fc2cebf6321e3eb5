"""Encoder outputs are checked against the announced sizes before a shard is written."""

import pytest
import torch

from configs.preparation import EncoderConfig, EncodersConfig
from configs.registries import ENCODERS
from encoders.factory import EncoderError
from preparation.encoders import Encoders, announced_dimensions

FRAMES, SIZE = 5, 64


@pytest.fixture
def encoders() -> Encoders:
    names = {"landmarks": "sidecar", "audio": "mel", "motion": "landmarks", "codec": "patch"}
    return Encoders.build(EncodersConfig(**{kind: EncoderConfig(name) for kind, name in names.items()}), "cpu")


@pytest.fixture
def made(encoders) -> dict[str, torch.Tensor]:
    return {
        "audio": encoders.audio(torch.zeros(FRAMES * 640)),
        "lip": torch.zeros(FRAMES, 9),
        "expression": torch.zeros(FRAMES, 13),
        "latent": encoders.codec.encode(torch.zeros(FRAMES, 3, SIZE, SIZE, dtype=torch.uint8)),
    }


def test_announced_shapes_are_accepted(encoders, made):
    encoders.require_announced(made, FRAMES, SIZE)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("lip", lambda lip: lip[:, 0], r"encoders\.motion: landmarks returned a tensor of \(5,\) as lip .*\(5, 9\)"),
        ("lip", lambda lip: lip.numpy(), r"encoders\.motion: landmarks returned ndarray as lip .*\(5, 9\)"),
        ("expression", lambda values: values[:4], r"\(4, 13\) as expression of a clip of 5 frames, .*\(5, 13\)"),
        ("audio", lambda audio: audio[:, 0], r"encoders\.audio: mel returned"),
        ("latent", lambda latent: latent[..., :8], r"encoders\.codec: patch returned"),
    ],
)
def test_other_shapes_are_refused(name, change, message, encoders, made):
    with pytest.raises(EncoderError, match=message):
        encoders.require_announced(made | {name: change(made[name])}, FRAMES, SIZE)


def config_of(**names) -> EncodersConfig:
    chosen = {"landmarks": "sidecar", "audio": "mel", "motion": "landmarks", "codec": "patch", **names}
    return EncodersConfig(**{kind: EncoderConfig(name) for kind, name in chosen.items()})


@pytest.mark.parametrize("names", [{}, {"motion": "blendshapes", "codec": "taef2"}])
def test_sizes_are_announced_without_building_an_encoder(names, asset_weights):
    config = config_of(**names)
    assert announced_dimensions(config, SIZE) == Encoders.build(config, "cpu").dimensions(SIZE)


def test_every_encoder_announces_its_sizes():
    for kind in ("audio", "motion", "codec"):
        for name in ENCODERS[kind].names():
            assert announced_dimensions(config_of(**{kind: name}), SIZE) is not None, name


def test_an_encoder_without_announced_sizes_is_built(monkeypatch):
    config = config_of()
    config.codec.options["unknown"] = 1
    assert announced_dimensions(config, SIZE) is None
    config = config_of()
    monkeypatch.delattr(ENCODERS["codec"].get("patch"), "announced")
    assert announced_dimensions(config, SIZE) is None
