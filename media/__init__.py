"""Video and sound in and out: pictures by timestamp, mono sound on the same clock, H.264 + AAC writing, FLAC."""

from media.flac import decode_flac, encode_flac
from media.frames import FrameReader, read_frames
from media.limits import MediaLimits
from media.look import LookLimit, dangerous_member, look_at, look_at_headers, look_at_picture, look_at_recording
from media.pictures import PictureInfo, read_picture
from media.probe import MediaInfo, probe, sound_duration
from media.recording import Recording, read_recording
from media.sound import read_sound, resample
from media.source import VIDEO_ENDINGS, CancelledSound, MediaError, NoSound, NotMedia
from media.writer import StreamWriter, VideoWriter, encode_video

__all__ = [
    "VIDEO_ENDINGS",
    "CancelledSound",
    "FrameReader",
    "LookLimit",
    "MediaError",
    "MediaInfo",
    "MediaLimits",
    "NoSound",
    "NotMedia",
    "PictureInfo",
    "Recording",
    "StreamWriter",
    "VideoWriter",
    "dangerous_member",
    "decode_flac",
    "encode_flac",
    "encode_video",
    "look_at",
    "look_at_headers",
    "look_at_picture",
    "look_at_recording",
    "probe",
    "read_frames",
    "read_picture",
    "read_recording",
    "read_sound",
    "resample",
    "sound_duration",
]
