"""The export: one safetensors file with everything generation needs of a trained ETHD.

It holds the averaged weights, the V-AID that drove them with its statistics, how latents are scaled, which encoders
made the data, and, where an emotion run was given, its label table and text mapping. Optimizer states stay behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from encoders.protocols import Identity, TextEncoder
from encoders.weight_files import WrongWeights
from lightning_modules.checkpoints import CHECKPOINT_INFO, CheckpointError, checkpoint_file, read_checkpoint
from lightning_modules.emotion.emotion_table import (
    TABLE_FILE,
    TABLE_KIND,
    WRITTEN_BY,
    EmotionTable,
    require_same_motion,
)
from lightning_modules.emotion.text_mapping import MAPPING_VERSION, TEXT_FILE, TEXT_KIND, TextEmotion
from lightning_modules.ethd.checkpoint import STAGE, EthdInfo, build_ethd, weights_of
from lightning_modules.ethd.network import Ethd
from lightning_modules.tensor_files import read_file, write_file
from lightning_modules.vaid.checkpoint import load_vaid, vaid_config
from lightning_modules.vaid.network import VAID
from runtime.files import sha256_of

KIND, VERSION = "emotivetalk_export", 1
EXPORT = Path("export") / "ethd.safetensors"
Parts = tuple[dict[str, Any], dict[str, Tensor]]


@dataclass(frozen=True)
class ExportedModel:
    """A trained ETHD with what drives it; networks frozen, in eval mode, on the CPU.

    Attributes:
        info: the configuration, dimensions, encoders and scales.
        ethd: the network with its averaged weights.
        vaid: that drove it in training; its scales define the units of all latents ETHD hears.
        step: training steps behind the weights.
        sha256: of the file, or empty for an export that was never written.
        table: for emotions by label, where the export has it.
        text: header and tensors of the text mapping, where the export has it; see ``text_emotion``.
        path: of the file.
    """

    info: EthdInfo
    ethd: Ethd
    vaid: VAID
    step: int = 0
    sha256: str = ""
    table: EmotionTable | None = None
    text: Parts | None = None
    path: Path = Path("export")

    @property
    def text_encoder(self) -> Identity | None:
        """The text encoder that the text mapping was trained on."""
        return None if self.text is None else Identity(**self.text[0]["text"])

    def text_emotion(self, encoder: TextEncoder) -> TextEmotion:
        """The text mapping, on its encoder.

        Raises:
            WrongWeights: when there is none, or the encoder is another.
        """
        if self.text is None:
            raise WrongWeights(f"{self.path}: holds no text mapping; export it with emotion=RUN")
        return TextEmotion.from_plain(*self.text, self.path, encoder, self.info.encoders["motion"])


def export(run: str | Path, vaid: str | Path | None = None, emotion: str | Path | None = None) -> Path:
    """Writes the export of a run.

    Args:
        run: a run directory of stage ethd, whose last checkpoint is taken, or a checkpoint.
        vaid: the V-AID it was trained with, where that was moved since: a run directory or a checkpoint.
        emotion: a run directory of the emotion experiment, to make labels and texts part of it.

    Returns:
        ``RUN/export/ethd.safetensors``.

    Raises:
        CheckpointError: for a missing, damaged or foreign checkpoint, another V-AID than it was trained with, or a
            folder that cannot be written.
        WrongWeights: for emotion files that are missing, damaged, or of another motion encoder.
    """
    file = checkpoint_file(run)
    checkpoint = read_checkpoint(file, STAGE)
    info = EthdInfo.read(checkpoint[CHECKPOINT_INFO])
    try:
        vaid_file = checkpoint_file(vaid or info.vaid)
    except CheckpointError as error:
        raise CheckpointError(f"{error}. {file} was trained with that V-AID; name where it is with vaid=RUN") from error
    digest = sha256_of(vaid_file)
    if digest != info.vaid_sha256:
        raise CheckpointError(
            f"{vaid_file}: is not the V-AID {file} was trained with (sha256 {digest[:12]}..., expected "
            f"{info.vaid_sha256[:12]}...); name that one with vaid=FILE"
        )
    table, text = (None, None) if emotion is None else emotion_parts(emotion, info.encoders["motion"])
    heard = load_vaid(vaid_file, info.encoders)
    header = {
        "version": VERSION,
        "card": info.plain(),
        "vaid": asdict(heard.config),
        "step": int(checkpoint.get("global_step", 0)),
    }
    parts: dict[str, Parts] = {
        "ethd": ({}, weights_of(checkpoint)),
        "vaid": ({}, heard.state_dict()),
        **({} if table is None else {TABLE_KIND: table.plain()}),
        **({} if text is None else {TEXT_KIND: text}),
    }
    output = _run_folder(file) / EXPORT
    try:
        write_file(
            output,
            KIND,
            {**header, "parts": {name: part_header for name, (part_header, _) in parts.items()}},
            {f"{name}.{key}": tensor for name, (_, tensors) in parts.items() for key, tensor in tensors.items()},
        )
    except OSError as error:
        raise CheckpointError(f"{output}: cannot be written ({error.strerror or error})") from error
    return output


def load_export(run: str | Path) -> ExportedModel:
    """Reads an export.

    Args:
        run: a run directory that was exported, or the file.

    Raises:
        CheckpointError: when there is no such run, it is of another stage or was not exported, or for
            a checkpoint.
        WrongWeights: when the file is damaged, something else, or of a newer version.
    """
    path = export_file(run)
    header, tensors = read_file(path, KIND, VERSION, "python train.py task=export run=RUN")
    try:
        parts = {name: (part, _under(tensors, name)) for name, part in header["parts"].items()}
        info = EthdInfo.read(header["card"])
        with torch.device("meta"):  # every weight comes from the file
            ethd = build_ethd(info.config, info.dimensions, info.frame_side)
        ethd.load_state_dict(parts["ethd"][1], assign=True)
        vaid = VAID(vaid_config(header["vaid"]), info.dimensions)
        vaid.load_state_dict(parts["vaid"][1])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WrongWeights(f"{path}: {error} is missing or malformed; export the run again") from error
    table = EmotionTable.from_plain(*parts[TABLE_KIND], path) if TABLE_KIND in parts else None
    return ExportedModel(
        info=info,
        ethd=ethd.eval().requires_grad_(False),
        vaid=vaid.eval().requires_grad_(False),
        step=int(header["step"]),
        sha256=sha256_of(path),
        table=table,
        text=parts.get(TEXT_KIND),
        path=path,
    )


def export_file(run: str | Path) -> Path:
    """The export of a run directory; a file is taken as it is.

    Raises:
        CheckpointError: when there is no such run, it is of another stage or was not exported, or for
            a checkpoint.
    """
    path = Path(run)
    if path.is_dir():
        file = path / EXPORT
        if file.is_file():
            return file
        stage = _stage_of(path)
        if stage not in (None, STAGE):
            raise CheckpointError(f"{path}: is a run of stage {stage}, one of stage {STAGE} is needed here")
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
    """Label table of an emotion run, and header and tensors of its text mapping where it has one.

    Raises:
        CheckpointError: when there is no such run.
        WrongWeights: for files that are missing, damaged, or of another motion encoder.
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


def _run_folder(checkpoint: Path) -> Path:
    """The run directory a checkpoint lies in, which under DeepSpeed is a folder itself."""
    return next((folder.parent for folder in checkpoint.parents if folder.name == "checkpoints"), checkpoint.parent)


def _stage_of(run: Path) -> str | None:
    """The stage a run directory's configuration names."""
    try:
        return str(OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))["stage"])  # type: ignore[index, call-overload]
    except (OSError, KeyError, TypeError, ValueError, OmegaConfBaseException):
        return None


def _under(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors of a part, by their names in it."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
