"""Table 2, switched off at inference: videos of one run for each value of ``drive``, evaluated to a table."""

import csv
import json
import subprocess
import sys

import pytest

from tests.helpers import ROOT, warm
from tests.helpers.synthetic_videos import untrained

VARIANTS = {"both": "full", "expression": "wo_lip_inference", "lips": "wo_exp_inference"}


def run(*words) -> subprocess.CompletedProcess:
    done = warm.run([sys.executable, *map(str, words)], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_branches_switched_off_at_inference_are_generated_and_evaluated(runs, files, tmp_path):
    proxy = untrained(tmp_path)["image"]
    inputs = [f"{name}={files / file}" for name, file in (("portrait", "face.png"), ("speech", "voice.wav"))]
    inputs += [f"emotion.video={files / 'smile.mp4'}", f"ethd={runs / 'ethd'}", "landmarks=sidecar", "steps=2"]
    for drive in VARIANTS:
        for seed in (1, 2):
            output = tmp_path / drive / f"seed{seed}.mp4"
            run("generate.py", *inputs, f"drive={drive}", f"seed={seed}", f"output={output}", "device=cpu")
    for drive, variant in VARIANTS.items():
        folders = [f"generated={tmp_path / drive}", f"reference={tmp_path / 'both'}"]
        cell = ["cell.system=emotivetalk", "cell.dataset=synthetic", "cell.mode=A", f"cell.variant={variant}"]
        keys = ["metrics=[fid,psnr]", "fid.network=proxy", f"fid.weights={proxy}", f"cache={tmp_path / 'cache'}"]
        output = f"output={tmp_path / 'results' / f'{drive}.json'}"
        run("evaluate.py", *folders, *cell, *keys, output, "device=cpu", "bootstrap=0")
    scores = {drive: json.loads((tmp_path / "results" / f"{drive}.json").read_text())["metrics"] for drive in VARIANTS}
    assert scores["both"]["psnr"]["value"] == 100  # the same video: equal pictures
    assert len({scores[drive]["psnr"]["value"] for drive in VARIANTS}) == 3  # either branch changes the pictures
    assert scores["lips"]["fid"]["value"] > scores["both"]["fid"]["value"] - 1e-9
    tables = tmp_path / "tables"
    run(
        "evaluate.py",
        "table=2",
        "datasets=[synthetic]",
        "columns=[fid,psnr]",
        f"results={tmp_path / 'results'}",
        f"output={tables}",
    )
    rows = [row for row in csv.DictReader((tables / "table2.csv").open()) if row["metric"] == "fid" and row["value"]]
    assert {row["variant"] for row in rows} == set(VARIANTS.values())
