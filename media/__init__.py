"""Video and sound in and out: pictures by timestamp, mono sound on the same clock, H.264 + AAC writing, FLAC."""

from media.flac import decode_flac, encode_flac
from media.frames import FrameReader, read_frames
from media.probe import MediaInfo, probe, sound_duration
from media.sound import read_sound, resample
from media.source import VIDEO_ENDINGS, MediaError, NoSound
from media.writer import VideoWriter, encode_video

__all__ = [
    "VIDEO_ENDINGS",
    "FrameReader",
    "MediaError",
    "MediaInfo",
    "NoSound",
    "VideoWriter",
    "decode_flac",
    "encode_flac",
    "encode_video",
    "probe",
    "read_frames",
    "read_sound",
    "resample",
    "sound_duration",
]
