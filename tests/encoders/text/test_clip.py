"""CLIP text encoder against transformers' full model, on a small CLIP with random weights."""

import json
import string
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from encoders import build_text_encoder
from encoders.factory import EncoderError
from encoders.text.checks import TextError
from encoders.weights import MissingWeights, WrongWeights
from tests.helpers.refusals import refuses


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """CLIP of 2 layers with single letters as tokens."""
    folder = tmp_path_factory.mktemp("clip")
    letters = [*string.ascii_lowercase, *string.punctuation, *string.digits]
    tokens = letters + [f"{letter}</w>" for letter in letters] + ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: place for place, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    shared = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    end = len(tokens) - 1
    places = {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={**shared, **places, "vocab_size": len(tokens), "num_hidden_layers": 2, "projection_dim": 24},
        vision_config={**shared, "num_hidden_layers": 1, "image_size": 32, "patch_size": 16},
        projection_dim=24,
    )
    CLIPModel(config).save_pretrained(folder)
    return folder


def test_equals_text_features_of_the_full_model(folder):
    encoder, texts = build_text_encoder("clip", model=str(folder)), ["be happy", "a much longer text, said sadly", "x"]
    tokens = CLIPTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        reference = CLIPModel.from_pretrained(folder).eval().get_text_features(**tokens)
    reference = getattr(reference, "pooler_output", reference)
    found = encoder(texts)
    torch.testing.assert_close(found, F.normalize(reference, dim=-1))
    assert found.shape == (3, encoder.width) == (3, 24)
    # The padding of a batch does not change a text's vector.
    torch.testing.assert_close(encoder(texts[:1]), found[:1])


def test_identity_has_the_weights(folder):
    encoder = build_text_encoder("clip", model=str(folder))
    assert list(encoder.identity.weights) == ["model.safetensors"]
    assert encoder.pretrained
    assert not any(parameter.requires_grad for parameter in encoder.network.parameters())


def test_limit_is_that_of_the_network(folder):
    encoder = build_text_encoder("clip", model=str(folder))
    assert encoder.limit == 75
    assert encoder(["x" * 75]).shape == (1, 24)
    refuses(TextError, "has 76 tokens, expected at most 75", encoder, ["x" * 76])
    refuses(TextError, "the text is empty", encoder, [" "])


def test_folder_without_a_model_is_refused(tmp_path):
    message = r"encoders\.text\.options\.model.*config\.json and model\.safetensors not found"
    refuses(EncoderError, message, build_text_encoder, "clip", model=str(tmp_path))


def test_other_model_is_refused(folder, tmp_path):
    for name in ("config.json", "vocab.json", "merges.txt", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    refuses(WrongWeights, "is not a CLIP model", build_text_encoder, "clip", model=str(tmp_path))


def test_missing_weights_are_named(no_weights):
    refuses(MissingWeights, "clip-vit-large-patch14", build_text_encoder, "clip")
