"""Fallbacks for calls that some platforms lack; each is tested with the call removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from callbacks.preemption import StopSignals
from preparation.interrupts import block_sigint
from preparation.workers import default_workers
from runtime import platforms
from runtime.files import partial_of, whole_file
from tests.helpers import ROOT

PACKAGES = [
    *("benchmark", "callbacks", "configs", "datamodules", "diffusion", "encoders", "evaluation", "generation"),
    *("lightning_modules", "media", "metrics", "preparation", "runtime", "training", "tools.demo", "tools.pipeline"),
    *("tools.quality", "tools.reproduce"),
]
# What Windows' Python lacks; each import and use afterwards is of a system without it.
REMOVED = """
import os, signal, sys
import filelock, numpy, subprocess, torch  # libraries have fallbacks of their own, by the system's name
sys.modules["resource"] = sys.modules["fcntl"] = sys.modules["pwd"] = None
for module, names in {
    os: "sched_getaffinity getuid wait4 killpg preadv pread nice posix_fadvise",
    signal: "SIGUSR1 SIGUSR2 SIGCONT",
}.items():
    for name in names.split():
        delattr(module, name)
"""


def python(code: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", REMOVED + code, *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_cores_without_affinity(monkeypatch):
    assert default_workers("cpu") == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert default_workers("cpu") == os.cpu_count()
    assert default_workers("mps") == os.cpu_count() + 1  # one waits for the GPU
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert default_workers("cpu") == 1


def test_peak_memory_without_resource(monkeypatch):
    assert platforms.peak_memory() > 2**20
    monkeypatch.setitem(sys.modules, "resource", None)
    assert platforms.peak_memory() is None


def test_shared_memory_without_a_file_system_for_it(monkeypatch, tmp_path):
    assert platforms.shared_memory_free() > 0
    monkeypatch.setattr(platforms, "SHARED_MEMORY", tmp_path / "none")
    assert platforms.shared_memory_free() is None


def test_missing_signals_are_left_out(monkeypatch):
    monkeypatch.delattr(signal, "SIGUSR1")
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals(["SIGUSR1", "SIGUSR2"], ["SIGTERM"]):
        assert signal.getsignal(signal.SIGTERM) != before
        assert signal.getsignal(signal.SIGUSR2) != signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == before


def test_interrupts_without_signal_masks(monkeypatch):
    monkeypatch.delattr(signal, "pthread_sigmask")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # processes in the background inherit SIG_IGN
    try:
        with pytest.raises(KeyboardInterrupt), block_sigint():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_users_without_ids(monkeypatch):
    assert platforms.user_id() == str(os.getuid())
    monkeypatch.delattr(os, "getuid")
    monkeypatch.setenv("LOGNAME", "someone")
    assert platforms.user_id() == "someone"


def test_a_killed_process_is_detected_without_proc(monkeypatch):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as living:
        monkeypatch.setattr(Path, "exists", lambda path: False)
        assert not platforms.process_is_gone(living.pid)
        living.kill()
    assert platforms.process_is_gone(living.pid)
    monkeypatch.setattr(platforms, "WINDOWS", True)  # where os.kill would end the process
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("ends processes on Windows"))
    assert not platforms.process_is_gone(living.pid)


def test_files_are_written_if_folders_cannot_be_opened(monkeypatch, tmp_path):
    monkeypatch.setattr(platforms, "WINDOWS", True)
    genuine = os.open

    def opened(path, flags, *mode):
        assert not Path(path).is_dir()
        assert flags & os.O_ACCMODE == os.O_RDWR
        return genuine(path, flags, *mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", opened)
        platforms.sync(tmp_path)
        (tmp_path / "a").write_text("a")
        platforms.sync(tmp_path / "a")
    with whole_file(tmp_path / "b") as partial:
        partial.write_text("b")
    assert (tmp_path / "b").read_text() == "b"
    assert partial_of(tmp_path / "b").parent == tmp_path


@pytest.mark.parametrize("missing", ["", "preadv"])
def test_reading_at_an_offset(monkeypatch, tmp_path, missing):
    if missing:
        monkeypatch.delattr(os, missing)
    (tmp_path / "a").write_bytes(bytes(range(100)))
    descriptor = platforms.open_for_reading(tmp_path / "a")
    into = bytearray(8)
    assert platforms.read_at(descriptor, memoryview(into), 50) == 8
    assert bytes(into) == bytes(range(50, 58))
    assert platforms.read_at(descriptor, memoryview(into), 96) == 4
    assert platforms.read_at(descriptor, memoryview(into), 100) == 0
    os.close(descriptor)


@pytest.mark.parametrize("fcntl", [True, False])
def test_a_lock_is_exclusive(monkeypatch, tmp_path, fcntl):
    if not fcntl:
        monkeypatch.setitem(sys.modules, "fcntl", None)
    with platforms.inheritable_lock(tmp_path / "lock") as descriptors:
        assert bool(descriptors) == fcntl
        with pytest.raises(BlockingIOError), platforms.inheritable_lock(tmp_path / "lock"):
            pass
    with platforms.inheritable_lock(tmp_path / "lock"):
        pass


@pytest.mark.parametrize("missing", [(), ("wait4", "killpg")])
def test_a_program_is_ended(monkeypatch, missing):
    for name in missing:
        monkeypatch.delattr(os, name)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    assert platforms.poll(process) is None
    platforms.end_group(process, force=False)
    until = time.monotonic() + 20
    while (peak := platforms.poll(process)) is None and time.monotonic() < until:
        time.sleep(0.01)
    assert peak == 0 if missing else peak > 0
    assert process.returncode == -signal.SIGTERM
    platforms.end_group(process, force=True)  # nothing is left, which is no error


@pytest.mark.slow
def test_every_module_is_imported_without_any_of_them():
    code = """
import importlib, pkgutil
for package in sys.argv[1:]:
    importlib.import_module(package)
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
print("imported")
"""
    assert python(code, *PACKAGES).endswith("imported\n")


@pytest.mark.nightly
def test_vaid_trains_without_any_of_them(shards, tmp_path):
    """Two steps with a loader process that is started anew, as on macOS and Windows."""
    code = """
if __name__ == "__main__":
    import torch
    from pathlib import Path
    torch.multiprocessing.set_start_method("spawn")
    from lightning.pytorch.trainer.connectors import signal_connector
    signals = signal_connector._SignalConnector  # goes by the system's name, not by what is there
    signals.register_signal_handlers = signals.teardown = lambda self: None
    from tests.helpers.train_config import train_vaid
    train_vaid(Path(sys.argv[1]), Path(sys.argv[2]), "run_id=a", "data.workers=1", steps=2)
"""
    python(code, shards, tmp_path)
    assert (tmp_path / "vaid" / "a" / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("flags : avx512f avx512_bf16\n", True),
        ("Features : asimd bf16\n", True),
        ("flags : avx2\n", False),
        (None, False),
    ],
)
def test_bfloat16_is_read_from_the_list_of_the_processor(text, found, tmp_path, monkeypatch):
    monkeypatch.setattr(platforms, "CPU_INFO", tmp_path / "cpuinfo")
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert platforms.computes_in_bfloat16() is found
