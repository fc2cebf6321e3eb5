"""A second command with the same run directory, output or cache is refused with its owner, and changes nothing."""

import re
import signal
import subprocess
import sys
import time

import pytest

from runtime.locks import owner_of
from tests.helpers import ROOT, warm
from tests.helpers.train_config import SMALLEST

pytestmark = pytest.mark.slow

PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


def owned(lock, process, seconds=240):
    """Waits until a process holds a lock, and stops it there."""
    end = time.monotonic() + seconds
    while (owner := owner_of(lock)) is None or owner.process != process.pid:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)


def second_is_refused(typed, lock, what, statuses=(0,)):
    """Runs a command twice; the first one holds the lock when the second starts, and then finishes."""
    command = [sys.executable, *map(str, typed)]
    with warm.Popen(command, cwd=ROOT, **PIPES) as first:
        try:
            owned(lock, first)
            second = warm.run(command, cwd=ROOT)
            first.send_signal(signal.SIGCONT)
            _, errors = first.communicate(timeout=250)
        finally:
            first.kill()
    lines = [line for line in second.stderr.splitlines() if line.startswith("error: ")]
    assert second.returncode == 1, second.stderr
    assert "Traceback" not in second.stderr
    pattern = rf"error: {re.escape(what)}: is being written by process {first.pid} on .* since [-\d: ]+ \(python .*\); "
    assert len(lines) == 1
    assert re.match(pattern, lines[0]), lines
    assert first.returncode in statuses, errors
    assert not lock.exists()


def test_training(shards, tmp_path):
    folder = tmp_path / "vaid" / "one"
    typed = ["train.py", "experiment=vaid/tiny", *SMALLEST, f"data.root={shards}", f"output={tmp_path}", "run_id=one"]
    typed += ["trainer.max_steps=2", "trainer=cpu"]
    second_is_refused(typed, folder / ".lock", str(folder))
    rows = (folder / "csv" / "metrics.csv").read_text().splitlines()
    assert len(rows) == len(set(rows))


def test_one_video(runs, files, tmp_path):
    typed = ["generate.py", f"portrait={files / 'face.png'}", f"speech={files / 'voice.wav'}", f"ethd={runs / 'ethd'}"]
    typed += ["steps=1", "device=cpu", f"output={tmp_path / 'talk.mp4'}"]
    second_is_refused(typed, tmp_path / ".talk.mp4.lock", f"output={tmp_path / 'talk.mp4'}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk.json", "talk.mp4"]


def test_a_batch(runs, files, tmp_path):
    (tmp_path / "cases.csv").write_text(f"portrait,speech\n{files / 'face.png'},{files / 'voice.wav'}\n")
    typed = ["generate.py", f"batch={tmp_path / 'cases.csv'}", f"ethd={runs / 'ethd'}", "steps=1", "device=cpu"]
    videos = tmp_path / "videos"
    second_is_refused([*typed, f"output={videos}"], videos / ".part-1-of-1.lock", f"output={videos}")
    assert sorted(path.suffix for path in videos.iterdir()) == [".json", ".mp4"]


def test_an_evaluation(files, tmp_path, monkeypatch):
    for side in ("made", "real"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "smile.mp4").write_bytes((files / "smile.mp4").read_bytes())
    typed = ["evaluate.py", f"generated={tmp_path / 'made'}", f"reference={tmp_path / 'real'}", "metrics=[fid]"]
    output = tmp_path / "results.json"
    monkeypatch.setenv("EMOTIVETALK_OFFLINE", "1")
    typed += [f"output={output}", f"cache={tmp_path / 'cache'}", "device=cpu"]
    missing_weights = 4
    second_is_refused(typed, tmp_path / ".results.json.lock", f"output={output}", (0, missing_weights))
    assert output.exists()


def test_a_preparation(tmp_path):
    output = tmp_path / "shards"
    typed = ["prepare.py", "dataset=synthetic", "preset=tiny", "dataset.identities=1", "dataset.clips_per_identity=1"]
    typed += ["dataset.seconds=1.2", "workers=1", "dataset.split=train", f"output={output}"]
    second_is_refused(typed, output / "parts" / ".part-1-of-1.lock", f"output={output}")


def test_a_preparation_beside_files_of_others(tmp_path):
    (tmp_path / "index.json").write_text('{"name": "my web page"}')
    typed = ["dataset=synthetic", "preset=tiny", "dataset.identities=1", "dataset.clips_per_identity=1", "workers=1"]
    typed += ["dataset.seconds=1.2", "dataset.split=train", f"output={tmp_path}"]
    done = warm.run([sys.executable, "prepare.py", *typed], cwd=ROOT)
    assert done.returncode == 2
    assert f"error: output={tmp_path}: {tmp_path / 'index.json'} was not written by this program" in done.stderr
    assert (tmp_path / "index.json").read_text() == '{"name": "my web page"}'
    assert not list(tmp_path.glob("*.tar"))
