"""The paper's metrics as torchmetrics Metrics on a pure functional core, and their networks.

    metrics.fid.FrechetInceptionDistance      FID      pytorch-fid 0.3.0
    metrics.fvd.FrechetVideoDistance          FVD      StyleGAN-V's fvd2048_16f and other published flavours
    metrics.sync.SyncConfidenceDistance       Sync-C/D syncnet_python, by metrics.sync_pipeline
    metrics.efid.ExpressionFID                E-FID    Deep3DFaceRecon_pytorch, or the 3DDFA_V2 stand-in

Networks load official checkpoints strictly, and say in ``provenance`` which file and hash they hold; the weight
registry knows which hash is the official one's.
"""
