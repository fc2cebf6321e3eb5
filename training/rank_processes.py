"""The ranks of a training as processes of this machine, on CPUs over gloo."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

from configs.errors import ConfigError
from configs.training import TrainConfig
from runtime.errors import UserError
from runtime.registry import take, taken

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess  # Windows has none

ERROR = re.compile(r"(?:error: |\w*(?:Error|Exception|Interrupt)\b).*")  # of a command, or the end of a traceback
QUEUE = ("SLURM_", "PMI_", "PMIX_", "OMPI_", "TORCHELASTIC_")  # variables of launchers, which would count ranks
# Variables that a launcher sets for several processes -> its name.
LAUNCHED = {"SLURM_STEP_NUM_TASKS": "srun", "WORLD_SIZE": "torchrun", "OMPI_COMM_WORLD_SIZE": "mpirun",
            "PMI_SIZE": "mpiexec"}  # fmt: skip
# Modules that a training imports; imported once for all ranks.
PRELOADED = [
    "training.fit", "lightning_modules.vaid.module", "lightning_modules.ethd.module", "callbacks.throughput",
    "callbacks.evaluation", "callbacks.sample_videos",
]  # fmt: skip
OF_DEEPSPEED = ["training.cpu_zero", "deepspeed"]
KILLED_RANKS_LEAVE = "ignore:resource_tracker"  # semaphores of a killed rank, which the tracker then removes


class RankProcesses:
    """Processes that train one configuration together; the context ends those that still run.

    Each rank leads a process group of its own, with its loaders. A rank ends with this process, however that ends.

    Args:
        config: Configuration of all ranks.
        ranks: Number of processes.
        folder: Folder of their outputs, ``rankN.txt``, to which each start is appended.
        threads: Number of threads of each rank.
        prepare: Called in each rank before the training.

    Raises:
        ConfigError: If the system cannot start processes this way.
    """

    def __init__(
        self,
        config: TrainConfig,
        ranks: int,
        folder: Path,
        threads: int = 1,
        prepare: Callable[[], object] | None = None,
    ) -> None:
        if "forkserver" not in multiprocessing.get_all_start_methods():
            raise ConfigError(f"{sys.platform}: cannot start the ranks of a training; use Linux, macOS or WSL")
        self.config, self.folder = config, folder
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([*(OF_DEEPSPEED if config.trainer.strategy == "deepspeed" else []), *PRELOADED])
        if KILLED_RANKS_LEAVE not in sys.warnoptions:
            sys.warnoptions.append(KILLED_RANKS_LEAVE)  # options of the tracker's process
        shared = port, taken(), dict(os.environ), threads, prepare
        self.before = [file.stat().st_size if file.exists() else 0 for file in map(self.output, range(ranks))]
        self.processes: list[ForkServerProcess] = [
            context.Process(target=_run, args=(_with_loaders(config, rank), rank, ranks, self.output(rank), *shared))
            for rank in range(ranks)
        ]

    def __enter__(self) -> RankProcesses:
        """Starts all ranks, as a launcher does."""
        before = os.environ.get("PYTHONPATH")
        # The process that forks the ranks searches modules only there.
        os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), *([before] if before else [])])
        try:
            for process in self.processes:
                process.start()
        except BaseException as error:
            self.__exit__()
            if isinstance(error, OSError) and "AF_UNIX" in str(error):
                folder = tempfile.gettempdir()
                raise ConfigError(f"TMPDIR={folder}: too long for the name of a socket; set a shorter one") from error
            raise
        finally:
            os.environ.pop("PYTHONPATH")
            os.environ.update({} if before is None else {"PYTHONPATH": before})
        return self

    def __exit__(self, *error: object) -> None:
        """Ends the ranks that still run, and the loaders of all."""
        started = [process for process in self.processes if process.pid is not None]
        for process in started:
            with suppress(ProcessLookupError, PermissionError):  # macOS: all have ended
                os.killpg(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
            process.kill()
        for process in started:
            process.join()

    def output(self, rank: int) -> Path:
        """File with the output of a rank."""
        return self.folder / f"rank{rank}.txt"

    def words(self, rank: int) -> str:
        """Output of a rank since this start."""
        if not self.output(rank).exists():
            return ""
        with self.output(rank).open("rb") as file:
            file.seek(self.before[rank])
            return file.read().decode(errors="replace")

    def until(self, reached: Callable[[], bool], pause: float = 0.05, seconds: float = float("inf")) -> None:
        """Waits for a state of the run directory.

        Raises:
            UserError: If a rank ends before; the message is that of the rank. Or after ``seconds``.
        """
        end = time.monotonic() + seconds
        while not reached():
            if any(process.exitcode is not None for process in self.processes):
                if reached():
                    return
                raise UserError(self.fault())
            if time.monotonic() > end:
                raise UserError(f"the ranks made no progress in {seconds:.0f} s; see {self.folder}")
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

    def kill(self, victim: int, seconds: float) -> float:
        """Kills a rank with SIGKILL, and waits until the others have ended by themselves.

        Returns:
            Seconds until all had ended.

        Raises:
            UserError: If a rank still runs after ``seconds``, or none reports the death.
        """
        self.signal(signal.SIGKILL, [victim])
        began = time.monotonic()
        statuses = self.join(seconds)
        taken = time.monotonic() - began
        if left := [rank for rank, status in enumerate(statuses) if status is None]:
            raise UserError(f"rank {victim} was killed, but ranks {left} still ran {seconds:.0f} s later")
        died = re.compile(rf"rank {victim} \(.*process {self.processes[victim].pid}\), step \d+.*: has died")
        others = [rank for rank in range(len(statuses)) if rank != victim]
        if others and not any(died.search(self.words(rank)) for rank in others):
            raise UserError(f"rank {victim} was killed, but no other rank reported its death; see {self.folder}")
        return taken

    def join(self, seconds: float | None = None) -> list[int | None]:
        """Waits until all ranks have ended; returns their exit statuses, None for one that still runs."""
        end = None if seconds is None else time.monotonic() + seconds
        running = {process.sentinel for process in self.processes}
        while running and (end is None or time.monotonic() < end):
            running -= set(wait(list(running), None if end is None else max(0.0, end - time.monotonic())))
        for process in self.processes:
            process.join(0.1)
        return [process.exitcode for process in self.processes]


def _with_loaders(config: TrainConfig, rank: int) -> TrainConfig:
    """Rank 0 has the configured loader processes; the others, which share its cores, read by themselves."""
    return config if rank == 0 else replace(config, data=replace(config.data, workers=0))


def refuse_launcher(ranks: int) -> None:
    """Refuses to run as one of several processes of a launcher.

    Args:
        ranks: Number of ranks of the run.

    Raises:
        ConfigError: Names the launcher, and how to start instead.
    """
    for name, launcher in LAUNCHED.items():
        count = os.environ.get(name, "1")
        if count.isdecimal() and int(count) > 1:
            alone = "srun --nodes=1 --ntasks=1 --cpus-per-task=N" if launcher == "srun" else "python"
            raise ConfigError(
                f"task=rehearse: {launcher} started {count} processes ({name}), but one process starts all {ranks} "
                f"ranks of a rehearsal itself; run it once: {alone} train.py ... task=rehearse, with trainer.nodes and "
                "trainer.devices of the real job"
            )


def _run(
    config: TrainConfig,
    rank: int,
    ranks: int,
    output: Path,
    port: int,
    plugins: tuple[tuple[str, str], ...],
    environment: dict[str, str],
    threads: int,
    prepare: Callable[[], object] | None,
) -> None:
    """Trains as one rank."""
    os.setsid()  # loaders can be ended with the rank, and Ctrl-C reaches only the parent
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(environment)
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

    torch.set_num_threads(threads)
    take(plugins)
    if config.trainer.strategy == "deepspeed":
        from training.cpu_zero import CpuZeroStrategy

        strategies.DEEPSPEED = CpuZeroStrategy
    if prepare is not None:
        prepare()
    run_script(lambda: exit_status(fit(config)))


def _end_with_parent() -> None:
    """Ends this rank and its loaders when the process that started it has ended, however that happened."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.killpg(0, signal.SIGKILL)
