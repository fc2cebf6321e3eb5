"""A real SLURM cluster of one node in a temporary folder, with its own key, configuration, ports and daemons.

The tests must run as root, because slurmd starts jobs for other users. Daemons are ended by their process ids.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel")
NEEDED = "needs a SLURM of its own: apt-get install slurm-wlm munge"
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE")
CONFIGURATION = Path(__file__).with_name("slurm.conf")


def missing() -> str | None:
    """Returns why SLURM cannot be started here, or None."""
    if not all(map(shutil.which, PROGRAMS)):
        return NEEDED
    return None if os.geteuid() == 0 else f"{NEEDED}, and root to run its daemons"


@dataclass
class Slurm:
    """A running cluster.

    Attributes:
        folder: Folder of its configuration, logs and state.
        environment: Variables with which ``sbatch`` and the other programs find it.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str, check: bool = True, **settings) -> subprocess.CompletedProcess:
        """Runs one of SLURM's programs; ``env`` adds variables."""
        environment = {**self.environment, **settings.pop("env", {})}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, **settings)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def submit(self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> int:
        """Runs ``sbatch`` and returns the job's id."""
        return int(self.run("sbatch", "--parsable", *arguments, env=env or {}, cwd=cwd).stdout.split(";")[0])

    def job(self, job: int | str) -> dict[str, str]:
        """Returns KEY -> value of a job, or of one array task (``12_3``), from ``scontrol``."""
        return dict(word.split("=", 1) for word in self._show(job)[0].split() if "=" in word)

    def states(self, job: int) -> list[str]:
        """Returns the state of a job, or the states of all tasks of an array."""
        words = [word for line in self._show(job) for word in line.split()]
        return [word.split("=", 1)[1] for word in words if word.startswith("JobState=")]

    def _show(self, job: int | str) -> list[str]:
        """Returns a line for each task. Repeats the question, because a busy controller may not answer."""
        for _ in range(10):
            done = self.run("scontrol", "--oneliner", "show", "job", str(job), check=False)
            if done.returncode == 0:
                return done.stdout.splitlines()
            time.sleep(1)
        raise AssertionError(f"scontrol show job {job}: {done.stderr}")

    def wait(self, job: int, seconds: float = 120) -> list[str]:
        """Waits until a job, or all tasks of an array, have ended; returns their states."""
        self.until(lambda: all(state in ENDED for state in self.states(job)), f"the end of job {job}", seconds)
        return self.states(job)

    def until(self, condition, what: str, seconds: float = 60) -> None:
        """Waits until a condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited {seconds} s for {what}\n{self.words()}"
            time.sleep(0.1)

    def words(self) -> str:
        """Returns the queue and the ends of the daemons' logs."""
        logs = [self.folder / f"{name}.log" for name in ("slurmctld", "slurmd")]
        tails = [f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in logs if log.exists()]
        return "\n".join([self.run("squeue", check=False).stdout, *tails])


def _ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


@contextmanager
def slurm(folder: Path, cpus: int = 2) -> Iterator[Slurm]:
    """Starts SLURM. Its jobs and daemons end with the context.

    Args:
        folder: Folder of all its files.
        cpus: Number of CPUs of the node, and of its GPUs, which exist only by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # munged requires a socket that other users can reach
    host, (controller, daemon) = socket.gethostname().split(".")[0], _ports(2)
    key, configuration = folder / "munge.key", folder / "slurm.conf"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    values = {"folder": folder, "host": host, "controller": controller, "daemon": daemon, "cpus": cpus}
    configuration.write_text(CONFIGURATION.read_text().format(**values))
    for place in range(cpus):
        (folder / f"gpu{place}").touch()
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-{cpus - 1}]\n")
    for name in ("state", "spool"):
        (folder / name).mkdir(exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
    environment["SLURM_CONF"] = str(configuration)
    files = {name: f"--{name}-file={folder}/munge.{name}" for name in ("key", "log", "pid", "seed")}
    with ExitStack() as stack:
        cluster = Slurm(folder, environment)
        stack.enter_context(
            _daemon(["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files.values()], cluster)
        )
        cluster.until((folder / "munge.socket").exists, "munge")
        stack.enter_context(_daemon(["slurmctld", "-D", "-c"], cluster))
        stack.enter_context(_daemon(["slurmd", "-D"], cluster))
        cluster.until(
            lambda: cluster.run("sinfo", "--noheader", "--format=%T", check=False).stdout.strip() == "idle", "the node"
        )
        try:
            yield cluster
        finally:
            _cancel(cluster)


def _cancel(cluster: Slurm) -> None:
    """Ends running jobs before the daemons that supervise them."""
    cluster.run("scancel", "--user=root", "--full", check=False)
    end = time.monotonic() + 15
    while cluster.run("squeue", "--noheader", check=False).stdout.strip() and time.monotonic() < end:
        time.sleep(0.2)


@contextmanager
def _daemon(command: list[str], cluster: Slurm) -> Iterator[None]:
    with (cluster.folder / f"{command[0]}.out").open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=cluster.environment, start_new_session=True)
        try:
            time.sleep(0.1)
            assert process.poll() is None, f"{command[0]}: {Path(out.name).read_text()}"
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
