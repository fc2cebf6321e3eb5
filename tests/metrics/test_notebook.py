"""The metrics in a notebook: three lines each, without Lightning, Hydra or OmegaConf installed, and their plots."""

import subprocess
import sys

import pytest
import torch

from tests.helpers import ROOT

CELLS = """
import sys
for name in ("lightning", "hydra", "omegaconf"):
    sys.modules[name] = None  # importing it fails, as if it were not installed
import matplotlib
matplotlib.use("agg")
import numpy as np
import torch

draw = torch.Generator().manual_seed(0)
pictures = lambda *shape: torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw)
real, fake = pictures(4, 3, 64, 64), pictures(4, 3, 64, 64)
real_clips, fake_clips = pictures(2, 16, 3, 32, 32), pictures(2, 16, 3, 32, 32)
faces = list(pictures(4, 96, 96, 3).numpy())
points = [np.array([[30.0, 40], [66, 40], [48, 60], [34, 78], [62, 78]])] * 4
others = [face[::-1].copy() for face in faces]
crops, sound = pictures(8, 3, 224, 224), np.random.default_rng(0).integers(-999, 999, 8 * 640).astype(np.int16)

from metrics import ExpressionFID, FrechetInceptionDistance, FrechetVideoDistance, SyncConfidenceDistance
from metrics.functional.tracking import Track
from metrics.networks.deep3d import Deep3DFace
from metrics.networks.inception import InceptionFeatures
from metrics.networks.syncnet import SyncNet
from metrics.sync_pipeline import TrackClip

fid = FrechetInceptionDistance(InceptionFeatures("inception.pth"))
fid.update(real, real=True), fid.update(fake, real=False)
values = [fid.compute()]

fvd = FrechetVideoDistance("i3d.pt")
fvd.update(real_clips, real=True), fvd.update(fake_clips, real=False)
values.append(fvd.compute())

efid = ExpressionFID(Deep3DFace("deep3d.pth"))
efid.update(faces, points, real=True), efid.update(others, points, real=False)
values.append(efid.compute())

sync = SyncConfidenceDistance(SyncNet("syncnet.model"))
sync.update([TrackClip(crops, sound, Track(np.arange(8), np.zeros((8, 4)), 8), "reference")])
values += [sync.compute()[name] for name in ("sync_c", "sync_d")]

for metric in (fid, fvd, efid, sync):
    figure, axis = metric.plot()
    assert figure.axes
assert all(np.isfinite(float(value)) for value in values), values
print(len(values), "values")
"""
FILES = {"inception.pth": "fid_inception_v3", "i3d.pt": "i3d_hassony2_I3D", "syncnet.model": "syncnet_S"}


@pytest.mark.slow
def test_metrics_run_without_lightning_and_hydra(rule_weights, tmp_path):
    for name, kind in FILES.items():
        torch.save(rule_weights(kind), tmp_path / name)
    torch.save({"net_recon": rule_weights("deep3d_ReconNetWrapper_resnet50")}, tmp_path / "deep3d.pth")
    code = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{CELLS}"
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "5 values"
