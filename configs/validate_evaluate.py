"""Rules of ``evaluate.py``'s configuration that no single field can express: said before any work starts."""

from __future__ import annotations

from pathlib import Path

from configs.errors import ConfigError
from configs.evaluation import CellConfig, EvaluateConfig
from configs.registries import METRICS
from configs.rules import one_of, positive

FVD_PROTOCOLS = (
    "stylegan-v",
    "stylegan-v-128f",
    "stylegan-v-128f-subsample8",
    "fvd-comparison",
    "videogpt",
    "latentsync",
    "disco",
)
MODES = ("A", "A+V", "control")


def validate_evaluate(config: EvaluateConfig) -> None:
    """Checks ``evaluate.py``'s configuration as a whole.

    Raises:
        ConfigError: naming the key, its value, and what is expected.
    """
    for key in ("generated", "reference"):
        folder = Path(getattr(config, key))
        if not folder.is_dir():
            kind = "is a file" if folder.exists() else "does not exist"
            raise ConfigError(f"{key}={folder}: {kind}; expected a folder of videos")
    if Path(config.output).suffix != ".json" or Path(config.output).is_dir():
        raise ConfigError(f"output={config.output}: expected the name of a .json file, e.g. output=results/mine.json")
    if not config.metrics:
        raise ConfigError(f"metrics=[]: expected some of {', '.join(METRICS.names())}")
    one_of("device", config.device, ("auto", "cpu", "cuda"))
    one_of("fvd.protocol", config.fvd.protocol, FVD_PROTOCOLS)
    one_of("sync.mode", config.sync.mode, ("reference", "fast"))
    one_of("sync.detector", config.sync.detector, ("s3fd", "mediapipe", "sidecar"))
    one_of("fid.network", config.fid.network, ("inception", "standin"))
    one_of("fvd.network", config.fvd.network, ("i3d", "standin"))
    one_of("sync.network", config.sync.network, ("syncnet", "standin"))
    one_of("efid.network", config.efid.network, ("deep3d", "3ddfa", "standin"))
    one_of("efid.landmarks", config.efid.landmarks, ("detector", "sidecar"))
    _validate_sidecars(config)
    for key, value in (
        ("fps", config.fps),
        ("max_gap", config.max_gap),
        ("fid.batch_size", config.fid.batch_size),
        ("efid.batch_size", config.efid.batch_size),
        ("sync.min_track", config.sync.min_track),
        ("drift", config.drift),
    ):
        positive(key, value)
    if config.bootstrap < 0 or config.bootstrap == 1:
        raise ConfigError(f"bootstrap={config.bootstrap}: expected 0 or at least 2 resamples")
    _validate_crop(config.crop)
    _validate_cell(config.cell)
    for key in ("fid.weights", "fvd.weights", "sync.weights", "sync.detector_weights", "efid.weights"):
        group, name = key.split(".")
        file = getattr(getattr(config, group), name)
        if file is not None and not Path(file).is_file():
            raise ConfigError(f"{key}={file}: no such file; leave it out for the official weights")


def _validate_sidecars(config: EvaluateConfig) -> None:
    if config.sync.detector == "sidecar" and config.sync.mode != "fast":
        raise ConfigError(
            "sync.detector=sidecar: the frames of mode=reference are not those of the landmark file; add sync.mode=fast"
        )
    if "sidecar" in (config.sync.detector, config.efid.landmarks) and (config.crop is not None or config.fps != 25):
        raise ConfigError("crop, fps: landmark files beside the videos hold whole pictures at 25 fps; leave both out")


def _validate_cell(cell: CellConfig) -> None:
    if not cell.system:
        if cell.dataset or cell.mode:
            raise ConfigError("cell.system is missing: name the system whose cell of the tables this is")
        return
    if not cell.dataset:
        raise ConfigError("cell.dataset is missing: name the test set, e.g. cell.dataset=hdtf")
    one_of("cell.mode", str(cell.mode), MODES)
    if cell.run < 0:
        raise ConfigError(f"cell.run={cell.run}: expected 0 or more")


def _validate_crop(crop: list[int] | None) -> None:
    if crop is not None and (len(crop) != 4 or min(crop[:2]) < 0 or min(crop[2:]) < 1):
        raise ConfigError(f"crop={crop}: expected [x,y,width,height] in pixels, e.g. crop=[1030,2,512,512]")
