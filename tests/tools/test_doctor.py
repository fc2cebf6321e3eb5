"""``python -m tools.doctor`` finds what is wrong with a machine, a run, data, an export and videos."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import termios

import pytest
import torch

from runtime.errors import UserError
from tests.helpers import ROOT
from tests.helpers.files import overwrite
from tests.helpers.refusals import refuses
from tests.helpers.shards import change_index, make_shards
from tests.runtime.test_tensors import punch
from tools.doctor.__main__ import main
from training.run_health import run_findings

COMMAND = [sys.executable, "-m", "tools.doctor"]


@pytest.fixture
def doctor(capsys, monkeypatch, tmp_path):
    """Function that runs the doctor; returns its exit status and output."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*arguments):
        status = main(list(arguments))
        return status, capsys.readouterr().out

    return run


def flat(text):
    return " ".join(text.split())


def content_of(folder):
    found = (path for path in folder.rglob("*") if path.is_file() and "cache" not in path.parts)
    return {path: path.read_bytes() for path in found}


@pytest.mark.slow
def test_a_bad_machine_is_described_with_remedies(tmp_path):
    env = {
        "HOME": str(tmp_path / "absent"), "XDG_CACHE_HOME": "", "TMPDIR": str(tmp_path), "no_proxy": "", "NO_PROXY": "",
        "https_proxy": "http://me:secret@127.0.0.1:9", "SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NNODES": "2",
        "SLURM_PROCID": "",
    }  # fmt: skip
    env.pop("SLURM_PROCID")
    os.chmod(tmp_path, 0o755)
    (tmp_path / f"emotivetalk-{os.getuid()}").mkdir(mode=0o777)
    os.chmod(tmp_path / f"emotivetalk-{os.getuid()}", 0o777)
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", **env}
    done = subprocess.run(COMMAND, capture_output=True, text=True, env=environment, cwd=ROOT)
    text = done.stdout
    assert (done.returncode, done.stderr) == (1, "")
    for words in (
        f"HOME {tmp_path / 'absent'} is no folder; caches are lost with the temporary folder",
        "→ set HOME to a folder that lasts",
        "other users can enter it (mode 777, expected 700)",
        "https_proxy http://127.0.0.1:9 does not answer (",
        "so a page here would not be reached → set no_proxy=localhost,127.0.0.1",
        "job 7, 4 task(s) on 2 node(s), but this process is none of them → start it with srun",
    ):
        assert words in flat(text), text
    assert "secret" not in text


@pytest.mark.slow
def test_nothing_is_created_without_a_home(tmp_path):
    (tmp_path / "tmp").mkdir()
    environment = {
        **os.environ,
        "HOME": str(tmp_path / "absent"),
        "XDG_CACHE_HOME": "",
        "TMPDIR": str(tmp_path / "tmp"),
    }
    environment.pop("EMOTIVETALK_WEIGHTS", None)
    done = subprocess.run(COMMAND, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert "caches are lost with the temporary folder" in flat(done.stdout), done.stdout + done.stderr
    assert not any((tmp_path / "tmp").iterdir())
    assert not (tmp_path / "absent").exists()


def test_data_is_checked_by_numbers_and_hashes(tmp_path, doctor):
    tmp_path = tmp_path / "data"  # next to the cache
    index = make_shards(tmp_path, samples=4, shards=4, frames=(30,))
    status, text = doctor(f"path={tmp_path}")
    assert status == 0, text
    assert "4 with the hashes of the index" in text
    before = content_of(tmp_path)
    overwrite(tmp_path / index.shards[1].name, index.shards[1].bytes // 2, bytes(2000))
    os.truncate(tmp_path / index.shards[2].name, 100)
    (tmp_path / index.shards[3].name).unlink()
    change_index(tmp_path, codec_scale=-1.0)
    status, text = doctor(f"path={tmp_path}")
    assert status == 1
    for words in (
        f"{index.shards[1].name}: its content was changed",
        f"{index.shards[2].name}: has 100 bytes, expected",
        f"{index.shards[3].name}: listed in the index but cannot be read",
        "codec_scale is -1.0, expected a number",
        "4 problems",
    ):
        assert words in flat(text), text
    assert before.keys() - content_of(tmp_path).keys() == {tmp_path / index.shards[3].name}
    (tmp_path / "index.json").write_text("[" * 100_000)
    assert "not valid JSON (is nested too deeply)" in flat(doctor(f"path={tmp_path}")[1])


def test_a_run_is_checked_by_checksums(tmp_path, doctor):
    tmp_path = tmp_path / "run"  # next to the cache
    folder = tmp_path / "checkpoints"
    folder.mkdir(parents=True)
    (tmp_path / "config.yaml").write_text("stage: vaid\n")
    for step in (1, 2, 3):
        saved = {"state_dict": {"w": torch.rand(10000)}, "emotivetalk": {"stage": "vaid"}}
        torch.save(saved, folder / f"step={step}.ckpt")
    (folder / "last.ckpt").symlink_to("step=9.ckpt")
    (folder / "step=4.ckpt.part").write_bytes(b"left")
    punch(folder / "step=2.ckpt")
    (folder / "step=3.ckpt").write_bytes((folder / "step=3.ckpt").read_bytes()[:-200])
    before = content_of(tmp_path)
    status, text = doctor(f"path={tmp_path}")
    assert status == 1
    newest = f"resume with ckpt_path={folder / 'step=1.ckpt'}"
    for words in ("step=2/data/0 was damaged after it was written", "step=3.ckpt not a readable checkpoint (truncated",
                  "1 compared with their checksums", "last.ckpt links to a checkpoint that does not exist",
                  "1 unfinished checkpoint(s), e.g. step=4.ckpt.part"):  # fmt: skip
        assert words in flat(text), text
    assert newest.replace(" ", "") in re.sub(r"\s", "", text)  # a long path is folded
    assert content_of(tmp_path) == before
    status, text = doctor(f"path={folder / 'step=1.ckpt'}")
    assert status == 0, text
    assert doctor(f"path={folder / 'step=2.ckpt'}")[0] == 1


@pytest.mark.parametrize("deep", [True, False])
def test_a_checkpoint_that_the_run_removes_meanwhile_is_not_damaged(tmp_path, deep):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (tmp_path / "config.yaml").write_text("stage: vaid\n")
    for step in (1, 2):
        torch.save({"state_dict": {}, "emotivetalk": {"stage": "vaid"}}, folder / f"step={step}.ckpt")

    def removed(name):
        if name == "step=1.ckpt":
            (folder / name).unlink()

    findings = [f"{finding}" for finding in run_findings(tmp_path, deep, removed)]
    assert not [text for text in findings if "step=1" in text]
    assert any("up to step=2.ckpt" in text for text in findings), findings


def test_an_export_is_whole_or_not(runs, tmp_path, doctor):
    export = runs / "ethd" / "export" / "ethd.safetensors"
    status, text = doctor(f"path={export}")
    assert status == 0, text
    assert "all tensors are whole" in text
    copy = tmp_path / "copy.safetensors"
    shutil.copy(export, copy)
    overwrite(copy, copy.stat().st_size // 2, bytes(64))
    status, text = doctor(f"path={copy}")
    assert status == 1
    assert "was changed after the file was written: its sha256 differs" in flat(text)
    assert "→ export the run again" in flat(text)


def test_videos_and_names_that_control_the_terminal(tmp_path, doctor):
    tmp_path = tmp_path / "videos"
    tmp_path.mkdir()
    (tmp_path / "a.mp4").write_bytes(b"video")
    (tmp_path / "a.json").write_text(json.dumps({"schema": "emotivetalk.generation/1"}))
    (tmp_path / "b.mp4").write_bytes(b"video")
    (tmp_path / "c\x1b]0;owned\x07.mp4").write_bytes(b"video")
    (tmp_path / "c\x1b]0;owned\x07.json").write_text('{"my": "notes"}')
    status, text = doctor(f"path={tmp_path}")
    assert status == 1
    assert "b.mp4 has no record" in flat(text)
    assert r"c\x1b]0;owned\x07.json is not a record of generate.py" in flat(text)
    assert "\x1b" not in text


def test_a_path_without_anything_is_one_line(tmp_path, doctor):
    refuses(UserError, "no: does not exist; expected a run, data, an export or an", doctor, f"path={tmp_path / 'no'}")


@pytest.mark.slow
def test_it_fits_into_a_terminal_of_80_columns(tmp_path):
    make_shards(tmp_path / ("a long name " * 8), samples=2, shards=2, frames=(30,))
    reader, writer = pty.openpty()
    termios.tcsetwinsize(writer, (24, 80))
    command = [*COMMAND, f"path={tmp_path / ('a long name ' * 8)}"]
    process = subprocess.Popen(command, stdout=writer, stderr=writer, cwd=ROOT, env={**os.environ, "TERM": "xterm"})
    os.close(writer)
    shown = b""
    while True:
        try:
            block = os.read(reader, 65536)
        except OSError:
            break
        if not block:
            break
        shown += block
    os.close(reader)
    assert process.wait() == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode()).replace("\r", "\n")
    findings = [line for line in plain.splitlines() if line.startswith("  ")]
    assert len(findings) > 15
    assert max(map(len, findings)) <= 80


def test_resume_and_training_show_the_cheap_half(tmp_path, monkeypatch, caplog):
    from training.fit import _warn

    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").write_text("stage: vaid\n")
    (tmp_path / "checkpoints" / "step=1.ckpt").write_bytes(b"cut")
    monkeypatch.setattr("runtime.health.shared_memory_free", lambda: 64 << 20)
    _warn(tmp_path, resumed=True)
    assert "/dev/shm: 64 MiB free; loaders with workers need more; start the container with --ipc=host" in caplog.text
    assert "step=1.ckpt: not a readable checkpoint (step=1.ckpt truncated); no checkpoint is whole" in caplog.text
