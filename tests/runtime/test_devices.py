"""Device and precision follow the capability of the machine; a missing capability gives an error of one line."""

import subprocess
import sys

import pytest
import torch

from runtime.devices import DeviceError, has_bfloat16, inference_dtype, resolve_device
from runtime.errors import UserError
from tests.helpers.train_config import train_config
from training.preflight import check_devices

A100, V100, T4, P100 = (8, 0), (7, 0), (7, 5), (6, 0)


@pytest.fixture
def machine(monkeypatch):
    """machine(cuda, mps, macos) simulates a GPU of a compute capability, or Apple silicon with a version of macOS."""

    def simulate(cuda=None, mps=False, macos=15):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda is not None)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: int(cuda is not None))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: cuda)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Tesla T4")
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: (macos, 0) >= (major, minor))

    return simulate


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen", "with_float64"),
    [(A100, False, "cuda", "cuda"), (None, True, "mps", "cpu"), (None, False, "cpu", "cpu")],
)
def test_auto_prefers_a_gpu(machine, cuda, mps, chosen, with_float64):
    machine(cuda, mps)
    assert resolve_device("auto") == resolve_device(chosen) == chosen
    assert resolve_device("auto", float64=True) == with_float64
    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_missing_gpu_is_refused(machine, name):
    machine()
    with pytest.raises(DeviceError, match=rf"^trainer\.device={name}: .* no such GPU here; use trainer\.device=cpu or"):
        resolve_device(name, "trainer.device")


def test_float64_is_refused_on_mps(machine):
    machine(mps=True)
    with pytest.raises(DeviceError, match=r"^device=mps: lacks float64.*use device=cpu"):
        resolve_device("mps", float64=True)


@pytest.mark.parametrize(
    ("cuda", "dtype"),
    [(A100, torch.bfloat16), (T4, torch.float16), (V100, torch.float16), (P100, torch.float32)],
)
def test_inference_uses_the_precision_of_the_gpu(machine, cuda, dtype):
    machine(cuda)
    assert inference_dtype("cuda") == inference_dtype(torch.device("cuda", 1)) == dtype
    assert has_bfloat16("cuda") == (dtype == torch.bfloat16)
    assert inference_dtype("cpu") == inference_dtype("mps") == torch.float32


@pytest.mark.parametrize("preset", ["gpu", "ddp", "deepspeed", "deepspeed_offload", "deepspeed_autocast"])
def test_training_in_a_precision_that_the_device_lacks_is_refused(machine, preset):
    machine(T4)
    settings = train_config("experiment=ethd/paper", "data.root=a", "vaid=b", f"trainer={preset}").trainer
    key = "trainer.deepspeed.autocast=true" if "autocast" in preset else "trainer.precision=bf16-mixed"
    with pytest.raises(UserError, match=rf"^{key}: Tesla T4 has no bfloat16; .* trainer\.precision=32-true$"):
        check_devices(settings)
    machine(A100)
    check_devices(settings)


@pytest.mark.parametrize(("macos", "refused"), [(13, True), (15, False)])
def test_mps_has_bfloat16_from_macos_14(machine, macos, refused):
    machine(mps=True, macos=macos)
    settings = train_config("experiment=vaid/tiny", "data.root=a", "trainer=gpu").trainer
    if refused:
        with pytest.raises(UserError, match=r"^trainer\.precision=bf16-mixed: MPS has no bfloat16"):
            check_devices(settings)
    else:
        check_devices(settings)


@pytest.mark.parametrize("preset", ["auto", "cpu", "gpu trainer.precision=32-true"])
def test_float32_trains_on_every_device(machine, preset):
    machine(P100)
    check_devices(train_config("experiment=vaid/tiny", "data.root=a", *f"trainer={preset}".split()).trainer)


def test_the_cpu_needs_no_torch():
    code = (
        "import sys; from runtime.devices import resolve_device; resolve_device('cpu'); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
