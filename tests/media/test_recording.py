"""Speech is read as players play it: whole, with every repair named; strict reading refuses or is right."""

from __future__ import annotations

import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from media import MediaError, MediaLimits, NoSound, look_at_recording, read_recording, read_sound
from media.parts import Part, PartFile, parts_of
from media.recording import probe_recording
from media.source import CONTAINERS
from tests.helpers.files import overwrite
from tests.helpers.flash_clips import frame_times, make_clip
from tests.helpers.recordings import (
    KINDS,
    decibels,
    joined,
    level_of,
    make_as,
    make_recording,
    pitch,
    tone_file,
    wave_of,
    with_data_size,
)
from tests.helpers.sound import write_wav

LEVEL = decibels(wave_of(300, 1, 16_000))
NOT_MADE = {"dts", "ape"}  # FFmpeg has no encoder of them here
SILENT = {"gif", "mpegvideo", "dv"}  # hold no sound, or only with pictures of a camera


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """Ending -> a tone of 300 Hz and one of 900 Hz, a second each."""
    folder = tmp_path_factory.mktemp("tones")
    return {kind: (tone_file(folder / f"low.{kind}", 300), tone_file(folder / f"high.{kind}", 900)) for kind in KINDS}


def test_every_container_is_shown(tones):
    shown = set()
    for low, _ in tones.values():
        with av.open(str(low)) as file:
            shown |= set(file.format.name.split(","))
    assert set(CONTAINERS) - shown - NOT_MADE - SILENT == set()


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_file_needs_no_repair_and_is_read_as_by_the_strict_reader(tones, kind):
    low = tones[kind][0]
    found = read_recording(low)
    assert found.notes == ()
    strict = read_sound(low)
    mono = found.at(16_000)
    assert len(mono) == len(strict)
    np.testing.assert_allclose(mono[:-100], strict[:-100], atol=1e-6)  # the end of a span is filtered otherwise
    assert level_of(mono) == pytest.approx(LEVEL, abs=1)


@pytest.mark.parametrize("kind", KINDS)
def test_joined_files_are_read_whole(tones, kind, tmp_path):
    low, high = tones[kind]
    both = joined(tmp_path / f"both.{kind}", low, high)
    alone = read_recording(low).at(16_000)
    single = len(alone)
    found = read_recording(both)
    mono = found.at(16_000)
    assert len(mono) == pytest.approx(2 * single, abs=3)
    assert pitch(mono[2000 : single - 2000]) == pytest.approx(300, abs=5)
    assert pitch(mono[single + 2000 : -2000]) == pytest.approx(900, abs=12)  # a byte of VOC's rate is coarse
    assert level_of(mono) == pytest.approx(level_of(alone), abs=0.5)
    continuous = kind in ("aac", "ac3", "eac3")  # have no header: two files are one
    assert bool(found.notes) != continuous
    assert look_at_recording(both).sound_duration == pytest.approx(len(mono) / 16_000, abs=0.2)
    try:
        strict = read_sound(both)
    except MediaError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert len(strict) == pytest.approx(2 * single, abs=100)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_is_read_to_its_end_or_refused(kind, tmp_path):
    whole, cut = tone_file(tmp_path / f"whole.{kind}", 300, 4.0), tmp_path / f"cut.{kind}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    try:
        found = read_recording(cut)
    except MediaError as error:
        reason = {"m4a": "cut short", "wv": "nothing of its sound can be decoded"}  # one packet of 4 s
        assert reason[kind] in str(error)  # noqa: PT017
        return
    mono = found.at(16_000)
    assert 0.4 < len(mono) / 64_000 <= 0.65
    assert pitch(mono) == pytest.approx(300, abs=8)
    assert level_of(mono) == pytest.approx(LEVEL, abs=1)
    without_length = ("avi", "ts", "mpg", "wma", "aac", "ac3", "eac3", "amr", "nut")
    assert bool(found.notes) or kind in without_length


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0xFFFFFFFF, "gives no length"),
        (0, "gives no length"),
        (1000, "announces 0.03 s of sound, 1.00 s are there"),
        (1_000_000, "announces 31.25 s of sound, 1.00 s are there"),
    ],
)
def test_wrong_sizes_in_a_wav_header(tones, tmp_path, size, words):
    low, high = tones["wav"]
    for name, parts in (("one", (low,)), ("two", (low, high))):
        path = tmp_path / f"{name}.wav"
        wrong = [tmp_path / f"{n}.wav" for n in range(len(parts))]
        for part, copy in zip(parts, wrong, strict=True):
            copy.write_bytes(part.read_bytes())
            with_data_size(copy, size)
        found = read_recording(joined(path, *wrong))
        mono = found.at(16_000)
        assert len(mono) == 16_000 * len(parts)
        assert any(words in note for note in found.notes), found.notes
        np.testing.assert_array_equal(mono[:16_000], read_recording(low).mono)
        assert probe_recording(path).sound_duration == len(parts)


def test_chunks_after_the_sound_are_no_sound(tmp_path):
    write_wav(tmp_path / "a.wav", wave_of(300, 1, 16_000), 16_000)
    data = (tmp_path / "a.wav").read_bytes()
    text = b"LIST" + struct.pack("<I", 4000) + b"INFO" + bytes(3996)
    (tmp_path / "a.wav").write_bytes(data + text)
    found = read_recording(tmp_path / "a.wav")
    assert (len(found.mono), found.notes) == (16_000, ())


def test_a_wav_header_of_64_bits(tmp_path):
    write_wav(tmp_path / "a.wav", wave_of(300, 1, 16_000), 16_000)
    data = (tmp_path / "a.wav").read_bytes()
    for size in (0, 32_000, 1 << 40):
        sizes = b"ds64" + struct.pack("<IQQQI", 28, 0, size, 0, 0)
        wide = b"RF64\xff\xff\xff\xffWAVE" + sizes + data[12:36] + b"data\xff\xff\xff\xff" + data[44:]
        (tmp_path / "wide.wav").write_bytes(wide)
        found = read_recording(tmp_path / "wide.wav")
        assert len(found.mono) == 16_000
        assert bool(found.notes) == (size != 32_000)


@pytest.mark.parametrize("kind", ["flac", "mp3", "aac", "m4a", "ogg", "tta", "ac3"])
def test_a_damaged_packet_is_silence(tmp_path, kind):
    """The rest keeps its place: the tone after the damage is in phase with the whole file's. TTA and Ogg lose 1 s."""
    rate = KINDS[kind][2]
    noise = np.random.default_rng(0).uniform(-0.02, 0.02, 4 * rate).astype(np.float32)
    whole = make_recording(tmp_path / f"whole.{kind}", (wave_of(300, 4, rate) + noise)[None])
    right = read_recording(whole).at(16_000)
    path = tmp_path / f"damaged.{kind}"
    path.write_bytes(whole.read_bytes())
    overwrite(path, path.stat().st_size // 2, np.random.default_rng(1).bytes(600 if kind == "m4a" else 60))
    found = read_recording(path)
    mono = found.at(16_000)
    assert found.notes, "the repair is not named"
    assert len(mono) == pytest.approx(len(right), abs=400 if kind in ("mp3", "aac") else 16)
    assert np.abs(mono).max() < 0.9
    error = np.abs(mono[: len(right)] - right[: len(mono)])
    wrong = np.flatnonzero(error > 0.1)
    if kind not in ("mp3", "aac"):  # which have no timestamps: a frame that is not recognised is missing
        assert len(wrong) < 16_000
        assert wrong.max(initial=0) < 16_000 * 3.2


def spoilt(path, source, place, size=40):
    """A copy of a file with noise at a place."""
    data = bytearray(source.read_bytes())
    data[place : place + size] = np.random.default_rng(0).bytes(size)
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize("pages", [[0], [2], [4], [0, 1, 2, 3]])
def test_a_damaged_page_of_ogg_costs_a_packet_and_not_a_second(tmp_path, pages):
    """FFmpeg leaves out pages with wrong checksums, also the first and the last, and tells nobody."""
    whole = tone_file(tmp_path / "whole.ogg", 300, 4.0)
    right = read_recording(whole).mono
    data = whole.read_bytes()
    starts = [place for place in range(len(data)) if data.startswith(b"OggS", place)][2:]  # after two headers
    path = whole
    for page in pages:
        path = spoilt(tmp_path / f"bad{page}.ogg", path, starts[page] + 200)
    found = read_recording(path)
    assert len(found.mono) == len(right)
    assert f"has {len(pages)} damaged page" in found.notes[0]
    assert (np.abs(found.mono - right) > 0.1).sum() < 48_000 * 0.1 * len(pages)
    assert probe_recording(path).sound_duration == pytest.approx(4.0, abs=0.01)
    with pytest.raises(MediaError, match="damaged page"):
        read_sound(path)


def test_a_page_of_ogg_that_is_missing_is_named(tmp_path):
    whole = tone_file(tmp_path / "whole.ogg", 300, 4.0).read_bytes()
    starts = [place for place in range(len(whole)) if whole.startswith(b"OggS", place)]
    (tmp_path / "lost.ogg").write_bytes(whole[: starts[3]] + whole[starts[4] :])
    assert any("lacks 1 page" in note for note in read_recording(tmp_path / "lost.ogg").notes)
    (tmp_path / "tail.ogg").write_bytes(whole + b"TAG" + bytes(125))  # what taggers append is no damage
    assert read_recording(tmp_path / "tail.ogg").notes == ()


def test_damage_at_the_beginning_of_flac_does_not_move_the_rest(tmp_path):
    whole = make_as(tmp_path / "whole.flac", wave_of(300, 4, 44_100)[None], "flac", "flac", 44_100)
    frame = whole.read_bytes().index(b"\xff\xf8", 8192)  # 4608 samples each
    right = read_recording(whole).mono
    found = read_recording(spoilt(tmp_path / "bad.flac", whole, frame + 500))
    assert found.notes
    assert len(found.mono) == len(right)
    np.testing.assert_array_equal(found.mono[22_050:], right[22_050:])


def test_codecs_in_wav_whose_last_block_is_incomplete_are_whole(tmp_path):
    path = make_as(tmp_path / "ac3.wav", wave_of(300, 4, 48_000)[None], "wav", "ac3", 48_000)
    found = read_recording(path)
    assert (len(found.mono), found.notes) == (192_000, ())


def test_an_index_that_is_cut_is_named(tmp_path):
    whole = tone_file(tmp_path / "whole.m4a", 300, 4.0).read_bytes()
    for end in range(whole.index(b"moov") + 8, whole.index(b"stsz"), 50):
        (tmp_path / "cut.m4a").write_bytes(whole[:end])
        with pytest.raises(MediaError, match="it is (empty, )?(damaged,? )?(or )?cut short"):
            read_recording(tmp_path / "cut.m4a")


def test_a_part_within_joined_files_that_is_cut_is_named(tmp_path, tones):
    low, high = tones["ogg"]
    cut = tmp_path / "cut.ogg"
    cut.write_bytes(low.read_bytes()[:-100])
    notes = read_recording(joined(tmp_path / "both.ogg", cut, high)).notes
    assert any("cut short within a page" in note for note in notes)


def test_sound_that_cannot_be_decoded_at_all(tones, tmp_path):
    data = bytearray(tones["flac"][0].read_bytes())
    data[100:] = np.random.default_rng(0).bytes(len(data) - 100)
    (tmp_path / "noise.flac").write_bytes(bytes(data))
    with pytest.raises(MediaError, match=r"noise\.flac: .*(nothing of its sound can be decoded|not a readable)"):
        read_recording(tmp_path / "noise.flac")
    with pytest.raises(NoSound):
        read_recording(make_clip(tmp_path / "mute.mp4", frame_times(25, 0.4), audio=None))


def timed(path, starts, length=0.5, rate=16_000):
    """A Matroska file with pieces of a tone at the given times, seconds."""
    with av.open(str(path), "w", format="matroska") as file:
        stream = file.add_stream("pcm_s16le", rate=rate, layout="mono")
        template = None
        for start in starts:
            frame = av.AudioFrame.from_ndarray(wave_of(300, length, rate)[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            for packet in stream.encode(frame):
                packet.pts = packet.dts = round(start * rate)
                template = packet
                file.mux_one(packet)
        assert template is not None
    return path


def test_timestamps_that_leave_out_jump_or_restart(tmp_path, tones):
    gap = read_recording(timed(tmp_path / "gap.mkv", [0, 1.0]))
    assert len(gap.mono) == 24_000
    assert not gap.mono[8000:16_000].any()
    assert "leave out 0.50 s in 1 place" in gap.notes[0]
    jump = read_recording(timed(tmp_path / "jump.mkv", [0, 4000.0]))
    assert len(jump.mono) == 16_000
    assert "jump by 4000 s" in jump.notes[0]
    both = joined(tmp_path / "both.ts", *tones["ts"])
    assert "go back 1 time, first at 1.02 s" in read_recording(both).notes[0]


def test_sound_after_the_pictures_begin_keeps_its_place(tmp_path):
    path = make_clip(tmp_path / "late.mp4", frame_times(25), audio="aac", audio_start=0.5)
    found = read_recording(path)
    mono = found.at(16_000)
    assert len(mono) == pytest.approx(len(read_sound(path)), abs=1)
    assert not mono[: 8000 - 40].any()
    assert found.codec == ""  # its packets would start too early
    assert look_at_recording(path).sound_duration == pytest.approx(2.0, abs=0.01)


def test_padding_of_h264_in_a_transport_stream_is_legal(tmp_path, monkeypatch):
    """Zeros after an access unit, as cameras write them, also for the strict reader; a hole inside of one is damage."""
    plain = make_clip(tmp_path / "plain.mp4", frame_times(25, 1.0), audio="aac")
    padded, holed = tmp_path / "padded.ts", tmp_path / "holed.ts"
    for path, add in (
        (padded, lambda data: data + bytes(100)),
        (holed, lambda data: data[:40] + bytes(100) + data[40:]),
    ):
        with av.open(str(plain)) as source, av.open(str(path), "w", format="mpegts") as target:
            kinds = {stream: target.add_stream_from_template(stream) for stream in source.streams}
            filters = av.bitstream.BitStreamFilterContext("h264_mp4toannexb", source.streams.video[0])
            for packet in source.demux():
                if packet.dts is None:
                    continue
                for one in filters.filter(packet) if packet.stream.type == "video" else [packet]:
                    data = add(bytes(one)) if packet.stream.type == "video" else bytes(one)
                    made = av.Packet(data)
                    made.pts, made.dts, made.time_base = one.pts, one.dts, one.time_base
                    made.stream, made.is_keyframe = kinds[packet.stream], one.is_keyframe
                    target.mux(made)
    assert len(read_sound(padded)) > 12_000
    assert read_recording(padded).notes == ()
    with pytest.raises(MediaError, match="hole of zero bytes"):
        read_sound(holed)
    assert read_recording(holed).notes == ()  # the pictures are not asked for


# Limits


def test_limits_hold(tones, tmp_path):
    both = joined(tmp_path / "both.ogg", *tones["ogg"])
    for limits, words in (
        (MediaLimits(seconds=1.5), "(lasts|its sound lasts) (longer|more) than 2 s"),
        (MediaLimits(packets=20), "more than 20 packets"),
        (MediaLimits(sound_rate=44_100), "48000 samples per second"),
    ):
        for door in (read_recording, probe_recording, lambda path, limits: look_at_recording(path, limits=limits)):
            with pytest.raises(MediaError, match=words):
                door(both, limits)
    with pytest.raises(MediaError, match="50000 samples at most are read at once"):
        read_recording(both, MediaLimits(samples=50_000))


def test_timestamps_ask_for_no_memory(tmp_path):
    """A pause of the timestamps is bounded, and so are many."""
    path = timed(tmp_path / "sparse.mkv", [50 * n for n in range(100)], length=0.01)
    with pytest.raises(MediaError, match="lasts longer than 600 s"):
        read_recording(path, MediaLimits(seconds=600.0))
    with pytest.raises(MediaError, match="lasts more than 600 s"):
        probe_recording(path, MediaLimits(seconds=600.0))


def test_a_part_is_a_file_of_its_own(tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789")
    with PartFile((tmp_path / "a").open("rb"), Part(2, 5, ((1, b"xy"), (4, b"zz"))), "a") as file:
        assert file.read() == b"2xy5z"
        assert (file.seek(-2, 2), file.read(10), file.tell(), file.read(1)) == (3, b"5z", 5, b"")
    many = tmp_path / "many.flac"
    many.write_bytes(b"fLaC\0\0\0\x22" * 20_000)
    with many.open("rb") as file:
        assert len(parts_of(file, "flac")) == 10_000


def test_a_damaged_packet_lasts_no_longer_than_its_codec_allows(tmp_path):
    """Durations are as easily damaged as sound: they do not make hours of silence."""
    path = tmp_path / "long.mkv"
    source = tone_file(tmp_path / "a.m4a", 300)
    with av.open(str(source)) as given, av.open(str(path), "w", format="matroska") as target:
        stream = target.add_stream_from_template(given.streams.audio[0])
        for packet in given.demux(audio=0):
            if packet.dts is None:
                continue
            made = av.Packet(b"\xff" * 300 if packet.dts > 30_000 else bytes(packet))
            made.pts, made.dts, made.time_base, made.stream = packet.pts, packet.dts, packet.time_base, stream
            made.duration = 48_000 * 3600
            target.mux(made)
    found = read_recording(path)
    assert len(found.mono) / 48_000 == pytest.approx(1.0, abs=0.3)
    assert "cannot be decoded" in " ".join(found.notes)
    assert look_at_recording(path).sound_duration < 30


def test_sound_of_which_most_is_damaged_is_refused(tmp_path):
    path = tmp_path / "noise.ac3"
    whole = bytearray(tone_file(tmp_path / "whole.ac3", 300, 2.0).read_bytes())
    for place in range(100, len(whole), 400):
        whole[place] ^= 0xFF
    path.write_bytes(bytes(whole))
    with pytest.raises(MediaError, match=r"noise\.ac3: (\d+ of \d+ packets|nothing) of its sound can"):
        read_recording(path)
