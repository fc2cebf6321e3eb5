"""Noise schedules, DDIM sampling and overlapped windows, independent of any network."""

from runtime.registry import exports

__getattr__, __all__ = exports(
    __name__,
    {
        "NoiseSchedule": "diffusion.schedules",
        "VelocityDenoiser": "diffusion.parameterization",
        "cosine_schedule": "diffusion.schedules",
        "ddim_sample": "diffusion.ddim",
        "sample_in_order": "diffusion.long_sampling",
        "sample_long": "diffusion.long_sampling",
        "zero_terminal_schedule": "diffusion.schedules",
    },
)
