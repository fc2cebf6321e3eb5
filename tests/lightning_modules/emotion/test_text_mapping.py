"""Files of the text mapping: numbers of a header are checked before a network is built."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from encoders.protocols import Identity
from encoders.weight_files import WrongWeights
from lightning_modules.emotion.text_mapping import MOST_HIDDEN, TextEmotion, TextMapping

ENCODER = SimpleNamespace(identity=Identity("words"), width=7)


def plain(hidden):
    header = {"text": {"name": "words"}, "motion": {"name": "landmarks"}, "vocabulary": ["happy"], "hidden": hidden}
    return TextEmotion.from_plain(header, TextMapping(7, 5, 16).state_dict(), Path("a.safetensors"), ENCODER)


def test_a_header_gives_the_mapping():
    assert torch.equal(plain(16).mapping.state_dict()["mean"], TextMapping(7, 5, 16).state_dict()["mean"])


@pytest.mark.parametrize("hidden", [0, -1, MOST_HIDDEN + 1, 10**12, 16.5, "16", None, [16], float("nan"), True])
def test_a_silly_width_is_refused_before_anything_is_allocated(hidden):
    with pytest.raises(WrongWeights, match=r"^a\.safetensors: .*hidden"):
        plain(hidden)
