"""Reads speech: 16 kHz mono for the audio encoder, and the sound as it is for the video.

Shapes: C channels, S samples, F frames at 25 fps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from datamodules.schema import SAMPLES_PER_FRAME
from encoders.protocols import SAMPLE_RATE
from generation.errors import GenerationError
from generation.inputs import INPUT_LIMITS
from media import MediaLimits, read_recording
from media.writer import AAC_RATES, LAYOUTS, sound_encoder
from preparation.prepare_clip import loudest_second

MAX_SOUND_RATE = 48_000  # samples per second; higher rates add nothing audible
SILENT = -60.0  # dBFS of the loudest second
LONGER = 1.1, 1.0  # ratio and seconds by which decoded speech may exceed the length of its packets


@dataclass(frozen=True)
class PreparedSpeech:
    """Speech of a video.

    Attributes:
        samples: (S,) float32 mono at 16 kHz; full scale is 1, peaks above it are kept.
        sound: (C, S') float32, the sound at ``rate`` for the video: the file's channels where players take them.
        rate: Samples per second of ``sound``: the file's own rate if AAC supports it.
        copied: File whose sound is copied into the video instead of encoding ``sound``, or None.
        codec: Codec of the video's sound: AAC, MP3 for peaks over full scale, or that of the copied sound.
        notes: Notes for the user.
    """

    samples: np.ndarray
    sound: np.ndarray
    rate: int
    copied: Path | None = None
    codec: str = "AAC"
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        """F = ceil(25 S / 16000): the last frame covers the end of the speech."""
        return -(-len(self.samples) // SAMPLES_PER_FRAME)


def read_speech(path: Path, *, length: float | None = None, limits: MediaLimits = INPUT_LIMITS) -> PreparedSpeech:
    """Reads the sound of a media file. The format is detected from the content, not the file name.

    What players play is read: ``read_recording`` repairs headers, joined files and damaged packets, and each
    repair is a note. One channel is made of several by ``media.mixing``. The video gets the channels of the file at its
    rate; MP3 and AAC that need no repair are copied. More than two channels are kept where they are 5.1, and mixed to
    one elsewhere.

    Args:
        path: Sound or video file.
        length: Seconds that looking at the file has found; a file whose sound lasts longer is refused.
        limits: Limits on the file.

    Raises:
        MediaError: If the file is missing, empty, has no sound that can be decoded, or exceeds a limit.
        GenerationError: If the sound has no samples.
    """
    if length is not None:
        limits = replace(limits, seconds=min(limits.seconds, LONGER[0] * length + LONGER[1]))
    recording = read_recording(path, limits)
    samples = recording.at(SAMPLE_RATE)
    if not len(samples):
        raise GenerationError(f"speech={path}: has no samples; choose a file with sound")
    notes = list(recording.notes)
    count = len(recording.channels)
    whole = count in LAYOUTS and (count <= 2 or recording.layout.startswith(LAYOUTS[count]))
    if not whole:
        notes.append(f"its {count} channels ({recording.layout}) become one in the video")
    if (level := loudest_second(samples)) < SILENT:
        notes.append(f"is silent (its loudest second is at {level:.0f} dBFS); the mouth will hardly move")
    notes = [f"speech={path}: {note}" for note in notes]
    if recording.codec and whole:
        return PreparedSpeech(samples, recording.channels, recording.rate, Path(path), recording.codec, tuple(notes))
    rate = SAMPLE_RATE if recording.rate < SAMPLE_RATE else MAX_SOUND_RATE
    if recording.rate in AAC_RATES and SAMPLE_RATE <= recording.rate <= MAX_SOUND_RATE:
        rate = recording.rate
    sound = recording.at(rate, channels=True) if whole else recording.at(rate)[None]
    codec = "MP3" if sound_encoder(sound, rate) == "libmp3lame" else "AAC"
    return PreparedSpeech(samples, sound, rate, codec=codec, notes=tuple(notes))
