"""Small videos of synthetic speakers with landmark files, and untrained proxy networks to evaluate them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from configs.evaluation import EFIDConfig, EvaluateConfig, FIDConfig, FVDConfig, SyncConfig
from metrics.networks.proxy import ProxyInfo, new_proxy, save_proxy
from preparation.synthetic import identity, render_clip
from preparation.synthetic.write import factors_path, landmarks_path, openface_csv
from tests.helpers.videos import write_video

OPTIONS = {
    "sync": {"width": 1 / 32},
    "image": {"width": 4, "dimensions": 6},
    "video": {"width": 4, "dimensions": 6},
    "expression": {"width": 4, "dimensions": 4},
}


def write_clip(path: Path, frames: list, sound: np.ndarray | None = None, fps: float = 25.0) -> Path:
    return write_video(path, frames, sound=sound, fps=fps, crf=4)


def write_speakers(folder: Path, clips: int, seconds: float = 1.2, size: int = 64, gain: float = 1.0) -> Path:
    """Writes ``clips`` videos of different speakers and emotions; ``gain`` scales the brightness."""
    for number in range(clips):
        clip = render_clip(identity(number), ("happy", "sad", "angry")[number % 3], 1, number, seconds, size)
        frames = ((frame * gain).astype(np.uint8) for frame in clip.frames())
        path = write_video(folder / f"clip{number}.mp4", frames, sound=clip.sound)
        landmarks_path(path).write_text(openface_csv(clip), encoding="utf-8")
        np.savez(factors_path(path), values=clip.factors, names=np.array(clip.factor_names))
    return folder


def untrained(folder: Path) -> dict[str, str]:
    """Writes proxy networks with random weights; returns kind -> file."""
    files = {}
    for kind, options in OPTIONS.items():
        torch.manual_seed(0)
        files[kind] = str(folder / f"proxy_{kind}.safetensors")
        info = ProxyInfo(kind, dict(options), "synthetic", speakers=1, clips=2, steps=0, seed=0, scores={"r2": 0.5})
        save_proxy(Path(files[kind]), new_proxy(kind, **options), info)
    return files


def evaluate_config(generated: Path, reference: Path, output: Path, fid=(), fvd=(), sync=(), efid=(), **keys):
    """Builds a configuration of ``evaluate.py`` on the CPU; dictionaries are the arguments of the metrics' settings."""
    metrics = {"fid": FIDConfig(**dict(fid)), "fvd": FVDConfig(**dict(fvd))}
    metrics |= {"sync": SyncConfig(**dict(sync)), "efid": EFIDConfig(**dict(efid))}
    places = {"generated": str(generated), "reference": str(reference), "output": str(output)}
    return EvaluateConfig(**places, protocol="emotivetalk", device="cpu", **metrics, **keys)


def proxy_settings(files: dict[str, str]) -> dict[str, dict[str, object]]:
    """Returns the arguments of the metrics' settings that select these proxies and the landmark files."""
    return {
        "fid": {"network": "proxy", "weights": files["image"]},
        "fvd": {"network": "proxy", "weights": files["video"]},
        "efid": {"network": "proxy", "weights": files["expression"], "landmarks": "sidecar"},
        "sync": {
            "network": "proxy", "weights": files["sync"], "mode": "fast", "detector": "sidecar", "min_track": 10,
            "min_face": 16.0,
        },
    }  # fmt: skip
