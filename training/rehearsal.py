"""Rehearsal of a training on CPUs: the same command, shards, windows, ranks and strategy with a narrow network.

All ranks are processes of this machine and run ``training.fit`` as the real training does. One of them is killed, the
run resumes, stops by the signal of the queue, and the result is used.
"""

from __future__ import annotations

import csv
import importlib.util
import math
import re
import shutil
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from callbacks.logs import CsvLog
from callbacks.preemption import EXIT_STOPPED
from callbacks.run_log import STARTS
from configs.errors import ConfigError
from configs.models import EthdConfig
from configs.registries import STAGES
from configs.training import NO_INIT, SVD_INIT, TrainConfig
from configs.training_rules import check_ranks
from datamodules.datamodule import ShardDataModule
from datamodules.mixture import datamodule
from lightning_modules.checkpoint_files import LAST, check_whole
from media.frames import read_frames
from runtime.errors import UserError, message_of
from runtime.files import bytes_below
from runtime.locks import locked
from runtime.platforms import usable_cores
from training.preflight import too_few_clips
from training.rank_processes import RankProcesses, refuse_launcher
from training.resume import run_folder

FOLDER, MARK = "rehearse", "rehearsal.txt"
STEPS = 3  # between checkpoints, validations and sample videos
FRAMES = 16  # of a sample video
GENERATED = 4  # frames of the video from the export, which the real codec decodes: 0.7 GiB for a frame of 512 px
LONGEST = 1000  # least trainer.max_steps: the run is stopped, it does not end
BUCKET = 500_000  # numbers; the buckets of GPUs would take 0.8 GB per rank
MINUTES = 20.0  # limit for the start, a validation or a checkpoint
START_SECONDS = 60 * (MINUTES + 10)


class _PartFailed(Exception):
    """A part on which the following ones depend has failed; it is reported."""


class Rehearsal:
    """A rehearsal of one run, with one line for each part: ``ok`` or ``failed``, its name, and what was seen.

    Args:
        config: Checked configuration of the run to rehearse.
        report: Called with each line.

    Attributes:
        failed: Names of the failed parts.
        passed: Number of the other parts.
        folder: Run directory of the rehearsal.

    Raises:
        ConfigError: If the number of ranks is not known or does not fit the batch, the strategy is not installed, or
            this process is one of several of a launcher.
    """

    def __init__(self, config: TrainConfig, report: Callable[[str], object]) -> None:
        self.report = report
        self.real, self.ranks = config, ranks_of(config)
        refuse_launcher(self.ranks)
        check_ranks(config, self.ranks)
        if config.trainer.strategy == "deepspeed" and importlib.util.find_spec("deepspeed") is None:
            raise ConfigError("trainer.strategy=deepspeed: is not installed; pip install '.[deepspeed]'")
        self.stage = STAGES.get(config.stage, "stage")()
        self.folder = Path(config.output) / FOLDER / config.stage / run_folder(config).name
        self.failed: list[str] = []
        self.passed = 0

    def run(self) -> int:
        """Rehearses the run; parts that do not depend on a failed one are tried.

        Returns:
            Number of failed parts.

        Raises:
            ConfigError: If the folder of the rehearsal holds something else.
            LockedError: If another process rehearses the same run.
        """
        lock = self.folder.with_name(f".{self.folder.name}.lock")  # not inside, where the first rank has its own
        with locked(lock, str(self.folder), "wait for it, end it, or set another run_id"):
            return self._locked()

    def _locked(self) -> int:
        real, folder = self.real, self.folder
        clear(folder)
        self.report(
            f"rehearsal of {real.stage} {real.name}: {self.ranks} ranks on CPUs, trainer.strategy="
            f"{real.trainer.strategy}, {folder}"
        )
        with suppress(_PartFailed):
            self._run()
        self.report(f"not seen: {'; '.join(self._left_out())}")
        failed = f", {len(self.failed)} failed: {', '.join(self.failed)}" if self.failed else ""
        self.report(f"{self.passed} parts ok{failed}")
        return len(self.failed)

    def _run(self) -> None:
        folder = self.folder
        data = self._part("data", self._data)
        config = self._start_of(data)
        for name, build in self.stage.try_encoders(self.real, data):
            self._part(name, build, needed=False)
        with self._processes(config) as ranks:
            self._train(ranks, data)
            self._part("kill", lambda: self._kill(ranks))
        with self._processes(replace(config, ckpt_path="last")) as ranks:
            self._part("resume", lambda: self._resume(ranks))
            self._part("stop", lambda: self._stop(ranks))
        for name, use in self.stage.use_rehearsed(folder, data, GENERATED):
            self._part(name, use)

    def _part(self, name: str, rehearse: Callable[[], Any], needed: bool = True) -> Any:
        """Runs a part and reports it.

        Args:
            name: Name of the part.
            rehearse: Returns what was seen, or that and a result.
            needed: Whether the following parts depend on it.

        Returns:
            The result; None if the part failed.
        """
        try:
            found = rehearse()
        except Exception as error:
            self.failed.append(name)
            known = isinstance(error, UserError | OSError)
            message = message_of(error) if known else f"unexpected {type(error).__name__}: {error}; please report it"
            self.report(f"failed  {name:12}{' '.join(line.strip() for line in message.splitlines())}")
            if not known:
                raise
            if needed:
                raise _PartFailed from error
            return None
        seen, result = found if isinstance(found, tuple) else (found, None)
        self.passed += 1
        self.report(f"ok      {name:12}{seen}")
        return result

    def _data(self) -> tuple[str, ShardDataModule]:
        data = datamodule(replace(self.real.data, workers=0))
        data.validation_clips = self.real.trainer.validation_clips
        data.setup("fit")
        if not self.stage.own_loaders:
            for message in too_few_clips(self.real, self.ranks, len(data.clips["train"])):
                raise UserError(message)
        return ", ".join(f"{len(clips)} {split} clips" for split, clips in data.clips.items()), data

    def _processes(self, config: TrainConfig) -> RankProcesses:
        threads = max(1, usable_cores() // self.ranks)
        return RankProcesses(config, self.ranks, self.folder / "ranks", threads, self.stage.narrow_encoders)

    def _start_of(self, data: ShardDataModule) -> TrainConfig:
        """Configuration of the ranks: its initial weights and V-AID are those that the rehearsal can use."""
        real = self.real
        config = self._narrow()
        config.vaid, config.init = self._rehearsed(real.vaid), self._rehearsed(real.init) or real.init
        if config.init not in (NO_INIT, real.init):
            self._part("init", lambda: f"{config.init}, the rehearsal of {real.init}")
        elif config.init != NO_INIT:
            needed = isinstance(real.model, EthdConfig) and config.vaid is None  # it brings the V-AID
            found = self._part("init", lambda: self.stage.open_init(config, data, self.folder)[::-1], needed)
            config = found or replace(config, init=NO_INIT)
        if config.vaid:
            self._part("vaid", lambda: self._vaid(str(config.vaid)))
        return config

    def _vaid(self, vaid: str) -> str:
        if not Path(vaid).exists():
            raise ConfigError(f"vaid={vaid}: no such run or checkpoint; train it, or rehearse its command first")
        return vaid if vaid == self.real.vaid else f"{vaid}, the rehearsal of {self.real.vaid}"

    def _narrow(self) -> TrainConfig:
        """The configuration with a narrow network, on CPUs, with everything after ``STEPS`` steps."""
        real, stage = self.real, self.stage
        trainer = replace(
            real.trainer,
            accelerator="cpu", devices=str(self.ranks), nodes=1, max_steps=max(real.trainer.max_steps, LONGEST),
            max_minutes=None, validate_every=STEPS, log_every=1, fast_dev_run=False, progress_bar=False,
            deepspeed=replace(real.trainer.deepspeed, bucket=min(real.trainer.deepspeed.bucket, BUCKET)),
        )  # fmt: skip
        frames, scored = min(real.videos.frames, FRAMES), real.videos.evaluate_every
        limits = replace(real.watchdog, other_minutes=min(real.watchdog.other_minutes, MINUTES))
        return replace(
            real,
            output=str(Path(real.output) / FOLDER),
            run_id=self.folder.name,
            ckpt_path=None,
            watchdog=limits,
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
        self._part("steps", lambda: self._steps(ranks))
        words = ranks.words(0)
        shown = {name: re.findall(rf"^{name} {{2,}}(\S.*)$", words, re.MULTILINE)[:1]
                 for name in ("parameters", "init", "batch", "windows")}  # fmt: skip
        if not self.stage.own_loaders:
            self._part("batch", lambda: "; ".join([self._split(), *shown["windows"]]))
        self._part("network", lambda: "narrow: " + "; init: ".join([*shown["parameters"], *shown["init"]]))
        # The next step begins after the validation, the sample videos and the checkpoint of step STEPS.
        self._part("validation", lambda: self._validation(ranks, data), needed=True)
        if self.stage.videos:
            self._part("video", lambda: self._videos(data), needed=False)
        self._part("checkpoint", self._checkpoint)

    def _split(self) -> str:
        batch, micro = self.real.data.batch_size, self.real.data.micro_batch
        clips = micro or batch // self.ranks
        return f"{self.ranks} ranks x {batch // clips // self.ranks} micro-batches x {clips} clips = {batch} clips"

    def _steps(self, ranks: RankProcesses) -> str:
        ranks.until(lambda: len(self._logged("train/loss")) >= STEPS, seconds=START_SECONDS)
        losses = list(self._logged("train/loss").items())[:STEPS]
        if not all(math.isfinite(loss) for _, loss in losses):
            raise UserError(f"train/loss is not finite: {losses}; see {ranks.output(0)}")
        return ", ".join(f"step {step}: loss {loss:.4g}" for step, loss in losses)

    def _validation(self, ranks: RankProcesses, data: ShardDataModule) -> str:
        ranks.until(lambda: max(self._logged("train/loss"), default=0) >= STEPS, seconds=START_SECONDS)
        if not (data.clips["val"] or self.stage.own_loaders):
            return "none: the data has no validation clips"
        values = [f"{name} {value:.4g}" for name, value in sorted(self._validated().items())]
        if not values:
            raise UserError(f"no value was validated at step {STEPS}; see {ranks.output(0)}")
        count = f"{min(len(data.clips['val']), self.real.trainer.validation_clips)} clips on {self.ranks} ranks, "
        return ("" if self.stage.own_loaders else count) + ", ".join(values)

    def _videos(self, data: ShardDataModule) -> str:
        wanted = min(self.real.videos.sample_clips, len(data.clips["val"]))
        folder = self.folder / "samples" / f"{STEPS:07d}"
        files = sorted(folder.glob("*.mp4"))
        if len(files) != wanted:
            raise UserError(
                f"{folder}: found {len(files)} sample videos, expected {wanted}; see {self.folder / 'ranks'}"
            )
        if not wanted:
            return "none: the data has no validation clips"
        for file in files:
            sizes = {frame.shape for frame in read_frames(file)}
        (height, width, _), frames = sizes.pop(), sum(1 for _ in read_frames(files[0]))
        return f"{wanted} sample videos, {frames} frames of {width} x {height} px, e.g. {files[0]}"

    def _checkpoint(self) -> str:
        last, saved = self.folder / "checkpoints" / LAST, self.folder / "checkpoints" / f"step={STEPS}.ckpt"
        check_whole(last)
        size = bytes_below(saved)
        return f"{last.resolve().name} ({size / 1e6:.1f} MB{f', {self.ranks} parts' if saved.is_dir() else ''})"

    def _kill(self, ranks: RankProcesses) -> str:
        victim = self.ranks - 1
        seconds = ranks.kill(victim, self.real.watchdog.dead_seconds + 60)
        return f"rank {victim} by SIGKILL" + (
            f"; the others named it and ended {seconds:.1f} s later" if victim else ""
        )

    def _resume(self, ranks: RankProcesses) -> str:
        before = self._starts()
        ranks.until(lambda: len(self._starts()) > len(before), seconds=START_SECONDS)
        step = self._starts()[-1]
        if step < STEPS:
            raise UserError(f"resumed at step {step}, expected {STEPS} or more; see {ranks.output(0)}")
        ranks.until(lambda: max(self._logged("train/loss"), default=0) > step, seconds=START_SECONDS)
        return f"at step {step}; the steps since the checkpoint are repeated"

    def _stop(self, ranks: RankProcesses) -> str:
        chosen = [*self.real.preemption.requeue_on, *self.real.preemption.stop_on]
        if not chosen:
            return "not rehearsed: no signal is configured"
        ranks.signal(signal.Signals[chosen[0]])
        statuses = ranks.join(START_SECONDS)
        if statuses != [EXIT_STOPPED] + [0] * (self.ranks - 1):
            raise UserError(f"after {chosen[0]} the ranks ended with {statuses}: {ranks.fault()}")
        steps = sorted(self._logged("train/loss"))
        if steps != list(range(len(steps))):
            raise UserError(f"{CsvLog(self.folder).path}: expected every step once, found {steps}")
        last = (self.folder / "checkpoints" / LAST).resolve()
        check_whole(last)
        return f"by {chosen[0]}, saved {last.name}, status {EXIT_STOPPED}"

    def _logged(self, column: str) -> dict[int, float]:
        """Step -> logged value of a column."""
        rows = [row for row in self._rows() if row.get(column)]
        return {int(row["step"]): float(row[column]) for row in rows}

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
            return [row for row in csv.DictReader(file) if None not in row.values() and row["step"].isdecimal()]

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
            out.append("the encoders of portrait and speech in generate.py, and a codec with weights in sample videos")
        return out


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
