"""Export of a trained ETHD: one safetensors file with everything that generation needs.

It contains the EMA weights, the V-AID used in training with its statistics, the scaling of the latents, the identities
of the encoders, and, if an emotion run is given, its label table and text mapping. It contains no optimizer states.
With ``half``, weights are stored as float16. They are float32 again once they are loaded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

from configs.models import EthdConfig, VAIDConfig
from configs.stored import load_stored
from encoders.protocols import Identity, TextEncoder
from encoders.weight_files import WrongWeights
from lightning_modules.checkpoints import CHECKPOINT_INFO, CheckpointError, checkpoint_file, read_checkpoint, run_of
from lightning_modules.emotion.emotion_table import (
    TABLE_FILE,
    TABLE_KIND,
    WRITTEN_BY,
    EmotionTable,
    require_same_motion,
)
from lightning_modules.emotion.text_mapping import MAPPING_VERSION, TEXT_FILE, TEXT_KIND, TextEmotion
from lightning_modules.ethd.checkpoint import STAGE, TRAINED_WINDOWS, EthdInfo, build_ethd, weights_of
from lightning_modules.ethd.held_vaid import vaid_of_run
from lightning_modules.ethd.network import Ethd
from lightning_modules.ethd.sampler import sampling_settings
from lightning_modules.tensor_files import read_file, write_file
from lightning_modules.vaid.checkpoint import vaid_config
from lightning_modules.vaid.network import VAID
from runtime.checked_fields import check_count, check_sizes
from runtime.errors import first_line
from runtime.files import require_writable, sha256_of, write_whole
from runtime.hashed_tensors import read_header
from runtime.ownership import refuse
from runtime.tensors import TensorFileError

MAX_SIDE = 1 << 14  # pixels of a frame
KIND, VERSION = "emotivetalk_export", 2
WHOLE_VERSION = 1  # of files in float32, which earlier versions read too
EXPORT = Path("export") / "ethd.safetensors"
EMOTION = "emotion"  # folder of a run with the files of the emotion run that it was last exported with
Parts = tuple[dict[str, Any], dict[str, Tensor]]


@dataclass(frozen=True)
class ExportedModel:
    """A trained ETHD and V-AID, frozen, in eval mode, on the CPU.

    Attributes:
        info: Configuration, dimensions, encoders and scales.
        ethd: Network with EMA weights.
        vaid: V-AID used in training; its scales define the units of all latents that ETHD reads.
        step: Number of training steps.
        trained_windows: Length of a window -> frames that were trained in windows of that length; empty if unknown.
        sha256: SHA-256 of the file; empty if it was never written.
        table: Label table of emotions, if exported.
        text: Header and tensors of the text mapping, if exported; see ``text_emotion``.
        path: Path of the file.
        record: Training and scores of the run as its exporter stated them: commit, data, seed, versions, scores.
    """

    info: EthdInfo
    ethd: Ethd
    vaid: VAID
    step: int = 0
    trained_windows: Mapping[int, int] = field(default_factory=dict)
    sha256: str = ""
    table: EmotionTable | None = None
    text: Parts | None = None
    path: Path = Path("export")
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text_encoder(self) -> Identity | None:
        """Identity of the text encoder that the text mapping was trained with; None without a text mapping."""
        return None if self.text is None else Identity(**self.text[0]["text"])

    def text_emotion(self, encoder: TextEncoder) -> TextEmotion:
        """Builds the text mapping with its encoder.

        Raises:
            WrongWeights: If the export has no text mapping, or it was trained with another encoder.
        """
        if self.text is None:
            raise WrongWeights(f"{self.path}: has no text mapping; export the run again with emotion=RUN")
        return TextEmotion.from_plain(*self.text, self.path, encoder, self.info.encoders["motion"])


def export(
    run: str | Path,
    vaid: str | Path | None = None,
    emotion: str | Path | None = None,
    *,
    output: str | Path | None = None,
    half: bool = False,
    record: Mapping[str, Any] | None = None,
    sampling: Mapping[str, Any] | None = None,
) -> Path:
    """Exports a run.

    Args:
        run: Checkpoint of stage ethd, or a run directory for its last checkpoint.
        vaid: Run directory or checkpoint of the V-AID used in training, for a run of an earlier version that does not
            hold it. It is then kept in the run directory.
        emotion: Run directory of the emotion stage, to include its label table and text mapping. They are kept in the
            run directory, and included in later exports of the run too.
        output: File to write in place of ``RUN/export/ethd.safetensors``.
        half: Whether weights are stored as float16, which takes half the space and rounds them to 11 bits.
        record: JSON-serialisable record of the training, kept in the file.
        sampling: Fields of ``EthdConfig`` that replace those of the training, such as ``sampling_steps``.

    Returns:
        The file.

    Raises:
        CheckpointError: If a checkpoint is missing, damaged or of another stage, if ``vaid`` is not the V-AID used in
            training, if a weight does not fit into float16, or if the file cannot be written.
        ForeignFileError: If ``output`` exists and is not an export.
        WrongWeights: If emotion files are missing, damaged, or of another motion encoder.
        SamplingError, GuidanceError: If the network cannot sample as ``sampling`` says.
    """
    file = checkpoint_file(run)
    target = run_of(file) / EXPORT if output is None else Path(output)
    if output is not None:
        require_writable(target)
        _require_own(target)
    checkpoint = read_checkpoint(file, STAGE)
    info = EthdInfo.read(checkpoint[CHECKPOINT_INFO])
    if sampling:
        info = replace(info, config=replace(info.config, **sampling))
        sampling_settings(info.config)  # checks them
    folder = run_of(file)
    found = vaid_of_run(file, vaid)
    trained_with = found.load(info.encoders)
    table, text = _emotion_of_run(folder, emotion, info.encoders["motion"])
    found.keep(folder)
    header = {
        "version": VERSION if half else WHOLE_VERSION,
        "card": {**info.plain(), "vaid": Path(info.vaid).name},  # its folder concerns nobody who gets the file
        "vaid": asdict(trained_with.config),
        "step": int(checkpoint.get("global_step", 0)),
        TRAINED_WINDOWS: checkpoint.get(TRAINED_WINDOWS, {}),
        **({"record": dict(record)} if record else {}),
    }
    parts: dict[str, Parts] = {
        "ethd": ({}, weights_of(checkpoint)),
        "vaid": ({}, trained_with.state_dict()),
        **({} if table is None else {TABLE_KIND: table.plain()}),
        **({} if text is None else {TEXT_KIND: text}),
    }
    tensors = {f"{name}.{key}": tensor for name, (_, own) in parts.items() for key, tensor in own.items()}
    if half:
        tensors = {name: _halved(name, tensor, target) for name, tensor in tensors.items()}
    whole = {**header, "parts": {name: part_header for name, (part_header, _) in parts.items()}}
    try:
        write_file(target, KIND, whole, tensors)
    except OSError as error:
        raise CheckpointError(f"{target}: cannot be written ({error.strerror or error})") from error
    return target


def load_export(run: str | Path) -> ExportedModel:
    """Loads an export.

    Args:
        run: Exported run directory, or the exported file.

    Raises:
        CheckpointError: If the run does not exist, is of another stage or was not exported, or if ``run`` is a
            checkpoint.
        WrongWeights: If the file is damaged, of another kind, or of a newer version.
    """
    path = export_file(run)
    header, stored = read_file(path, KIND, VERSION, "python train.py task=export run=RUN")
    tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in stored.items()}
    try:
        parts = {name: (part, _under(tensors, name)) for name, part in header["parts"].items()}
        info = EthdInfo.read(header["card"])
        step, trained_windows, trained_with = _checked(header, info)
        with torch.device("meta"):  # every weight comes from the file
            ethd = build_ethd(info.config, info.dimensions, info.frame_side)
            check_shapes(VAID(trained_with, info.dimensions), parts["vaid"][1])
        check_shapes(ethd, parts["ethd"][1])
        ethd.load_state_dict(parts["ethd"][1], assign=True)
        vaid = VAID(trained_with, info.dimensions)
        vaid.load_state_dict(parts["vaid"][1])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError) as error:
        raise WrongWeights(f"{path}: {first_line(error)} is missing or malformed; export the run again") from error
    table = EmotionTable.from_plain(*parts[TABLE_KIND], path) if TABLE_KIND in parts else None
    return ExportedModel(
        info=info,
        ethd=ethd.eval().requires_grad_(False),
        vaid=vaid.eval().requires_grad_(False),
        step=step,
        trained_windows=trained_windows,
        sha256=sha256_of(path),
        table=table,
        text=parts.get(TEXT_KIND),
        path=path,
        record=found if isinstance(found := header.get("record"), dict) else {},
    )


def export_config(run: str | Path) -> EthdConfig:
    """Configuration of an exported network, from the header of the file; for checks before its weights are loaded.

    Args:
        run: Exported run directory, or the exported file.

    Raises:
        CheckpointError, WrongWeights: As of ``load_export``, but only the header is read.
    """
    path = export_file(run)
    try:
        return EthdInfo.read(read_header(path, KIND)["card"]).config
    except TensorFileError as error:
        raise WrongWeights(f"{error}; export the run again") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WrongWeights(f"{path}: {first_line(error)} is missing or malformed; export the run again") from error


def is_export(path: Path) -> bool:
    """Whether a path is of an export alone: the file, its folder, or a run directory without its checkpoints."""
    inside = (path / EXPORT).is_file() and not (path / "checkpoints").exists()
    return path.suffix == ".safetensors" or (path / EXPORT.name).is_file() or inside


def export_file(run: str | Path) -> Path:
    """Path of the export of a run directory; the path of an export is returned unchanged.

    Raises:
        CheckpointError: If the run does not exist, is of another stage or was not exported, or if ``run`` is a
            checkpoint.
    """
    path = Path(run)
    if path.is_dir():
        for file in (path / EXPORT, path / EXPORT.name):
            if file.is_file():
                return file
        stage = _stage_of(path)
        if stage not in (None, STAGE):
            raise CheckpointError(f"{path}: is a run of stage {stage}; expected one of stage {STAGE}")
        if stage is None and not (path / "checkpoints").is_dir():
            raise CheckpointError(f"{path}: is not a run directory of train.py; expected e.g. outputs/ethd/RUN_ID")
        raise CheckpointError(f"{path}: was not exported yet; run: python train.py task=export run={path}")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such run; train.py writes run directories under outputs/ethd/")
    if path.suffix != ".safetensors":
        raise CheckpointError(
            f"{path}: is not an export; if it is a checkpoint of ETHD, run: python train.py task=export run={path}"
        )
    return path


def emotion_parts(run: str | Path, motion: Identity) -> tuple[EmotionTable, Parts | None]:
    """Loads the label table of an emotion run, and header and tensors of its text mapping if it has one.

    Raises:
        CheckpointError: If the run does not exist.
        WrongWeights: If files are missing, damaged, or of another motion encoder.
    """
    run = Path(run)
    if not run.is_dir():
        raise CheckpointError(f"emotion={run}: no such run; {WRITTEN_BY} writes run directories under outputs/emotion/")
    table = EmotionTable.load(run / TABLE_FILE, motion)
    file = run / TEXT_FILE
    if not file.exists():
        return table, None
    text = read_file(file, TEXT_KIND, MAPPING_VERSION, WRITTEN_BY)
    require_same_motion(file, Identity(**text[0]["motion"]), motion)
    return table, text


def _emotion_of_run(run: Path, given: str | Path | None, motion: Identity) -> tuple[EmotionTable | None, Parts | None]:
    """Emotion parts of an export: those of a given emotion run, which are kept in the run directory, or those kept."""
    held = run / EMOTION
    if given is not None:
        parts = emotion_parts(given, motion)
        held.mkdir(parents=True, exist_ok=True)
        for name in (TABLE_FILE, TEXT_FILE):
            source = Path(given) / name
            if source.resolve() == (held / name).resolve():
                continue
            if source.exists():
                write_whole(held / name, source.read_bytes())
            else:
                (held / name).unlink(missing_ok=True)
        return parts
    return emotion_parts(held, motion) if (held / TABLE_FILE).is_file() else (None, None)


def _checked(header: Mapping[str, Any], info: EthdInfo) -> tuple[int, dict[int, int], VAIDConfig]:
    """Steps, trained windows and the configuration of V-AID, after all numbers of an export were checked.

    Raises:
        ValueError: If a number is of another type, not finite, or larger than any network's; names it.
    """
    trained_with = vaid_config(header["vaid"])
    check_sizes(info.config, "config")
    check_sizes(trained_with, "vaid")
    check_sizes(info.dimensions, "dimensions")
    check_count("frame_side", info.frame_side, 1, MAX_SIDE)
    check_count("config.window", info.config.window, 1)
    for name, values, least in (("mean", info.latents.mean, -math.inf), ("std", info.latents.std, 0.0)):
        if len(values) != info.dimensions.latent_channels or not all(_is_number(value, least) for value in values):
            raise ValueError(f"latents.{name}={str(values)[:60]} (one finite number per channel)")
    windows = {
        int(length): check_count(f"{TRAINED_WINDOWS}.{length}", frames, 0, 1 << 62)
        for length, frames in header.get(TRAINED_WINDOWS, {}).items()
    }
    return check_count("step", header["step"], 0, 1 << 62), windows, trained_with


def check_shapes(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Checks that tensors have the names and shapes of a network, which can be on the meta device.

    Raises:
        ValueError: If not; names the first that differs.
    """
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(own.keys() | found.keys()):
        if own.get(name) != found.get(name):
            raise ValueError(f"tensor {name} of shape {found.get(name)} (expected {own.get(name)})")
    for name, weight in network.state_dict().items():
        if tensors[name].dtype != weight.dtype:
            raise ValueError(f"tensor {name} of {tensors[name].dtype} (expected {weight.dtype})")


def _halved(name: str, tensor: Tensor, target: Path) -> Tensor:
    """A tensor of floats as float16.

    Raises:
        CheckpointError: If a value is too large for it.
    """
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    if not torch.equal(half.isfinite(), tensor.isfinite()):
        raise CheckpointError(f"{target}: {name} has values above 65504, too large for float16; leave out half=true")
    return half


def _require_own(file: Path) -> None:
    """Checks that a file is missing or an export.

    Raises:
        ForeignFileError: If not.
    """
    try:
        own = isinstance(read_header(file, KIND), dict)
    except FileNotFoundError:
        return
    except TensorFileError:
        own = False
    if not own:
        refuse(file, f"output={file}")


def _is_number(value: Any, above: float) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value > above


def _stage_of(run: Path) -> str | None:
    """Stage in the configuration of a run directory, or None if it cannot be read."""
    try:
        return str(OmegaConf.to_container(load_stored(run / "config.yaml"))["stage"])  # type: ignore[index, call-overload]
    except (OSError, KeyError, TypeError, ValueError, OmegaConfBaseException):
        return None


def _under(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Tensors of one part, without its name prefix."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
