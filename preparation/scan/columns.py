"""Columns of a scan: one row per shot of one clip. A measure that could not be taken is null.

Frames are counted at 25 fps. Times are seconds on the clip's clock, which starts with the first picture or sound.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

SCAN_SCHEMA = 3  # grows when a column or the way a measure is taken changes; rows of another number are scanned again


@dataclass(frozen=True)
class ScanColumn:
    """One column: its name, Arrow type and meaning."""

    name: str
    type: pa.DataType
    meaning: str


def _columns(text: str, kind: pa.DataType) -> list[ScanColumn]:
    return [ScanColumn(name.strip(), kind, meaning.strip()) for name, _, meaning in (
        line.partition(":") for line in text.strip().splitlines()
    )]  # fmt: skip


COLUMNS: tuple[ScanColumn, ...] = (
    *_columns(
        """
        key: unique name of the shot: the clip's key and the shot's number
        clip: key of the clip
        source: path relative to the source folder
        path: path of the video
        sound: path of a sound file that replaces the video's own track
        speaker: speaker by the dataset's naming
        split: train, val or test
        emotion: emotion of the dataset
        view: camera of the dataset
        box: crop of the list or annotation: left, top, width and height, pixels
        problem: reason for which the clip could not be scanned; null for a scanned one
        detail: explanation of the problem
        sha256: hash of the video file
        sound_sha256: hash of the sound file that replaces the video's own track
        duplicate_of: key of the first clip with equal bytes and span
        person: key of the first shot of the same person, if ArcFace's weights are there
        video_codec: codec of the pictures
        pixel_format: layout of the stored pixels
        transfer: transfer function: bt709, smpte2084 (PQ) and arib-std-b67 (HLG) are the usual ones
        colours: colour matrix, unspecified where the file is not tagged
        audio_codec: codec of the sound
        phash: perceptual hash (64-bit DCT) of the shot's middle picture; near duplicates differ in few bits
        """,
        pa.string(),
    ),
    *_columns(
        """
        level: intensity of the emotion, 1 to 3
        shot: number of the shot in its clip, from 0
        shots: number of shots of the clip
        first_frame: first frame of the shot in the clip
        frames: length of the shot, frames
        width: width of the pictures, pixels
        height: height of the pictures, pixels
        rotation: rotation that the file asks for, degrees
        bits: bits per colour sample
        sound_rate: samples per second of the stored sound
        channels: channels of the stored sound
        clip_person: number of the person among those of the clip, 0 is seen longest; by ArcFace, or else by the shape
        face_gap: longest run of frames without the face
        frozen_frames: longest run of equal pictures, frames
        lip_envelope_offset: lag of the sound behind the lips with the largest lip_envelope_r, -5 to 5 frames
        syncnet_offset: the same by SyncNet, -15 to 15 frames, if its weights are there
        border_left: width of the black bar at the left, pixels
        border_top: height of the black bar at the top, pixels
        border_right: width of the black bar at the right, pixels
        border_bottom: height of the black bar at the bottom, pixels
        """,
        pa.int32(),
    ),
    *_columns(
        """
        start: start of the shot, seconds; not before both tracks have started
        end: end of the shot, seconds; not after either track has ended
        """,
        pa.float64(),
    ),
    *_columns(
        """
        cut_score: how far the cut at the shot's start stands out from the motion around it; 0 at the clip's start
        late_picture: time before the first picture, which has sound only, seconds
        late_sound: time before the first sound, which has pictures only, seconds
        fps: frame rate of the file
        pixel_aspect: width of a pixel over its height
        face_share: share of frames with the face
        face_px: median longer side of the face from chin to hairline, pixels
        span_px: longer side of the box that holds the face in all frames, pixels
        face_x: median centre of the face, share of the width
        face_y: median centre of the face, share of the height
        face_motion: median motion of the face's centre between frames, face sizes
        face_outside: largest share of the face outside the picture, three frames excepted
        several: share of the checked frames with a second face of comparable size
        yaw: median turn of the head to the side, degrees
        pitch: median nod of the head, degrees
        roll: median tilt of the head, degrees
        turned: 95th percentile of the angle between head and camera, degrees
        pose_motion: median rotation of the head between frames, degrees
        lip_motion: standard deviation of the lips' opening, share of the face's height
        blur: blur of the face, 0 sharp to 1 (Crete et al. 2007), at 160 pixels at most
        sharpness: variance of the face's Laplacian over that of its grey levels, at 160 pixels at most
        border: share of the picture that is black bars
        frozen_share: share of frames equal to the one before
        loudness: RMS level of the sound where there is speech, or of all, dBFS
        loudest: RMS level of the loudest second, dBFS
        speech: share of the shot with speech, by level and its variation
        level_range: distance of loud parts (95th percentile) from quiet ones (10th), dB
        silent: share of the shot whose samples are zero, made up where a track is missing or digital silence
        silence_s: longest such run, seconds
        steady_tone: share of the loud parts whose strongest partial holds its pitch, as in music and hums
        lip_envelope_r: correlation of jaw opening and speech envelope at the best lag
        syncnet_confidence: SyncNet's confidence, if its weights are there
        identity_cosine: smallest cosine of a picture's face and the shot's embedding
        """,
        pa.float32(),
    ),
    *_columns(
        """
        has_sound: whether the clip has a sound track
        interlaced: whether pictures are stored as two fields
        hdr: whether the transfer function is PQ or HLG
        full_range: whether grey levels use 0 to 255 instead of 16 to 235
        """,
        pa.bool_(),
    ),
    ScanColumn("identity", pa.list_(pa.float32()), "15 landmarks turned to the front, x and y, unit size"),
    ScanColumn("embedding", pa.list_(pa.float32()), "mean unit vector of the face, if ArcFace's weights are there"),
)  # fmt: skip

SCHEMA = pa.schema([pa.field(column.name, column.type, metadata={"meaning": column.meaning}) for column in COLUMNS])
