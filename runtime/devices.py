"""Device and precision of a command, chosen by the capability of the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.errors import UserError

if TYPE_CHECKING:  # the import takes seconds, which device=cpu need not spend
    import torch

BFLOAT16 = (8, 0)  # first compute capability with bfloat16: A100
TENSOR_CORES = (7, 0)  # first compute capability with fast float16 products: V100 (7.0), T4 (7.5)


class DeviceError(UserError):
    """A device that this machine lacks, or that lacks a required precision."""

    exit_status = 2


def resolve_device(name: str, key: str = "device", float64: bool = False) -> str:
    """Device for a name; ``auto`` prefers CUDA, then MPS (Apple silicon), then the CPU.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        key: Key of the configuration, for the message.
        float64: Whether float64 is needed, which MPS lacks.

    Raises:
        DeviceError: If PyTorch does not find the GPU, or if it lacks float64 and that is needed.
    """
    if name == "cpu":
        return name
    import torch

    if name == "mps" and float64:
        raise DeviceError(f"{key}=mps: lacks float64, which is needed here; use {key}=cpu or {key}=auto")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available() and not float64, "cpu": True}
    if name == "auto":
        return next(device for device, usable in there.items() if usable)
    if not there[name]:
        raise DeviceError(
            f"{key}={name}: PyTorch finds no such GPU here; use {key}=cpu or {key}=auto, or check the driver"
        )
    return name


def has_bfloat16(device: str | torch.device) -> bool:
    """Whether a device supports bfloat16 in hardware. V100 and T4 emulate it slowly; MPS needs macOS 14."""
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        # torch.cuda.is_bf16_supported includes emulation and considers the current GPU only.
        return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= BFLOAT16
    return torch.backends.mps.is_macos_or_newer(14, 0) if kind == "mps" else True


def inference_dtype(device: str | torch.device) -> torch.dtype:
    """Precision of the weights at inference.

    bfloat16 on CUDA GPUs that support it, as in training; float16 on GPUs with float16 tensor cores; float32 elsewhere,
    since CPUs are not faster with 16 bits.
    """
    import torch

    if torch.device(device).type != "cuda":
        return torch.float32
    if has_bfloat16(device):
        return torch.bfloat16
    return torch.float16 if torch.cuda.get_device_capability(device) >= TENSOR_CORES else torch.float32


def device_name(device: str | torch.device) -> str:
    """Name of a device in messages."""
    import torch

    kind = torch.device(device).type
    return torch.cuda.get_device_name(device) if kind == "cuda" else {"mps": "MPS"}.get(kind, "the processor")
