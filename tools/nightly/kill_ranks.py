"""Kills ranks of training runs with SIGKILL and checks that only a few steps are lost.

    python -m tools.nightly.kill_ranks root=SHARDS output=outputs/kill_ranks   twenty kills
    python -m tools.nightly.kill_ranks root=SHARDS output=outputs/kill_ranks kills=4 seed=1

V-AID and ETHD train on the CPU, with one process and with two. A random rank is killed at a random moment, every other
time while it saves a checkpoint. After each kill the other rank must end by itself and name the dead one, ``last.ckpt``
must be complete, and at most the steps between two checkpoints may be lost. In the end the logged losses and the
weights must equal those of an undisturbed run bit for bit. Otherwise the exit status is 1.
"""

from __future__ import annotations

import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from configs.command_line import compose
from configs.options import Readers, count, read_options, run_script
from configs.training import TrainConfig
from datamodules.remote import read_index
from lightning_modules.checkpoint_files import LAST, PART, check_whole
from lightning_modules.checkpoints import EMA, open_checkpoint
from runtime.errors import UserError
from tools.pipeline.step import read_log
from training.rank_processes import RankProcesses

EVERY, VALIDATE_EVERY, STEPS_PER_KILL = 4, 12, 9
END_SECONDS = 120.0  # time limit for the remaining ranks to end
START_SECONDS = 600.0
SETTINGS = (
    "trainer=cpu", "trainer.progress_bar=false", "trainer.log_every=1", f"trainer.validate_every={VALIDATE_EVERY}",
    "trainer.validation_clips=2", "trainer.max_minutes=null", f"checkpoints.every={EVERY}", "ckpt_path=last",
    "data.batch_size=2", "data.window=16", "data.steps_per_epoch=10", "data.workers=0", "watchdog.step_minutes=2",
    "model.lr_decay=none", "encoders={}",
)  # fmt: skip
OF_STAGE = {
    "vaid": (
        "model.lip={width:16,depth:1,latents:2,head_width:8}",
        "model.expression={width:16,depth:1,head_width:8,identity_widths:[8],identity_size:16}",
        "model.overlap=4", "model.sampling_steps=2", "model.club.warmup=2",
    ),
    "ethd": (
        "model.unet={channels:[32,32],heads:[1,1],attention:[true,true],layers:1,token_width:8,added_width:8}",
        "model.ema=0.9", "model.expression_steps=2", "videos.sample_every=null", "videos.evaluate_every=null",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A run to kill: its configuration, number of ranks and number of kills."""

    config: TrainConfig
    ranks: int
    kills: int

    @property
    def folder(self) -> Path:
        """Run directory."""
        return Path(self.config.output) / self.config.stage / str(self.config.run_id)

    @property
    def name(self) -> str:
        """Name in the report."""
        return f"{self.config.stage} x{self.ranks}"


def job(stage: str, ranks: int, kills: int, root: str, output: str, run_id: str, vaid: Path | None = None) -> Job:
    """Returns a run of a stage on the smallest networks, with as many steps as its kills need."""
    steps = STEPS_PER_KILL * (max(1, kills) + 1)
    settings = [f"experiment={stage}/tiny", *SETTINGS, *OF_STAGE[stage], f"run_id={run_id}"]
    settings += [f"trainer.max_steps={steps}", f"trainer.devices='{ranks}'", f"data.name={read_index(root).dataset}"]
    settings += ["trainer.strategy=" + ("ddp" if ranks > 1 else "auto")] + ([f"vaid={vaid}"] if stage == "ethd" else [])
    return Job(compose("train", TrainConfig, [*settings, f"data.root={root}", f"output={output}"]), ranks, kills)


def start(job: Job) -> RankProcesses:
    """The ranks of a run; entering the context starts them."""
    return RankProcesses(job.config, job.ranks, job.folder / "ranks")


def finish(job: Job) -> None:
    """Runs a training to its end.

    Raises:
        UserError: If it fails.
    """
    with start(job) as ranks:
        if (statuses := ranks.join(START_SECONDS)) != [0] * job.ranks:
            raise UserError(f"{job.name}: did not finish, statuses {statuses}: {ranks.fault()}")


def kill_once(job: Job, number: int, saving: bool, chance: random.Random) -> str:
    """Starts the run, kills a random rank at a random moment, and checks what is left.

    Returns:
        A line of the report.

    Raises:
        UserError: If a check fails.
    """
    victim = chance.randrange(job.ranks)
    target = STEPS_PER_KILL * number + chance.randint(1, STEPS_PER_KILL)
    with start(job) as ranks:
        moment = _wait_for_save(job, ranks, target) if saving else _wait_for_step(job, ranks, target)
        time.sleep(chance.uniform(0.0, 0.01 if saving else 0.05))
        try:
            seconds = ranks.kill(victim, END_SECONDS)
        except UserError as error:
            raise UserError(f"{job.name}: {error}") from None
    reached, last = 1 + max(losses(job.folder), default=-1), job.folder / "checkpoints" / LAST
    saved = 0
    if last.is_symlink():
        check_whole(last)
        saved = int(open_checkpoint(last)["global_step"])
    if reached - saved > EVERY:
        raise UserError(
            f"{job.name}: {reached} steps were logged, but {last} is of step {saved}: lost more than {EVERY} steps"
        )
    return (
        f"{job.name:9} rank {victim} killed {moment:12} after step {reached:3}, resumes from {saved:3}, "
        f"{reached - saved} lost" + (f", the other named it and ended in {seconds:.1f} s" if job.ranks > 1 else "")
    )


def _wait_for_step(job: Job, ranks: RankProcesses, target: int) -> str:
    ranks.until(lambda: max(losses(job.folder), default=-1) >= target, 0.002, START_SECONDS)
    return "in a step"


def _wait_for_save(job: Job, ranks: RankProcesses, target: int) -> str:
    folder, moment = job.folder / "checkpoints", ""

    def reached() -> bool:
        nonlocal moment
        parts = [path for path in folder.glob(f"step=*{PART}")]
        if any(int(path.name.split("=")[1].split(".")[0]) >= target for path in parts):
            moment = "in a save"
        elif max(losses(job.folder), default=-1) >= target + 2 * EVERY:
            moment = "after a save"  # the save was too short to be observed
        return bool(moment)

    ranks.until(reached, 0.0002, START_SECONDS)
    return moment


def losses(folder: Path) -> dict[int, str]:
    """Returns step -> logged training loss, as text.

    Raises:
        UserError: If a step was logged twice.
    """
    rows = [row for row in read_log(folder) if row.get("train/loss")]
    found = {int(row["step"]): row["train/loss"] for row in rows}
    if len(found) != len(rows):
        raise UserError(f"{folder}: csv/metrics.csv has steps that were logged twice")
    return found


def compare(job: Job, straight: Job) -> str:
    """Compares a killed run with an undisturbed one.

    Raises:
        UserError: If losses or weights differ.
    """
    if losses(job.folder) != losses(straight.folder):
        raise UserError(f"{job.name}: the logged losses differ from those of the undisturbed run")
    one, other = (open_checkpoint(each.folder / "checkpoints" / LAST) for each in (job, straight))
    parts = [(one["state_dict"], other["state_dict"])]
    if EMA in other:
        parts.append((one[EMA]["weights"], other[EMA]["weights"]))
    for mine, theirs in parts:
        for name, weight in theirs.items():
            if not torch.equal(mine[name], weight):
                raise UserError(f"{job.name}: {name} differs from that of the undisturbed run")
    return f"{job.name:9} {len(losses(job.folder))} losses and {sum(map(len, (a for a, _ in parts)))} weights: equal"


def check_kills(root: str, output: str, kills: int = 20, seed: int = 0) -> list[str]:
    """Runs all checks.

    Args:
        root: Shards of any preset.
        output: Folder of the runs.
        kills: Total number of kills.
        seed: Seed of the moments.

    Returns:
        Lines of the report, which are also printed.

    Raises:
        UserError: If a check fails.
    """
    chance, lines = random.Random(seed), []

    def report(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    vaid: Path | None = None
    cases = [("vaid", 1), ("vaid", 2), ("ethd", 1), ("ethd", 2)]
    for place, (stage, ranks) in enumerate(cases):
        count = len(range(place, kills, len(cases)))
        names = [f"{ranks}-{kind}" for kind in ("straight", "killed")]
        straight, killed = (job(stage, ranks, count, root, output, name, vaid) for name in names)
        finish(straight)
        for number in range(count):
            report(kill_once(killed, number, (number + place) % 2 == 0, chance))
        finish(killed)
        report(compare(killed, straight))
        if stage == "vaid":
            vaid = straight.folder  # provides ETHD's driving signals
    report(f"{kills} kills, lost only the steps since the last checkpoint")
    return lines


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the checks."""
    known: Readers = {"root": str, "output": str, "kills": count, "seed": int}
    options = read_options(__doc__, arguments, known, required=("root", "output"))
    check_kills(options["root"], options["output"], options.get("kills", 20), options.get("seed", 0))


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
