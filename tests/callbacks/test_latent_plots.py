"""Plots of latents: their length, and the curves of predictions."""

import numpy as np
import pytest
import torch

from callbacks.latent_plots import FIELDS, FRAMES, draw
from datamodules.datamodule import ShardDataModule
from encoders.protocols import Identity
from lightning_modules.vaid.module import VAIDModule
from tests.helpers.ethd import smallest_vaid_config
from tests.helpers.shards import TINY, make_shards
from training.stages.vaid import latent_names


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    make_shards(folder, frames=(300,), samples=3)
    data = ShardDataModule(root=str(folder))
    data.setup()
    module = VAIDModule(smallest_vaid_config(), TINY, data.index.encoders)
    return module, data.whole(data.clips["train"][0], FIELDS, FRAMES)


def test_ten_seconds_are_plotted(drawn):
    assert drawn[1]["audio"].shape[1] == 250


@pytest.mark.slow
def test_a_changed_lip_prediction_changes_the_lip_plots_only(drawn):
    module, batch = drawn
    picture = draw(module, batch)
    assert picture.shape[-1] == 3
    assert picture.dtype == np.uint8
    with torch.no_grad():
        module.vaid.audio_to_lip.head[1].bias.add_(0.5)
    changed = (picture != draw(module, batch)).any(-1)
    half = changed.shape[1] // 2
    assert changed[:, :half].any()
    assert not changed[:, half:].any()  # the expression is predicted by another network


def test_names_are_those_of_the_encoder_if_it_defines_them():
    lip, expression = latent_names(Identity("landmarks", {"version": 2}))
    assert lip[1] == "inner_opening_centre"
    assert expression[0] == "brow_inner_right"
    assert "jawOpen" in latent_names(Identity("blendshapes"))[0]
    assert latent_names(Identity("landmarks", {"version": 2, "pose": True}))[1][:14] == (*expression, "head_x")
    assert latent_names(Identity("pdfgc")) is None
    assert latent_names(Identity("of_another_installation")) is None
