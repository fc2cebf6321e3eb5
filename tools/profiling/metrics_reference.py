"""Compares the speed of the metrics with reference implementations, as ratios in one run on two threads.

    python -m tools.profiling.metrics_reference   all parts, about four minutes on two idle cores
    python -m tools.profiling.metrics_reference parts=frechet threads=1   or inception, syncnet, efid, cache

The reference implementations below compute what the original repositories compute: a matrix square root; the Inception
network on 50 images at a time in PyTorch's default memory layout; SyncNet as three-dimensional convolutions on 20
windows at a time; the face network on one image at a time. Both sides run alternately on random weights, which cost as
much as trained ones. The medians of wall time and of processor time are shown. Wall time is affected by other load on
the machine; processor time includes threads that wait for each other. The results of both sides are compared, too.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from configs.evaluation import EFIDConfig, FIDConfig
from configs.options import chosen, count, each, read_options, run_script
from evaluation.cache import FeatureStore
from metrics.functional.frechet import add_features, distance_between, gaussian, no_moments
from metrics.networks.deep3d import HEADS, Deep3DFace
from metrics.networks.inception import InceptionFeatures, fid_inception, preprocess
from metrics.networks.syncnet import SyncNet

DIMENSIONS = 2048
STAGES = (
    "Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2",
    "Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e",
    "Mixed_7a", "Mixed_7b", "Mixed_7c",
)  # fmt: skip


def main(arguments: list[str]) -> None:
    """Runs the chosen parts, or all."""
    parts = {"frechet": frechet, "inception": inception, "syncnet": syncnet, "efid": efid, "cache": cache}
    options = read_options(__doc__, arguments, {"parts": each(chosen(*parts)), "threads": count})
    torch.set_num_threads(options.get("threads", 2))
    torch.manual_seed(0)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'':42}{'wall time':^30}{'processor time':^30}")
    print(f"{'':42}{'reference':>10}{'ours':>10}{'ratio':>9} {'reference':>10}{'ours':>10}{'ratio':>9}   difference")
    for name in options.get("parts", parts):
        parts[name]()


def frechet() -> None:
    """Distance of two sets of 2048 features: regular covariances, nearly singular ones, and 300 frames."""
    mixing = torch.randn(DIMENSIONS, DIMENSIONS, dtype=torch.float64) / DIMENSIONS**0.5
    spread = torch.linspace(0.5, 2, DIMENSIONS, dtype=torch.float64).diag()
    for what, samples, shape in (
        ("4098 samples", 4098, spread),
        ("4098 samples, nearly singular", 4098, mixing),
        ("300 samples", 300, mixing),
    ):
        sets = [torch.randn(samples, DIMENSIONS, dtype=torch.float64) @ shape + shift for shift in (0, 0.1)]
        measure_frechet(what, *sets)


def measure_frechet(what: str, one: Tensor, two: Tensor) -> None:
    """Times both ways from statistics to distance."""
    moments = [add_features(no_moments(DIMENSIONS), features) for features in (one, two)]
    statistics = [(x.numpy().mean(0), np.cov(x.numpy(), rowvar=False)) for x in (one, two)]
    report(
        f"Fréchet distance, {what}",
        lambda: by_square_root(statistics[0], statistics[1]),
        lambda: float(distance_between(gaussian(moments[0]), gaussian(moments[1]))),
        1,
    )


def by_square_root(one: tuple[np.ndarray, np.ndarray], two: tuple[np.ndarray, np.ndarray]) -> float:
    """The distance by a matrix square root, as in pytorch-fid."""
    root = scipy.linalg.sqrtm(one[1] @ two[1])
    mean = one[0] - two[0]
    return float(mean @ mean + np.trace(one[1]) + np.trace(two[1]) - 2 * np.trace(np.real(root)))


def inception() -> None:
    """Features of 50 frames of 256 x 256, which is pytorch-fid's batch size."""
    reference = fid_inception().eval()
    ours = InceptionFeatures(reference.state_dict())
    frames = torch.randint(0, 256, (50, 3, 256, 256), dtype=torch.uint8)

    def in_default_layout() -> Tensor:
        x = preprocess(frames)
        with torch.no_grad():
            for name in STAGES:
                x = getattr(reference, name)(x)
            return x.mean(dim=(2, 3))

    def as_evaluated() -> Tensor:
        return torch.cat([ours(part) for part in frames.split(FIDConfig.batch_size)])

    report("Inception features, 50 frames", in_default_layout, as_evaluated, 3)


def syncnet() -> None:
    """Lip and sound embeddings of two seconds of video."""
    network = SyncNet(SyncNet(None).state_dict())
    frames = torch.randint(0, 256, (54, 3, 224, 224), dtype=torch.uint8)
    cepstra = torch.randn(50, 1, 13, 20) * 10

    def in_three_dimensions() -> Tensor:
        windows = frames.unfold(0, 5, 1).permute(0, 1, 4, 2, 3)
        with torch.no_grad():
            lip = [network(part.float()) for part in windows.split(20)]
            audio = [network.netfcaud(network.netcnnaud(part).flatten(1)) for part in cepstra.split(20)]
        return torch.cat([*lip, *audio])

    def as_evaluated() -> Tensor:
        return torch.cat([network.lip(frames), network.audio(cepstra)])

    report("SyncNet features, 50 windows", in_three_dimensions, as_evaluated, 3)


class FaceNetwork(nn.Module):
    """Deep3DFaceRecon's network, with its parameter names."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = resnet50(weights=None)
        self.backbone.fc = nn.Identity()
        self.final_layers = nn.ModuleList(nn.Conv2d(2048, width, 1) for width in HEADS)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (1, 3, 224, 224) images in [0, 1] to (1, 257) coefficients."""
        pooled = self.backbone(x)[:, :, None, None]
        return torch.cat([head(pooled).flatten(1) for head in self.final_layers], dim=1)


def efid() -> None:
    """Coefficients of 32 faces."""
    reference = FaceNetwork().eval()
    ours = Deep3DFace(reference.state_dict())
    faces = torch.randint(0, 256, (32, 3, 224, 224), dtype=torch.uint8)

    def one_by_one() -> Tensor:
        with torch.no_grad():
            return torch.cat([reference(face[None] / 255) for face in faces])

    def as_evaluated() -> Tensor:
        return torch.cat([ours.coefficients(part) for part in faces.split(EFIDConfig.batch_size)])

    report("E-FID network, 32 faces", one_by_one, as_evaluated, 5)


def cache() -> None:
    """Features of the reference side, computed and read from the cache."""
    ours = InceptionFeatures(fid_inception().eval().state_dict())
    frames = torch.randint(0, 256, (8, 3, 256, 256), dtype=torch.uint8)
    with tempfile.TemporaryDirectory(prefix="metrics-speed-") as folder:
        store = FeatureStore(Path(folder))

        def compute() -> Tensor:
            return ours(frames)

        def read() -> Tensor:
            return torch.from_numpy(store.fetch({"content": "8 frames"}, lambda: {"x": compute().numpy()})["x"])

        read()
        report("cached reference side, FID of 8 frames", compute, read, 3)


def report(what: str, reference: Callable[[], object], ours: Callable[[], object], rounds: int) -> None:
    """Prints both times, their ratios, and the relative difference of the results."""
    seconds: list[list[tuple[float, float]]] = [[], []]
    results: list[object] = [None, None]
    for _ in range(rounds):
        for side, run in enumerate((reference, ours)):
            clock, processor = time.perf_counter(), time.process_time()
            results[side] = run()
            seconds[side].append((time.perf_counter() - clock, time.process_time() - processor))
    one, two = (torch.as_tensor(result, dtype=torch.float64) for result in results)
    apart = float((one - two).abs().max() / one.abs().max())
    columns = ""
    for kind in range(2):
        middle = [float(np.median([times[kind] for times in side])) for side in seconds]
        columns += f"{middle[0]:9.3f}s{middle[1]:9.4f}s{middle[0] / middle[1]:8.1f}x "
    print(f"{what:42}{columns}  {apart:.1e}", flush=True)


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
