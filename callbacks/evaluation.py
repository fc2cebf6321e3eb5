"""Computes the paper's metrics on generated validation videos during training, with the code of evaluate.py."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.logs import show_table
from callbacks.validation_videos import VideoMaker, due, isolated_random_state, write_video
from configs.evaluation import EvaluateConfig
from evaluation.evaluate_folders import evaluate
from evaluation.pairs import EvaluationError
from evaluation.ranks import PATIENCE, Ranks
from evaluation.results import Results, write_results
from lightning_modules.ethd.module import EthdModule
from runtime.console import new_console

log = logging.getLogger(__name__)


class Evaluation(Callback):
    """Generates fixed validation clips with the EMA weights and logs their metrics.

    Videos are written to ``evaluation/STEP`` in the run directory, results to ``evaluation/STEP.json`` in the format of
    evaluate.py. Values are logged as e.g. ``val/fid``, with a suffix if a network is not the official one, and the
    values of each clip as a table. The ranks share the clips and the features. They synchronise over gloo, since NCCL's
    timeout is too short for it.

    Args:
        folder: Run directory.
        maker: Generator of the videos.
        every: Minimum number of steps between evaluations.
        config: Configuration of the evaluation; its folders are set by this callback.
    """

    def __init__(self, folder: str | Path, maker: VideoMaker, every: int, config: EvaluateConfig) -> None:
        self.folder = Path(folder) / "evaluation"
        self.maker = maker
        self.every = every
        self.config = config
        self._last = 0
        self._ranks = Ranks()
        self._wrote_reference = False
        self._logged: set[str] = set()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Builds the codec on the device of this process."""
        self.maker.setup(trainer.strategy.root_device)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Creates the process group; a resumed run counts from its step."""
        self._last = trainer.global_step
        if trainer.world_size > 1:
            group = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=PATIENCE))  # includes all ranks
            self._ranks = Ranks(trainer.global_rank, trainer.world_size, trainer.local_rank, group)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Generates this rank's share of the videos, then evaluates all of them."""
        if not due(trainer, self._last, self.every):
            return
        self._last = trainer.global_step
        assert isinstance(pl_module, EthdModule)
        made, real = self.folder / f"{trainer.global_step:07d}", self.folder / "reference"
        self._remove_old(made, real)
        for clip in self._ranks.mine(self.maker.chosen(trainer)):
            batch, name = self.maker.read(trainer, clip), f"{clip.key.replace('/', '_')}.mp4"
            write_video(made / name, self.maker.make(pl_module, batch), batch)
            if not self._wrote_reference:
                write_video(real / name, self.maker.truth(batch), batch)
        self._wrote_reference = True
        self._ranks.wait()
        output = made.with_suffix(".json")
        cache = self.config.cache or str(self.folder / "features")
        config = replace(self.config, generated=str(made), reference=str(real), output=str(output), cache=cache)
        try:
            with isolated_random_state(pl_module.device):
                results = evaluate(config, new_console(stderr=True, quiet=True), self._ranks, keep_generated=False)
        except EvaluationError as error:
            self._log_once(str(error))
            return
        if self._ranks.first:
            write_results(output, results)
            self._log(trainer, results)
            show_table(trainer, "val/clips", *clip_table(results))

    def _remove_old(self, made: Path, real: Path) -> None:
        """Removes videos of an earlier process: a resumed run may have other clips, lengths or sizes."""
        if self._ranks.first:
            for folder in (made,) if self._wrote_reference else (made, real):
                shutil.rmtree(folder, ignore_errors=True)
        self._ranks.wait()

    def _log(self, trainer: Trainer, results: Results) -> None:
        values = {f"val/{value.name}{'' if value.official else '_proxy'}": value.value for value in results.values}
        for logger in trainer.loggers if values else ():
            logger.log_metrics(values, trainer.global_step)
        for name, reason in results.not_computed.items():
            self._log_once(f"{name} not computed: {reason}")

    def _log_once(self, text: str) -> None:
        """Logs each warning once."""
        if self._ranks.first and text not in self._logged:
            self._logged.add(text)
            log.warning("validation videos: %s", text)


def clip_table(results: Results) -> tuple[list[str], list[list[object]]]:
    """Columns and rows of the table of clips: name, frames, all scalar values of the metrics, video."""
    rows, columns = [], dict.fromkeys(["clip", "frames"])
    for clip in results.clips:
        row: dict[str, object] = {"clip": clip["clip"], "frames": clip["frames"]}
        for metric, sides in cast(Mapping[str, Mapping[str, Any]], clip["metrics"]).items():
            for side, values in sides.items():
                named = values if isinstance(values, Mapping) else {"samples": values}
                row |= {f"{metric}/{side}/{name}": value for name, value in named.items() if np.isscalar(value)}
        columns |= dict.fromkeys(row)
        rows.append(row | {"video": Path(cast(Mapping[str, str], clip["generated"])["file"])})
    names = [*columns, "video"]
    return names, [[row.get(name) for name in names] for row in rows]
