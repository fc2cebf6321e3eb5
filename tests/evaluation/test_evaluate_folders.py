"""Complete evaluations: values against direct use of the metrics, zero and increasing distances, invalid input."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from benchmark.tables.reading import read_results
from benchmark.tables.rebuild_tables import make_tables
from benchmark.tables.shared_clips import score_runs
from configs.evaluation import CellConfig
from configs.tables import TableConfig
from media import read_frames
from metrics.fid import FrechetInceptionDistance
from metrics.functional.fvd import preprocess, protocol_named, sample_clips
from metrics.fvd import FrechetVideoDistance
from metrics.networks.inception import InceptionFeatures
from tests.helpers.files import overwrite
from tests.helpers.synthetic_videos import write_clip

MEAD = ("W011_front_neutral_level1_001", "M030_front_neutral_level1_001")

FRAMES = 30  # frames of each video


def tensor(path, frames=None):
    return torch.from_numpy(np.stack(list(read_frames(path))[: frames or None])).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def faces(assets, tmp_path_factory):
    """MEAD: 30 neutral frames of two speakers, and the same videos with noise, blur or another emotion."""
    folder = tmp_path_factory.mktemp("faces")
    noise = np.random.default_rng(0).normal(size=(FRAMES, 256, 256, 3))
    for name in MEAD:
        clean = list(read_frames(assets / "data" / "mead_style" / f"{name}.mp4"))[:FRAMES]
        happy = assets / "data" / "mead_style" / f"{name.replace('neutral_level1', 'happy_level3')}.mp4"
        made = {"neutral": clean, "happy": list(read_frames(happy))[:FRAMES]}
        for level in (10, 40):
            made[f"noise {level}"] = np.clip(clean + level * noise, 0, 255).astype(np.uint8)
        for radius in (2, 6):
            blur = ImageFilter.GaussianBlur(radius)
            made[f"blur {radius}"] = [np.asarray(Image.fromarray(frame).filter(blur)) for frame in clean]
        for kind, frames in made.items():
            write_clip(folder / kind / f"{name}.mp4", frames)
    return folder


@pytest.mark.slow
def test_efid_is_zero_for_equal_videos_and_grows_with_damage(faces, evaluate):
    values = {}
    for kind in ("neutral", "noise 10", "noise 40", "blur 2", "blur 6", "happy"):
        status, results = evaluate(faces / kind, faces / "neutral", metrics=["efid"])
        assert status == 0
        entry = results["metrics"]["efid"]
        values[kind] = entry["value"]
    assert abs(values["neutral"]) <= 1e-6
    assert 1e-3 < values["noise 10"] < values["noise 40"]
    assert 1e-3 < values["blur 2"] < values["blur 6"]
    assert values["happy"] > values["noise 10"]
    assert (entry["official"], entry["n"], entry["expected"]) == (False, 2, 2)
    assert "proxy" in entry["title"]
    assert entry["samples"] == {"reference": 60, "generated": 60}
    assert entry["detection_rate"] == {"reference": 1.0, "generated": 1.0}
    assert entry["sha256"].startswith("f93ed7f1")


@pytest.mark.slow
def test_second_run_reads_the_cache(faces, evaluate, tmp_path):
    def run(cache):
        return evaluate(faces / "happy", faces / "neutral", metrics=["efid"], cache=str(tmp_path / cache))[1]

    def kept():
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*.npz")}

    first, before = run("one"), kept()
    assert len(before) == 8  # properties and features of two reference and two generated videos
    second = run("one")
    assert kept() == before
    assert second["metrics"] == first["metrics"]
    fresh = run("two")
    assert fresh["metrics"] == first["metrics"]
    assert fresh["clips"] == first["clips"]


def copies(folder, *files):
    folder.mkdir()
    for file in files:
        shutil.copy(file, folder)
    return folder


def darker(speakers, folder, frames, count):
    """Writes the first frames of the videos with reduced contrast."""
    for number, (pictures, _) in enumerate(speakers[:count]):
        write_clip(folder / f"talk{number}.mp4", [picture // 2 + 40 for picture in pictures[:frames]])
    return folder


@pytest.mark.slow
def test_fid_equals_the_metric(talks, speakers, evaluate, rule_files, tmp_path):
    made = darker(speakers, tmp_path / "made", frames=3, count=3)
    fid = {"weights": rule_files("inception"), "batch_size": 2}
    status, results = evaluate(made, talks, metrics=["fid"], fid=fid, max_gap=2.0)
    assert status == 0
    metric = FrechetInceptionDistance(InceptionFeatures(rule_files("inception")))
    for number in range(3):
        metric.update(tensor(talks / f"talk{number}.mp4", 3), real=True)
        metric.update(tensor(made / f"talk{number}.mp4"), real=False)
    with pytest.warns(UserWarning, match="singular covariance"):
        expected = float(metric.compute())
    entry = results["metrics"]["fid"]
    assert entry["value"] == pytest.approx(expected, rel=1e-5)
    assert entry["interval"]["low"] < entry["value"] < entry["interval"]["high"]
    assert (entry["official"], entry["title"]) == (False, "FID proxy (unofficial weights)")
    assert any("9 frames, fewer than the 2049" in warning for warning in entry["warnings"])
    assert results["clips"][0]["notes"] == ["reference trimmed from 30 to 3 frames"]


@pytest.mark.slow
def test_fvd_equals_the_metric_and_has_a_floor(talks, speakers, evaluate, rule_files, tmp_path):
    made = darker(speakers, tmp_path / "made", frames=FRAMES, count=2)
    shorter = copies(tmp_path / "real", talks / "talk0.mp4", talks / "talk1.mp4")
    fvd = {"weights": rule_files("i3d"), "seed": 7}
    status, results = evaluate(made, shorter, metrics=["fvd"], fvd=fvd)
    assert status == 0
    metric, floor = FrechetVideoDistance(rule_files("i3d")), FrechetVideoDistance(rule_files("i3d"))
    names = ["talk0", "talk1"]
    pieces = sample_clips([FRAMES] * 2, protocol_named("stylegan-v"), real=True, seed=7, names=names).clips
    for number, piece in enumerate(pieces):
        real, fake = (tensor(folder / f"talk{number}.mp4") for folder in (shorter, made))
        sampled = metric.network(preprocess(real[list(piece.frames)][None], metric.protocol))
        metric.add(sampled, real=True)
        floor.add(sampled, real=True)
        metric.update(fake[None, :16], real=False)
        floor.update(real[None, :16], real=False)
    with pytest.warns(UserWarning, match="singular covariance"):
        expected = float(metric.compute()), float(floor.compute())
    entry = results["metrics"]["fvd"]
    assert (entry["value"], entry["floor"]) == pytest.approx(expected, rel=1e-4)
    assert entry["floor"] > 0
    firsts = [clip["metrics"]["fvd"]["first_frames"] for clip in results["clips"]]
    assert firsts == [{"reference": piece.frames[0], "generated": 0} for piece in pieces]


@pytest.mark.nightly
def test_reference_sync_of_both_sides(talks, evaluate, rule_files):
    sync = {"weights": rule_files("syncnet"), "detector": "mediapipe", "min_track": 20, "min_face": 60.0}
    status, results = evaluate(talks, talks, metrics=["sync"], sync=sync)
    assert status == 0
    for name, better in (("sync_c", "higher"), ("sync_d", "lower")):
        entry = results["metrics"][name]
        assert entry["better"] == better
        assert entry["value"] == entry["ground_truth"]["value"]
        assert (entry["n"], entry["ground_truth"]["n"]) == (3, 3)
        assert entry["protocol"]["ffmpeg"].startswith("ffmpeg version")
        assert not entry["official"]
        assert entry["interval"]["low"] < entry["value"] < entry["interval"]["high"]
    check = results["metrics"]["sync_c"]["self_check"]
    assert check["videos"] == 3
    if not check["passed"]:  # expected for an untrained network
        assert any("uninformative" in text for text in results["metrics"]["sync_c"]["warnings"])
    rows = [clip["metrics"]["sync"] for clip in results["clips"]]
    assert results["metrics"]["sync_c"]["value"] == pytest.approx(np.mean([row["generated"]["sync_c"] for row in rows]))
    fast, quick = evaluate(talks, talks, metrics=["sync"], sync={**sync, "mode": "fast"})
    assert fast == 0
    assert "not comparable" in quick["metrics"]["sync_c"]["title"]
    assert quick["metrics"]["sync_c"]["protocol"]["ffmpeg"] is None


@pytest.fixture(scope="module")
def problem_folder(faces, tmp_path_factory):
    """Folders with one good pair, and a pair with each kind of problem."""
    root = tmp_path_factory.mktemp("problem_folder")
    good = faces / "neutral" / f"{MEAD[0]}.mp4"
    frames = list(read_frames(good))
    noise = np.random.default_rng(1).integers(0, 255, (FRAMES, 128, 128, 3), np.uint8)
    real, made = root / "real", root / "made"
    real.mkdir()
    made.mkdir()
    for name in ("good", "corrupt", "no face", "absent", "one frame", "other form", "too long"):
        shutil.copy(good, real / f"{name}.mp4")
    for name in ("good", "corrupt"):
        shutil.copy(good, made / f"{name}.mp4")
    overwrite(made / "corrupt.mp4", good.stat().st_size // 2, bytes(3000))
    write_clip(made / "no face.mp4", noise)
    write_clip(made / "one frame.mp4", frames[:1])
    write_clip(real / "one frame.mp4", frames[:1])
    small = [np.asarray(Image.fromarray(frame).resize((192, 160))) for frame in frames]
    write_clip(made / "other form.mkv", [small[min(k * 25 // 30, FRAMES - 1)] for k in range(36)], fps=30.0)
    write_clip(made / "too long.mp4", frames * 2)
    return root


@pytest.mark.slow
def test_problems_are_listed_and_other_clips_are_evaluated(problem_folder, evaluate, capsys):
    status, results = evaluate(problem_folder / "made", problem_folder / "real", metrics=["efid", "fvd"])
    assert status == 3
    entry = results["metrics"]["efid"]
    assert (entry["n"], entry["expected"], results["n"], results["expected"]) == (3, 7, 4, 7)
    reasons = {(row["clip"], row["side"], row["metric"]): row["reason"] for row in results["missing"]}
    assert "corrupt.mp4" in reasons["corrupt", "generated", None]
    assert "no face was found in any of 30 frames" in reasons["no face", "generated", "efid"]
    assert "no generated video" in reasons["absent", "generated", None]
    assert "differs by 1.20 s" in reasons["too long", "generated", None]
    assert len(reasons) == 4
    notes = next(clip["notes"] for clip in results["clips"] if clip["clip"] == "other form")
    assert "generated 192 x 160, reference 256 x 256 pixels" in notes
    assert "generated resampled by time from 30.000 to 25 fps" in notes
    assert "i3d_torchscript.pt" in results["metrics"]["fvd"]["not_computed"]
    message = capsys.readouterr().out
    assert "3 of 7" in message
    assert "needs i3d_torchscript.pt" in message
    assert evaluate(problem_folder / "made", problem_folder / "real", metrics=["efid"], allow_missing=True)[0] == 0


@pytest.mark.slow
def test_sync_without_sound_and_fvd_of_short_clips(problem_folder, evaluate, rule_files, tmp_path):
    both = copies(tmp_path / "both", problem_folder / "real" / "good.mp4", problem_folder / "real" / "one frame.mp4")
    sync = {"weights": rule_files("syncnet"), "detector": "mediapipe"}
    fvd = {"weights": rule_files("i3d")}
    status, results = evaluate(both, both, metrics=["sync", "fvd", "efid"], sync=sync, fvd=fvd)
    assert status == 3
    assert results["metrics"]["efid"]["n"] == 2
    assert "at least two clips on each side, found 1" in results["metrics"]["fvd"]["not_computed"]
    assert "no generated video has a face track" in results["metrics"]["sync"]["not_computed"]
    reasons = {row["reason"] for row in results["missing"] if row["metric"] == "sync"}
    assert reasons == {"has no sound track, which Sync needs"}


def test_single_frame_is_not_sufficient(problem_folder, evaluate, tmp_path):
    single_frame = copies(tmp_path / "single_frame", problem_folder / "real" / "one frame.mp4")
    status, results = evaluate(single_frame, single_frame, metrics=["efid"])
    assert status == 4
    assert results["metrics"]["efid"]["value"] is None
    assert "at least two frames on each side, found 1" in results["metrics"]["efid"]["not_computed"]


@pytest.mark.slow
def test_wrong_hash_of_weights_stops_only_their_metric(faces, evaluate, rule_files, assets, tmp_path, monkeypatch):
    names = ("face_landmarker.task", "mb05_120x120.pth", "mb05_param_mean_std.npz")
    wrong = copies(tmp_path / "weights", *(assets / "weights" / name for name in names))
    shutil.copy(rule_files("inception"), wrong / "pt_inception-2015-12-05-6726825d.pth")
    monkeypatch.setenv("EMOTIVETALK_WEIGHTS", str(wrong))
    status, results = evaluate(faces / "neutral", faces / "neutral", metrics=["fid", "efid"])
    assert status == 4
    assert "expected" in results["metrics"]["fid"]["not_computed"]
    assert "found" in results["metrics"]["fid"]["not_computed"]
    assert results["metrics"]["efid"]["n"] == 2


@pytest.mark.slow
def test_results_file_has_its_fields(faces, evaluate):
    _, results = evaluate(faces / "happy", faces / "neutral", metrics=["efid", "sync"])
    assert results["schema"] == "emotivetalk.evaluation/1"
    assert set(results) == {"schema", "metrics", "n", "expected", "clips", "missing", "settings", "environment"}
    assert set(results["metrics"]["efid"]) == {
        "value", "title", "better", "official", "network", "sha256", "networks", "protocol", "n", "expected",
        "samples", "unit", "interval", "warnings", "detection_rate", "convention",
    }  # fmt: skip
    assert set(results["metrics"]["sync"]) == {"value", "not_computed"}
    assert set(results["clips"][0]) == {"clip", "frames", "generated", "reference", "notes", "metrics"}
    assert results["settings"]["efid"]["network"] == "3ddfa"
    assert json.loads(json.dumps(results)) == results


@pytest.mark.slow
def test_features_with_nan_are_refused(faces, evaluate, assets, tmp_path):
    stored = torch.load(assets / "weights" / "mb05_120x120.pth", map_location="cpu", weights_only=True)
    next(value for name, value in stored["state_dict"].items() if name.endswith("fc_param.bias"))[:] = float("nan")
    torch.save(stored, tmp_path / "broken.pth")
    efid = {"network": "3ddfa", "weights": str(tmp_path / "broken.pth")}
    status, results = evaluate(faces / "neutral", faces / "neutral", metrics=["efid"], efid=efid)
    assert status == 3
    assert results["metrics"]["efid"]["value"] is None
    reasons = {row["reason"].partition(": ")[2][:37] for row in results["missing"]}
    assert reasons == {"the features have NaN or infinite val"}


@pytest.mark.slow
def test_a_table_scores_the_clips_that_two_evaluations_share(speakers, evaluate, rule_files, tmp_path):
    """Features of real evaluations are found again: the value on two of three clips is that of evaluating these two."""
    talks = tmp_path / "real"
    for name, gain in (("real", 1.0), ("sadtalker", 0.9), ("hallo", 0.6)):
        for number, (frames, _) in enumerate(speakers):
            faded = [(frame * gain).astype(np.uint8) for frame in frames[:4]]
            write_clip(tmp_path / name / f"talk{number}.mp4", faded)
    settings = {"metrics": ["fid"], "fid": {"weights": rule_files("inception")}, "allow_missing": True, "bootstrap": 0}
    found = {}
    for name in ("sadtalker", "hallo"):
        cell = CellConfig(name, "hdtf", "A")
        _, found[name] = evaluate(tmp_path / name, talks, cell=cell, **settings)
        (tmp_path / "results" / "out.json").rename(tmp_path / "results" / f"{name}.json")
    measured = read_results(tmp_path / "results").measured
    runs = {key.system: rows[0] for (key, metric), rows in measured.items() if metric == "fid"}
    for name, run in runs.items():
        whole = score_runs([run], "fid", dict.fromkeys(run.clips), 0)
        assert whole.value == pytest.approx(found[name]["metrics"]["fid"]["value"], rel=1e-6)
    (tmp_path / "hallo" / "talk2.mp4").unlink()
    _, two = evaluate(tmp_path / "hallo", talks, cell=CellConfig("hallo", "hdtf", "A"), **settings)
    shared = score_runs([runs["hallo"]], "fid", dict.fromkeys(["talk0", "talk1"]), 0)
    assert shared.value == pytest.approx(two["metrics"]["fid"]["value"], rel=1e-6)
    (tmp_path / "results" / "out.json").unlink()
    assert make_tables(TableConfig("1", str(tmp_path / "results"), str(tmp_path / "tables"))) == 0
    text = (tmp_path / "tables" / "table1.md").read_text()
    assert "not in the cache" not in text
    assert "n 3" in text
