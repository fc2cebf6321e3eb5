"""Parameter groups: weight decay, learning rates, and the optimizer state of checkpoints of earlier versions."""

import copy

import pytest
import torch

from lightning_modules.parameter_groups import optimizer_groups, regroup
from tests.helpers.ethd import FIELDS, smallest_ethd
from tests.helpers.shards import make_shards


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    from datamodules.datamodule import ShardDataModule

    folder = tmp_path_factory.mktemp("shards")
    make_shards(folder, samples=2, frames=(30,))
    return ShardDataModule(root=str(folder), fields=FIELDS, pad=False, window=4, batch_size=2, workers=0)


def test_norms_and_biases_have_no_weight_decay(data):
    module = smallest_ethd(data, lr=1e-3, weight_decay=0.1)
    parameters = dict(module.ethd.named_parameters())
    groups = module.parameter_groups()
    assert sorted(name for group in groups for name in group.names) == sorted(parameters)
    for group in groups:
        assert group.lr == 1e-3
        assert {parameters[name].ndim > 1 for name in group.names} == {group.weight_decay == 0.1}


def test_layers_that_svd_lacks_have_their_own_rate(data):
    module = smallest_ethd(data, lr=1e-5, lr_new=1e-4)
    rates = {name: group.lr for group in module.parameter_groups() for name in group.names}
    assert rates.keys() == dict(module.ethd.named_parameters()).keys()
    assert rates["unet.conv_in.weight"] == 1e-5
    new = [name for name, rate in rates.items() if rate == 1e-4]
    assert any(".injector." in name for name in new)
    assert any(name.startswith("lip_tokens.") for name in new)
    assert not any(".resnets." in name for name in new)


@pytest.mark.parametrize("lr_new", [None, 1e-2])
def test_the_state_of_an_earlier_version_is_kept_by_parameter(data, lr_new):
    """Earlier versions had one group, in the order of the parameters."""
    module = smallest_ethd(data, lr=1e-3, lr_new=lr_new, weight_decay=0.1)
    parameters = dict(module.ethd.named_parameters())
    before = torch.optim.AdamW(parameters.values(), 1e-3, weight_decay=0.1)
    for parameter in list(parameters.values())[1:]:  # the first has no state, as a parameter without a gradient
        parameter.grad = torch.randn_like(parameter)
    before.step()
    schedule = {"base_lrs": [1e-3], "_last_lr": [5e-4], "lr_lambdas": [None], "last_epoch": 1}
    checkpoint = {"optimizer_states": [copy.deepcopy(before.state_dict())], "lr_schedulers": [schedule]}
    groups = module.parameter_groups()
    regroup(checkpoint, [list(parameters)], groups)
    now = torch.optim.AdamW(optimizer_groups(groups, parameters))
    now.load_state_dict(checkpoint["optimizer_states"][0])
    assert len(now.state) == len(parameters) - 1
    for name, parameter in parameters.items():
        if parameter in before.state:
            assert torch.equal(now.state[parameter]["exp_avg"], before.state[parameter]["exp_avg"]), name
    assert [group["weight_decay"] for group in now.param_groups] == [group.weight_decay for group in groups]
    assert schedule["base_lrs"] == [1e-3] * len(groups)
    assert schedule["_last_lr"] == [5e-4] * len(groups)
    again = copy.deepcopy(checkpoint)
    regroup(again, [list(parameters)], groups)  # a checkpoint of now stays as it is
    assert str(again) == str(checkpoint)
