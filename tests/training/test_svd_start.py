"""init=svd with a file of Stable Video Diffusion's size and names, in float32 and float16, found by the registry."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from safetensors import safe_open

from configs.rules import check
from datamodules.datamodule import ShardDataModule
from datamodules.schema import Dimensions, Index
from encoders.protocols import Identity
from encoders.weight_files import WeightsError, WrongWeights
from encoders.weight_sources import WeightFile
from encoders.weights import WEIGHTS
from lightning_modules.ethd.svd_weights import CLASS, WEIGHT_FILES, is_new
from runtime.files import sha256_of
from tests.helpers.refusals import refuses
from tests.helpers.shards import change_index, make_shards
from tests.helpers.train_config import train_config, train_vaid
from training.stages.ethd import EthdStage

ENCODERS = {"audio": "wav2vec2", "motion": "pdfgc", "codec": "svd"}
PAPER = Dimensions(latent_channels=4, latent_size=64, audio_layers=12, audio_width=768, lip_width=512,
                   expression_width=30)  # fmt: skip
PARAMETERS, PUBLISHED = 1_524_623_082, 6_098_682_464  # of SVD; bytes of its float32 file


def write_svd(path: Path, kind: str) -> None:
    """Writes random weights with SVD's names and shapes as safetensors does, without holding them in memory."""
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in UNetSpatioTemporalConditionModel().state_dict().items()}
    dtype = np.dtype({"F32": np.float32, "F16": np.float16}[kind])
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(shapes):
        begin, end = end, end + math.prod(shapes[name]) * dtype.itemsize
        header[name] = {"dtype": kind, "shape": shapes[name], "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    block = (0.02 * np.random.default_rng(0).standard_normal(2**24 + 7)).astype(dtype).tobytes()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        while end > 0:
            end -= file.write(block[:end])


@pytest.fixture
def paper_shards(tmp_path):
    """Shards of noise with the paper's encoders and dimensions."""
    folder = tmp_path / "shards"
    make_shards(folder, samples=4, shards=1, frames=(24,), dims=PAPER)
    names = {
        kind: Identity(ENCODERS.get(kind, identity.name)) for kind, identity in Index.read(folder).encoders.items()
    }
    change_index(folder, encoders=names)
    return folder


@pytest.mark.nightly
@pytest.mark.timeout(1800)  # hashes of six gigabytes
@pytest.mark.parametrize(("file", "kind"), [*zip(WEIGHT_FILES, ("F32", "F16"), strict=True)])
def test_ethd_of_the_papers_size_starts_from_svd(file, kind, paper_shards, tmp_path, monkeypatch):
    names = f"encoders={{{','.join(f'{each}:{name}' for each, name in ENCODERS.items() if each != 'codec')}}}"
    vaid = train_vaid(paper_shards, tmp_path, "data.window=16", "model.overlap=4", names, "run_id=v", steps=1).folder
    folder = tmp_path / "weights" / WEIGHTS["svd-unet"].folder
    folder.mkdir(parents=True)
    monkeypatch.setenv("EMOTIVETALK_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("EMOTIVETALK_OFFLINE", "1")
    (folder / "config.json").write_text(json.dumps({"_class_name": CLASS}))
    path = folder / file
    write_svd(path, kind)
    if kind == "F32":
        assert path.stat().st_size == PUBLISHED
    typed = ("experiment=ethd/paper", "data=folder", f"data.root={paper_shards}", f"vaid={vaid}", "trainer=cpu")
    config = train_config(*typed, "data.window=24", f"output={tmp_path}")
    check(config)
    assert config.init == "svd"
    data = ShardDataModule(config.data)
    data.setup("fit")
    stage = EthdStage()
    module = stage.build(config, data)
    refuses(WeightsError, "svd-unet", stage.start, module, config)  # not the published files
    listed = [WeightFile(one.name, size=one.stat().st_size, sha256=sha256_of(one)) for one in folder.iterdir()]
    monkeypatch.setitem(WEIGHTS, "svd-unet", replace(WEIGHTS["svd-unet"], files=tuple(listed)))
    source, table = stage.start(module, config)
    assert source == path
    total = table.splitlines()[-1].replace(",", "").split()
    loaded, skipped = map(int, total[1::2])
    assert loaded + skipped == PARAMETERS
    assert loaded == pytest.approx(1.4487e9, rel=1e-4)
    with safe_open(path, framework="pt") as stored:
        for name, weight in module.ethd.unet.state_dict().items():
            if not is_new(name):
                assert torch.equal(weight, stored.get_tensor(name).float()), name
    with path.open("r+b") as damaged:
        damaged.seek(-1, 2)
        byte = damaged.read(1)
        damaged.seek(-1, 2)
        damaged.write(bytes([byte[0] ^ 1]))
    refuses(WrongWeights, f"{file}.*sha256", stage.start, module, config)
    path.unlink()
