"""3DMM files, phonemes and padding, compared with the systems' published files and closed forms."""

from __future__ import annotations

import json
import re
from itertools import islice

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat
from torchvision.models import resnet50

from benchmark.framing import FaceFinder
from benchmark.inputs.coefficients import Coefficients, aligned, extract, read_mat, write_mat
from benchmark.inputs.collect import RATE, padded_length
from benchmark.inputs.phonemes import PHONES, PhonemeInterval, from_intervals, phonemes_of, recognise
from benchmark.system import Speech, load_system
from encoders.factory import build_landmark_detector
from media import FrameReader, probe, read_frames, read_sound, sound_duration
from metrics.networks.deep3d import HEADS, Deep3DFace
from runtime.errors import UserError
from tests.helpers.refusals import refuses
from tests.helpers.videos import write_video

SPOKEN = [31] * 3 + [2] * 3 + [32] * 9 + [31] * 15  # silence, AH, T and silence
PAIRS = ("pairs/feifeili_clip1", "pairs/reagan_clip1")


@pytest.fixture(scope="module")
def faces(assets):
    """One detector for all tests of this file, because it starts slowly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMOTIVETALK_WEIGHTS", str(assets / "weights"))
        yield FaceFinder(build_landmark_detector("mediapipe"))


def shortened(video, folder, frames):
    """Writes the first frames of a video."""
    return write_video(folder / "short.mp4", islice(read_frames(video), frames), crf=4)


def random_network():
    """Deep3DFaceRecon with random weights, because the official ones cannot be downloaded. Tests shapes and order."""
    torch.manual_seed(0)
    tensors = {f"backbone.{name}": value for name, value in resnet50(weights=None).state_dict().items()}
    for index, width in enumerate(HEADS):
        tensors |= {f"final_layers.{index}.weight": torch.randn(width, 2048, 1, 1)}
        tensors |= {f"final_layers.{index}.bias": torch.full((width,), float(index))}
    return Deep3DFace({name: value for name, value in tensors.items() if not name.startswith("backbone.fc")})


def track_of(rows, rate=25.0):
    ramp = np.arange(rows, dtype=np.float32)[:, None] / rate
    return Coefficients(np.repeat(0.1 * ramp, 257, 1), 1 + np.repeat(ramp, 5, 1), rate)


def test_every_published_3dmm_file_is_read_with_its_rate(assets):
    files = sorted((assets / "data").glob("*/*.mat"))
    assert len(files) == 18
    for file in files:
        track = read_mat(file, probe(file.with_suffix(".mp4")).duration)
        assert track.rate == (30 if file.parent.name == "pairs" else 25), file.name
        assert np.array_equal(track.coeff, loadmat(file)["coeff"])


def test_a_written_file_has_the_layout_of_the_published_ones(assets, tmp_path):
    published = loadmat(assets / "data" / f"{PAIRS[0]}.mat")
    write_mat(tmp_path / "own.mat", track_of(40))
    own = loadmat(tmp_path / "own.mat")
    for name in ("coeff", "transform_params"):
        assert own[name].dtype == published[name].dtype
        assert own[name].shape[1:] == published[name].shape[1:]
    assert [path.name for path in tmp_path.iterdir()] == ["own.mat"]


@pytest.mark.slow
def test_our_alignment_agrees_with_the_published_files(assets, faces, tmp_path):
    """The published files used another detector: scale and position agree within 2 %, motion is correlated."""
    source = assets / "data" / "mead_style" / "M030_front_happy_level3_001.mp4"
    video = shortened(source, tmp_path, 40)
    ours = np.array([face.transform for face in aligned(FrameReader(video), faces.in_video(video))])
    theirs = loadmat(source.with_suffix(".mat"))["transform_params"][: len(ours)]
    assert np.array_equal(ours[:, :2], theirs[:, :2])
    assert (ours[:, 2] / theirs[:, 2]).mean() == pytest.approx(1, abs=0.02)
    assert np.abs((ours - theirs)[:, 3:].mean(0)).max() < 0.02 * 256
    assert min(np.corrcoef(ours[:, k], theirs[:, k])[0, 1] for k in (3, 4)) > 0.7


@pytest.mark.slow
def test_a_track_from_a_video_has_a_row_per_frame(assets, faces, tmp_path):
    video = shortened(assets / "data" / "video" / "hdtf_RD_Radio10_0_clip_0.mp4", tmp_path, 4)
    network = random_network()
    face = faces.in_video(video)
    track = extract(network, video, face, (0, 0, 512), 256)
    assert track.coeff.shape == (4, 257)
    assert np.array_equal(track.transform[:, :2], np.full((4, 2), 256))
    # In half the picture the face is half as large, so the scale is twice as large.
    whole = extract(network, video, face, (0, 0, 512), 512)
    assert track.transform[:, 2] == pytest.approx(2 * whole.transform[:, 2], rel=1e-3)
    assert track.transform[:, 3:] == pytest.approx(whole.transform[:, 3:] / 2, abs=1)


def test_resampling_keeps_the_motion():
    track = track_of(50).resampled(30)
    assert (len(track), track.rate) == (60, 30)
    assert track.coeff[:58, 100] == pytest.approx(np.arange(58) / 300, abs=1e-6)
    assert track.resampled(30) is track


def test_a_pose_is_extended_with_its_last_row():
    track = track_of(10).extended(14)
    assert len(track) == 14
    assert (track.coeff[9:] == track.coeff[9]).all()
    assert len(track_of(10).extended(3)) == 10


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda mat: mat.pop("coeff"), "has no coeff (found transform_params)"),
        (lambda mat: mat.update(coeff=mat["coeff"][:, :64]), r"expected floats (L, 257)"),
        (lambda mat: mat.update(coeff=mat["coeff"][:-9]), "41 rows of coeff and 50 of transform_params"),
        (lambda mat: mat["coeff"].__setitem__((3, 3), np.nan), "values that are not finite"),
        (lambda mat: mat["coeff"].__setitem__((3, 225), 40.0), "head angles in radians, found 40.0"),
        (lambda mat: mat["transform_params"].__setitem__((0, 2), -1), "should be width, height, scale, x, y"),
    ],
)
def test_a_wrong_3dmm_file_is_refused(tmp_path, change, wanted):
    track = track_of(50)
    mat = {"coeff": track.coeff.copy(), "transform_params": track.transform.copy()}
    change(mat)
    savemat(tmp_path / "face.mat", mat)
    seconds = len(mat.get("coeff", mat["transform_params"])) / 25
    refuses(UserError, re.escape(wanted), read_mat, tmp_path / "face.mat", seconds)


@pytest.mark.parametrize("rows", [20, 35, 100])
def test_a_3dmm_file_of_another_video_is_refused(tmp_path, rows):
    write_mat(tmp_path / "face.mat", track_of(rows))
    refuses(UserError, r"per second, expected 25 \(DreamTalk\) or 30", read_mat, tmp_path / "face.mat", 2.0)


@pytest.mark.parametrize("name", PAIRS)
def test_published_phonemes_are_used_unchanged(assets, name):
    path = assets / "data" / f"{name}_seq.json"
    published = json.loads(path.read_text())
    seconds = sound_duration(assets / "data" / f"{name}.wav")
    found = phonemes_of(path, seconds)
    assert found == published[: len(found)]
    assert len(found) == int(30 * seconds) == len(published)
    assert len(loadmat(assets / "data" / f"{name}.mat")["coeff"]) == len(published)


def test_recognised_phonemes_are_in_sync_with_the_published_ones(assets):
    pytest.importorskip("pocketsphinx", reason="needs pocketsphinx, an optional package")
    published = np.array(json.loads((assets / "data" / f"{PAIRS[0]}_seq.json").read_text()))
    sound = read_sound(assets / "data" / f"{PAIRS[0]}.wav")
    found = np.array(from_intervals(recognise(sound, RATE), len(sound) / RATE))
    spoken = published != PHONES.index("SIL")

    def agreement(shift):
        return (np.roll(found, shift) == published)[spoken].mean()

    assert agreement(0) > 0.3  # of 41 phones; shifted it is a third of that
    assert max(agreement(-15), agreement(15)) < 0.5 * agreement(0)


def test_intervals_become_one_phone_per_thirtieth_of_a_second():
    labelled = [PhonemeInterval(0.0, 0.1, "SIL"), PhonemeInterval(0.1, 0.2, "AH"), PhonemeInterval(0.2, 0.5, "T")]
    assert from_intervals(labelled, 1.0) == SPOKEN


def textgrid(**tiers):
    """TextGrid in Praat's long format, with tiers of (begin, end, text)."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", "xmax = 1.0", "tiers? <exists>"]
    lines += [f"size = {len(tiers)}", "item []:"]
    for place, (name, intervals) in enumerate(tiers.items(), 1):
        lines += [f"    item [{place}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", "        xmax = 1.0", f"        intervals: size = {len(intervals)}"]
        for number, (begin, end, text) in enumerate(intervals, 1):
            lines += [f"        intervals [{number}]:", f"            xmin = {begin}", f"            xmax = {end}"]
            lines += [f'            text = "{text}"']
    return "\n".join(lines) + "\n"


WORDS = [("0", "1.0", 'hello 7 ""world"" again')]
TEXTGRID = textgrid(words=WORDS, phones=[("0", "0.1", ""), ("0.1", "2e-1", "AH0"), ("0.2", "0.5", "T")])
# Praat's short format has one value per line.
SHORT_TEXTGRID = (
    'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n1.0\n<exists>\n1\n"IntervalTier"\n"anna - phones"\n'
    '0\n1.0\n3\n0\n0.1\n"sil"\n0.1\n0.2\n"AH1"\n0.2\n0.5\n"T"\n'
)
LAB = "0 0.1 sp\n0.1 0.2 ah_B\n\n0.2 0.5 T_E\n"


@pytest.mark.parametrize(("ending", "text"), [(".TextGrid", TEXTGRID), (".TextGrid", SHORT_TEXTGRID), (".lab", LAB)])
def test_all_aligner_formats_give_the_same_phonemes(tmp_path, ending, text):
    path = tmp_path / f"speech{ending}"
    path.write_text(text)
    assert phonemes_of(path, 1.0) == SPOKEN


@pytest.mark.parametrize(
    ("ending", "text", "wanted"),
    [
        (".json", "[31, 2", "is not JSON"),
        (".json", "[31, 41]", "whole numbers from 0 to 40"),
        (".json", json.dumps([31] * 250), "250 phonemes for 10.00 s are 25.0 per second, expected 30"),
        (".lab", "0 a", "line 1: expected 'start end phone'"),
        (".lab", "0 5 ɛ", "'ɛ' is not a phone of the CMU dictionary"),
        (".lab", "0 5 AH\n4 6 T", "phones overlap at 4.000 s"),
        (".lab", "0 30 AH", "ends at 30.00 s, the sound lasts 10.00 s"),
        (".TextGrid", TEXTGRID.replace("phones", "letters"), "has no phone tier (found words, letters)"),
    ],
)
def test_wrong_phonemes_are_refused(tmp_path, ending, text, wanted):
    path = tmp_path / f"speech{ending}"
    path.write_text(text)
    refuses(UserError, re.escape(wanted), phonemes_of, path, 10.0)


def test_there_are_41_phones_in_alphabetical_order():
    assert len(PHONES) == 41
    assert list(PHONES) == sorted(PHONES)


@pytest.mark.parametrize(
    ("seconds", "padded"),
    [(1.4, 5.2), (5.0, 5.2), (4.99, 5.2), (5.001, 5.001), (7.0, 7.0), (9.98, 10.18), (10.0, 10.2), (15.0, 15.2)],
)
def test_sound_is_padded_where_aniportrait_would_fail(seconds, padded):
    assert padded_length(round(seconds * RATE), load_system("aniportrait").speech) == round(padded * RATE)
    assert padded_length(round(seconds * RATE), Speech()) == round(seconds * RATE)


@pytest.mark.parametrize("samples", range(80_000, 81_000, 40))
def test_padded_sound_loses_no_chunk(samples):
    """AniPortrait's chunks of five seconds at 30 fps, of which it joins the last two, cover the whole speech."""
    for seconds in (0, 5, 10):
        given = padded_length(samples + seconds * RATE - 500, Speech(longer_than=5.0, no_multiple_of=5.0))
        chunks, frames = -(-given // 80_000), -(-given * 30 // RATE)
        assert chunks >= 2
        assert 150 * (chunks - 1) + frames % 150 == frames
