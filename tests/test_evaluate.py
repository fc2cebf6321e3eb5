"""evaluate.py in a shell: odd paths and errors."""

import json
import subprocess
import sys

import numpy as np
import pytest

from media import read_frames
from tests.helpers import ROOT, warm
from tests.helpers.files import touch
from tests.helpers.synthetic_videos import write_clip

pytestmark = pytest.mark.slow

AWKWARD = "Müller's (1) #raw! 寒い 100%"


def evaluate(*arguments) -> subprocess.CompletedProcess:
    return warm.run([sys.executable, "evaluate.py", *map(str, arguments)], cwd=ROOT)


@pytest.fixture(scope="module")
def folders(assets, tmp_path_factory):
    """Two folders with special characters in their names, each with two clips of 25 frames; one pair is damaged."""
    root = tmp_path_factory.mktemp("videos") / AWKWARD
    frames = list(read_frames(assets / "data" / "mead_style" / "W011_front_happy_level3_001.mp4"))[:25]
    for side, gain in (("real", 1.0), ("made", 0.8)):
        for name in ("a, b = c [1]", "sub {x}/don't"):
            write_clip(root / side / f"{name}.mp4", [(frame * gain).astype(np.uint8) for frame in frames])
    (root / "made" / "broken.mp4").write_text("<html>not found</html>")
    write_clip(root / "real" / "broken.mp4", frames)
    return root


def keys(folders, output, cache):
    return (f"generated={folders / 'made'}", f"reference={folders / 'real'}", f"output={output}", f"cache={cache}")


def test_odd_paths_give_a_results_file_and_a_table(folders, tmp_path, asset_weights):
    output = tmp_path / AWKWARD / "results (1).json"
    command = [
        sys.executable, "evaluate.py", *keys(folders, output, tmp_path / "cache"), "metrics=[efid]", "device=cpu",
        "efid.network=3ddfa", "cell.system=mine", "cell.dataset=odd", "cell.mode=A+V", "cell.new=true",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert done.returncode == 3, done.stderr
    assert "E-FID proxy (3DDFA_V2)↓" in done.stdout
    assert "2 of 3 clips" in done.stdout
    assert "broken (generated)" in done.stdout
    assert "100/100" in done.stderr  # final state of the progress bar
    results = json.loads(output.read_text())
    assert {clip["clip"] for clip in results["clips"]} == {"a, b = c [1]", "sub {x}/don't"}
    assert [row["clip"] for row in results["missing"]] == ["broken"]
    assert not list(output.parent.glob(".*partial"))
    tables = output.parent / "tables"
    done = evaluate("table=1", f"results={output.parent}", f"output={tables}", "datasets=[odd]")
    assert done.returncode == 0, done.stderr
    row = next(line for line in (tables / "table1.md").read_text().splitlines() if line.startswith("| mine | A+V"))
    assert f"| {results['metrics']['efid']['value']:.2f}† <sup>" in row  # the missing clip is a note


def test_missing_weights_are_named_and_change_the_exit_status(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("EMOTIVETALK_WEIGHTS", str(tmp_path / "empty"))
    monkeypatch.setenv("EMOTIVETALK_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    output = tmp_path / "out.json"
    arguments = keys(folders, output, tmp_path / "cache")
    done = evaluate(*arguments, "metrics=[fid,sync,efid]", "allow_missing=true", "device=cpu")
    assert done.returncode == 4, done.stderr
    metrics = json.loads(output.read_text())["metrics"]
    for name, file in (("fid", "pt_inception-2015-12-05-6726825d.pth"), ("sync", "syncnet_v2.model")):
        assert metrics[name]["value"] is None
        assert metrics[name]["not_computed"].startswith(f"needs {file}")
    assert metrics["efid"]["not_computed"].startswith("needs deep3dfacerecon/epoch_20.pth")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["metrics=[fid,fvd2]"], "metrics=fvd2: there is no such metric; did you mean fvd? There are fid, fvd"),
        (["efid.network=arcface"], "efid.network=arcface: expected one of deep3d, 3ddfa"),
        (["fvd.protocol=mine"], "fvd.protocol=mine: expected one of stylegan-v"),
        (["crop=[1,2,3]"], "expected [x,y,width,height]"),
        (["fid.weights=no such file.pth"], "fid.weights=no such file.pth: no such file"),
        (["output=results"], "expected the name of a .json file"),
        (["reference=no such folder"], "reference=no such folder: does not exist"),
        (["bootstrap=1"], "expected 0, or at least 2"),
        (["efid.netwrk=3ddfa"], "did you mean efid.network"),
        (["cell.system=hallo"], "cell.dataset is missing"),
        (
            ["cell.system=Hallo", "cell.dataset=hdtf", "cell.mode=A"],
            "cell.system=Hallo: did you mean hallo? There are ",
        ),
        (["cell.system=hallo", "cell.dataset=HDTF", "cell.mode=A"], "cell.dataset=HDTF: did you mean hdtf?"),
        (["cell.system=hallo", "cell.dataset=hdtf", "cell.mode=A", "cell.variant=wolip"], "did you mean wo_lip?"),
        (["cell.system=mine", "cell.dataset=hdtf", "cell.mode=A"], "for a system of your own add cell.new=true"),
        (["cell.system=hallo", "cell.dataset=hdtf", "cell.mode=B"], "cell.mode=B: expected one of A, A+V, control"),
    ],
)
def test_an_error_is_one_line(tmp_path, arguments, words):
    typed = [f"generated={tmp_path}", f"reference={tmp_path}", "output=out.json"]
    chosen = {argument.partition("=")[0] for argument in arguments}
    done = evaluate(*[key for key in typed if key.partition("=")[0] not in chosen], *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_unknown_tables_and_missing_results_are_refused(tmp_path):
    done = evaluate("table=5")
    assert (done.returncode, done.stderr.strip()) == (2, "error: table=5: expected one of 1, 2, 3, 4, all")
    done = evaluate("table=1", f"results={tmp_path / 'nowhere'}", f"output={tmp_path}")
    assert done.returncode == 1
    assert "expected the folder of evaluate.py's results files" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_folders_without_common_clips_are_refused(tmp_path):
    touch(tmp_path, "made/a.mp4", "real/b.mp4")
    done = evaluate(*keys(tmp_path, tmp_path / "out.json", tmp_path / "cache"))
    assert done.returncode == 1
    assert "has a counterpart" in done.stderr
    assert "'a' and 'b'" in done.stderr


@pytest.mark.parametrize("protocol", ["emotivetalk", "original", "latentsync", "hallo2"])
def test_every_protocol_can_be_composed(tmp_path, protocol):
    done = evaluate(f"protocol={protocol}", "--cfg", "job")
    assert f"protocol: {protocol}" in done.stdout, done.stderr
