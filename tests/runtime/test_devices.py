"""A configuration's device is there, or one line says what to do."""

import subprocess
import sys

import pytest

from runtime.devices import DeviceError, resolve_device


@pytest.mark.parametrize("usable", [True, False])
def test_auto_is_the_gpu_where_there_is_one(monkeypatch, usable):
    monkeypatch.setattr("torch.cuda.is_available", lambda: usable)
    assert resolve_device("auto") == ("cuda" if usable else "cpu")
    assert resolve_device("cpu") == "cpu"


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DeviceError, match=r"^trainer\.device=cuda: .* no GPU here; use trainer\.device=cpu or"):
        resolve_device("cuda", "trainer.device")


def test_the_cpu_needs_no_torch():
    code = (
        "import sys; from runtime.devices import resolve_device; resolve_device('cpu'); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
