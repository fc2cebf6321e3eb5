"""The stages that are trained: V-AID, ETHD, the emotion mapping and the metrics' proxy networks."""

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
