"""task=rehearse: whole commands on gloo ranks, what it reports when something fails, and what it leaves behind."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from configs.errors import ConfigError
from configs.rules import check
from datamodules.schema import Index
from encoders.protocols import Identity
from runtime.errors import UserError
from runtime.locks import LockedError
from tests.helpers import ROOT, warm
from tests.helpers.refusals import refuses
from tests.helpers.shards import TINY, change_index, make_shards
from tests.helpers.train_config import train_config
from training.rehearsal import MARK, STEPS, Rehearsal

pytestmark = pytest.mark.timeout(1800)  # up to sixteen processes on shared cores
needs_deepspeed = pytest.mark.skipif(not importlib.util.find_spec("deepspeed"), reason="needs '.[deepspeed]'")
VAID_PARTS = ["data", "steps", "batch", "network", "validation", "checkpoint", "kill", "resume", "stop", "loaded"]
ETHD_PARTS = [
    *("data", "vaid", "codec", "steps", "batch", "network", "validation", "video", "checkpoint", "kill", "resume"),
    *("stop", "export", "generate"),
]


def rehearse(*typed: str) -> list[tuple[str, str, str]]:
    """Rehearses a command and returns status, part and text of its lines."""
    config, lines = train_config(*typed), []
    check(config)
    failed = Rehearsal(config, lines.append).run()
    parts = [found.groups() for line in lines if (found := re.match(r"(ok|failed) +(\S+) +(.*)", line))]
    assert failed == sum(status == "failed" for status, *_ in parts)
    return parts


def names(parts: list[tuple[str, str, str]], status: str = "ok") -> list[str]:
    return [name for found, name, _ in parts if found == status]


def small(stage: str, shards: Path, output: Path) -> list[str]:
    """A command on the shards of codec patch, whose clips have 30 frames."""
    encoders = "{audio:mel,motion:landmarks" + (",codec:patch}" if stage == "ethd" else "}")
    return [
        f"experiment={stage}/tiny", "data.name=folder", f"data.root={shards}", f"output={output}", "run_id=r",
        f"encoders={encoders}", "data.window=16", "trainer.devices=2", "data.batch_size=2",
        *([f"vaid={output}/vaid/r"] if stage == "ethd" else ["model.overlap=4"]),
    ]  # fmt: skip


@pytest.mark.slow
def test_ethd_on_two_ranks(codec_shards, codec_vaid, tmp_path):
    """With a trained V-AID; the real codec decodes its videos."""
    ethd = rehearse(*small("ethd", codec_shards, tmp_path), f"vaid={codec_vaid}", "trainer.strategy=ddp")
    assert names(ethd) == ETHD_PARTS, ethd
    assert (tmp_path / "rehearse" / "ethd" / "r" / "generated.mp4").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["rehearse"]  # a real run would still be new


@pytest.mark.nightly
def test_both_stages_on_two_ranks(codec_shards, tmp_path):
    """The V-AID of the second command is the rehearsal of the first; the real codec decodes its videos."""
    vaid = rehearse(*small("vaid", codec_shards, tmp_path), "trainer.strategy=ddp")
    assert names(vaid) == VAID_PARTS, vaid
    assert (tmp_path / "rehearse" / "vaid" / "r" / MARK).is_file()
    ethd = rehearse(*small("ethd", codec_shards, tmp_path), "trainer.strategy=ddp")
    assert names(ethd) == ETHD_PARTS, ethd
    texts = {name: text for _, name, text in ethd}
    assert texts["batch"].startswith("2 ranks x 1 micro-batches x 1 clips = 2 clips")
    resumed = re.match(r"at step (\d+)", texts["resume"])  # the kill may come some steps after the checkpoint
    assert resumed is not None, texts
    assert int(resumed[1]) >= STEPS
    assert "2 sample videos" in texts["video"] or "1 sample videos" in texts["video"]
    folder = tmp_path / "rehearse" / "ethd" / "r"
    assert (folder / "export" / "ethd.safetensors").is_file()
    assert (folder / "generated.mp4").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["rehearse"]  # a real run would still be new


@pytest.mark.slow
def test_an_emotion_stage_without_its_text_encoder(codec_shards, tmp_path, monkeypatch):
    """The missing weights of CLIP are one failed part; everything else is rehearsed."""
    monkeypatch.setenv("EMOTIVETALK_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("EMOTIVETALK_OFFLINE", "1")
    data = ["data.name=folder", f"data.root={codec_shards}", "encoders={motion:landmarks}"]
    parts = rehearse("experiment=emotion/paper", *data, f"output={tmp_path}", "run_id=r")
    assert names(parts, "failed") == ["text"], parts
    assert names(parts) == ["data", "steps", "network", "validation", "checkpoint", "kill", "resume", "stop"], parts
    assert parts[1][2].startswith("clip: clip-vit-large-patch14 is missing")
    assert parts[1][2].endswith("run prepare.py task=weights preset=paper")


@pytest.fixture(scope="module")
def paper_shards(once) -> Path:
    """Folders hdtf and mead, as ``preset=paper`` prepares them, with little content."""
    weights = {"diffusion_pytorch_model.safetensors": "0" * 64}
    encoders = {"audio": Identity("wav2vec2"), "motion": Identity("pdfgc"), "codec": Identity("svd", {}, weights)}

    def make(place: Path) -> None:
        for name in ("hdtf", "mead"):
            folder, dims = place / name, replace(TINY, latent_size=8)
            splits = ("train",) * 9 + ("val",) * 2  # fewer validation clips than ranks
            make_shards(folder, samples=11, shards=1, frames=(125,), dataset=name, splits=splits, dims=dims)
            change_index(folder, encoders={**Index.read(folder).encoders, **encoders}, frame_size=64)

    return once("paper_shards", make)


def paper(stage: str, shards: Path, output: Path) -> list[str]:
    """A command of docs/cluster.md."""
    data = [f"data.roots.{name}={shards / name}" for name in ("hdtf", "mead")]
    vaid = [f"vaid={output}/vaid/paper"] if stage == "ethd" else []
    return [f"experiment={stage}/paper", *data, *vaid, "run_id=paper", f"output={output}"]


@pytest.mark.nightly
def test_the_paper_on_eight_ranks(paper_shards, tmp_path):
    parts = rehearse(*paper("vaid", paper_shards, tmp_path), "trainer=ddp", "trainer.devices=8")
    assert names(parts) == VAID_PARTS, parts
    texts = {name: text for _, name, text in parts}
    assert texts["batch"].startswith("8 ranks x 1 micro-batches x 2 clips = 16 clips")
    assert texts["validation"].startswith("4 clips on 8 ranks, val/expression_mse ")


@pytest.mark.nightly
@needs_deepspeed
def test_the_paper_on_sixteen_ranks_with_deepspeed(paper_shards, tmp_path, monkeypatch):
    """The batch file's two nodes of eight GPUs. Missing weights are reported; everything else is rehearsed."""
    monkeypatch.setenv("EMOTIVETALK_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("EMOTIVETALK_OFFLINE", "1")
    assert not names(rehearse(*paper("vaid", paper_shards, tmp_path), "trainer.devices=1"), "failed")
    typed = [*paper("ethd", paper_shards, tmp_path), "trainer=deepspeed", "data.batch_size=16"]
    parts = rehearse(*typed, "trainer.nodes=2", "trainer.devices=8")
    assert names(parts, "failed") == ["init", "codec"], parts
    assert names(parts) == [name for name in ETHD_PARTS if name != "codec"], parts
    texts = {name: text for _, name, text in parts}
    assert "prepare.py task=weights" in texts["init"]
    assert "prepare.py task=weights" in texts["codec"]
    assert texts["batch"].startswith("16 ranks x 1 micro-batches x 1 clips = 16 clips")
    assert "16 parts" in texts["checkpoint"]


@pytest.mark.slow
def test_a_part_that_fails_gives_its_remedy(codec_shards, tmp_path):
    typed = [*small("ethd", codec_shards, tmp_path), "trainer.devices=1"]
    (failed,) = (part for part in rehearse(*typed) if part[0] == "failed")
    assert failed[1] == "vaid"
    assert f"vaid={tmp_path}/vaid/r: no such run or checkpoint; train it, or rehearse its command first" in failed[2]
    wrong = [*small("vaid", codec_shards, tmp_path), "trainer.devices=1", "encoders={audio:wav2vec2}"]
    (*_, failed) = rehearse(*wrong)
    assert failed[:2] == ("failed", "steps")
    assert re.match(r"rank 0: .*made by the audio encoder mel, .*set encoders.audio=mel \(.*rank0.txt\)", failed[2])
    (failed,) = rehearse(*small("vaid", tmp_path / "nowhere", tmp_path))
    assert failed[:2] == ("failed", "data")
    few = make_shards(tmp_path / "few", samples=2, shards=1, splits=("train",), dims=replace(TINY, latent_size=8))
    assert len(few.samples) == 2
    many = [*small("vaid", tmp_path / "few", tmp_path), "trainer.devices=4", "data.batch_size=4"]
    (*_, failed) = rehearse(*many)
    assert "4 ranks for 2 training clips would train on repeated clips; run on at most 2 ranks" in failed[2]


def test_a_missing_or_damaged_video_is_a_failure(codec_shards, tmp_path):
    lines = []
    rehearsal = Rehearsal(train_config(*small("ethd", codec_shards, tmp_path)), lines.append)
    _, data = rehearsal._data()
    refuses(UserError, r"samples/0000003: found 0 sample videos, expected 2; see .*ranks", rehearsal._videos, data)
    (folder := rehearsal.folder / "samples" / "0000003").mkdir(parents=True)
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes(b"no video")
    refuses(UserError, r"a\.mp4: ", rehearsal._videos, data)


def test_only_the_column_of_the_loss_is_read(codec_shards, tmp_path):
    rehearsal = Rehearsal(train_config(*small("vaid", codec_shards, tmp_path)), print)
    log = rehearsal.folder / "csv" / "metrics.csv"
    log.parent.mkdir(parents=True)
    log.write_text("step,train/loss_parts,train/loss\n0,7,\n1,7,0.5\n,7,0.5\n2,7")  # the last row is being written
    assert rehearsal._logged("train/loss") == {1: 0.5}


def test_the_folder_of_something_else_is_kept(codec_shards, tmp_path):
    rehearsal = Rehearsal(train_config(*small("vaid", codec_shards, tmp_path)), print)
    rehearsal.folder.mkdir(parents=True)
    (rehearsal.folder / "mine.txt").touch()
    refuses(ConfigError, "is not the folder of a rehearsal", rehearsal.run)
    assert (rehearsal.folder / "mine.txt").exists()


def test_more_ranks_than_clips_are_named_before_any_starts(codec_shards, tmp_path):
    parts = rehearse(*small("vaid", codec_shards, tmp_path), "trainer.devices=64", "data.batch_size=64")
    assert names(parts, "failed") == ["data"], parts
    assert re.fullmatch(r"trainer.devices=64, .*: 64 ranks for \d+ training clips would .*", parts[0][2])


def test_a_run_is_rehearsed_by_one_process_at_a_time(codec_shards, tmp_path):
    """The second would remove the folder of the first."""
    first, second = (Rehearsal(train_config(*small("vaid", codec_shards, tmp_path)), print) for _ in range(2))
    first._run = lambda: refuses(LockedError, "rehearse/vaid/r: is being written by process", second.run)
    assert first.run() == 0


@pytest.mark.parametrize(
    ("name", "launcher"),
    [("SLURM_STEP_NUM_TASKS", "srun"), ("WORLD_SIZE", "torchrun"), ("OMPI_COMM_WORLD_SIZE", "mpirun")],
)
def test_several_tasks_of_a_launcher_are_refused(codec_shards, tmp_path, monkeypatch, name, launcher):
    config = train_config(*small("vaid", codec_shards, tmp_path))
    monkeypatch.setenv(name, "1")
    Rehearsal(config, print)
    monkeypatch.setenv(name, "16")
    message = rf"{launcher} started 16 processes \({name}\), but one process starts all 2 ranks"
    refuses(ConfigError, message, Rehearsal, config, print)


def processes_with(mark: str) -> list[int]:
    """Processes whose environment at their start, or that of the process that forked them, has a text."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes() and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return found


def until(reached, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not (done := reached()) and time.monotonic() < end:
        time.sleep(0.1)
    return bool(done)


@contextlib.contextmanager
def started(*typed: str, **environment: str) -> Iterator[subprocess.Popen]:
    """A rehearsal as a command of its own."""
    command = [sys.executable, "train.py", *typed, "task=rehearse"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with warm.Popen(command, cwd=ROOT, env=os.environ | environment, **pipes) as process:
        yield process
        process.kill()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.nightly), (signal.SIGKILL, -9)],
    ids=str,
)
def test_nothing_is_left_after_a_signal(codec_shards, tmp_path, number, status):
    temporary = Path(tempfile.mkdtemp(prefix="rehearsal-"))  # pytest's folder is too long for the name of a socket
    shared = {path.name for path in Path("/dev/shm").glob("*")}
    with started(*small("vaid", codec_shards, tmp_path), TMPDIR=str(temporary)) as process:
        assert any(line.startswith("ok      steps") for line in process.stdout), process.stderr.read()
        assert len(processes_with(str(temporary))) >= 3  # the server that forks, and two ranks
        process.send_signal(number)
        assert process.wait(60) == status
        assert until(lambda: not processes_with(str(temporary)), 30), processes_with(str(temporary))
        errors = process.stderr.read()
    assert "Traceback" not in errors
    assert "leaked" not in errors
    left = [*temporary.iterdir()]
    shutil.rmtree(temporary)
    assert number == signal.SIGKILL or left == []  # a killed process removes no folders
    assert {path.name for path in Path("/dev/shm").glob("torch_*")} <= shared
