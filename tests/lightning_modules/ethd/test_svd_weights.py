"""Loading of SVD's weights: every parameter is accounted for, and unsuitable folders are rejected."""

import json

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from safetensors.torch import load_file, save_file

from encoders.weight_files import WrongWeights
from lightning_modules.ethd.svd_weights import WEIGHT_FILES, load_svd, match_keys
from lightning_modules.ethd.transformer import Branches
from lightning_modules.ethd.unet import UNet, UNetShape
from tests.helpers.refusals import refuses
from tests.helpers.unet import SMALL, awake, inputs, stock

SVD_PARAMETERS = 1_524_623_082


def shapes(build, *arguments):
    with torch.device("meta"):
        return {name: value.shape for name, value in build(*arguments).state_dict().items()}


@pytest.fixture(scope="module")
def svd_shapes():
    return shapes(UNetSpatioTemporalConditionModel)


@pytest.mark.slow
@pytest.mark.parametrize(
    "branches",
    [Branches(), Branches(lip=False), Branches(expression=False), Branches(share_weights=False)],
    ids=["full", "wo_lip", "wo_exp", "separate"],
)
def test_every_parameter_of_svd_is_accounted_for(svd_shapes, branches):
    ours = shapes(UNet, UNetShape(), branches)
    matched = match_keys(ours, svd_shapes, "SVD")
    assert matched.source_parameters == SVD_PARAMETERS
    assert set(matched.loaded) | set(matched.skipped) == set(svd_shapes)
    assert not set(matched.loaded) & set(matched.skipped)
    assert set(matched.loaded) | set(matched.new) == set(ours)
    # 16 transformers with 2 image attentions each; keys, values and output weights are skipped, others only if ablated.
    ablated = 16 * 3 * ((not branches.lip) + (not branches.expression))  # queries, norm weight, norm bias
    assert len(matched.skipped) == 16 * 2 * 3 + ablated
    assert all(".attn2." in name or ablated and "blocks.0.norm2." in name for name in matched.skipped)
    if branches == Branches():
        assert sum(matched.new.values()) - sum(matched.skipped.values()) == pytest.approx(50.35e6, rel=0.001)


def test_a_folder_is_loaded_and_counted(tmp_path):
    source = stock(SMALL)
    source.save_pretrained(tmp_path)
    model = UNet(SMALL)
    matched = load_svd(model, tmp_path)
    saved, state = load_file(tmp_path / WEIGHT_FILES[0]), model.state_dict()
    assert all(torch.equal(state[name], saved[name]) for name in matched.loaded)
    assert all(not state[name].any() for name in matched.new if name.endswith("to_out.0.weight"))
    assert matched.source_parameters == sum(parameter.numel() for parameter in source.parameters())
    total = matched.table().splitlines()[-1].replace(",", "").split()
    assert total == ["total", *(str(sum(sizes.values())) for sizes in (matched.loaded, matched.new, matched.skipped))]


def test_half_precision_files_load_into_a_bfloat16_network(tmp_path):
    source = stock(SMALL).half()
    source.save_pretrained(tmp_path, variant="fp16")
    model = UNet(SMALL).to(torch.bfloat16)
    load_svd(model, tmp_path)
    assert torch.equal(model.conv_in.weight, source.conv_in.weight.to(torch.bfloat16))


def test_unsuitable_folders_are_rejected_without_changing_the_network(tmp_path):
    model = awake(UNet(SMALL))
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def refused(match, folder=tmp_path):
        refuses(WrongWeights, match, load_svd, model, folder)

    refused("no such folder", tmp_path / "missing")
    refused(r"no config\.json; give the unet/ folder")
    (tmp_path / "config.json").write_text("not json")
    refused("not a model's configuration")
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DConditionModel"}))
    refused("describes UNet2DConditionModel, expected UNetSpatioTemporalConditionModel")
    (tmp_path / "config.json").unlink()
    stock(SMALL).save_pretrained(tmp_path)
    weights = load_file(tmp_path / WEIGHT_FILES[0])
    refused("there is a unet/ inside", nested(tmp_path))
    larger = {"conv_in.weight": torch.zeros(32, 9, 3, 3)}
    for match, content in (
        (r"no parameter conv_in\.bias", {name: value for name, value in weights.items() if name != "conv_in.bias"}),
        ("unexpected parameter surprise", weights | {"surprise": torch.zeros(1)}),
        (r"conv_in\.weight has shape \(32, 9, 3, 3\), expected \(32, 8, 3, 3\)", weights | larger),
    ):
        save_file(content, tmp_path / WEIGHT_FILES[0])
        refused(match)
    (tmp_path / WEIGHT_FILES[0]).write_bytes(b"half a file")
    refused("cannot be read as safetensors")
    (tmp_path / WEIGHT_FILES[0]).unlink()
    refused("no diffusion_pytorch_model.safetensors or")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def nested(folder):
    (folder / "download" / "unet").mkdir(parents=True)
    (folder / "download" / "unet" / "config.json").write_text("{}")
    return folder / "download"


def test_a_loaded_network_equals_svd_without_image_embedding(tmp_path):
    source = stock(SMALL)
    source.save_pretrained(tmp_path)
    model = UNet(SMALL)
    load_svd(model, tmp_path)
    noisy, reference, noise_input, conditions = inputs(SMALL, 2, 5)
    concatenated = torch.cat([noisy, reference[:, None].expand(-1, 5, -1, -1, -1)], 2)
    with torch.no_grad():
        out = model(noisy, reference, noise_input, conditions)
        expected = source(
            concatenated, noise_input, torch.zeros(2, 1, SMALL.token_width), torch.tensor([[24, 127, 0.02]] * 2)
        )
    torch.testing.assert_close(out, expected.sample, atol=1e-5, rtol=1e-5)
