"""Rehearsal of a training on CPUs: the same command, shards, windows, ranks and strategy with a narrow network.

All ranks are processes of this machine and run ``training.fit`` as the real training does. One of them is killed, the
run resumes, stops by the signal of the queue, and the result is used.
"""

from __future__ import annotations

import csv
import re
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from callbacks.logs import CsvLog
from callbacks.preemption import EXIT_STOPPED
from callbacks.run_log import STARTS
from configs.errors import ConfigError
from configs.registries import STAGES
from configs.training import NO_INIT, SVD_INIT, TrainConfig
from configs.training_rules import check_ranks
from datamodules.datamodule import ShardDataModule
from datamodules.mixture import datamodule
from lightning_modules.checkpoint_files import LAST, check_whole
from runtime.errors import UserError, message_of
from training.rank_processes import RankProcesses
from training.resume import run_folder

FOLDER, MARK = "rehearse", "rehearsal.txt"
STEPS = 3  # between checkpoints, validations and sample videos
FRAMES = 16  # of a video
LONGEST = 1000  # least trainer.max_steps: the run is stopped, it does not end
BUCKET = 500_000  # numbers; the buckets of GPUs would take 0.8 GB per rank


class Rehearsal:
    """A rehearsal, one line per part.

    Args:
        config: Checked configuration of the run to rehearse.
        report: Called with each line.
    """

    def __init__(self, config: TrainConfig, report: Callable[[str], object]) -> None:
        self.report = report
        self.real, self.ranks = config, ranks_of(config)
        self.stage = STAGES.get(config.stage, "stage")()
        self.folder = Path(config.output) / FOLDER / config.stage / run_folder(config).name
        self.part = ""

    def run(self) -> None:
        """Rehearses the run.

        Raises:
            UserError: Names the part that fails, and the message of the rank.
        """
        try:
            self._run()
        except (UserError, OSError) as error:
            message = " ".join(line.strip() for line in message_of(error).splitlines())
            raise UserError(f"rehearsal, {self.part or 'start'}: {message}") from error

    def _run(self) -> None:
        real, folder = self.real, self.folder
        self.part = "ranks"
        check_ranks(real, self.ranks)
        self._seen("rehearsal", f"{real.stage} {real.name}: {self.ranks} ranks on CPUs, "
                   f"trainer.strategy={real.trainer.strategy}, {folder}")  # fmt: skip
        self.part = "data"
        data = datamodule(replace(real.data, workers=0))
        data.validation_clips = real.trainer.validation_clips
        data.setup("fit")
        clear(folder)
        self.part = "init"
        config = self._narrow(data)
        with RankProcesses(config, self.ranks, folder / "ranks") as ranks:
            self._train(ranks, data)
            self._kill(ranks)
        config = replace(config, ckpt_path="last")
        with RankProcesses(config, self.ranks, folder / "ranks") as ranks:
            self._resume(ranks)
        for part, seen in self.stage.use_rehearsed(folder, data, FRAMES):
            self.part = part
            if seen:
                self._seen(part, seen)
        self._seen("not seen", "; ".join(self._left_out()))

    def _narrow(self, data: ShardDataModule) -> TrainConfig:
        """Configuration of the ranks."""
        real, stage = self.real, self.stage
        config = replace(real, output=str(Path(real.output) / FOLDER), run_id=self.folder.name, ckpt_path=None)
        config.vaid, config.init = (self._rehearsed(run) for run in (real.vaid, real.init))
        if config.init == real.init != NO_INIT:
            config, found = stage.open_init(config, data, self.folder)
            self._seen("init", found)
        elif config.init != NO_INIT:
            self._seen("init", f"{config.init}, the rehearsal of {real.init}")
        if config.vaid and config.vaid != real.vaid and real.vaid:
            self._seen("vaid", f"{config.vaid}, the rehearsal of {real.vaid}")
        if config.vaid and not Path(config.vaid).exists():
            raise ConfigError(f"vaid={config.vaid}: no such run or checkpoint; train it, or rehearse its command first")
        trainer = replace(
            real.trainer,
            accelerator="cpu", devices=str(self.ranks), nodes=1, max_steps=max(real.trainer.max_steps, LONGEST),
            max_minutes=None, validate_every=STEPS, log_every=1, fast_dev_run=False, progress_bar=False,
            deepspeed=replace(real.trainer.deepspeed, bucket=min(real.trainer.deepspeed.bucket, BUCKET)),
        )  # fmt: skip
        frames, scored = min(real.videos.frames, FRAMES), real.videos.evaluate_every
        return replace(
            config,
            model=stage.narrow(real.model),
            trainer=trainer,
            data=replace(real.data, workers=min(real.data.workers, 1)),
            logger=replace(real.logger, use={}, name=None),
            objective=None,
            checkpoints=replace(real.checkpoints, every=STEPS),
            videos=replace(
                real.videos,
                sample_every=STEPS if stage.videos else None,
                evaluate_every=STEPS if scored else None,
                frames=frames,
            ),
        )

    def _rehearsed(self, run: str | None) -> str | None:
        """The rehearsal of a run that does not exist yet."""
        if run in (None, NO_INIT, SVD_INIT) or Path(str(run)).exists():
            return run
        place = Path(str(run))
        twin = Path(self.real.output) / FOLDER / place.parent.name / place.name
        return str(twin) if (twin / MARK).is_file() else run

    def _train(self, ranks: RankProcesses, data: ShardDataModule) -> None:
        self.part = "steps"
        ranks.until(lambda: len(self._logged("train/")) >= STEPS)
        words = ranks.words(0)
        for name in ("data", "parameters", "windows", "init"):
            for line in re.findall(rf"^{name} {{2,}}(\S.*)$", words, re.MULTILINE)[:1]:
                self._seen(name, line)
        batch, micro = self.real.data.batch_size, self.real.data.micro_batch
        if not self.stage.own_loaders:
            clips = micro or batch // self.ranks
            self._seen("batch", f"{self.ranks} ranks x {batch // clips // self.ranks} micro-batches x {clips} clips = "
                       f"{batch} clips of a step")  # fmt: skip
        losses = self._logged("train/loss") or self._logged("train/")
        self._seen("steps", ", ".join(f"{step}: loss {loss:.4g}" for step, loss in list(losses.items())[:STEPS]))
        saved = self.folder / "checkpoints" / f"step={STEPS}.ckpt"
        validates = bool(data.clips["val"]) or self.stage.own_loaders
        self.part = "validation, video and checkpoint"
        ranks.until(lambda: max(self._logged("train/"), default=0) >= STEPS)
        if validates:
            count = "" if self.stage.own_loaders else f"{min(len(data.clips['val']), data.validation_clips)} clips, "
            values = [f"{name} {value:.4g}" for name, value in sorted(self._validated().items())]
            self._seen("validation", count + (", ".join(values) or "no value"))
        else:
            self._seen("validation", "none: the data has no validation clips")
        for video in sorted((self.folder / "samples").rglob("*.mp4"))[:1]:
            self._seen("video", str(video))
        last = self.folder / "checkpoints" / LAST
        check_whole(last)
        size = sum(file.stat().st_size for file in [saved, *saved.rglob("*")] if file.is_file())
        self._seen("checkpoint", f"{last.resolve().name} ({size / 1e6:.1f} MB)")

    def _kill(self, ranks: RankProcesses) -> None:
        self.part, victim, began = "kill", self.ranks - 1, time.monotonic()
        ranks.signal(signal.SIGKILL, [victim])
        seconds = self.real.watchdog.dead_seconds + 60
        statuses = ranks.join(seconds)
        if left := [rank for rank, status in enumerate(statuses) if status is None]:
            raise UserError(f"rank {victim} was killed, but ranks {left} still ran {seconds:.0f} s later")
        others = f"; the others ended {time.monotonic() - began:.1f} s later" if victim else ""
        self._seen("killed", f"rank {victim} by SIGKILL{others}")

    def _resume(self, ranks: RankProcesses) -> None:
        self.part, before = "resume", self._starts()
        ranks.until(lambda: len(self._starts()) > len(before))
        step = self._starts()[-1]
        ranks.until(lambda: max(self._logged("train/"), default=0) > step)
        self._seen("resumed", f"at step {step}, the steps since the checkpoint are repeated")
        self.part = "stop"
        chosen = [*self.real.preemption.requeue_on, *self.real.preemption.stop_on]
        if not chosen:
            return self._seen("stopped", "not rehearsed: no signal is configured")
        ranks.signal(signal.Signals[chosen[0]])
        statuses = ranks.join()
        if statuses != [EXIT_STOPPED] + [0] * (self.ranks - 1):
            raise UserError(f"after {chosen[0]} the ranks ended with {statuses}: {ranks.fault()}")
        steps = sorted(self._logged("train/"))
        if steps != list(range(len(steps))):
            raise UserError(f"{CsvLog(self.folder).path}: expected every step once, found {steps}")
        last = (self.folder / "checkpoints" / LAST).resolve()
        check_whole(last)
        return self._seen("stopped", f"by {chosen[0]}, saved {last.name}, status {EXIT_STOPPED}")

    def _logged(self, prefix: str) -> dict[int, float]:
        """Step -> first value whose name begins with ``prefix``."""
        found: dict[int, float] = {}
        for row in self._rows():
            values = [value for name, value in row.items() if name.startswith(prefix) and value]
            if values and row["step"].isdecimal():
                found[int(row["step"])] = float(values[0])
        return found

    def _validated(self) -> dict[str, float]:
        """Name -> value of the first validation."""
        for row in self._rows():
            if found := {name: float(value) for name, value in row.items() if name.startswith("val/") and value}:
                return found
        return {}

    def _rows(self) -> list[dict[str, str]]:
        path = CsvLog(self.folder).path
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if None not in row.values()]

    def _starts(self) -> list[int]:
        """Step of every start of the run."""
        file = self.folder / STARTS
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        return [int(step) for step in re.findall(r'^{"step": (\d+),', text, re.MULTILINE)]

    def _left_out(self) -> list[str]:
        """What a rehearsal cannot show."""
        real, out = self.real, ["memory, speed and precision of GPUs (python -m tools.profiling.step_memory)", "NCCL"]
        if real.trainer.nodes > 1:
            out.append("the network between machines")
        if type(self.stage).narrow(real.model) != real.model:
            out.append("the network at its width")
        if real.init != NO_INIT:
            out.append(f"the weights of init={real.init}")
        if real.logger.chosen:
            out.append(f"logger={','.join(real.logger.chosen)}")
        if self.stage.videos:
            out.append("the encoders of portrait and speech in generate.py")
        return out

    def _seen(self, part: str, seen: str) -> None:
        self.report(f"{part:12}{seen}")


def ranks_of(config: TrainConfig) -> int:
    """Ranks of the run: processes per machine x machines.

    Raises:
        ConfigError: If the configuration leaves the number to the machine, and this one has no GPU.
    """
    devices, nodes = config.trainer.devices, config.trainer.nodes
    if devices.isdecimal():
        return int(devices) * nodes
    listed: Sequence[str] = [] if devices in ("auto", "-1") else [name for name in devices.split(",") if name]
    count = len(listed) or (1 if config.trainer.accelerator == "cpu" else torch.cuda.device_count())
    if not count:
        raise ConfigError(
            f"trainer.devices={devices}: no GPU is visible here to count; name the processes per machine of the run to "
            "rehearse, e.g. trainer.devices=8"
        )
    return count * nodes


def clear(folder: Path) -> None:
    """Removes an earlier rehearsal and marks the folder as one.

    Raises:
        ConfigError: If the folder holds something else.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise ConfigError(f"{folder}: is not the folder of a rehearsal; move it, or set another output")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).write_text("The run of a rehearsal, with a narrow network; the next rehearsal removes it.\n")
