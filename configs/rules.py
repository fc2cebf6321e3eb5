"""Checks the whole configuration of a command before any work starts: its fields, and the rules between them.

The constraint of a single field is declared with its default (``configs/fields.py``).
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from configs.app import AppConfig
from configs.data import DataConfig
from configs.errors import ConfigError
from configs.evaluation import CellConfig, EvaluateConfig
from configs.fields import MISSING, check_fields, one_of
from configs.generation import GenerateConfig
from configs.preparation import PRESETS, PrepareConfig
from configs.registries import DATASETS, METRICS
from configs.systems import RunSystemConfig
from configs.tables import TableConfig
from configs.training import TrainConfig
from configs.training_rules import check_loggers, check_train, divisors_of

EXAMPLES = {"portrait": "face.png", "speech": "voice.wav"}


def check(config: Any) -> None:
    """Checks the configuration of any command.

    Raises:
        ConfigError: Names the key, its value and what is expected.
    """
    check_fields(config)
    if rules := RULES.get(type(config)):
        rules(config)


def parse_part(part: str) -> tuple[int, int]:
    """``3/16`` -> (2, 16): zero-based index of the part, and number of parts."""
    number, _, total = part.partition("/")
    return int(number) - 1, int(total)


def check_data(config: DataConfig) -> None:
    """Checks a data configuration.

    Raises:
        ConfigError: Names the key, its value and what is expected.
    """
    check_fields(config, "data.")
    if config.micro_batch and config.batch_size % config.micro_batch:
        divisors = ", ".join(map(str, divisors_of(config.batch_size)))
        raise ConfigError(
            f"data.micro_batch={config.micro_batch}: does not divide data.batch_size={config.batch_size}; choose one "
            f"of {divisors}"
        )
    if config.name != "mixture":
        if config.name != MISSING:
            DATASETS.get(config.name, "data.name")
        if config.roots or config.weights:
            raise ConfigError(f"data.roots and data.weights belong to data.name=mixture, not {config.name}")
        return
    if config.root or len(config.roots) < 2:
        raise ConfigError(
            "data.name=mixture expects two or more data.roots (name: folder or URL) and no data.root; for one dataset "
            "alone choose it, e.g. data=hdtf data.root=DIR"
        )
    if config.weights and set(config.weights) != set(config.roots):
        raise ConfigError(
            f"data.weights names {sorted(config.weights)}, data.roots {sorted(config.roots)}; make them equal"
        )


def _prepare(config: PrepareConfig) -> None:
    if config.task == "weights":
        return
    one_of(*PRESETS).require("preset", config.preset)
    if not config.output:
        raise ConfigError("output is missing: name the folder of the shards, e.g. output=data/mine")
    if config.dataset.known and config.task == "prepare":
        raise ConfigError(
            "dataset.known: task=prepare compares nobody with other shards; use task=scan, then task=encode"
        )
    if config.task not in ("prepare", "all", "scan", "encode"):
        return
    for device in config.devices:
        if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
            raise ConfigError(
                f"devices: expected cpu, mps, cuda or cuda:N, found {device!r}; e.g. devices=[cuda:0,cuda:1]"
            )
    if not config.dataset.name:
        raise ConfigError(f"dataset is missing: choose dataset={'|'.join(DATASETS.names())}")
    if config.dataset.name == "synthetic":
        if config.source:
            raise ConfigError("source: dataset=synthetic writes its own videos under output/raw; leave source out")
        return
    if not config.source:
        raise ConfigError("source is missing: name the folder of the raw videos, e.g. source=my_videos")
    _require_folder("source", config.source)
    if config.dataset.name == "hdtf" and config.dataset.annotations and config.encoders.landmarks.name == "sidecar":
        raise ConfigError(
            "dataset.annotations: cutting and cropping raw videos needs a landmark detector, not landmark files; "
            "add encoders/landmarks=mediapipe"
        )


def _require_folder(key: str, folder: str) -> None:
    if not Path(folder).is_dir():
        kind = "is a file" if Path(folder).exists() else "does not exist"
        raise ConfigError(f"{key}={folder}: {kind}; expected a folder of videos, also for one video or archive")


def _train(config: TrainConfig) -> None:
    if config.data.name != "mixture" and not config.data.root:
        raise ConfigError("data.root is missing: name the folder of the shards that prepare.py wrote")
    check_data(config.data)
    check_train(config)


def _generate(config: GenerateConfig) -> None:
    """Rules of ``generate.py``. The rows of a batch are checked when they are read."""
    if config.ethd is None:
        if config.portrait or config.batch:
            raise ConfigError(
                "no value for ethd: add ethd=RUN, a run that was exported; the small model for a first try animates "
                "synthetic speakers: leave portrait and batch out"
            )
    elif not config.output:
        raise ConfigError("output is missing: name the video, e.g. output=out.mp4, or a folder")
    if config.batch is None:
        for key in ("portrait", "speech"):
            if config.ethd is not None and not getattr(config, key):
                raise ConfigError(f"{key} is missing: name a file, e.g. {key}={EXAMPLES[key]}, or batch=cases.csv")
        if parse_part(config.part) != (0, 1):
            raise ConfigError(f"part={config.part}: is a share of a batch; add batch=cases.csv")
    elif config.stream is not None:
        raise ConfigError(f"stream={config.stream}: streams one video; leave batch out")
    elif not Path(config.batch).is_file():
        raise ConfigError(f"batch={config.batch}: no such file; expected a CSV file with one video a row")
    if config.stream is None and config.stream_format != "mp4":
        raise ConfigError(f"stream_format={config.stream_format}: needs a stream; add stream=- or stream=PIPE")
    check_overlap(config.window, config.overlap)
    check_interval(config.guidance.low, config.guidance.high)


def check_interval(low: float, high: float) -> None:
    """Refuses an empty interval of noise levels.

    Raises:
        ConfigError: Names the key, its value and what is expected.
    """
    if low >= high:
        raise ConfigError(f"guidance.low={low:g}: expected less than guidance.high={high:g}; guidance would never act")


def check_overlap(window: int | None, overlap: int | None) -> None:
    """Refuses an overlap that leaves no stride between two windows.

    Raises:
        ConfigError: Names the key, its value and what is expected.
    """
    if None not in (window, overlap) and overlap >= window:  # type: ignore[operator]
        raise ConfigError(f"overlap={overlap}: expected at least 0 and less than window={window}")


def _app(config: AppConfig) -> None:
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError("app.py needs Gradio, which is not installed; run: pip install 'gradio>=6'")


def _evaluate(config: EvaluateConfig) -> None:
    check_loggers(config.logger)
    for key in ("generated", "reference"):
        _require_folder(key, getattr(config, key))
    if Path(config.output).suffix != ".json" or Path(config.output).is_dir():
        raise ConfigError(f"output={config.output}: expected the name of a .json file, e.g. output=results/mine.json")
    if not config.metrics:
        raise ConfigError(f"metrics=[]: expected some of {', '.join(METRICS.names())}")
    if config.sync.detector == "sidecar" and config.sync.mode != "fast":
        raise ConfigError(
            "sync.detector=sidecar: the frames of mode=reference are not those of the landmark file; add sync.mode=fast"
        )
    if "sidecar" in (config.sync.detector, config.efid.landmarks) and (config.crop is not None or config.fps != 25):
        raise ConfigError("crop, fps: landmark files belong to whole pictures at 25 fps; leave both out")
    _cell(config.cell)
    for key in ("fid.weights", "fvd.weights", "sync.weights", "sync.detector_weights", "efid.weights"):
        group, name = key.split(".")
        file = getattr(getattr(config, group), name)
        if file is not None and not Path(file).is_file():
            raise ConfigError(f"{key}={file}: no such file; leave it out for the official weights")


def _cell(cell: CellConfig) -> None:
    if not cell.system:
        if cell.dataset or cell.mode:
            raise ConfigError("cell.system is missing: name the system whose cell of the tables this result fills")
        return
    if not cell.dataset:
        raise ConfigError("cell.dataset is missing: name the test set, e.g. cell.dataset=hdtf")
    if cell.mode is None:
        raise ConfigError("cell.mode is missing: A, A+V or control")


def _tables(config: TableConfig) -> None:
    check_loggers(config.logger)
    for key in ("datasets", "columns"):
        names = getattr(config, key)
        if len(set(names)) < len(names):
            raise ConfigError(f"{key}={names}: names one twice")


def _systems(config: RunSystemConfig) -> None:
    """Rules of ``benchmark.run_system``. A faulty installation of the system is recorded per clip instead."""
    if not Path(config.cases).is_file():
        raise ConfigError(f"cases={config.cases}: no such file; expected a .csv with columns clip, portrait, speech")
    if Path(config.output).is_file():
        raise ConfigError(f"output={config.output}: is a file; expected the name of a folder")
    if config.size is not None and config.system != "ground_truth":
        raise ConfigError(f"size={config.size}: expected an even number from 16, for system=ground_truth alone")
    own = config.system == "folder" or config.system.endswith((".yaml", ".yml"))
    if not own and (config.videos or config.title or config.panel or config.offset):
        raise ConfigError(
            "videos, title, panel and offset describe system=folder; other systems have their own YAML file"
        )


RULES: dict[type, Callable[[Any], None]] = {
    PrepareConfig: _prepare,
    TrainConfig: _train,
    GenerateConfig: _generate,
    AppConfig: _app,
    EvaluateConfig: _evaluate,
    TableConfig: _tables,
    RunSystemConfig: _systems,
}
