"""Runs of a Hydra sweep: the value that its sweeper compares, and one line for each failed run."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from configs.errors import ConfigError
from runtime.errors import UserError, message_of
from runtime.ownership import refuse

GRID = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"  # runs all combinations and compares no values
IN_PROCESS = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
STOPPED = 75  # EX_TEMPFAIL of sysexits.h, which os lacks on Windows
BEST = "optimization_results.yaml"  # written by optimizing sweepers of Hydra


@dataclass(frozen=True)
class TaskResult:
    """Result of a command.

    Attributes:
        status: Exit status.
        value: Value that a sweep compares; None for none.
    """

    status: int
    value: float | None = None


@dataclass
class Sweep:
    """Runs of a sweep in this process.

    Attributes:
        printed: Messages of the runs that failed.
        best: File of the best parameters, if the sweeper optimizes.
        objective: Name of the compared value.
    """

    printed: list[str] = field(default_factory=list)
    best: Path | None = None
    objective: str = ""

    def run(self, composed: DictConfig, task: Callable[[], int | TaskResult]) -> float | None:
        """Runs ``task``, possibly in another process that returns only exceptions, and returns its value.

        Raises:
            UserError: For a status other than 0 or an error, which is first printed to the log of the run.
            SystemExit: For a run that was stopped and saved. Its result follows from the job that continues it.
        """
        try:
            self._prepare(composed)
            ended = task()
        except Exception as error:
            if not isinstance(error, UserError | OSError):
                traceback.print_exc()
            self.printed.append(message_of(error))
            print(f"error: {message_of(error)}", file=sys.stderr, flush=True)
            if _ends_here():
                sys.exit(UserError.exit_status)
            raise UserError(message_of(error)) from None  # the error itself may not be picklable
        status, value = (ended.status, ended.value) if isinstance(ended, TaskResult) else (ended, None)
        if status == STOPPED:
            sys.exit(status)
        if status:
            raise UserError(f"a run of the sweep ended with status {status}; its log says why")
        return value

    def _prepare(self, composed: DictConfig) -> None:
        if _is_grid():
            return
        self.objective = OmegaConf.select(composed, "objective") or ""
        if not self.objective:
            raise ConfigError(
                f"hydra/sweeper={_sweeper()}: compares runs of train.py by a logged value; add objective=val/loss"
            )
        logging.getLogger("hydra_plugins").setLevel(logging.CRITICAL)  # would repeat the errors that are printed here
        self.best = Path(HydraConfig.get().sweep.dir) / BEST
        if self.best.exists():  # of an earlier sweep
            if "best_params:" not in self.best.read_text(encoding="utf-8", errors="replace"):
                refuse(self.best, f"hydra.sweep.dir={self.best.parent}")
            self.best.unlink()

    def print_best(self) -> None:
        """Prints the best parameters of an optimizing sweeper."""
        if self.best is None or not self.best.exists():
            return
        found = OmegaConf.load(self.best)
        chosen = ", ".join(f"{key}={value}" for key, value in found.best_params.items())
        print(f"best        {self.objective}={found.best_value:.6g} with {chosen}\nsweep       {self.best}")


def refuse_lone_sweeper() -> None:
    """Refuses an optimising sweeper in a command that does not sweep.

    Raises:
        ConfigError: Names the flag to add.
    """
    if not _is_grid():
        raise ConfigError(f"hydra/sweeper={_sweeper()}: is for a sweep; add -m")


def maximizes() -> bool:
    """Whether the sweeper maximizes the objective."""
    if not HydraConfig.initialized():
        return False
    return "maximize" in str(HydraConfig.get().sweeper.get("direction", ""))


def _ends_here() -> bool:
    """Whether an error ends the sweep: no run may fail, and all runs share this process."""
    hydra = HydraConfig.get()
    return hydra.launcher._target_ == IN_PROCESS and hydra.sweeper.get("max_failure_rate") == 0


def _is_grid() -> bool:
    return HydraConfig.get().sweeper._target_ == GRID


def _sweeper() -> str:
    return str(HydraConfig.get().runtime.choices["hydra/sweeper"])
