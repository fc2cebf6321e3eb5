"""The paper's metrics as torchmetrics Metrics on a pure functional core, and their networks.

    FrechetInceptionDistance   FID         pytorch-fid 0.3.0
    FrechetVideoDistance       FVD         StyleGAN-V's fvd2048_16f and other published flavours
    SyncConfidenceDistance     Sync-C/D    syncnet_python, by metrics.sync_pipeline
    ExpressionFID              E-FID       Deep3DFaceRecon_pytorch, or the 3DDFA_V2 proxy

Networks load official checkpoints strictly, and say in ``provenance`` which file and hash they hold; the weight
registry knows which hash is the official one's.
"""

from runtime.registry import exports

__getattr__, __all__ = exports(
    __name__,
    {
        "ExpressionFID": "metrics.efid",
        "FrechetInceptionDistance": "metrics.fid",
        "FrechetVideoDistance": "metrics.fvd",
        "SyncConfidenceDistance": "metrics.sync",
    },
)
