"""Segments of the U-Net, as gradient checkpointing divides it, to be measured one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from lightning_modules.ethd.network import Ethd

Function = Callable[..., Any]


class UNetSegment(NamedTuple):
    """A checkpointed segment with inputs.

    Attributes:
        name: Its class and method.
        function: The segment.
        inputs: Its inputs, without gradients.
    """

    name: str
    function: Function
    inputs: tuple[Any, ...]

    def work(self, compiled: bool = False) -> Callable[[], None]:
        """Forward and backward pass of the segment, as it is or compiled for fixed shapes.

        On a CPU the compiled graphs run without generated C++, whose compilation takes a minute for each segment.
        """
        device = next(each.device for each in self.inputs if isinstance(each, Tensor))
        function, backend = self.function, "inductor" if device.type == "cuda" else "aot_eager"
        if compiled:
            function = torch.compile(function, dynamic=False, fullgraph=True, backend=backend)
        inputs = tree_map(
            lambda each: each.detach().requires_grad_(each.is_floating_point()) if isinstance(each, Tensor) else each,
            self.inputs,
        )

        def forward_and_backward() -> None:
            with autocast(device):
                out = function(*inputs)
            outs = [each for each in (out if isinstance(out, tuple) else (out,)) if each.requires_grad]
            torch.autograd.backward(outs, [torch.ones_like(each) for each in outs])

        return forward_and_backward


def autocast(device: torch.device) -> torch.autocast:
    """Autocast to bfloat16 on a GPU. On a CPU float32, since some versions of torch compile bfloat16 to invalid C++."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def segments(network: Ethd, work: Callable[[], None]) -> list[UNetSegment]:
    """Records the segments of a forward pass: of each kind the one with the largest input, in the order of the calls.

    Args:
        network: Network.
        work: Forward pass of the network.
    """
    found: dict[str, UNetSegment] = {}

    def record(function: Function, *inputs: Any) -> Any:
        name = _name(function)
        if name not in found or _size(inputs) > _size(found[name].inputs):
            found[name] = UNetSegment(name, function, inputs)
        return function(*inputs)

    unet = network.unet
    unet._run = record  # type: ignore[assignment, method-assign]
    try:
        with torch.no_grad():
            work()
    finally:
        del unet._run
    return list(found.values())


def _name(function: Function) -> str:
    return type(function).__name__ if isinstance(function, nn.Module) else function.__qualname__


def _size(inputs: tuple[Any, ...]) -> int:
    return sum(each.numel() for each in inputs if isinstance(each, Tensor))
