"""The ranks of a training as processes of this machine, on CPUs over gloo."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from configs.training import TrainConfig
from runtime.errors import UserError
from runtime.registry import take, taken

ERROR = re.compile(r"(?:error: |\w*(?:Error|Exception|Interrupt)\b).*")  # of a command, or the end of a traceback
QUEUE = ("SLURM_", "PMI_", "PMIX_", "TORCHELASTIC_")  # variables of launchers, which would count the ranks otherwise


class RankProcesses:
    """Processes that train one configuration together; the context ends those that still run.

    Args:
        config: Configuration of all ranks.
        ranks: Number of processes.
        folder: Folder of their outputs, ``rankN.txt``, to which each start is appended.
    """

    def __init__(self, config: TrainConfig, ranks: int, folder: Path) -> None:
        self.config, self.folder = config, folder
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["training.fit"])  # imports torch and Lightning once for all ranks
        self.before = [file.stat().st_size if file.exists() else 0 for file in map(self.output, range(ranks))]
        self.processes: list[ForkServerProcess] = [
            context.Process(target=_run, args=(config, rank, ranks, port, self.output(rank), taken()))
            for rank in range(ranks)
        ]

    def __enter__(self) -> RankProcesses:
        """Starts all ranks, as a launcher does."""
        for process in self.processes:
            process.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Ends the ranks that still run."""
        for process in self.processes:
            if process.pid is not None:
                process.kill()
                process.join()

    def output(self, rank: int) -> Path:
        """File with the output of a rank."""
        return self.folder / f"rank{rank}.txt"

    def words(self, rank: int) -> str:
        """Output of a rank since this start."""
        with self.output(rank).open("rb") as file:
            file.seek(self.before[rank])
            return file.read().decode(errors="replace")

    def until(self, reached: Callable[[], bool], pause: float = 0.05) -> None:
        """Waits for a state of the run directory.

        Raises:
            UserError: If a rank ends before; the message is that of the rank.
        """
        while not reached():
            if any(process.exitcode is not None for process in self.processes):
                if reached():
                    return
                raise UserError(self.fault())
            time.sleep(pause)

    def fault(self, seconds: float = 60.0) -> str:
        """Waits for the other ranks after one has ended, and returns the message of the first that ended."""
        ended = [rank for rank, process in enumerate(self.processes) if process.exitcode is not None]
        self.join(seconds)
        for rank in [*ended, *range(len(self.processes))]:
            if found := ERROR.findall(self.words(rank)):
                return f"rank {rank}: {found[-1].removeprefix('error: ')} ({self.output(rank)})"
        codes = {rank: process.exitcode for rank, process in enumerate(self.processes)}
        return f"ranks ended without a message, statuses {codes}; see {self.output(ended[0] if ended else 0)}"

    def signal(self, number: signal.Signals, ranks: Sequence[int] | None = None) -> None:
        """Sends a signal to some ranks, or to all."""
        for rank in range(len(self.processes)) if ranks is None else ranks:
            process = self.processes[rank]
            if process.exitcode is None and process.pid is not None:
                os.kill(process.pid, number)

    def join(self, seconds: float | None = None) -> list[int | None]:
        """Waits until all ranks have ended; returns their exit statuses, None for one that still runs."""
        end = None if seconds is None else time.monotonic() + seconds
        running = {process.sentinel for process in self.processes}
        while running and (end is None or time.monotonic() < end):
            running -= set(wait(list(running), None if end is None else max(0.0, end - time.monotonic())))
        for process in self.processes:
            process.join(0.1)
        return [process.exitcode for process in self.processes]


def _run(
    config: TrainConfig, rank: int, ranks: int, port: int, output: Path, plugins: tuple[tuple[str, str], ...]
) -> None:
    """Trains as one rank."""
    for name in [name for name in os.environ if name.startswith(QUEUE)]:
        del os.environ[name]
    if ranks > 1:
        place = {"LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": ranks, "MASTER_PORT": port}
        os.environ.update({"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in place.items()}})
    out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    import torch

    from configs.options import run_script
    from training import strategies
    from training.fit import exit_status, fit

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // ranks))
    take(plugins)
    if config.trainer.strategy == "deepspeed":
        try:
            from training.cpu_zero import CpuZeroStrategy
        except ModuleNotFoundError as error:
            raise SystemExit(f"error: trainer.strategy=deepspeed: {error}; pip install '.[deepspeed]'") from None
        strategies.DEEPSPEED = CpuZeroStrategy
    run_script(lambda: exit_status(fit(config)))
