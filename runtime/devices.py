"""Which device a command computes on, and in which precision, by what the device can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.errors import UserError

if TYPE_CHECKING:  # seconds, which a command that names the CPU need not spend here
    import torch

BFLOAT16 = (8, 0)  # compute capability from which bfloat16 is there: A100
TENSOR_CORES = (7, 0)  # compute capability from which float16 products are fast: V100 (7.0), T4 (7.5)


class DeviceError(UserError):
    """A device that this machine lacks, or that cannot compute what is asked for."""

    exit_status = 2


def resolve_device(name: str, key: str = "device", float64: bool = False) -> str:
    """The device a configuration names; ``auto`` is CUDA where there is a GPU, then MPS (Apple silicon), then the CPU.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        key: Key of the configuration, for the message.
        float64: Whether it must compute in float64, which MPS cannot.

    Raises:
        DeviceError: for a GPU that PyTorch does not find, or one without float64 where that is needed.
    """
    if name == "cpu":
        return name
    import torch

    if name == "mps" and float64:
        raise DeviceError(f"{key}=mps: has no float64, which this needs; use {key}=cpu or {key}=auto")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available() and not float64, "cpu": True}
    if name == "auto":
        return next(device for device, usable in there.items() if usable)
    if not there[name]:
        raise DeviceError(
            f"{key}={name}: PyTorch finds no such GPU here; use {key}=cpu or {key}=auto, or check the driver"
        )
    return name


def has_bfloat16(device: str | torch.device) -> bool:
    """Whether a device computes in bfloat16 itself; V100 and T4 emulate it slowly, MPS needs macOS 14."""
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        # torch.cuda.is_bf16_supported counts emulation, and looks at the current GPU alone.
        return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= BFLOAT16
    return torch.backends.mps.is_macos_or_newer(14, 0) if kind == "mps" else True


def inference_dtype(device: str | torch.device) -> torch.dtype:
    """Precision of a network's weights at inference.

    bfloat16 on CUDA GPUs that have it, as in training; float16 on those with tensor cores for it; float32 elsewhere. A
    CPU is no faster with 16 bits.
    """
    import torch

    if torch.device(device).type != "cuda":
        return torch.float32
    if has_bfloat16(device):
        return torch.bfloat16
    return torch.float16 if torch.cuda.get_device_capability(device) >= TENSOR_CORES else torch.float32


def device_name(device: str | torch.device) -> str:
    """What a person calls the device."""
    import torch

    kind = torch.device(device).type
    return torch.cuda.get_device_name(device) if kind == "cuda" else {"mps": "MPS"}.get(kind, "the processor")
