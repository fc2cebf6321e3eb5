"""Parameter groups of an optimizer: learning rates by kind of layer, and no weight decay on norms and biases.

Earlier versions decayed every weight, so their checkpoints store the optimizer's state in other groups. ``regroup``
sorts that state into the groups of now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import Parameter


@dataclass(frozen=True)
class ParameterGroup:
    """A parameter group.

    Attributes:
        names: Names of its parameters in the module.
        lr: Learning rate.
        weight_decay: Weight decay of AdamW.
        scheduled: Whether the learning rate follows the schedule, or is constant.
    """

    names: tuple[str, ...]
    lr: float
    weight_decay: float
    scheduled: bool = True


def decayed_groups(
    parameters: Iterable[tuple[str, Parameter]], lr: float, weight_decay: float, scheduled: bool = True
) -> list[ParameterGroup]:
    """Two groups: weights of products and convolutions with weight decay, and norms and biases without it."""
    named = list(parameters)
    decayed = tuple(name for name, parameter in named if parameter.ndim > 1)
    others = tuple(name for name, parameter in named if parameter.ndim <= 1)
    groups = [ParameterGroup(decayed, lr, weight_decay, scheduled), ParameterGroup(others, lr, 0.0, scheduled)]
    return [group for group in groups if group.names]


def optimizer_groups(groups: Sequence[ParameterGroup], parameters: Mapping[str, Parameter]) -> list[dict[str, Any]]:
    """The groups as an optimizer's constructor takes them."""
    return [
        {"params": [parameters[name] for name in group.names], "lr": group.lr, "weight_decay": group.weight_decay}
        for group in groups
    ]


def adamw(groups: Sequence[ParameterGroup], parameters: Mapping[str, Parameter]) -> torch.optim.AdamW:
    """AdamW over groups, in one kernel without temporary tensors."""
    return torch.optim.AdamW(optimizer_groups(groups, parameters), fused=True)


def regroup(checkpoint: dict[str, Any], before: Sequence[Sequence[str]], now: Sequence[ParameterGroup]) -> None:
    """Sorts the optimizer's state of an earlier version's checkpoint into the groups of now, in place.

    Learning rates of the schedule are those of the group that a parameter was in. Other checkpoints, and those of
    DeepSpeed, whose state is flat, stay as they are.

    Args:
        checkpoint: Checkpoint as Lightning loads it.
        before: Names of the parameters of each group of earlier versions.
        now: Groups of now.
    """
    states, schedules = checkpoint.get("optimizer_states", ()), checkpoint.get("lr_schedulers", ())
    for state, schedule in zip(states, schedules, strict=False):
        stored = state["param_groups"]
        if [len(group["params"]) for group in stored] != [len(names) for names in before]:
            continue
        if len(stored) == len(now):
            continue
        place = {
            name: (group, number)
            for group, names in enumerate(before)
            for name, number in zip(names, stored[group]["params"], strict=True)
        }
        moments: dict[int, Any] = {}
        groups: list[dict[str, Any]] = []
        for each in now:
            first = len(moments)
            for name in each.names:
                moments[len(moments)] = state["state"].get(place[name][1], {})
            source = stored[place[each.names[0]][0]]
            groups.append({**source, "params": list(range(first, len(moments))), "weight_decay": each.weight_decay})
        state["state"] = {number: moment for number, moment in moments.items() if moment}
        state["param_groups"] = groups
        origins = [place[each.names[0]][0] for each in now]
        for key in ("base_lrs", "_last_lr", "lr_lambdas"):
            schedule[key] = [schedule[key][origin] for origin in origins]
