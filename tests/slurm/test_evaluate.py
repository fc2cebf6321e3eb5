"""Clips in parts, the cells of a table as an array, and a dependent job for the tables, on a real SLURM."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

from media import read_frames
from tests.helpers import ROOT
from tests.helpers.synthetic_videos import untrained, write_speakers

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]

OPTIONS = ("--gpus-per-node=0", "--cpus-per-task=1", "--mem=0", "--time=60")


def test_a_systems_parts_become_clips_scores_and_tables(cluster, job_environment, tmp_path):
    real = write_speakers(tmp_path / "real", clips=4)
    with (tmp_path / "cases.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["clip", "portrait", "speech", "video"])
        for video in sorted(real.glob("*.mp4")):
            Image.fromarray(np.asarray(next(iter(read_frames(video))))).save(video.with_suffix(".png"))
            writer.writerow([video.stem, video.with_suffix(".png"), video, video])
    made = tmp_path / "it's made"

    def submit(file, *arguments, array=None, after=None):
        more = [*([f"--array={array}"] if array else []), *([f"--dependency=afterany:{after}"] if after else [])]
        log = f"--output={tmp_path}/{file}-%j"
        return cluster.submit(*OPTIONS, *more, log, f"slurm/{file}.sbatch", *arguments, env=job_environment, cwd=ROOT)

    def ended(job, file):
        states = cluster.wait(job, 900)
        assert set(states) == {"COMPLETED"}, "".join(log.read_text() for log in tmp_path.glob(f"{file}-*"))

    parts = submit(
        "systems", "system=folder", "title=Mine", f"videos={real}", f"cases={tmp_path}/cases.csv", f"output={made}",
        "landmarks=sidecar", "device=cpu", array="1-2",
    )  # fmt: skip
    ended(parts, "systems")
    assert sorted(path.stem for path in (made / "videos").glob("*.mp4")) == [f"clip{number}" for number in range(4)]

    cells = tmp_path / "cells.txt"
    line = 'generated="{0}/videos" reference="{0}/reference" output={1}/{2}.json cell.system={2} cell.mode=A {3}\n'
    systems = {"hallo": "", "mine": "cell.new=true"}
    written = (line.format(made, tmp_path / "results", system, new) for system, new in systems.items())
    cells.write_text("# the cells\n\n" + "".join(written))
    image = untrained(tmp_path)["image"]
    scores = submit(
        "evaluate", str(cells), "cell.dataset=hdtf", "metrics=[fid]", "fid.network=proxy", f"fid.weights={image}",
        "bootstrap=0", "device=cpu", f"cache={tmp_path}/features", array="1-2",
    )  # fmt: skip
    tables = submit("evaluate", "table=1", f"results={tmp_path}/results", f"output={tmp_path}/tables", after=scores)
    ended(scores, "evaluate")
    ended(tables, "evaluate")
    found = [json.loads(path.read_text()) for path in sorted((tmp_path / "results").glob("*.json"))]
    assert [result["settings"]["cell"]["system"] for result in found] == ["hallo", "mine"]
    assert [result["n"] for result in found] == [4, 4]
    assert "mine" in (tmp_path / "tables" / "table1.md").read_text().lower()
