"""The V-AID that a run of ETHD holds: ``RUN/vaid.ckpt``, whose SHA-256 every checkpoint of the run records.

A run keeps a copy, because the V-AID's own run can go on, be pruned or be moved. Its statistics define the units of all
latents that ETHD reads, so ETHD cannot be used with another one.
"""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from datamodules.schema import Dimensions
from encoders.protocols import Identity
from lightning_modules.checkpoint_files import steps_of
from lightning_modules.checkpoints import (
    CHECKPOINT_INFO,
    CheckpointError,
    checkpoint_file,
    read_checkpoint,
    run_of,
    weights_file,
)
from lightning_modules.ethd.checkpoint import STAGE, EthdInfo
from lightning_modules.vaid.checkpoint import ENCODER_KINDS, load_vaid
from lightning_modules.vaid.checkpoint import STAGE as VAID_STAGE
from lightning_modules.vaid.network import VAID
from runtime.files import sha256_of, whole_file

HELD = "vaid.ckpt"


@dataclass(frozen=True)
class VAIDFile:
    """A checkpoint of V-AID that a run uses.

    Attributes:
        path: The file; for a V-AID taken from an export, the export.
        sha256: SHA-256 of the checkpoint.
        recorded: Path that the run's checkpoints record: where the V-AID came from.
        content: The checkpoint as bytes, if it is not a file of its own.
        networks: Its networks, if they are loaded already.
    """

    path: Path
    sha256: str
    recorded: str
    content: bytes | None = None
    networks: VAID | None = None

    def load(self, encoders: Mapping[str, Identity] | None = None) -> VAID:
        """Loads the V-AID; see ``load_vaid``."""
        return load_vaid(self.path, encoders) if self.networks is None else self.networks

    def keep(self, run: Path) -> Path:
        """Copies the V-AID into a run directory, unless the directory holds it already.

        Raises:
            CheckpointError: If the file cannot be copied, or has changed since it was loaded.
        """
        held = run / HELD
        if held.is_file() and sha256_of(held) == self.sha256:
            return held
        run.mkdir(parents=True, exist_ok=True)
        try:
            with whole_file(held) as partial:
                if self.content is None:
                    shutil.copyfile(self.path, partial)
                else:
                    partial.write_bytes(self.content)
                if sha256_of(partial) != self.sha256:
                    raise CheckpointError(f"{self.path}: has changed since it was read; start the run again")
        except OSError as error:
            raise CheckpointError(f"{held}: cannot be written ({error.strerror or error})") from error
        return held


def vaid_file(run: str | Path) -> VAIDFile:
    """The V-AID that a new run is to be trained with.

    Args:
        run: Run directory or checkpoint of V-AID.

    Raises:
        CheckpointError: If it does not exist.
    """
    file = checkpoint_file(run)
    return VAIDFile(file, sha256_of(file), str(file.resolve()))


def vaid_of_run(run: str | Path, given: str | Path | None = None) -> VAIDFile:
    """The V-AID that a run was trained with: the one it holds, or for a run of an earlier version the one it names.

    Args:
        run: Run directory or checkpoint of ETHD.
        given: Run directory or checkpoint of V-AID in which a V-AID that the run does not hold is searched.

    Raises:
        CheckpointError: If none of the files is the V-AID with the hash that the checkpoint records.
    """
    file = checkpoint_file(run)
    info = EthdInfo.read(read_checkpoint(file, STAGE)[CHECKPOINT_INFO])
    held = run_of(file) / HELD
    others = [] if given is None else [checkpoint_file(given), *_others(Path(given))]
    found = [path for path in (held, *others, *([] if others else [Path(info.vaid)])) if path.is_file()]
    for path in found:
        if sha256_of(path) == info.vaid_sha256:
            return VAIDFile(path, info.vaid_sha256, info.vaid)
    wanted = f"sha256 {info.vaid_sha256[:12]}..."
    if not found:
        raise CheckpointError(
            f"{held}: no such file, and {info.vaid}, the V-AID that {file} was trained with, is gone; name where it is "
            f"once with vaid=RUN or vaid=FILE ({wanted})"
        )
    raise CheckpointError(
        f"{found[-1]}: is not the V-AID that {file} was trained with (sha256 {sha256_of(found[-1])[:12]}..., expected "
        f"{wanted}); name that one with vaid=RUN or vaid=FILE"
    )


def vaid_of_networks(vaid: VAID, encoders: Mapping[str, Identity], dimensions: Dimensions, source: Path) -> VAIDFile:
    """A V-AID that exists only inside another file, as a checkpoint of its own.

    Args:
        vaid: The networks.
        encoders: Identities of the encoders of its training data.
        dimensions: Feature widths of its training data.
        source: The file it was read from.
    """
    info = {
        "stage": VAID_STAGE,
        "config": asdict(vaid.config),
        "dimensions": asdict(dimensions),
        "encoders": {kind: asdict(encoders[kind]) for kind in ENCODER_KINDS},
    }
    state = {f"vaid.{name}": tensor for name, tensor in vaid.state_dict().items()}
    buffer = io.BytesIO()
    torch.save({CHECKPOINT_INFO: info, "state_dict": state}, buffer)
    content = buffer.getvalue()
    return VAIDFile(source, hashlib.sha256(content).hexdigest(), str(source.resolve()), content, vaid)


def _others(run: Path) -> Iterator[Path]:
    """All checkpoints of a run directory, the newest first."""
    for path in reversed(steps_of(run / "checkpoints").values()):
        yield weights_file(path)
