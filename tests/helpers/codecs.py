"""Codecs that fail or round, to test the processes that encode."""

import os
import signal

import torch

from encoders.codecs.patch import PatchCodec
from encoders.protocols import Identity


class BrokenCodec(PatchCodec):
    """Codec that cannot encode black frames, or any: it ends its process, or is out of memory."""

    name = "broken"

    def __init__(self, how: str = "memory", patch: int = 4) -> None:
        super().__init__(patch)
        self.identity = Identity("broken", {"how": how})
        self.how = how

    def encode(self, frames):
        if self.how == "always":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        if not frames.any():
            if self.how == "memory":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(frames)


class RoundedCodec(PatchCodec):
    """Codec whose products are those of the running precision."""

    def encode(self, frames):
        latents = super().encode(frames)
        return torch.nn.functional.conv2d(latents, torch.eye(48)[:, :, None, None] / 3)
