"""The paper's metrics of validation videos during training, through evaluate.py's own code."""

from __future__ import annotations

import logging
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
    """Makes the same validation clips every so many steps with the averaged weights, and logs their metrics.

    ``evaluation/STEP`` in the run directory holds the videos, ``evaluation/STEP.json`` the results as evaluate.py
    writes them. A value is logged as ``val/fid``, or ``val/fid_proxy`` where a network is not the official one, and
    every clip's own values as a table.
    Processes share clips and features and wait for each other over gloo, which has no time limit of NCCL's kind.

    Args:
        folder: run directory.
        maker: of the videos.
        every: steps.
        config: of the evaluation; its folders are set here.
    """

    def __init__(self, folder: str | Path, maker: VideoMaker, every: int, config: EvaluateConfig) -> None:
        self.folder = Path(folder) / "evaluation"
        self.maker = maker
        self.every = every
        self.config = config
        self._last = 0
        self._ranks = Ranks()
        self._logged: set[str] = set()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Meets the other processes; a resumed run goes on counting."""
        self._last = trainer.global_step
        if trainer.world_size > 1:
            group = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=PATIENCE))  # all ranks are in it
            self._ranks = Ranks(trainer.global_rank, trainer.world_size, trainer.local_rank, group)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes this process's share of the videos, then evaluates all."""
        if not due(trainer, self._last, self.every):
            return
        self._last = trainer.global_step
        assert isinstance(pl_module, EthdModule)
        made, real = self.folder / f"{trainer.global_step:07d}", self.folder / "reference"
        for clip in self._ranks.mine(self.maker.chosen(trainer)):
            batch, name = self.maker.read(trainer, clip), f"{clip.key.replace('/', '_')}.mp4"
            write_video(made / name, self.maker.make(pl_module, batch), batch)
            if not (real / name).exists():
                write_video(real / name, self.maker.truth(batch), batch)
        self._ranks.wait()
        output = made.with_suffix(".json")
        cache = self.config.cache or str(self.folder / "features")
        config = replace(self.config, generated=str(made), reference=str(real), output=str(output), cache=cache)
        try:
            with isolated_random_state(pl_module.device):
                results = evaluate(config, new_console(stderr=True, quiet=True), self._ranks)
        except EvaluationError as error:
            self._log_once(str(error))
            return
        if self._ranks.first:
            write_results(output, results)
            self._log(trainer, results)
            show_table(trainer, "val/clips", *clip_table(results))

    def _log(self, trainer: Trainer, results: Results) -> None:
        values = {f"val/{value.name}{'' if value.official else '_proxy'}": value.value for value in results.values}
        for logger in trainer.loggers if values else ():
            logger.log_metrics(values, trainer.global_step)
        for name, reason in results.not_computed.items():
            self._log_once(f"{name} is not computed: {reason}")

    def _log_once(self, text: str) -> None:
        """Says a thing once."""
        if self._ranks.first and text not in self._logged:
            self._logged.add(text)
            log.warning("validation videos: %s", text)


def clip_table(results: Results) -> tuple[list[str], list[list[object]]]:
    """Columns and rows of a table of clips: name, frames, every number the metrics have for the clip, its video."""
    rows, columns = [], dict.fromkeys(["clip", "frames"])
    for clip in results.clips:
        row: dict[str, object] = {"clip": clip["clip"], "frames": clip["frames"]}
        for metric, sides in cast(Mapping[str, Mapping[str, Any]], clip["metrics"]).items():
            for side, values in sides.items():
                numbers = values if isinstance(values, Mapping) else {"samples": values}
                row |= {f"{metric}/{side}/{name}": value for name, value in numbers.items() if np.isscalar(value)}
        columns |= dict.fromkeys(row)
        rows.append(row | {"video": Path(cast(Mapping[str, str], clip["generated"])["file"])})
    names = [*columns, "video"]
    return names, [[row.get(name) for name in names] for row in rows]
