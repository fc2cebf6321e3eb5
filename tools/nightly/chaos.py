"""Kills, stops and hinders all programs at random moments, and checks that their results stay equal.

    python -m tools.nightly.chaos output=outputs/chaos                  one hundred disturbances
    python -m tools.nightly.chaos output=outputs/chaos count=12 seed=3

prepare, train (DDP and ZeRO-2, two ranks on the CPU), generate (a batch), evaluate and app are disturbed: SIGKILL (of
one rank), SIGTERM, SIGINT, SIGHUP, SIGSTOP and SIGCONT, a full disk, a second command with the same output, a start
without HOME, and a hole in the middle of a checkpoint. After each disturbance no process may be left, and an error must
be one line. The same command is then started again, until the program has finished. Its results must equal those of an
undisturbed run, and neither its output nor the temporary folder may hold a temporary file or a lock. Otherwise the
exit status is 1. After a failure the output is made anew.

The full disk needs root, which mounts a small memory disk; without root it is left out. An interrupted check continues
with the same command: disturbances that were counted are kept in ``done.json``.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from configs.options import Readers, count, names, read_options, run_script, whole
from lightning_modules.checkpoint_files import LAST
from runtime.console import new_console
from runtime.errors import UserError
from runtime.files import write_whole
from runtime.ownership import claim
from tools.nightly.chaos_programs import START_SECONDS, Program, answers, emptied, free_port, left_behind, programs
from tools.nightly.warm_commands import members, start

SIGNALS = ("KILL", "TERM", "INT", "HUP")
KINDS = (*SIGNALS, "STOP", "disk", "twice", "home", "hole")
END_SECONDS = 120.0  # time limit of all processes of a command to end
SERVED = 2.0  # longest time until the end of a page, in times until it answers
HOLE = 2048  # bytes
PAUSE = 1.0  # seconds between SIGSTOP and SIGCONT
DISK_MEGABYTES = 64
DONE = "done.json"


@dataclass
class Chaos:
    """State of a check.

    Attributes:
        folder: Folder of inputs and logs.
        disk: Folder of the outputs that are disturbed; a small memory disk for root.
        temporary: Temporary folder of all commands.
        chance: Source of the moments.
        started: Processes of the commands that were started.
    """

    folder: Path
    disk: Path
    temporary: Path
    chance: random.Random
    started: list[ForkServerProcess] = field(default_factory=list)

    def environment(self, program: Program | None = None, rank: int = 0, port: int = 0) -> dict[str, str]:
        """Environment of one process of a program."""
        own = {**os.environ, "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        if program is not None and program.ranks > 1:
            own |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(program.ranks)}
            own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        return own | dict(program.environment if program else {})

    def start(self, program: Program, output: Path, home: bool = True) -> list[ForkServerProcess]:
        """Starts all ranks of a program."""
        port, processes = free_port(), []
        for rank in range(program.ranks):
            environment = self.environment(program, rank, port)
            if not home:
                environment.pop("HOME", None)
            processes.append(start(program.command(output), environment, self.log(program, rank)))
        self.started += processes
        return processes

    def end_all(self) -> None:
        """Kills what a failed check has left, so that it does not disturb the next one."""
        for process in self.started:
            for found in members(int(process.pid or 0)):
                with suppress(OSError):
                    os.kill(found, signal.SIGKILL)
        self.started.clear()

    def log(self, program: Program, rank: int | str) -> Path:
        """File with the output of a rank."""
        return self.folder / f"{program.name.replace(', ', '-').replace(' ', '-')}-{rank}.txt"


def typed_of(process: int) -> str:
    """Command line of a process and the function of the kernel that it waits in, for messages."""
    folder = Path(f"/proc/{process}")
    with suppress(OSError):
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return f"{command} [{(folder / 'wchan').read_text()}]"
    return "ended"


def wait_for_end(processes: list[ForkServerProcess], program: Program, seconds: float = END_SECONDS) -> list[int]:
    """Waits until all processes of a command and their workers have ended; returns the exit statuses.

    Raises:
        UserError: If one still runs after the time limit.
    """
    end = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
    while time.monotonic() < end and any(members(int(process.pid or 0)) for process in processes):
        time.sleep(0.05)
    left = [found for process in processes for found in members(int(process.pid or 0))]
    named = "; ".join(typed_of(found)[:200] for found in left)
    for number in (signal.SIGABRT, signal.SIGKILL) if left else ():  # the first prints what the threads are doing
        for found in left:
            with suppress(OSError):
                os.kill(found, number)
        time.sleep(PAUSE)
    if left:
        raise UserError(
            f"{program.name}: {len(left)} processes still ran {seconds:.0f} s after their command was ended: {named}; "
            "their logs end with the stacks of their threads"
        )
    return [int(process.exitcode or 0) for process in processes]


def finish(chaos: Chaos, program: Program, output: Path) -> tuple[Any, float]:
    """Runs a program to its end; returns its result and the seconds it took.

    Raises:
        UserError: If it fails, or leaves something behind.
    """
    began = time.monotonic()
    processes = chaos.start(program, output)
    if program.serves is not None:
        answered = answers(program.serves)
        seconds = time.monotonic() - began
        os.kill(int(processes[0].pid or 0), signal.SIGTERM)
        statuses = wait_for_end(processes, program)
        if not answered:
            raise UserError(f"{program.name}: did not answer; see {chaos.log(program, 0)}")
    else:
        statuses = wait_for_end(processes, program, START_SECONDS)
        seconds = time.monotonic() - began
    if any(statuses):
        raise UserError(f"{program.name}: ended with status {statuses}; see {chaos.log(program, 0)}")
    if left := [*left_behind(output), *(path.name for path in chaos.temporary.iterdir())]:
        raise UserError(f"{program.name}: left {', '.join(left[:5])} behind")
    return program.result(output), seconds


def disturb(chaos: Chaos, program: Program, output: Path, kind: str, seconds: float) -> str | None:
    """Starts a program, waits for a random moment and disturbs it; returns what happened, None if it was too late.

    Raises:
        UserError: If a process is left, or an error is not one line.
    """
    logs = [chaos.log(program, rank) for rank in range(program.ranks)]
    before = [log.stat().st_size if log.exists() else 0 for log in logs]
    processes = chaos.start(program, output, home=kind != "home")
    share = SERVED if program.serves is not None else 1.0  # a page is also ended while it serves
    moment = chaos.chance.uniform(0.02, 0.95) * seconds * share
    end = time.monotonic() + moment
    while time.monotonic() < end and all(process.is_alive() for process in processes):
        time.sleep(0.01)
    if not all(process.is_alive() for process in processes):
        statuses = wait_for_end(processes, program)
        if any(statuses):
            raise UserError(f"{program.name}: ended with status {statuses} before it was disturbed; see {logs[0]}")
        return None
    pids = [int(process.pid or 0) for process in processes]
    notes = ""
    if kind in SIGNALS or kind in ("home", "hole"):
        number = signal.Signals[f"SIG{kind if kind in SIGNALS else 'TERM'}"]
        victims = [chaos.chance.choice(pids)] if kind == "KILL" else pids
        for victim in victims:
            with suppress(ProcessLookupError):
                os.kill(victim, number)
    elif kind == "STOP":
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for session in pids:
                for process_number in members(session):
                    with suppress(ProcessLookupError):
                        os.kill(process_number, number)
            time.sleep(PAUSE)
    elif kind == "twice":
        notes = _second(chaos, program, output, processes)
    elif kind == "disk":
        notes = _fill(chaos, processes)
    if kind in ("STOP", "twice", "disk"):
        for pid in pids:  # it goes on, and is ended so that the next disturbance finds work to do
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
    began = time.monotonic()
    statuses = wait_for_end(processes, program)
    words = ""
    for log, size in zip(logs, before, strict=True):
        words += log.read_bytes()[size:].decode(errors="replace") if log.exists() else ""
    if "Traceback" in words and not (kind == "KILL" and program.ranks > 1):
        raise UserError(f"{program.name}, {kind}: printed a traceback; see {logs[0]}")
    if kind == "hole":
        notes = _damage(chaos, program, output)
    return f"{kind} after {moment:.1f} s, status {statuses}, all ended in {time.monotonic() - began:.1f} s{notes}"


def _second(chaos: Chaos, program: Program, output: Path, first: list[ForkServerProcess]) -> str:
    """Starts the command again while it runs: the second must end with one line that names the first."""
    log = chaos.log(program, "second")
    before = log.stat().st_size if log.exists() else 0
    alone = Program(program.name, program.command, program.result, 1, program.environment)
    environment = chaos.environment(alone) | (
        {"LOCAL_RANK": "0", "NODE_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}
        if program.ranks > 1
        else {}
    )
    second = start(program.command(output), environment, log)
    chaos.started.append(second)
    end = time.monotonic() + END_SECONDS
    while second.is_alive() and all(process.is_alive() for process in first) and time.monotonic() < end:
        time.sleep(0.02)
    if second.is_alive():  # the first had finished, so the second works alone
        os.kill(int(second.pid or 0), signal.SIGTERM)
        wait_for_end([second], program)
        return "; finished before the second began"
    words = log.read_bytes()[before:].decode(errors="replace")
    named = "is being written by process" in words or "is not available" in words
    if second.exitcode == 0 or not named or "Traceback" in words:
        if second.exitcode == 0 and not all(process.is_alive() for process in first):
            return "; finished before the second began"
        raise UserError(f"{program.name}: a second command ended with {second.exitcode} and {words.strip()[-300:]!r}")
    return "; the second named the first"


def _damage(chaos: Chaos, program: Program, output: Path) -> str:
    """Writes zeros into the middle of the last checkpoint: the next start must refuse it in one line."""
    found = [path for path in output.glob(f"*/run/checkpoints/{LAST}") if path.exists()]
    parts = [part for path in found for part in ([path] if path.is_file() else path.rglob("*")) if part.is_file()]
    if not parts:
        return "; there was no checkpoint yet"
    part = max(parts, key=lambda part: part.stat().st_size).resolve()
    whole = part.read_bytes()
    middle = len(whole) // 2
    part.write_bytes(whole[:middle] + bytes(HOLE) + whole[middle + HOLE :])
    log = chaos.log(program, 0)
    before = log.stat().st_size
    statuses = wait_for_end(chaos.start(program, output), program, START_SECONDS)
    words = log.read_bytes()[before:].decode(errors="replace")
    if not all(statuses) or "error: " not in words or "Traceback" in words or "damaged" not in words:
        raise UserError(f"{program.name}: a checkpoint with a hole: status {statuses} and {words.strip()[-300:]!r}")
    part.write_bytes(whole)
    return "; a hole in the checkpoint was named"


def _fill(chaos: Chaos, processes: list[ForkServerProcess]) -> str:
    """Fills the disk of the outputs for some seconds."""
    ballast = chaos.disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    end = time.monotonic() + 5
    while time.monotonic() < end and all(process.is_alive() for process in processes):
        time.sleep(0.05)
    ballast.unlink()
    return "; the disk was full" + ("" if all(process.is_alive() for process in processes) else ", which ended it")


def check(folder: Path, total: int, seed: int, only: list[str], kinds: list[str]) -> list[str]:
    """Runs the check and returns the lines of its report, which are also printed.

    Raises:
        UserError: If a disturbance changed a result or left something behind.
    """
    claim(folder, ["temporary", "disturbed", DONE], f"output={folder}")
    console, lines = new_console(highlight=False), []
    disk = folder / "disturbed"
    disk.mkdir(exist_ok=True)
    mounted = _mount(disk)
    if not mounted and "disk" in kinds:
        kinds = [kind for kind in kinds if kind != "disk"]
        console.print("left out: disk (only root can mount a small disk)")
    chaos = Chaos(folder, disk, emptied(folder / "temporary"), random.Random(seed))
    known = json.loads((folder / DONE).read_text()) if (folder / DONE).exists() else {"done": {}, "failed": []}
    done: Counter[str] = Counter(known["done"])
    failed: list[str] = known["failed"]

    def fail(error: UserError) -> None:
        chaos.end_all()
        failed.append(str(error))
        console.print(f"  failed: {error}", markup=False, soft_wrap=True)

    try:
        chosen = [p for p in programs(folder, chaos.environment()) if not only or p.name.split(",")[0] in only]
        chaos.temporary = emptied(folder / "temporary")
        for place, program in enumerate(chosen):
            wanted = len(range(place, total, len(chosen)))
            own = sum(number for key, number in done.items() if key.startswith(f"{program.name}/"))
            if own >= wanted:
                continue
            try:
                expected, seconds = finish(chaos, program, emptied(disk / "output"))
            except UserError as error:
                fail(error)
                chaos.temporary = emptied(folder / "temporary")
                continue
            console.print(f"{program.name}: undisturbed in {seconds:.1f} s")
            output, finished = emptied(disk / "output"), 0
            suited = [kind for kind in kinds if kind != "hole" or program.ranks > 1]
            while own < wanted:
                kind = min(suited, key=lambda kind: done[f"{program.name}/{kind}"])
                happened: str | None = f"{kind}: failed"
                try:
                    happened = disturb(chaos, program, output, kind, seconds)
                    if happened is None:  # less is left to do than in the undisturbed run, or the machine got faster
                        seconds *= 0.7
                    if happened is None or own + 1 == wanted:
                        if where := difference(finish(chaos, program, output)[0], expected):
                            raise UserError(f"{program.name}: its result differs from an undisturbed run's: {where}")
                        output, finished = emptied(disk / "output"), finished + 1
                except UserError as error:
                    fail(error)
                    output, chaos.temporary = emptied(disk / "output"), emptied(folder / "temporary")
                if happened is not None:
                    own, done[f"{program.name}/{kind}"] = own + 1, done[f"{program.name}/{kind}"] + 1
                    console.print(f"  {own:3} {program.name}: {happened}", markup=False, soft_wrap=True)
                    write_whole(folder / DONE, json.dumps({"done": done, "failed": failed}, indent=1) + "\n")
            line = f"{program.name}: {own} disturbances, finished {finished} times with equal results"
            console.print(line, markup=False)
            lines.append(line)
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(disk)], check=False)
    for line in table(done, kinds):
        lines.append(line)
        console.print(line, markup=False)
    if failed:
        raise UserError(f"{len(failed)} of {sum(done.values())} disturbances failed: {'; '.join(failed)}")
    return lines


def difference(found: Any, wanted: Any, name: str = "result") -> str:
    """Where two results differ first, and how; empty if they are equal."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        pairs = [(f"{name}[{key!r}]", found.get(key), wanted.get(key)) for key in {**wanted, **found}]
    elif isinstance(found, (list, tuple)) and isinstance(wanted, (list, tuple)):
        padded = itertools.zip_longest(found, wanted)
        pairs = [(f"{name}[{place}]", one, other) for place, (one, other) in enumerate(padded)]
    else:
        return "" if found == wanted else f"{name} is {str(found)[:200]}, undisturbed {str(wanted)[:200]}"
    return next(filter(None, (difference(one, other, inside) for inside, one, other in pairs)), "")


def table(done: Mapping[str, int], kinds: list[str]) -> list[str]:
    """Table of the numbers of disturbances, in Markdown."""
    rows: dict[str, Counter[str]] = {}
    for key, number in done.items():
        program, _, kind = key.rpartition("/")
        rows.setdefault(program, Counter())[kind] += number
    lines = [f"| program | {' | '.join(kinds)} | all |", "|---" * (len(kinds) + 2) + "|"]
    for program, found in rows.items():
        lines.append(f"| {program} | {' | '.join(str(found[kind]) for kind in kinds)} | {found.total()} |")
    return lines


def _mount(disk: Path) -> bool:
    """Mounts a memory disk of ``DISK_MEGABYTES``; returns whether that was possible."""
    if not sys.platform.startswith("linux") or os.getuid() != 0:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m,mode=700", "tmpfs", str(disk)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the check."""
    known: Readers = {"output": str, "count": count, "seed": whole, "only": names, "kinds": names}
    options = read_options(__doc__, arguments, known, required=("output",))
    kinds = list(options.get("kinds", KINDS))
    if wrong := [kind for kind in kinds if kind not in KINDS]:
        raise UserError(f"kinds={wrong[0]}: expected some of {','.join(KINDS)}")
    folder = Path(options["output"]).absolute()
    check(folder, options.get("count", 100), options.get("seed", 0), list(options.get("only", [])), kinds)


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
