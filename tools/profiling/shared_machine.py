"""Compares the processor time of a command alone with that next to busy processes.

    python -m tools.profiling.shared_machine command="generate.py portrait=A speech=B output=OUTPUT/a.mp4 ethd=RUN"
    python -m tools.profiling.shared_machine command=... busy=2 repeat=3 spinning=true

OUTPUT is replaced by an empty folder for each run. The command runs alone and next to ``busy`` processes, in turn, and
the smallest times of ``repeat`` runs are compared. With ``spinning=true`` it also runs with threads that loop while
they wait, which is libgomp's default. Processor time is user and system time of the command and of the processes that
it waited for. Wanted: at most 1.3 times the processor time. Run it on a machine without other work.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.options import Readers, count, read_options, run_script
from runtime.errors import UserError

ROOT = Path(__file__).parents[2]
LOOP = "while True: pass"
SPINS = "300000"  # GOMP_SPINCOUNT of libgomp if nothing is set


def main(arguments: list[str]) -> None:
    """Runs the command in both situations and prints times and ratios."""
    known: Readers = {"command": shlex.split, "busy": count, "repeat": count, "spinning": _truth}
    options = read_options(__doc__, arguments, known, required=("command",))
    busy, repeat = options.get("busy", 2), options.get("repeat", 2)
    ways: dict[str, dict[str, str]] = {"sleeping": {}}
    if options.get("spinning", False):
        ways["spinning"] = {"GOMP_SPINCOUNT": SPINS}
    print(f"{len(os.sched_getaffinity(0))} cores, {busy} busy processes, smallest of {repeat} runs", flush=True)
    for name, environment in ways.items():
        alone, shared = [], []
        for _ in range(repeat):
            alone.append(run(options["command"], environment))
            with busy_processes(busy):
                shared.append(run(options["command"], environment))
        (wall, processor), (wall_shared, processor_shared) = _smallest(alone), _smallest(shared)
        print(f"{name}  alone   wall {wall:.1f} s, processor {processor:.1f} s")
        print(f"{name}  shared  wall {wall_shared:.1f} s, processor {processor_shared:.1f} s")
        print(f"{name}  ratio   processor {processor_shared / processor:.2f}", flush=True)


def run(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Runs a command of this project and returns its wall and processor time, seconds.

    Raises:
        UserError: If it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = [word.replace("OUTPUT", folder) for word in command]
        with (Path(folder) / "log").open("w+b") as log:
            start = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, *words], cwd=ROOT, env={**_unset(), **environment}, stdout=log, stderr=log
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                log.seek(0)
                raise UserError(f"command={shlex.join(command)}: {log.read()[-1000:].decode(errors='replace')}")
            return time.perf_counter() - start, usage.ru_utime + usage.ru_stime


@contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Keeps as many processes busy."""
    processes = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _unset() -> dict[str, str]:
    """The environment without what this process set for itself or a user chose, so that the command decides."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "MKL_"))}


def _smallest(times: list[tuple[float, float]]) -> tuple[float, float]:
    return min(wall for wall, _ in times), min(processor for _, processor in times)


def _truth(value: str) -> bool:
    if value not in ("true", "false"):
        raise ValueError("expected true or false")
    return value == "true"


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
