"""The paper's metrics as torchmetrics Metrics, with a functional core and the feature networks.

    FrechetInceptionDistance   FID         pytorch-fid 0.3.0
    FrechetVideoDistance       FVD         StyleGAN-V's fvd2048_16f and other published variants
    SyncConfidenceDistance     Sync-C/D    syncnet_python, by metrics.sync_pipeline
    ExpressionFID              E-FID       Deep3DFaceRecon_pytorch, or 3DDFA_V2 as a proxy

Networks load checkpoints strictly and record the file and its hash in ``provenance``. The weight registry has the
hashes of the official checkpoints.
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
