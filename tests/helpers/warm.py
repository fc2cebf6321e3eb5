"""Python processes that start warm: forked from a process that has imported torch, Lightning and this project.

``run`` and ``Popen`` take the arguments of ``subprocess``, for commands that begin with ``sys.executable``. Each starts
a real process in its own session, with its own arguments, environment, folder, pipes, signals and exit status; the
script runs as ``__main__``. Only the imports are shared: they were done in this checkout, with the environment of the
first test that asked. Tests of the imports, or of a copy of the code, have to start cold.

One server serves all processes of a test session, and ends with it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import json
import os
import runpy
import select
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
# Modules that train, prepare, generate and evaluate import before their work begins.
PRELOADED = (
    *("training.fit", "preparation.tasks", "generation.generate_videos", "evaluation.evaluate_folders"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg"),
)
# Optional packages -> what is imported if they are installed.
OPTIONAL = {"gradio": "generation.web.page", "deepspeed": "deepspeed"}
NUMBER = struct.Struct("q")  # format of a process id, and of an exit status
# Signal handlers of a new Python process.
RESET = {signal.SIGPIPE: signal.SIG_IGN, signal.SIGXFSZ: signal.SIG_IGN, signal.SIGINT: signal.default_int_handler}


class Popen(subprocess.Popen):
    """A process forked from the warm one, with the interface of subprocess.Popen."""

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest):
        assert args[0] == sys.executable, args
        assert (executable, preexec_fn, pass_fds) == (None, None, ()), "only a cold process supports these options"
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
    """Like ``subprocess.run``, with both outputs captured as text."""
    with Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as process:
        try:
            out, error = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, error)


def run_ranks(command, ranks: int, started: int | None = None, **environment: str) -> list[subprocess.CompletedProcess]:
    """Runs a command once for each rank, as torchrun or srun does, and waits until all have ended.

    Args:
        command: Command of all ranks.
        ranks: Number of ranks of the run.
        started: Number of ranks to start, if some are to be missing.
        **environment: Additional variables of all ranks.
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
    """Returns a port of this machine that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _connect() -> socket.socket:
    """Connects to the server of this session; the first call starts it."""
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
            threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # a fork would lose threads
            threads["JE_ARROW_MALLOC_CONF"] = "background_thread:false"  # of pyarrow
            # A session of its own: it has to outlive a signal to all of the test session, to end what still runs.
            server = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | threads, stdin=subprocess.DEVNULL, start_new_session=True
            )
            end = time.monotonic() + 250
            while not address.exists():
                assert server.poll() is None, "the warm process did not start"
                assert time.monotonic() < end, "the warm process does not listen"
                time.sleep(0.05)
            connection.connect(str(address))
    return connection


def _serve(address: str, session: int) -> list[str]:
    """Forks a process for every command until the session has ended; in that process, returns its arguments."""
    optional = (module for package, module in OPTIONAL.items() if importlib.util.find_spec(package))
    for module in (*PRELOADED, *optional):
        __import__(module)
    gc.freeze()  # otherwise every process that ends would copy the memory of all imports
    threads = os.listdir("/proc/self/task") if Path("/proc/self/task").exists() else [""]
    assert len(threads) == 1, f"{len(threads)} threads: a fork would lose all but one"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the forked processes are not waited for
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
                    return _start(connection, session)
    for left in (address, f"{address}.lock"):
        Path(left).unlink(missing_ok=True)
    sys.exit()


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True


def _wait_or_end(process: int, session: int) -> None:
    """Waits for the end of a process, and ends it and its children when the test session has ended."""
    if not hasattr(os, "pidfd_open"):
        return
    ended = os.pidfd_open(process)
    while not select.select([ended], [], [], 1)[0]:
        if not _is_there(session):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
            return


def _start(connection: socket.socket, session: int) -> list[str]:
    """Receives a command and forks again: the child returns, the parent reports its process id and exit status."""
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
        _wait_or_end(process, session)
        _, status = os.waitpid(process, 0)
        with contextlib.suppress(OSError):  # the caller may have ended
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
    """Runs arguments as ``python`` does."""
    import numpy
    import torch

    numpy.random.seed(), torch.seed()  # new random states for every process
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
