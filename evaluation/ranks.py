"""Evaluation on several processes: each computes the features of its share of the clips, the first one the values.

The processes share the feature caches, from which the first process reads all features. It sums them in the same order
as a single process, so the results are bit-identical. Collectives exchange only names and lengths, over gloo, with a
long timeout.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist

from evaluation.pairs import EvaluationError
from runtime.devices import resolve_device
from runtime.ending import end_with_launcher
from runtime.temporary import temporary_folder

T = TypeVar("T")
PATIENCE = timedelta(days=7)  # timeout for the slowest share; a process that dies is noticed immediately


@dataclass(frozen=True)
class Ranks:
    """This process among all processes of an evaluation.

    Attributes:
        rank: Rank of this process.
        size: Number of processes.
        local: Rank on this machine, which selects the GPU.
        group: gloo group of the processes; None for the default group.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    group: dist.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether this process prints and writes the results."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """Returns the configured device; with several GPUs, the one of this process."""
        found = resolve_device(name, float64=True)  # Fréchet distances
        return torch.device(found, self.local % torch.cuda.device_count()) if found == "cuda" else torch.device(found)

    def mine(self, items: Sequence[T]) -> list[T]:
        """Returns the share of this process: every ``size``-th item."""
        return list(items[self.rank :: self.size])

    def together(self, own: list[T]) -> list[T]:
        """Gathers the shares of all processes in the order before ``mine``; equal on every process."""
        if self.size == 1:
            return own
        shares: list[list[T]] = [[] for _ in range(self.size)]
        dist.all_gather_object(shares, own, group=self.group)
        count = sum(map(len, shares))
        return [shares[place % self.size][place // self.size] for place in range(count)]

    def wait(self) -> None:
        """Waits for all other processes."""
        if self.size > 1:
            dist.barrier(group=self.group)

    @contextmanager
    def shared_folder(self, next_to: Path) -> Iterator[Path]:
        """Creates a temporary folder that all processes see; deleted at the end.

        Args:
            next_to: Folder of the results, in which the folder is created. A single process uses the system's temporary
                folder instead.

        Raises:
            EvaluationError: If another process does not see the folder.
        """
        if self.size == 1:
            with temporary_folder("features") as folder:
                yield folder
            return
        with ExitStack() as own:
            folder = next_to
            if self.first:
                next_to.mkdir(parents=True, exist_ok=True)
                folder = own.enter_context(temporary_folder("features", next_to))
            # The first gathered item is the folder of the first process.
            folder = self.together([folder])[0]
            if not all(self.together([folder.is_dir()])):
                raise EvaluationError(
                    f"{folder}: not visible to all {self.size} processes; set output= to a folder on a shared disk"
                )
            yield folder
            self.wait()


@contextmanager
def joined() -> Iterator[Ranks]:
    """Initialises the process group if torchrun or srun started several processes."""
    found = _launched()
    if found is None:
        yield Ranks()
        return
    ranks, address = found
    end_with_launcher()
    dist.init_process_group("gloo", init_method=address, rank=ranks.rank, world_size=ranks.size, timeout=PATIENCE)
    try:
        yield ranks
    finally:
        dist.destroy_process_group()


def _launched() -> tuple[Ranks, str] | None:
    """Reads ranks and init method from the environment of torchrun or srun; None for a single process."""
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        rank, size, local = (int(environment[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        ranks = Ranks(rank, size, local)
        return (ranks, "env://") if ranks.size > 1 else None
    # SLURM_NTASKS is also set for the batch script itself, which is a single process and not a step.
    if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment  # late: it takes seconds to import

        host = SLURMEnvironment.resolve_root_node_address(environment["SLURM_NODELIST"])
        port = 15_000 + int(environment["SLURM_JOB_ID"]) % 10_000
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
        rank, size, local = (int(environment[name]) for name in names)
        return Ranks(rank, size, local), f"tcp://{host}:{port}"
    return None
