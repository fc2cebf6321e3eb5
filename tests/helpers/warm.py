"""Python processes that start warm: forked from one that has imported torch, Lightning and this project.

``run`` and ``Popen`` take what ``subprocess`` takes, for commands that begin with ``sys.executable``. What they start
is a process of its own, in a session of its own: arguments, environment, folder, pipes, signals and exit status are
real, and the script runs as ``__main__``. Only the imports are there already: of this checkout, made in the environment
of the first test that asked. What is about them, or about a copy of the code, starts cold.

One server serves all processes of a test session, and ends with it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import runpy
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Everything that train, prepare, generate and evaluate load before their work begins.
PRELOADED = ("training.fit", "preparation.tasks", "generation.generate_videos", "evaluation.evaluate_folders")
NUMBER = struct.Struct("q")  # of a process, and then its exit status
# As Python has them when it starts.
RESET = {signal.SIGPIPE: signal.SIG_IGN, signal.SIGXFSZ: signal.SIG_IGN, signal.SIGINT: signal.default_int_handler}


class Popen(subprocess.Popen):
    """A process that the warm one forks, with everything that subprocess.Popen can."""

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest):
        assert args[0] == sys.executable, args
        assert (executable, preexec_fn, pass_fds) == (None, None, ()), "only a cold process can have these"
        in_read, in_write, out_read, out_write, error_read, error_write, *_ = rest[3:]
        pipes = [given if given >= 0 else number for number, given in enumerate((in_read, out_write, error_write))]
        command = {"typed": [*map(str, args[1:])], "cwd": str(cwd or Path.cwd()), "env": dict(env or os.environ)}
        self._connection = _connect()
        with self._connection.dup() as copy, copy.makefile("wb") as file:
            socket.send_fds(copy, [b"!"], pipes)
            file.write(json.dumps(command).encode() + b"\n")
        self._close_pipe_fds(in_read, in_write, out_read, out_write, error_read, error_write)
        self._child_created = True
        self.pid = NUMBER.unpack(self._connection.recv(NUMBER.size))[0]

    def _wait(self, timeout):
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                outputs = self._connection.recv(NUMBER.size)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout) from None
            (self.returncode,) = NUMBER.unpack(outputs)
            self._connection.close()
        return self.returncode

    def _internal_poll(self, *_, **__):
        try:
            return self._wait(0)
        except subprocess.TimeoutExpired:
            return None


def run(command, timeout: float | None = 280, **options) -> subprocess.CompletedProcess:
    """``subprocess.run`` with both outputs captured as text."""
    with Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as process:
        try:
            out, error = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, error)


def run_ranks(command, ranks: int, started: int | None = None, **environment: str) -> list[subprocess.CompletedProcess]:
    """Runs a command once for each rank, as torchrun or srun does, and lets them end by themselves.

    Args:
        command: the same for all.
        ranks: of the run.
        started: fewer, where some are never to come.
        **environment: more variables for all.
    """
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "NODE_RANK": "0", "WORLD_SIZE": str(ranks)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = []
    for rank in range(started or ranks):
        variables = os.environ | shared | environment | {"LOCAL_RANK": str(rank)}
        processes.append(Popen(command, cwd=ROOT, env=variables, **pipes))
    try:
        outputs = [process.communicate(timeout=600) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [
        subprocess.CompletedProcess(command, process.returncode, *words)
        for process, words in zip(processes, outputs, strict=True)
    ]


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _connect() -> socket.socket:
    """To this session's server, which the first one starts."""
    from filelock import FileLock

    session = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    address = Path(tempfile.gettempdir()) / f"emotivetalk-tests-{session}"
    connection = socket.socket(socket.AF_UNIX)
    with FileLock(f"{address}.lock"):
        try:
            connection.connect(str(address))
        except OSError:
            address.unlink(missing_ok=True)
            command = [sys.executable, __file__, str(address), str(session)]
            threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # none that a fork could lose
            server = subprocess.Popen(command, cwd=ROOT, env=os.environ | threads, stdin=subprocess.DEVNULL)
            end = time.monotonic() + 250
            while not address.exists():
                assert server.poll() is None, "the warm process did not start"
                assert time.monotonic() < end, "the warm process does not listen"
                time.sleep(0.05)
            connection.connect(str(address))
    return connection


def _serve(address: str, session: int) -> list[str]:
    """Forks a process for every command until the session has ended; in it, returns what was typed."""
    for module in PRELOADED:
        __import__(module)
    gc.freeze()  # or every process that ends would copy all that was imported
    threads = os.listdir("/proc/self/task") if Path("/proc/self/task").exists() else [""]
    assert len(threads) == 1, f"{len(threads)} threads: a fork would lose all but one"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait for commands
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{address}.new")
        listening.listen(64)
        listening.settimeout(1)
        os.rename(f"{address}.new", address)
        while _is_there(session):
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            with connection:
                if not os.fork():
                    listening.close()
                    return _start(connection)
    for left in (address, f"{address}.lock"):
        Path(left).unlink(missing_ok=True)
    sys.exit()


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True


def _start(connection: socket.socket) -> list[str]:
    """Receives a command, forks once more, and reports number and exit status of the process in which it returns."""
    connection.settimeout(None)
    _, pipes, *_ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("r") as file:
        command = json.loads(file.readline())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process = os.fork()
    if process:
        for pipe in pipes:
            os.close(pipe)
        connection.sendall(NUMBER.pack(process))
        _, status = os.waitpid(process, 0)
        with contextlib.suppress(OSError):  # whoever asked may be gone
            connection.sendall(NUMBER.pack(os.waitstatus_to_exitcode(status)))
        os._exit(0)
    connection.close()
    os.setsid()
    for number, pipe in enumerate(pipes):
        os.dup2(pipe, number)
        os.close(pipe)
    for number, handler in RESET.items():
        signal.signal(number, handler)
    os.chdir(command["cwd"])
    os.environ.clear()
    os.environ.update(command["env"])
    return command["typed"]


def _as_python(typed: list[str]) -> None:
    """Does what ``python`` does with these arguments."""
    import numpy
    import torch

    numpy.random.seed(), torch.seed()  # nobody's generator begins where another's does
    tempfile.tempdir = None
    if wishes := os.environ.get("PYTHONWARNINGS"):
        warnings._processoptions(wishes.split(","))
    first, sys.argv = typed[0], typed
    folder = {"-c": "", "-m": os.getcwd()}.get(first, str(Path(first).absolute().parent))
    elsewhere = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [folder, *elsewhere, *sys.path[1:]]
    if first == "-c":
        sys.argv = ["-c", *typed[2:]]
        exec(compile(typed[1], "<string>", "exec"), {"__name__": "__main__"})
    elif first == "-m":
        sys.argv = typed[1:]
        runpy.run_module(typed[1], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    typed = _serve(sys.argv[1], int(sys.argv[2]))
    sys.path[0] = ""
    _as_python(typed)
