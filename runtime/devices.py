"""Which device a command computes on."""

from __future__ import annotations

from runtime.errors import UserError


class DeviceError(UserError):
    """A device that this machine lacks."""

    exit_status = 2


def resolve_device(name: str, key: str = "device") -> str:
    """The device a configuration names; ``auto`` is the GPU where there is one.

    Args:
        name: ``auto``, ``cpu`` or ``cuda``.
        key: of the configuration, for the message.

    Raises:
        DeviceError: for ``cuda`` where PyTorch finds no GPU.
    """
    if name == "cpu":
        return name
    import torch  # seconds, which a command that names the CPU need not spend here

    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise DeviceError(f"{key}=cuda: PyTorch finds no GPU here; use {key}=cpu or {key}=auto, or check the driver")
    return "cpu"
