"""Landmark files: nearest rows in time, several faces, damaged files."""

import csv
import tracemalloc
import warnings

import numpy as np
import pytest

from encoders.landmarks.sidecar import LandmarkFileError, SidecarDetector
from tests.helpers.refusals import refuses

COORDINATES = [f"{axis}_{index}" for axis in "xy" for index in range(68)]
OPENFACE = ["frame", "face_id", "timestamp", "confidence", "success", "gaze_0_x", *COORDINATES]


def face(x=100.0, y=100.0, size=60.0):
    """(68, 2) points of a face with the given centre and size."""
    grid = np.stack(np.meshgrid(np.linspace(-0.5, 0.5, 17), np.linspace(-0.5, 0.5, 4)), -1).reshape(68, 2)
    return grid * size + [x, y]


def row(time, points, face_id=0, confidence=0.98, success=1):
    return [round(time * 25) + 1, face_id, f"{time:.3f}", confidence, success, 0.1, *points.T.ravel().round(3)]


def write(path, rows, header=OPENFACE, encoding="utf-8"):
    with open(path, "w", newline="", encoding=encoding) as file:
        file.write(", ".join(header) + "\n")
        csv.writer(file).writerows(rows)


def pictures(count, size=(320, 240)):
    return (np.zeros((size[1], size[0], 3), np.uint8) for _ in range(count))


def track(tmp_path, rows, frames=10, start=0.0, size=(320, 240), **options):
    write(tmp_path / "clip.csv", rows, **options)
    return SidecarDetector().track(pictures(frames, size), tmp_path / "clip.mp4", start)


def xs(tracking):
    return [None if found is None else round(float(found.landmarks[:, 0].mean()), 2) for found in tracking.faces]


def test_each_frame_takes_its_row(tmp_path):
    tracking = track(tmp_path, [row(i / 25, face(100 + i)) for i in range(10)])
    assert xs(tracking) == [100 + i for i in range(10)]
    assert (tracking.size, tracking.several) == ((320, 240), 0)
    np.testing.assert_allclose(tracking.faces[3].landmarks, face(103), atol=1e-3)
    assert tracking.faces[3].landmarks.dtype == np.float32
    assert tracking.faces[3].blendshapes is None


@pytest.mark.parametrize("fps", [12.5, 29.97, 30.0, 50.0])
def test_nearest_row_at_other_frame_rates(tmp_path, fps):
    rows = [row(i / fps, face(100 + i * 25 / fps)) for i in range(round(fps) + 1)]
    found = xs(track(tmp_path, rows, frames=25))
    assert np.abs(np.array(found) - (100 + np.arange(25))).max() <= 0.5 * 25 / fps + 0.03


def test_start_of_the_clip(tmp_path):
    rows = [row(i / 25, face(100 + i)) for i in range(40)]
    assert xs(track(tmp_path, rows, frames=10, start=1.2)) == [130 + i for i in range(10)]


def test_rows_without_success_or_confidence_are_no_face(tmp_path):
    rows = [row(i / 25, face(100 + i)) for i in range(10)]
    rows[2] = row(2 / 25, face(102), success=0)
    rows[5] = row(5 / 25, face(105), confidence=0.3)
    rows[7][10] = "nan"
    found = xs(track(tmp_path, rows))
    assert [index for index, x in enumerate(found) if x is None] == [2, 5, 7]


def test_missing_row_is_no_face(tmp_path):
    rows = [row(i / 25, face(100 + i)) for i in range(20) if i != 4]
    assert [i for i, x in enumerate(xs(track(tmp_path, rows, frames=20))) if x is None] == [4]


def test_speaker_is_the_largest_face_over_the_clip(tmp_path):
    rows = []
    for i in range(10):
        rows.append(row(i / 25, face(80, size=70), face_id=0))
        rows.append(row(i / 25, face(240, size=50 if i else 100), face_id=1))  # larger for a moment
    tracking = track(tmp_path, rows)
    assert xs(tracking) == [80.0] * 10
    assert tracking.several == 1


def test_small_and_overlapping_faces_do_not_count_as_several(tmp_path):
    faces = {3: face(80, size=70), 1: face(240, size=30), 2: face(85, 102, size=66)}
    rows = [row(i / 25, points, face_id=number) for i in range(10) for number, points in faces.items()]
    tracking = track(tmp_path, rows)
    assert xs(tracking) == [80.0] * 10
    assert tracking.several == 0


def test_optional_columns_may_be_missing(tmp_path):
    rows = [[f"{i / 25:.3f}", *face(100 + i).T.ravel()] for i in range(10)]
    assert xs(track(tmp_path, rows, header=["timestamp", *COORDINATES], encoding="utf-8-sig"))[:2] == [100, 101]


def test_missing_file_is_refused(tmp_path):
    message = r"clip é\.csv: no landmark file next to the video"
    refuses(LandmarkFileError, message, SidecarDetector().track, pictures(3), tmp_path / "clip é.mp4")


def test_damaged_files_are_refused(tmp_path):
    good = [row(i / 25, face()) for i in range(10)]
    message, header = r"clip\.csv: lacks the columns x_0, x_1, x_2 and 133 more", ["frame", "face_id", "timestamp"]
    refuses(LandmarkFileError, message, track, tmp_path, [[1, 0, 0]], header=header)
    refuses(LandmarkFileError, "has no rows", track, tmp_path, [])
    refuses(LandmarkFileError, "line 5 is damaged", track, tmp_path, [*good[:3], good[3][:50], *good[4:]])
    refuses(LandmarkFileError, r"line 3 is damaged .*'x'", track, tmp_path, [good[0], ["x"] * len(OPENFACE), *good[2:]])
    refuses(LandmarkFileError, "rows for 10 of the clip's 40 frames", track, tmp_path, good, frames=40)
    refuses(LandmarkFileError, "another resolution", track, tmp_path, [row(i / 25, face(1400, 700)) for i in range(10)])
    for content, message in (
        (b"\xff\xfe\x00binary\x80" * 50, "cannot be read as a CSV file"),
        (b"", "lacks the columns timestamp"),
    ):
        (tmp_path / "clip.csv").write_bytes(content)
        refuses(LandmarkFileError, message, SidecarDetector().track, pictures(3), tmp_path / "clip.mp4")


def test_many_faces_at_one_time_are_refused(tmp_path):
    rows = [row(time, face(), face_id=number) for time in (0.0, 60.0) for number in range(51)]
    refuses(LandmarkFileError, "has 51 faces at one time, expected at most 50", track, tmp_path, rows)


@pytest.mark.parametrize("column", ["face_id", "confidence", "success", "x_3", "y_67"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e308", "-1e308", "1e-320"])
def test_strange_numbers_are_no_face(tmp_path, column, value):
    rows = [row(i / 25, face(100 + i)) for i in range(10)]
    for n in (3, 4):
        rows[n][OPENFACE.index(column)] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = track(tmp_path, rows).faces
    assert all(one is None or np.isfinite(one.landmarks).all() for one in found)
    assert sum(one is not None for one in found) >= 8


def test_memory_of_a_large_file_is_bounded(tmp_path):
    tracemalloc.start()
    (tmp_path / "clip.csv").write_text(", ".join(OPENFACE) + "\n" + "0,\n" * 500_000)
    refuses(LandmarkFileError, "line 2 is damaged", SidecarDetector().track, pictures(1), tmp_path / "clip.mp4")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_clip_without_frames(tmp_path):
    assert track(tmp_path, [row(0, face())], frames=0).faces == []


def test_single_images_are_refused():
    with pytest.raises(LandmarkFileError, match="landmarks.name=mediapipe"):
        SidecarDetector().detect(np.zeros((8, 8, 3), np.uint8))
