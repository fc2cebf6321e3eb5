"""Files of tensors from strangers: nothing runs, holes are found, and the published formats are read."""

import os
import zipfile
from pathlib import Path

import pytest
import torch

from lightning_modules.checkpoint_files import check_whole
from lightning_modules.checkpoints import CheckpointError
from metrics.networks.metric_weights import read_tensors
from runtime.hashed_tensors import load_hashed, save_hashed
from runtime.tensors import TensorFileError, load_saved, load_torchscript
from tests.helpers import ROOT
from tests.helpers.refusals import refuses
from training.zero_parts import check_parts, load_part


class Canary:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = str(file)

    def __reduce__(self):
        return os.mkdir, (self.file,)


class Writes(torch.nn.Module):
    """A TorchScript module that writes a file when it is loaded."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path, self.weight = path, torch.nn.Parameter(torch.arange(3.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> tuple[str, torch.Tensor, bool]:
        return self.path, self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, torch.Tensor, bool]) -> None:
        self.path = state[0]
        torch.save(state[1], state[0])
        self.weight = state[1]
        self.training = state[2]


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_refused_everywhere_without_running(tmp_path, zipped):
    canary, inside = tmp_path / "canary", tmp_path / "c" / "checkpoint"
    inside.mkdir(parents=True)
    (inside.parent / "latest").write_text("checkpoint")
    part = inside / "zero_pp_rank_0_mp_rank_00_optim_states.pt"
    torch.save({"optimizer_state_dict": Canary(canary)}, part, _use_new_zipfile_serialization=zipped)
    refuses(TensorFileError, "not loaded", load_saved, part)
    if zipped:
        pytest.importorskip("deepspeed")
        refuses(CheckpointError, r"objects of (posix|nt)\.mkdir", check_parts, inside.parent)
        refuses(CheckpointError, "not loaded", load_part, part)
    assert not canary.exists()


def test_a_folder_that_leads_elsewhere_is_refused(tmp_path):
    (tmp_path / "latest").write_text("../elsewhere")
    refuses(CheckpointError, "latest names '../elsewhere'", check_parts, tmp_path)


def test_torchscript_of_strangers_is_read_without_running_it(tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(2, 2).half())
    file = tmp_path / "plain.pt"
    torch.jit.script(network).save(str(file))
    published, others = load_torchscript(file, published=True), load_torchscript(file, published=False)
    assert published.keys() == others.keys() == network.state_dict().keys()
    assert all(torch.equal(published[name], others[name]) for name in published)

    hostile, canary = tmp_path / "hostile.pt", tmp_path / "canary"
    torch.jit.script(Writes(str(canary))).save(str(hostile))
    canary.unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"hostile\.pt.*without running its code; expected weights\.pt"):
        read_tensors(hostile, "weights.pt")
    assert not canary.exists()


def test_archives_that_unpack_to_more_than_they_hold_are_refused(tmp_path):
    file = tmp_path / "bomb.pt"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"")
        archive.writestr("bomb/data/0", bytes(1 << 27))
    refuses(TensorFileError, "unpacks to", load_saved, file)


def test_a_tensor_larger_than_its_values_is_refused(tmp_path):
    torch.save({"x": torch.zeros(1).expand(1 << 40)}, tmp_path / "x.pt")
    refuses(TensorFileError, "fewer values than its shape", load_saved, tmp_path / "x.pt")


def punch(file: Path, size: int = 64) -> None:
    """Changes bytes in the middle of the largest tensor of an archive."""
    with zipfile.ZipFile(file) as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
    content = bytearray(file.read_bytes())
    start = largest.header_offset + largest.file_size // 2
    content[start : start + size] = bytes(size)
    file.write_bytes(content)


def test_a_hole_in_a_checkpoint_names_the_member_and_the_newest_whole_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for step in (1, 2, 3):
        torch.save({"state_dict": {"w": torch.rand(10000)}}, tmp_path / f"step={step}.ckpt")
    check_whole(tmp_path / "step=3.ckpt")
    for step in (2, 3):
        punch(tmp_path / f"step={step}.ckpt")
    words = r"step=3\.ckpt.*step=3/data/0 was damaged.*newest complete one in its folder is step=1\.ckpt"
    for _ in range(2):  # read once, remembered the second time
        refuses(CheckpointError, words, check_whole, tmp_path / "step=3.ckpt")


def test_safetensors_carry_hashes_follow_the_umask_and_are_reproducible(tmp_path):
    file, header = tmp_path / "a.safetensors", {"version": 1, "text": "x"}
    tensors = {"w": torch.rand(1000), "b": torch.ones(3, dtype=torch.bfloat16), "n": torch.tensor(3)}
    before = os.umask(0o022)
    try:
        save_hashed(file, tensors, "kind", header)
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o644
    content = file.read_bytes()
    save_hashed(file, tensors, "kind", header)
    assert file.read_bytes() == content
    found, same = load_hashed(file, "kind")
    assert found == header
    assert all(torch.equal(same[name], tensor) for name, tensor in tensors.items())
    file.write_bytes(content[:-200] + bytes(64) + content[-136:])
    refuses(TensorFileError, "w was changed after the file was written", load_hashed, file, "kind")


def test_no_other_module_unpickles_tensors():
    packages = (path for path in ROOT.iterdir() if (path / "__init__.py").exists() and path.name != "tests")
    found = {
        str(file.relative_to(ROOT))
        for package in packages
        for file in package.rglob("*.py")
        if any(call in file.read_text(encoding="utf-8") for call in ("torch.load(", "jit.load(", "weights_only=False"))
    }
    original = "tools/parity/original_pytorch_fid.py"  # runs another program, which imports nothing of this one
    assert found == {"runtime/tensors.py", original}
