"""Repartitioning of DeepSpeed's optimizer states for another number of ranks."""

import pytest
import torch

from lightning_modules.checkpoints import CheckpointError
from tests.helpers.refusals import refuses
from training.zero_parts import check_groups, cut, part_of


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_cut_repartitions_a_tensor(ranks):
    line, size = torch.arange(1.0, 11.0), -(-10 // ranks) + 1
    parts = list(line.split([4, 0, 5, 1]))
    found = torch.cat([cut(parts, rank * size, size) for rank in range(ranks)])
    assert torch.equal(found[:10], line)
    assert not found[10:].any()


def test_weights_and_moments_are_repartitioned_with_new_padding(tmp_path):
    """Five weights: partitions of three on two ranks, and of two on three ranks; the last element is padding."""
    weights, moment = torch.arange(1.0, 6.0), torch.arange(1.0, 6.0) * 10
    inside = tmp_path / "checkpoint"
    inside.mkdir()
    for rank, (low, high) in enumerate([(0, 3), (3, 5)]):
        filled = torch.cat([moment[low:high], torch.full((3 - (high - low),), 99.0)])
        states = {0: {"step": torch.tensor(7.0), "exp_avg": filled}}
        part = {"single_partition_of_fp32_groups": [weights[low:high]], "ds_version": "0.1"}
        part["base_optimizer_state"] = {"state": states, "param_groups": [{"lr": 0.1}]}
        torch.save({"optimizer_state_dict": part}, inside / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
    parts = [part_of(tmp_path, rank, [2]) for rank in range(3)]
    assert [part["single_partition_of_fp32_groups"][0].tolist() for part in parts] == [[1, 2], [3, 4], [5, 0]]
    states = [part["base_optimizer_state"]["state"][0] for part in parts]
    assert [state["exp_avg"].tolist() for state in states] == [[10, 20], [30, 40], [50, 0]]
    assert all(state["step"] == 7 for state in states)
    assert all(part["base_optimizer_state"]["param_groups"] == [{"lr": 0.1}] for part in parts)
    assert parts[0]["ds_version"] == "0.1"


def test_a_checkpoint_with_other_parameter_groups_is_refused(tmp_path):
    """Earlier versions had one group, with weight decay on norms and biases."""
    inside = tmp_path / "checkpoint"
    inside.mkdir()
    part = {"optimizer_state_dict": {"single_partition_of_fp32_groups": [torch.zeros(1)]}}
    torch.save(part, inside / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt")
    check_groups(tmp_path, 1)
    refuses(CheckpointError, "has 1 parameter groups and this run has 2, .* init=", check_groups, tmp_path, 2)
