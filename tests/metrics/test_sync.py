"""Sync-C and Sync-D against syncnet_python: MFCC, network, distances, a real clip, and the ffmpeg steps."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from metrics.functional.mfcc import mel_filterbank, mfcc
from metrics.functional.sync import audio_windows, sync_distances, sync_scores, sync_windows
from metrics.functional.tracking import Track
from metrics.networks.syncnet import SyncNet
from metrics.sync import SyncConfidenceDistance
from metrics.sync_pipeline import FFmpeg, TrackClip, read_crop, read_wav, reference_tracks, score_clip, tracks_in_memory
from tests.helpers.refusals import refuses


@pytest.fixture(scope="module")
def oracle(oracle_folder):
    folder = oracle_folder / "syncnet"
    return json.loads((folder / "expected.json").read_text()), folder


@pytest.fixture(scope="module")
def network(rule_weights):
    return SyncNet(rule_weights("syncnet_S"))


@pytest.fixture(scope="module")
def clip(oracle):
    frames = [np.asarray(Image.open(path).convert("RGB"))[:, :, ::-1] for path in sorted(oracle[1].glob("clip_jpg/*"))]
    stacked = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    return TrackClip(stacked, read_wav(oracle[1] / "clip_audio.wav"), _track(len(frames)), "reference")


def _track(frames):
    return Track(np.arange(frames), np.zeros((frames, 4)), frames)


def test_mfcc_matches_python_speech_features(oracle):
    stored = np.load(oracle[1] / "mfcc.npz")
    np.testing.assert_allclose(mel_filterbank(), stored["filterbank_26x257"], atol=1e-12)
    names = [name.removeprefix("wav_") for name in stored.files if name.startswith("wav_")]
    assert len(names) == 7
    for name in names:
        np.testing.assert_allclose(mfcc(stored[f"wav_{name}"]), stored[f"mfcc_{name}"], rtol=0, atol=1e-9, err_msg=name)


def test_distances_and_scores_match_syncnet_python(oracle):
    stored = np.load(oracle[1] / "pdist.npz")
    assert len(oracle[0]["pdist"]) == 7
    for name, want in oracle[0]["pdist"].items():
        lip, audio = (torch.from_numpy(stored[f"{name}_{x}"]) for x in ("im", "cc"))
        distances = sync_distances(lip, audio, want["vshift"], chunk=32)
        np.testing.assert_allclose(distances, stored[f"{name}_dists"], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(distances.mean(0), stored[f"{name}_mdist"], rtol=1e-6)
        scores = sync_scores(distances)
        assert scores.offset == want["offset"], name
        assert scores.confidence == pytest.approx(want["conf"], abs=1e-5), name
        assert scores.distance == pytest.approx(want["min_dist"], rel=1e-6), name
        np.testing.assert_allclose(scores.frame_confidence, stored[f"{name}_fconfm"], atol=1e-5)


@pytest.mark.parametrize("offset", range(-5, 6))
def test_injected_offsets_are_found(offset):
    torch.manual_seed(0)
    stream = torch.randn(80, 64)
    lip = stream[20:60] + 0.1 * torch.randn(40, 64)
    audio = stream[20 + offset : 60 + offset]  # audio[t] belongs to lip[t + offset], so the audio leads by ``offset``
    assert sync_scores(sync_distances(lip, audio)).offset == offset


@pytest.mark.slow
def test_network_matches_syncnet_python(oracle, network):
    stored = np.load(oracle[1] / "net_rule.npz")
    windows = torch.from_numpy(np.random.RandomState(1).randint(0, 256, (3, 3, 5, 224, 224)).astype(np.float32))
    with torch.inference_mode():
        np.testing.assert_allclose(network(windows), stored["lip_out"], rtol=1e-4, atol=1e-4)
        features = network.netcnnlip(windows).flatten(1)
    np.testing.assert_allclose(features, stored["lipfeat_out"], rtol=1e-4, atol=1e-4)
    sound = network.audio(torch.from_numpy(stored["aud_in"]))
    np.testing.assert_allclose(sound, stored["aud_out"], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_scores_of_a_real_clip(oracle, network, clip):
    stored, want = np.load(oracle[1] / "clip_expected.npz"), oracle[0]["clip"]
    windows = sync_windows(len(clip.frames), len(clip.samples))
    assert windows == want["n_windows"]
    lip = network.lip(clip.frames[: windows + 4])
    audio = network.audio(audio_windows(clip.samples, windows))
    np.testing.assert_allclose(lip, stored["im_feat"], rtol=1e-4, atol=1e-5 * np.abs(stored["im_feat"]).max())
    np.testing.assert_allclose(audio, stored["cc_feat"], rtol=1e-4, atol=1e-4)
    distances = sync_distances(lip, audio)
    np.testing.assert_allclose(distances, stored["dists"], rtol=1e-5)
    scores = sync_scores(distances)
    assert scores.offset == want["offset"]
    assert scores.confidence == pytest.approx(want["conf"], rel=1e-4)
    assert scores.distance == pytest.approx(want["min_dist"], rel=1e-5)


@pytest.mark.slow
def test_checkpoints_without_batch_counters_load(rule_weights):
    weights = rule_weights("syncnet_S")
    SyncNet({name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")})
    del weights["netfclip.3.bias"]
    refuses(ValueError, "1 missing", SyncNet, weights)


def _short(clip, start, frames):
    """Part of the real clip with its sound."""
    sound = clip.samples[start * 640 : (start + frames) * 640]
    return TrackClip(clip.frames[start : start + frames], sound, _track(frames), clip.mode)


@pytest.mark.slow
def test_metric_averages_the_longest_tracks(network, clip):
    short, long, other = _short(clip, 0, 8), _short(clip, 20, 14), _short(clip, 60, 12)
    metric = SyncConfidenceDistance(network)
    for tracks in ([short, long], [other], []):
        metric.update(tracks)
    with pytest.warns(UserWarning, match="1 of 3 videos have no face track"):
        result = metric.compute()
    one, two = (score_clip(track, network) for track in (long, other))
    assert float(result["sync_c"]) == pytest.approx((one.confidence + two.confidence) / 2, rel=1e-9)
    assert float(result["sync_d"]) == pytest.approx((one.distance + two.distance) / 2, rel=1e-9)
    assert (int(result["videos"]), int(result["without_track"])) == (2, 1)
    fast = TrackClip(short.frames, short.samples, short.track, "fast")
    refuses(ValueError, "cannot be averaged", metric.update, [fast])
    metric.reset()
    metric.update([])
    refuses(ValueError, "none of 1 videos has a face track", metric.compute)


def test_short_and_invalid_input_is_refused(network, clip):
    refuses(ValueError, "at least 6 frames", score_clip, _short(clip, 0, 5), network)
    refuses(ValueError, "224, 224", network.lip, torch.zeros(6, 3, 96, 96, dtype=torch.uint8))
    refuses(ValueError, "NaN", sync_scores, torch.full((3, 31), float("nan")))
    refuses(ValueError, "mono samples", mfcc, np.zeros((2, 100), np.int16))


@pytest.mark.slow
def test_fast_mode_tracks_and_crops(network):
    grey = np.broadcast_to(np.arange(240, dtype=np.uint8)[:, None, None], (240, 320, 3))
    frames = [np.roll(grey, i, axis=0) for i in range(70)]
    boxes = [np.array([[100.0 + i / 2, 60, 210 + i / 2, 180]]) for i in range(70)]
    for index in (*range(8), 30):  # no face before frame 8; one missing detection, which is interpolated
        boxes[index] = np.zeros((0, 4))
    samples = np.arange(70 * 640).astype(np.int16)
    (clip,) = tracks_in_memory(frames, samples, boxes)
    assert (clip.mode, clip.frames.shape, clip.frames.dtype) == ("fast", (62, 3, 224, 224), torch.uint8)
    np.testing.assert_array_equal(clip.track.frames, np.arange(8, 70))
    assert clip.track.detections == 61
    np.testing.assert_allclose(clip.track.boxes[22], [115, 60, 225, 180])
    np.testing.assert_array_equal(clip.samples, samples[8 * 640 :])
    for strict in ({"min_track": 61}, {"min_face": 130}):
        assert tracks_in_memory(frames, samples, boxes, **strict) == []
    refuses(ValueError, "face boxes of 69", tracks_in_memory, frames, samples, boxes[:-1])
    refuses(ValueError, "int16", tracks_in_memory, frames, samples.astype(np.float32), boxes)


def test_missing_or_incomplete_ffmpeg_is_refused(tmp_path):
    refuses(RuntimeError, "not found", FFmpeg.find, str(tmp_path / "ffmpeg"))
    poor = tmp_path / "ffmpeg"
    poor.write_text("#!/bin/sh\necho ' V....D mpeg4 x'; echo ' V....D mjpeg x'; echo ' A....D pcm_s16le x'\n")
    poor.chmod(0o755)
    refuses(RuntimeError, "libmp3lame", FFmpeg.find, str(poor))


@pytest.mark.slow
def test_read_crop_runs_the_original_commands(oracle, clip, tmp_path):
    generated = read_crop(oracle[1] / "clip_00000.avi", tmp_path, FFmpeg.find(), _track(202))
    np.testing.assert_array_equal(generated.samples, clip.samples)
    assert generated.frames.shape == clip.frames.shape
    assert (
        generated.frames.float() - clip.frames.float()
    ).abs().mean() < 2  # bit-exact only with the ffmpeg build of the reference data


@pytest.mark.slow
def test_reference_pipeline(oracle, clip, assets, tmp_path):
    pytest.importorskip("cv2")
    boxes = iter(range(1000))

    def detector(frames):
        corners = ((150 + 4 * np.sin(i / 7), 110 + 3 * np.cos(i / 9)) for _, i in zip(frames, boxes, strict=False))
        return [np.array([[left, top, left + 210, top + 260]]) for left, top in corners]

    video = assets / "data" / "video" / "hdtf_WDA_AOC_000.mp4"
    (generated,) = reference_tracks(video, tmp_path, detector, FFmpeg.find(), min_track=100)
    assert generated.mode == "reference"
    # The reference crop has the two frames that ffmpeg duplicated at the end. With this OpenCV, syncnet_python tracks
    # 200 frames of this video, as here (python -m tools.parity).
    frames = len(clip.frames) - 2
    assert len(generated.frames) == frames
    assert (generated.frames.float() - clip.frames[:frames].float()).abs().mean() < 4
    samples = len(generated.samples)
    assert samples == frames * 640
    cosine = np.corrcoef(generated.samples.astype(np.float64), clip.samples[:samples].astype(np.float64))[0, 1]
    assert cosine > 0.9  # MP3 encoders differ and may shift the sound by some samples


FACE = (60, 50, 190, 200)


@dataclass(frozen=True)
class Kind:
    """A kind of video, and what syncnet_python finds in it."""

    span: tuple[int, int]
    windows: int
    values: tuple[tuple[float, float], ...]  # Sync-C and Sync-D of each face
    pictures: str = "scale=256:256,fps=25"
    sound: float = 3.2  # seconds
    faces: tuple[tuple[int, ...], ...] = (FACE,)
    offset: int = -15

    def write(self, ffmpeg, source, folder):
        """Writes 3.2 seconds of the source."""
        video, sound, clip = folder / "video.mp4", folder / "sound.wav", folder / "clip.mp4"
        x264 = ("-c:v", "libx264", "-crf", "8", "-pix_fmt", "yuv420p", "-threads", "1")
        ffmpeg("-t", "3.2", "-i", source, "-map", "0:v", "-vf", self.pictures, *x264, "-an", video)
        ffmpeg("-t", str(self.sound), "-i", source, "-vn", "-ac", "1", "-ar", "16000", sound)
        ffmpeg("-i", video, "-i", sound, "-map", "0:v", "-map", "1:a", "-c:v", "copy", "-b:a", "128k", clip)
        return clip


def white(frames):
    return f"scale=256:256,fps=25,drawbox=c=white:t=fill:enable='lt(n,{frames})'"


# syncnet_python 6efbb1c with PySceneDetect 0.5.1, ffmpeg 9.0.2, OpenCV 5.1.0 and rule weights, by
# ``python -m tools.parity``. Older builds duplicate and decode another number of frames at 24 fps.
ORIGINAL = {
    "25 fps": Kind((0, 79), 75, ((0.91897, 24.22467),)),
    "30 fps": Kind((0, 81), 76, ((0.90577, 24.21974),), "scale=256:256,fps=30"),
    "24 fps": Kind((0, 79), 75, ((0.92093, 24.23848),), "scale=256:256,fps=24"),
    "shorter sound": Kind((0, 79), 57, ((1.20889, 24.11686),), sound=2.4),
    "longer sound": Kind((0, 79), 75, ((0.91897, 24.22464),), sound=4.8),
    "cut after 5 frames": Kind((5, 79), 70, ((1.00973, 24.17192),), white(5)),
    "cut after 12 frames": Kind((12, 79), 63, ((1.18385, 23.93151),), white(12)),
    "512 pixels": Kind((0, 79), 75, ((0.91246, 24.40167),), "fps=25", faces=((120, 100, 380, 400),)),
    "two faces": Kind(
        (0, 79),
        75,
        ((0.91849, 24.22711), (0.91854, 24.22461)),
        "scale=256:256,fps=25,split[a][b];[a][b]hstack",
        faces=(FACE, (316, 50, 446, 200)),
    ),
}
DAILY = ("30 fps", "shorter sound", "cut after 5 frames")


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if kind in DAILY else pytest.mark.nightly) for kind in ORIGINAL]
)
def test_tracks_and_scores_equal_syncnet_python(kind, assets, network, tmp_path):
    pytest.importorskip("cv2")
    ffmpeg, wanted = FFmpeg.find(), ORIGINAL[kind]
    clip = wanted.write(ffmpeg, assets / "data" / "video" / "hdtf_WDA_AOC_000.mp4", tmp_path)
    boxes = np.array(wanted.faces, float)
    tracks = reference_tracks(clip, tmp_path / "work", lambda frames: [boxes] * len(frames), ffmpeg, min_track=20)
    scores = [score_clip(track, network) for track in tracks]
    assert [(int(track.track.frames[0]), int(track.track.frames[-1])) for track in tracks] == [wanted.span] * len(boxes)
    assert [(one.windows, one.offset) for one in scores] == [(wanted.windows, wanted.offset)] * len(boxes)
    # Other builds of ffmpeg encode sound and crops a little differently.
    for one, values in zip(scores, wanted.values, strict=True):
        assert (one.confidence, one.distance) == pytest.approx(values, rel=0.02)


def test_video_without_sound_is_refused(oracle, tmp_path):
    silent = oracle[1] / "two_shots.avi"
    refuses(
        RuntimeError,
        "failed",
        reference_tracks,
        silent,
        tmp_path,
        lambda frames: [np.zeros((0, 4))] * len(frames),
        FFmpeg.find(),
    )
