"""Diffusion: noise schedules, DDIM, and overlapped windows. Knows no network."""

from runtime.registry import exports

__getattr__, __all__ = exports(
    __name__,
    {
        "NoiseSchedule": "diffusion.schedules",
        "VelocityDenoiser": "diffusion.parameterization",
        "cosine_schedule": "diffusion.schedules",
        "ddim_sample": "diffusion.ddim",
        "sample_long": "diffusion.long_sampling",
        "zero_terminal_schedule": "diffusion.schedules",
    },
)
