"""Checks the batch files of slurm/, also with SLURM's own check where SLURM is available: ``make slurm-check``.

Each file is run on the example in its head with a stub ``srun`` that prints its arguments. The rendered command must be
accepted by the project's configuration. ``sbatch=...`` passes options to ``sbatch --test-only``, such as
``--partition=a100``.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from configs.command_line import compose
from configs.evaluation import EvaluateConfig
from configs.options import read_options, run_script
from configs.preparation import PrepareConfig
from configs.systems import RunSystemConfig
from configs.tables import TableConfig
from configs.training import PreemptionConfig, TrainConfig

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = {
    "account", "array", "constraint", "cpus-per-task", "dependency", "gpus-per-node", "job-name", "mem", "nodes",
    "ntasks", "ntasks-per-node", "open-mode", "output", "partition", "qos", "requeue", "signal", "time",
}  # fmt: skip
PROGRAMS = {
    "train.py": ("train", TrainConfig),
    "prepare.py": ("prepare", PrepareConfig),
    "evaluate.py": ("evaluate", EvaluateConfig),
    "benchmark.run_system": ("systems", RunSystemConfig),
}


def options_of(text: str) -> dict[str, str]:
    """Parses the ``#SBATCH`` lines: name -> value, empty for a switch."""
    words = [word for line in re.findall(r"^#SBATCH (.*)$", text, re.MULTILINE) for word in shlex.split(line)]
    pairs = [word.removeprefix("--").partition("=") for word in words]
    return {name: value for name, _, value in pairs}


def problems_of(name: str, text: str) -> Iterator[str]:
    """Yields what is wrong with the options of a file."""
    options = options_of(text)
    for option in sorted(options.keys() - OPTIONS):
        yield f"--{option}: unknown option; SLURM refuses jobs with unknown options, so correct or remove it"
    if options.get("job-name", "bash") in ("bash", "interactive"):
        yield f"--job-name={options.get('job-name')}: Lightning treats such a job as an interactive shell; rename it"
    if "requeue" not in options or options.get("open-mode") != "append":
        yield "needs --requeue, and --open-mode=append so that a requeued job keeps its log"
    if "%j" not in options.get("output", "") and "%a" not in options.get("output", ""):
        yield f"--output={options.get('output')}: expected %j or %A_%a, so that every job has its own log"
    if name == "train":
        yield from _training_problems(options)


def _training_problems(options: dict[str, str]) -> Iterator[str]:
    tasks, gpus = options.get("ntasks-per-node"), options.get("gpus-per-node")
    if tasks is None or tasks != gpus:
        yield f"--ntasks-per-node={tasks}, --gpus-per-node={gpus}: expected equal numbers, one process for each GPU"
    found = re.fullmatch(r"(B:)?(\w+)@(\d+)", options.get("signal", ""))
    if not found:
        yield f"--signal={options.get('signal')}: expected NAME@SECONDS, e.g. USR2@300"
    elif found[1]:
        yield "--signal=B:...: reaches only the batch script; remove B: so that it reaches the training processes"
    elif f"SIG{found[2]}" not in PreemptionConfig().requeue_on:
        yield f"--signal={found[2]}: expected one of preemption.requeue_on={PreemptionConfig().requeue_on}"
    elif int(found[3]) < 60:
        yield f"--signal={found[0]}: expected at least 60 s, for the running batch and the checkpoint"


def examples_of(name: str, text: str) -> list[list[str]]:
    """Returns the arguments of the examples in the head of a file."""
    head = text.replace("\\\n#", "").split("#SBATCH")[0]
    found = re.findall(rf"^#   .*sbatch .*slurm/{name}\.sbatch ([^.\n][^\n]*)$", head, re.MULTILINE)
    return [shlex.split(arguments.rstrip(")")) for arguments in found]


def rendered(file: Path, arguments: list[str]) -> tuple[str, str]:
    """Runs a file with a stub ``srun``; returns the arguments of ``srun`` and the error output."""
    options = options_of(file.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "activate").touch()
        srun = folder / "srun"
        srun.write_text('#!/bin/bash\nprintf "%q " "$@"\n', encoding="utf-8")
        srun.chmod(0o755)
        job = {"SLURM_JOB_ID": "1234", "SLURM_JOB_NUM_NODES": options["nodes"]}
        if tasks := options.get("ntasks-per-node"):
            job["SLURM_NTASKS_PER_NODE"] = tasks
        if "array" in options or not any(argument.startswith("table=") for argument in arguments):
            job |= {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_MAX": "16"}
        environment = {"PATH": f"{folder}:{os.environ['PATH']}", "EMOTIVETALK_ENV": f"{folder}/activate", **job}
        done = subprocess.run(
            ["bash", str(file), *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
        )
    return done.stdout.strip(), done.stderr.strip()


def composed(command: str) -> str | None:
    """Returns why the project's configuration refuses a rendered command, or None."""
    words = [word for word in shlex.split(command) if not word.startswith("--")]
    program = words[2] if words[1] == "-m" else words[1]
    name, config = PROGRAMS[program]
    arguments = words[words.index(program) + 1 :]
    if program == "evaluate.py" and any(argument.startswith("table=") for argument in arguments):
        name, config = "tables", TableConfig
    try:
        compose(name, config, arguments)
    except Exception as error:  # errors of Hydra, OmegaConf and this project all have readable messages
        return str(error)
    return None


def check(file: Path, extra: list[str]) -> list[str]:
    """Prints what a batch file runs; returns its problems."""
    text = file.read_text(encoding="utf-8")
    found = list(problems_of(file.stem, text))
    for tool in (["bash", "-n"], ["shellcheck", "-x"]):
        if shutil.which(tool[0]):
            done = subprocess.run([*tool, str(file)], cwd=ROOT, capture_output=True, text=True)
            found += [f"{tool[0]}: {done.stdout}{done.stderr}"] if done.returncode else []
    examples = examples_of(file.stem, text)
    found += [] if examples else ["has no example in its head"]
    print(f"{file.name}  {' '.join(f'--{name}={value}'.rstrip('=') for name, value in options_of(text).items())}")
    for arguments in examples:
        command, problem = rendered(file, arguments)
        print(f"  srun {command}")
        refused = problem or composed(command)
        found += [f"{shlex.join(arguments)}: {refused}"] if refused else []
    if queue():
        done = subprocess.run(["sbatch", "--test-only", *extra, str(file)], cwd=ROOT, capture_output=True, text=True)
        print(f"  {done.stderr.strip()}")
        found += [f"sbatch --test-only: {done.stderr.strip()}"] if done.returncode else []
    return found


def queue() -> bool:
    """Returns whether a SLURM controller is reachable."""
    if not shutil.which("sbatch"):
        return False
    return subprocess.run(["scontrol", "ping"], capture_output=True, text=True, timeout=60).stdout.count("is UP") > 0


def main(arguments: list[str]) -> int:
    """Checks every batch file and returns the exit status."""
    extra = read_options(__doc__, arguments, {"sbatch": shlex.split}).get("sbatch", [])
    if not queue():
        print("SLURM is not available here: skipping sbatch --test-only")
    problems = {file.name: check(file, extra) for file in sorted((ROOT / "slurm").glob("*.sbatch"))}
    for name, found in problems.items():
        for problem in found:
            print(f"{name}: {problem}", file=sys.stderr)
    return 1 if any(problems.values()) else 0


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
