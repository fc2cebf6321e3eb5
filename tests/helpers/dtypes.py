"""Records the precision of losses and noise levels during a training."""

from __future__ import annotations

import json
from pathlib import Path

import torch


def record(path: Path) -> None:
    """Wraps functions that must use float32. Writes function -> [dtypes, equal in float32] to a JSON file."""
    import lightning_modules.ethd.module as ethd
    import lightning_modules.vaid.module as vaid
    from lightning_modules.ethd.unet import UNet

    found: dict[str, list] = {}

    def wrap(owner, name: str) -> None:
        original = getattr(owner, name)

        def wrapped(*arguments, **names):
            result = original(*arguments, **names)
            with torch.no_grad(), torch.autocast("cpu", enabled=False):
                before = torch.get_default_dtype()
                torch.set_default_dtype(torch.float32)
                again = original(*[_float(value) for value in arguments], **names)
                torch.set_default_dtype(before)
            tensors = result if isinstance(result, tuple) else (result,)
            others = again if isinstance(again, tuple) else (again,)
            equal = all(torch.equal(a.detach(), b.detach()) for a, b in zip(tensors, others, strict=True))
            found[name] = [sorted({str(tensor.dtype) for tensor in tensors}), equal]
            path.write_text(json.dumps(found))
            return result

        setattr(owner, name, wrapped)

    for name in ("club_terms", "info_nce", "squared_error"):
        wrap(vaid, name)
    for name in ("velocity_loss", "noise_input"):
        wrap(ethd, name)
    forward = UNet.forward

    def watched(self, noisy, *rest, **names):
        found["weights"] = [sorted({str(weight.dtype) for weight in self.parameters()}), True]
        hook = self.time_proj.register_forward_hook(
            lambda module, arguments, result: found.update(time_proj=[[str(result.dtype)], True])
        )
        try:
            return forward(self, noisy, *rest, **names)
        finally:
            hook.remove()
            path.write_text(json.dumps(found))

    UNet.forward = watched


def _float(value):
    return value.float() if torch.is_tensor(value) and value.is_floating_point() else value
