"""Every script is handed files of strangers: each ends with a status and words, and runs, reads and writes nothing."""

from __future__ import annotations

import os
import sys

import pytest

from tests.helpers import ROOT, warm
from tests.helpers.hostile_files import STOLEN, Runs, json_texts, tensors, yaml_texts
from tests.helpers.hostile_media import exceeding, make_video, references
from tests.helpers.train_config import SMALLEST
from tests.helpers.watching import Watch, listening

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SECONDS = 250.0  # a hostile file ends a script sooner than this, also on a busy machine


# tests/media/test_hostile.py tries all in the reader that every script uses.
DAILY = {"playlist.mp4", "described.flac", "nested.mp4", "palette_of_177_megapixels.png"}
PICKED = DAILY | {
    *("playlist.m3u8", "playlist.png", "remote.mp4", "itself.m3u8", "concat_of_itself.wav", "dash.mp4", "tracks.mp4"),
    "four_gigahertz.wav",
}


@pytest.fixture
def attack(tmp_path, monkeypatch):
    """Returns attack(script, *typed): runs a script on hostile inputs, and returns its status and its words."""
    monkeypatch.setenv("SECRET", STOLEN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()

    def call(*typed, statuses=(1, 2), lines=1):
        module = ["-m", typed[0]] if not typed[0].endswith(".py") else [str(ROOT / typed[0])]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, *module, *map(str, typed[1:])]
        done = warm.run(command, cwd=tmp_path / "here", env=environment, timeout=SECONDS)
        words = done.stdout + done.stderr
        assert done.returncode in statuses, (typed, words)
        assert "Traceback" not in words, (typed, words)
        assert STOLEN not in words
        assert "\x1b]0" not in words
        assert not (tmp_path / "canary").exists(), typed
        assert not list((tmp_path / "here").iterdir()), typed
        found = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        if lines is not None and done.returncode in (1, 2):
            assert len(found) == lines, (typed, words)
        return done.returncode, words

    return call


@pytest.fixture(params=[DAILY, pytest.param(PICKED, marks=pytest.mark.nightly)], ids=["few", "all"])
def media(request, tmp_path):
    """Hostile media files, while a video and a server that some of them name are watched."""
    folder = tmp_path / "media"
    folder.mkdir()
    canary = make_video(folder / "canary.mp4")
    watch = Watch(canary)
    with listening() as (address, asked):
        found = [make_video(folder / "jump.mkv", times=[0, 40, 400_000_000])]
        for name, data in (*references(canary, address), *exceeding()):
            if name in request.param:
                found.append(folder / name)
                found[-1].write_bytes(data)
        assert len(found) == 1 + len(request.param)
        yield found
    assert not asked
    assert not watch.count()


def test_generate(attack, media, runs, files, tmp_path):
    good = {"portrait": files / "face.png", "speech": files / "voice.wav", "ethd": runs / "ethd"}
    own = ["device=cpu", "steps=1", f"output={tmp_path / 'out' / 'x.mp4'}"]
    (tmp_path / "out").mkdir()
    for path in media:
        key = "portrait" if path.suffix == ".png" else "emotion.video" if path.suffix == ".mp4" else "speech"
        attack("generate.py", *(f"{name}='{value}'" for name, value in {**good, key: path}.items()), *own)
    assert not list((tmp_path / "out").iterdir())


def test_generate_with_hostile_runs_and_batches(attack, runs, files, tmp_path):
    good = {"portrait": files / "face.png", "speech": files / "voice.wav", "ethd": runs / "ethd"}
    own = ["device=cpu", "steps=1", f"output={tmp_path / 'out' / 'x.mp4'}"]
    (tmp_path / "out").mkdir()
    (tmp_path / "weights").mkdir()
    for path in [*tensors(tmp_path / "weights", tmp_path / "canary")][:4]:
        attack("generate.py", *(f"{name}='{value}'" for name, value in {**good, "ethd": path}.items()), *own)
    cases = tmp_path / "cases.csv"
    row = f"{files / 'face.png'},{files / 'voice.wav'}"
    for text in (
        "",
        "portrait\n\0\n",
        f"portrait,speech,output\n{row},../x.mp4\n",
        f"portrait,speech,output\n{row},/x.mp4\n",
    ):
        cases.write_text(text)
        attack("generate.py", f"batch={cases}", f"ethd={runs / 'ethd'}", own[0], own[1], f"output={tmp_path / 'batch'}")
    assert not list((tmp_path / "out").iterdir())
    assert not (tmp_path / "x.mp4").exists()


def test_prepare(attack, media, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for number, path in enumerate(media):
        (raw / f"{number}.mp4").write_bytes(path.read_bytes())
    typed = ["dataset=folder", f"source={raw}", "preset=tiny", "workers=1", f"output={tmp_path / 'out'}"]
    status, words = attack("prepare.py", *typed, statuses=(3,), lines=None)
    assert "no clip was kept" in " ".join(words.split())
    index = tmp_path / "index"
    index.mkdir()
    for text in [*json_texts("1")][:16]:
        (index / "index.json").write_bytes(text)
        attack("prepare.py", "task=check", f"output={index}")
    (index / "parts").mkdir()
    for text in [*json_texts("1")][:3]:
        (index / "parts" / "plan.json").write_bytes(text)
        attack("prepare.py", "task=merge", f"output={index}")


def test_train(attack, shards, vaid, tmp_path):
    common = ["experiment=vaid/tiny", *SMALLEST, "trainer=cpu", f"output={tmp_path / 'runs'}", "trainer.max_steps=1"]
    (tmp_path / "weights").mkdir()
    for path in [*tensors(tmp_path / "weights", tmp_path / "canary")][:4]:
        attack("train.py", *common, f"data.root='{shards}'", f"ckpt_path={path}", "run_id=a")
        attack("train.py", *common, f"data.root='{shards}'", f"init={path}", "run_id=b")
    index = tmp_path / "index"
    index.mkdir()
    for text in [*json_texts("1")][10:14]:
        (index / "index.json").write_bytes(text)
        attack("train.py", *common, f"data.root={index}", "run_id=c")
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    import torch

    torch.save({"state_dict": Runs(tmp_path / "canary")}, run / "checkpoints" / "last.ckpt")
    for text in [*yaml_texts(tmp_path / "canary")][:14:4]:
        (run / "config.yaml").write_bytes(text)
        attack("train.py", "task=export", f"run={run}")


def test_evaluate_and_tables(attack, media, tmp_path):
    for side in ("made", "real"):
        (tmp_path / side).mkdir()
    make_video(tmp_path / "real" / "a.mp4")
    typed = ["evaluate.py", f"generated={tmp_path / 'made'}", f"reference={tmp_path / 'real'}", "metrics=[fid]"]
    typed += [f"output={tmp_path / 'results.json'}", "device=cpu", "bootstrap=0"]
    for path in media:
        (tmp_path / "made" / "a.mp4").write_bytes(path.read_bytes())
        attack(*typed, statuses=(1, 2, 3))  # 3: a metric was not computed, and the reason is listed
    results = tmp_path / "results"
    results.mkdir()
    for number, text in enumerate(json_texts("emotivetalk.evaluation/1")):
        (results / f"{number}.json").write_bytes(text)
    command = ["evaluate.py", "table=1", f"results={results}", f"output={tmp_path / 'tables'}"]
    attack(*command, statuses=(1, 2, 3), lines=None)


def test_the_commands_of_the_benchmark(attack, media, files, tmp_path):
    for text in yaml_texts(tmp_path / "canary"):
        (tmp_path / "system.yaml").write_bytes(text)
    (tmp_path / "cases.csv").write_text("clip,portrait,speech\n../x,a,b\n")
    cases = [f"cases={tmp_path / 'cases.csv'}", f"output={tmp_path / 'out'}"]
    attack("benchmark.run_system", f"system={tmp_path / 'system.yaml'}", *cases)
    attack("benchmark.run_system", "system=ground_truth", *cases)
    playlist = next(path for path in media if path.name.startswith("playlist"))
    three = [f"portrait={files / 'face.png'}", f"lips={playlist}", f"expression={playlist}"]
    attack("benchmark.figures", "3", *three, f"output={tmp_path / 'a.png'}")
    (tmp_path / "raw").mkdir()
    for number in range(2):
        (tmp_path / "raw" / f"{number}.mp4").write_bytes(playlist.read_bytes())
    attack("benchmark.test_sets", "mini", f"source={tmp_path / 'raw'}", f"output={tmp_path / 'set'}")
    attack("benchmark.pseudo_systems", f"real={tmp_path / 'raw'}", f"output={tmp_path / 'pseudo'}")


def test_the_doctor_and_the_page(attack, runs, tmp_path):
    (tmp_path / "weights").mkdir()
    paths = [*tensors(tmp_path / "weights", tmp_path / "canary")][:4]
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text("stage: vaid\n")
    (run / "checkpoints" / "step=1.ckpt").write_bytes(paths[0].read_bytes())
    (run / "checkpoints" / "last.ckpt").symlink_to("step=1.ckpt")
    index = tmp_path / "index"
    index.mkdir()
    (index / "index.json").write_text("[" * 100_000)
    for place in (run, index, paths[0]):
        attack("tools.doctor", f"path={place}", statuses=(1,), lines=None)
    for path in paths:
        attack("app.py", f"ethd={path}", "device=cpu", "port=0")
