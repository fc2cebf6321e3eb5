"""Files of an earlier version (checkpoints, exports, shards, results, records) are read with the same meaning."""

from __future__ import annotations

import csv
import hashlib
import lzma
import shutil
import sys
import tarfile
from pathlib import Path

import pytest
import torch

from benchmark.tables.reading import read_results
from configs.emotion import EmotionConfig
from configs.preparation import FaceConfig
from datamodules.schema import Index
from generation.batch import VideoCase
from generation.model_files import ModelFiles
from generation.record import difference, fingerprint
from lightning_modules.checkpoints import read_checkpoint
from lightning_modules.emotion.emotion_table import EmotionTable
from lightning_modules.ethd.checkpoint import load_ethd
from lightning_modules.ethd.export import load_export
from lightning_modules.vaid.checkpoint import load_vaid
from metrics.networks.proxy import load_proxy
from preparation.check import check
from tests.helpers import warm

ROOT = Path(__file__).parents[1]
STORED = ROOT / "tests" / "stored"
VAID = "bcacd29a4e8d678688ecb491446aca24ffbe2a48cf3c0010c816df3197e2b4d8"
ETHD = "e108c01f1f7ffb43fadeabc0000b23325dd5b8b8f25b9fb8416ef6a708bb4c9a"
TABLE = "c9e58c008ab4775b224349005b13e6fc4a1d0a97d6d5e2c5fef953200089f99a"
PROXIES = {
    "image": "6ad019d0f60071136dc89b2c2d5d7415ccb23dc62fa5e6ba3d237c30c93414c1",
    "video": "3cf840bf1918129213bc57f9e2949d91fffa0bd0be83261ae7746043572a6f50",
    "expression": "04f45e8ab42b76056eccb7e2477d3f0760d6cfb0c8b9de9ecb889935eb75be9a",
}
MEASURED = {
    "efid": 4.5868414956041684e-05,
    "fid": 1.1268541740458874e-08,
    "fvd": 2.3862269830368767e-09,
    "sync_c": 0.12375718355178833,
    "sync_d": 1.0366795063018799,
}
RUN = ("data.root=data", "output=outputs", "run_id=again", "trainer.log_every=1", "data.workers=0", "data.batch_size=2",
       "trainer.progress_bar=false", "data.steps_per_epoch=10", "model.lr_warmup=0")  # fmt: skip
VAID_RUN = ("experiment=vaid/tiny", "model.lip={width:4,depth:1,latents:2,head_width:4}", "model.sampling_steps=2",
            "model.expression={width:4,depth:1,head_width:4,identity_widths:[4],identity_size:16}",
            "model.club.hidden=4", "model.club.warmup=2", "data.window=16", "model.overlap=4")  # fmt: skip
ETHD_RUN = ("experiment=ethd/tiny", "vaid=vaid.ckpt", "trainer.devices='1'", "trainer.strategy=auto", "data.window=4",
            "model.unet={channels:[32,32],heads:[1,1],attention:[true,false],layers:1,token_width:8,added_width:8}",
            "model.expression_steps=2", "model.ema=0.5", "model.lip_dropout=0",
            "model.expression_dropout=0", "model.lip_guidance=1", "model.expression_guidance=1")  # fmt: skip


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with all stored files unpacked."""
    folder = tmp_path_factory.mktemp("stored")
    with tarfile.open(STORED / "shards.tar.xz", "r:xz") as tar:
        tar.extractall(folder, filter="data")
    for path in STORED.iterdir():
        if path.suffix == ".xz":
            (folder / path.stem).write_bytes(lzma.decompress(path.read_bytes()))
        else:
            shutil.copy(path, folder)
    return folder


def digest(tensors: dict[str, torch.Tensor]) -> str:
    """Hash of names, types, shapes and bytes, sorted by name."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def test_checkpoints(stored):
    assert digest(load_vaid(stored / "vaid.ckpt").state_dict()) == VAID
    network, _ = load_ethd(stored / "ethd.ckpt")
    assert digest(network.state_dict()) == ETHD  # the averaged weights
    assert read_checkpoint(stored / "ethd.ckpt", "ethd")["ema"]["updates"] == 2


def test_export_and_emotion_table(stored):
    export = load_export(stored / "export.safetensors")
    assert (digest(export.ethd.state_dict()), digest(export.vaid.state_dict())) == (ETHD, VAID)
    assert export.trained_windows == {}  # unknown: generation shows no note
    table = EmotionTable.load(stored / "emotion_table.safetensors")
    assert list(table.cells) == list(export.table.cells) == [("angry", 1)]
    assert digest({"latents": table.latents, "mean": table.mean, "std": table.std}) == TABLE


def test_shards(stored):
    index = Index.read(stored / "data")
    assert check(stored / "data", lambda: None) == []
    assert [(sample.key, sample.frames) for sample in index.samples] == [("M100_front_angry_level_1_001", 25)]
    assert index.to_json() == (stored / "data" / "index.json").read_text()


def test_results(stored):
    (stored / "results").mkdir()
    (stored / "results" / "results.json").write_bytes((stored / "results.json").read_bytes())
    found = read_results(stored / "results")
    assert not found.unusable
    assert not found.unlabelled
    measured = {metric: [m.value for m in many] for (_, metric), many in found.measured.items()}
    assert measured == {metric: [value] for metric, value in MEASURED.items()}
    (fid,) = next(many for (_, metric), many in found.measured.items() if metric == "fid")
    assert fid.record["title"] == "FID proxy (small trained network)"  # as evaluate.py titles it now
    network = "proxy for image, trained on 1 speakers of synthetic"
    assert [fid.record["network"], *(one["network"] for one in fid.record["networks"])] == [network] * 2


def test_a_generated_video_is_still_finished(stored):
    places = (stored / name for name in ("face0.png", "voice0.wav", "video.mp4"))
    case = VideoCase(*places, emotion=EmotionConfig(label="angry", strength=1.5), seed=3, steps=2)
    wanted = fingerprint(case, ModelFiles(stored / "export.safetensors").hashes(), FaceConfig(), None)
    assert difference(case, wanted) is None


@pytest.mark.parametrize("kind", PROXIES)
def test_proxy_networks(stored, kind):
    network, _ = load_proxy(stored / f"standin_{kind}.safetensors", kind)
    assert digest(network.state_dict()) == PROXIES[kind]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "keys", "steps", "losses"),
    [("vaid", VAID_RUN, 6, [18.337833, 18.463142]), ("ethd", ETHD_RUN, 4, [0.09773844, 0.06461283])],
)
def test_a_run_resumes_from_an_earlier_versions_checkpoint(stored, stage, keys, steps, losses):
    typed = [*keys, *RUN, f"ckpt_path={stage}.ckpt", f"trainer.max_steps={steps}", f"trainer.validate_every={steps}"]
    done = warm.run([sys.executable, str(ROOT / "train.py"), *typed], cwd=stored)
    assert done.returncode == 0, done.stderr
    with (stored / "outputs" / stage / "again" / "csv" / "metrics.csv").open() as file:
        found = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert found == pytest.approx(losses, rel=1e-4)
