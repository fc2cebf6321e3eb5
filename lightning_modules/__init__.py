"""The trained stages, and the emotion sources that drive them."""

from runtime.registry import exports

__getattr__, __all__ = exports(
    __name__,
    {
        "EthdModule": "lightning_modules.ethd.module",
        "VAIDModule": "lightning_modules.vaid.module",
        "load_export": "lightning_modules.ethd.export",
        "load_ethd": "lightning_modules.ethd.checkpoint",
        "load_vaid": "lightning_modules.vaid.checkpoint",
    },
)
