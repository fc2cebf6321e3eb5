"""Evaluation on several processes: each computes the features of its share of the clips, the first one the values.

What a process computes goes to the feature stores, which all of them see, and the first reads it there. Nothing is
summed in another order than alone, so the answer is the same to the bit. Collectives carry only names and lengths, over
gloo, and may take as long as they like.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from evaluation.pairs import EvaluationError
from runtime.devices import resolve_device

T = TypeVar("T")
PATIENCE = timedelta(days=7)  # the slowest share may take; a process that dies is noticed at once


@dataclass(frozen=True)
class Ranks:
    """This process among all.

    Attributes:
        rank: its number.
        size: how many there are.
        local: its number on its machine, and that of its GPU.
        group: of gloo, in which they meet; None for all processes' own.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    group: dist.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether it prints and writes."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """The device a configuration names; of several GPUs, this process's own."""
        found = resolve_device(name, float64=True)  # Fréchet distances
        return torch.device(found, self.local % torch.cuda.device_count()) if found == "cuda" else torch.device(found)

    def mine(self, items: Sequence[T]) -> list[T]:
        """Its share: every ``size``-th."""
        return list(items[self.rank :: self.size])

    def together(self, own: list[T]) -> list[T]:
        """The shares of all, in the order they were dealt from; the same on every process."""
        if self.size == 1:
            return own
        shares: list[list[T]] = [[] for _ in range(self.size)]
        dist.all_gather_object(shares, own, group=self.group)
        count = sum(map(len, shares))
        return [shares[place % self.size][place // self.size] for place in range(count)]

    def wait(self) -> None:
        """For all others."""
        if self.size > 1:
            dist.barrier(group=self.group)

    @contextmanager
    def shared_folder(self, next_to: Path) -> Iterator[Path]:
        """A folder for this run that all processes see, removed at the end; of one alone in the system's own place.

        Args:
            next_to: of several processes, on whatever machines, where the results will lie.

        Raises:
            EvaluationError: if another process does not see it.
        """
        if self.size == 1:
            with tempfile.TemporaryDirectory(prefix="emotivetalk-features-") as name:
                yield Path(name)
            return
        folder = next_to / f".features-{secrets.token_hex(4)}"
        if self.first:
            folder.mkdir(parents=True)
        try:
            # A dealt list of one: the first process's folder, for all.
            folder = self.together([folder])[0]
            if not all(self.together([folder.is_dir()])):
                raise EvaluationError(f"{folder}: not seen by all {self.size} processes; put output= on a shared disk")
            yield folder
            self.wait()
        finally:
            if self.first:
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def joined() -> Iterator[Ranks]:
    """Meets the other processes that torchrun or srun started, if there are any."""
    found = _launched()
    if found is None:
        yield Ranks()
        return
    ranks, address = found
    dist.init_process_group("gloo", init_method=address, rank=ranks.rank, world_size=ranks.size, timeout=PATIENCE)
    try:
        yield ranks
    finally:
        dist.destroy_process_group()


def _launched() -> tuple[Ranks, str] | None:
    """The ranks and the meeting point of torchrun's or srun's environment; None for a process alone."""
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        rank, size, local = (int(environment[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        ranks = Ranks(rank, size, local)
        return (ranks, "env://") if ranks.size > 1 else None
    # A batch script's own process has SLURM_NTASKS too, but is no step: nobody would come to meet it.
    if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        host = SLURMEnvironment.resolve_root_node_address(environment["SLURM_NODELIST"])
        port = 15_000 + int(environment["SLURM_JOB_ID"]) % 10_000
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
        rank, size, local = (int(environment[name]) for name in names)
        return Ranks(rank, size, local), f"tcp://{host}:{port}"
    return None
