"""Initial weights of a new run from a trained one: what is taken, what is new, and what is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_modules.checkpoints import CheckpointError

OUTCOMES = ("taken", "new", "left out")


@dataclass(frozen=True)
class TakenWeights:
    """Number of values by outcome.

    Attributes:
        taken: name -> values taken from the trained run.
        new: name -> newly initialised values.
        left_out: name -> values of the trained run that the new one does not have.
    """

    taken: dict[str, int]
    new: dict[str, int]
    left_out: dict[str, int]

    def table(self) -> str:
        """Text table of the counts by part of the network and outcome, with totals."""
        counts = [_by_part(sizes) for sizes in (self.taken, self.new, self.left_out)]
        parts = list(dict.fromkeys(part for count in counts for part in count))
        rows = [f"{'':40s}" + "".join(f"{outcome:>15s}" for outcome in OUTCOMES)]
        rows += [f"{part:40s}" + "".join(f"{count[part]:15,d}" for count in counts) for part in parts]
        return "\n".join([*rows, f"{'total':40s}" + "".join(f"{count.total():15,d}" for count in counts)])


@torch.no_grad()
def take_weights(network: nn.Module, theirs: Mapping[str, Tensor], source: str) -> TakenWeights:
    """Copies every weight and statistic that both networks have, and keeps the others of ``network``.

    Args:
        network: New network; keeps its type and device.
        theirs: name -> weight of the trained network.
        source: Name of the trained network, for messages.

    Raises:
        CheckpointError: If a shape differs, or no name agrees. The network is then unchanged.
    """
    ours = network.state_dict()
    both = [name for name in ours if name in theirs]
    for name in both:
        if ours[name].shape != theirs[name].shape:
            raise CheckpointError(
                f"{source}: {name} has shape {tuple(theirs[name].shape)}, expected {tuple(ours[name].shape)}; "
                "configure a network with the widths of that run"
            )
    if not both:
        raise CheckpointError(f"{source}: shares no weight with this network; choose init=none, or a run of its kind")
    for name in both:
        ours[name].copy_(theirs[name])
    return TakenWeights(
        {name: ours[name].numel() for name in both},
        {name: weight.numel() for name, weight in ours.items() if name not in theirs},
        {name: weight.numel() for name, weight in theirs.items() if name not in ours},
    )


def _by_part(sizes: Mapping[str, int]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for name, size in sizes.items():
        counts[".".join(name.split(".")[:2])] += size
    return counts
