"""Makes small media files that ask for too much, point elsewhere, are damaged, or are no files at all."""

from __future__ import annotations

import os
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, PngImagePlugin

from tests.helpers.sound import sound_frame, write_sound

SIDE, RATE = 64, 16_000
UNITY = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)  # matrix of an MP4 header
VIDEO_CODECS = {
    "mp4": "libx264",
    "mov": "mpeg4",
    "mkv": "libx264",
    "webm": "libvpx",
    "avi": "mpeg4",
    "ts": "mpeg2video",
}
SOUND_CODECS = {
    **{"wav": "pcm_s16le", "flac": "flac", "mp3": "libmp3lame", "ogg": "libopus", "m4a": "aac", "aiff": "pcm_s16be"},
    **{"w64": "pcm_s16le", "caf": "pcm_s16le", "au": "pcm_s16be", "aac": "aac", "wv": "wavpack"},
}
RATES = {"ogg": 48_000}


def make_video(path: Path, seconds: float = 1.0, times: list[int] | None = None, muxer: str | None = None) -> Path:
    """Writes 25 frames per second with a tone; ``times`` in milliseconds replace the frames' times."""
    codec = VIDEO_CODECS.get(path.suffix[1:], "mpeg4")
    with av.open(path, "w", format=muxer) as file:
        video = file.add_stream(codec, rate=25)
        video.width = video.height = SIDE
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000) if times else Fraction(1, 25)
        sound = None if times else file.add_stream("libopus" if path.suffix == ".webm" else "aac", rate=48_000)
        for n, time in enumerate(times or range(round(25 * seconds))):
            frame = av.VideoFrame.from_ndarray(np.full((SIDE, SIDE, 3), 9 * (n % 25), np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, video.codec_context.time_base
            file.mux(video.encode(frame))
        file.mux(video.encode())
        if sound is not None:
            tone = np.sin(np.arange(round(48_000 * seconds)) / 20).astype(np.float32)[None]
            file.mux(sound.encode(sound_frame(tone, 48_000)))
            file.mux(sound.encode())
    return path


def make_tone(path: Path) -> Path:
    """Writes one second of a tone in the container and codec of the name's ending."""
    kind = path.suffix[1:]
    rate = RATES.get(kind, RATE)
    muxer = {"aac": "adts", "m4a": "ipod"}.get(kind, kind)
    tone = 0.5 * np.sin(np.arange(rate) * (2 * np.pi * 440 / rate)).astype(np.float32)[None]
    return write_sound(path, tone, rate, SOUND_CODECS[kind], muxer)


def box(kind: bytes, *content: bytes) -> bytes:
    """A box of an MP4 file."""
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full(kind: bytes, *content: bytes, flags: int = 0) -> bytes:
    """A box of an MP4 file with version 0 and flags."""
    return box(kind, struct.pack(">I", flags), *content)


def mp4_track(
    *,
    size: tuple[int, int] = (SIDE, SIDE),
    samples: int = 3,
    sample_size: int = 100,
    step: int = 40,
    scale: int = 1000,
    number: int = 1,
    url: bytes = b"",
    edits: int = 0,
) -> bytes:
    """A track of an MP4 file with MPEG-4 pictures.

    Args:
        size: Width and height.
        samples: Number of pictures that the index claims.
        sample_size: Bytes of each picture.
        step: Duration of each picture in ticks.
        scale: Ticks per second.
        number: Number of the track.
        url: Address of the file that holds the pictures; empty for this file.
        edits: Entries of the edit list, each of which shows the whole track.
    """
    length = min(samples * step, 0xFFFFFFFF)
    header = full(
        *(b"tkhd", struct.pack(">5I8x4H", 0, 0, number, 0, length, 0, 0, 0, 0), UNITY),
        *(struct.pack(">II", size[0] << 16 & 0xFFFFFFFF, size[1] << 16 & 0xFFFFFFFF),),
        flags=3,
    )
    entry = box(b"mp4v", bytes(6), struct.pack(">H16xHHIIIH32xHh", 1, *size, 0x480000, 0x480000, 0, 1, 24, -1))
    reference = full(b"url ", url, flags=0) if url else full(b"url ", flags=1)
    table = box(
        *(b"stbl", full(b"stsd", struct.pack(">I", 1), entry), full(b"stts", struct.pack(">III", 1, samples, step))),
        *(full(b"stsc", struct.pack(">4I", 1, 1, samples, 1)), full(b"stsz", struct.pack(">II", sample_size, samples))),
        full(b"stco", struct.pack(">II", 1, 32)),
    )
    media = box(
        *(b"mdia", full(b"mdhd", struct.pack(">4I2H", 0, 0, scale, length, 0x55C4, 0))),
        full(b"hdlr", struct.pack(">I4s12x", 0, b"vide"), b"\0"),
        box(b"minf", full(b"vmhd", bytes(8)), box(b"dinf", full(b"dref", struct.pack(">I", 1), reference)), table),
    )
    shown = struct.pack(">IiI", length, 0, 0x10000) * edits
    return box(b"trak", header, *([box(b"edts", full(b"elst", struct.pack(">I", edits), shown))] * bool(edits)), media)


def mp4(*tracks: bytes) -> bytes:
    """An MP4 file of the given tracks with 4000 bytes of pictures."""
    header = full(b"mvhd", struct.pack(">4IIH10x", 0, 0, 1000, 1000, 0x10000, 0x100), UNITY, bytes(24), b"\0\0\0\2")
    ftyp = box(b"ftyp", b"isom\0\0\2\0isomiso2")
    return ftyp + box(b"mdat", bytes(range(250)) * 16) + box(b"moov", header, *tracks)


def wav(
    rate: int = RATE, channels: int = 1, bits: int = 16, block: int = 2, data: bytes = bytes(3200), size: int = -1
) -> bytes:
    """A WAV file whose header holds what is asked for."""
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * block & 0xFFFFFFFF, block, bits)
    claimed = struct.pack("<I", (len(data) if size < 0 else size) & 0xFFFFFFFF)
    return b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt \x10\0\0\0" + form + b"data" + claimed + data


def png(width: int, height: int, *chunks: tuple[bytes, bytes], kind: int = 2, data: bytes = b"") -> bytes:
    """A PNG file of a claimed size."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)),
        *chunks,
        (b"IDAT", data),
        (b"IEND", b""),
    ]
    made = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + made


def flipped(data: bytes, seed: int, count: int = 40) -> bytes:
    """Data with bits flipped anywhere."""
    random = np.random.default_rng(seed)
    found = bytearray(data)
    for place in random.integers(0, len(found), count):
        found[place] ^= 1 << int(random.integers(8))
    return bytes(found)


def patched(data: bytes, element: bytes, value: bytes) -> bytes:
    """Data of a Matroska file with another value of an element; the value keeps its length."""
    found = data.index(element + bytes([0x80 | len(value)])) + len(element) + 1
    return data[:found] + value + data[found + len(value) :]


def references(canary: Path, address: str) -> Iterator[tuple[str, bytes]]:
    """Names and contents that point to another file or address."""
    playlist = f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:5.0,\n{canary}\n#EXT-X-ENDLIST\n"
    for ending in ("m3u8", "m3u", "mp4", "wav", "mp3", "flac", "ogg", "ts", "mkv", "aac", "m4a", "txt", "mpd", "png"):
        yield f"playlist.{ending}", playlist.encode()
    remote = playlist.replace(str(canary), f"{address}/a.mp4")
    yield "remote.m3u8", remote.encode()
    yield "remote.mp4", remote.encode()
    yield "itself.m3u8", b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nitself.m3u8\n"
    first = f'#EXT-X-MAP:URI="file://{canary}"\n#EXT-X-KEY:METHOD=AES-128,URI="{address}/key"\n#EXTINF'
    yield "mapped.m3u8", playlist.replace("#EXTINF", first, 1).encode()
    for ending in ("wav", "mp4", "mkv", "flac", "txt"):
        yield f"concat.{ending}", f"ffconcat version 1.0\nfile {canary.name}\n".encode()
    yield "concat_of_itself.wav", b"ffconcat version 1.0\nfile concat_of_itself.wav\n"
    described = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 45454 RTP/AVP 0\n"
    for ending in ("sdp", "flac", "mp4"):
        yield f"described.{ending}", described
    dash = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" mediaPresentationDuration="PT1S"><Period><AdaptationSet>'
        f'<Representation id="1" bandwidth="1" mimeType="video/mp4"><BaseURL>{address}/a.mp4</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>"
    )
    yield "dash.mpd", dash.encode()
    yield "dash.mp4", dash.replace(address + "/a.mp4", f"file://{canary}").encode()
    yield "numbered%03d.png", b"text"
    yield "redirect.asx", f"[Reference]\r\nRef1={address}/a.asf\r\n".encode()
    yield "redirect.mov", f"RTSPtext\r\nrtsp{address[4:]}/a\r\n".encode()
    yield "list.pls", f"[playlist]\nFile1={canary}\nNumberOfEntries=1\n".encode()
    yield "filter.txt", f"movie={canary}[out0]".encode()
    yield "meta.wav", b";FFMETADATA1\ntitle=x\n"
    yield "subtitle.srt", b"1\n00:00:00,000 --> 00:00:01,000\nhello\n"
    yield "subtitle.ass", b"[Script Info]\nScriptType: v4.00+\n"
    yield "page.html", b"<!doctype html><html><video src='a.mp4'></html>"
    yield "picture.svg", f'<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{canary}"/></svg>'.encode()
    yield "program.png", f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({canary}) (r) file\n".encode()
    yield "elsewhere.mp4", mp4(mp4_track(url=f"file://{canary}".encode() + b"\0"))
    yield "neighbour.mov", mp4(mp4_track(url=canary.name.encode() + b"\0"))


def exceeding() -> Iterator[tuple[str, bytes]]:
    """Names and contents whose headers ask for too much, or for nothing."""
    yield "pixels.mp4", mp4(mp4_track(size=(65535, 65535)))
    yield "no_pixels.mp4", mp4(mp4_track(size=(0, 0)))
    yield "tracks.mp4", mp4(*(mp4_track(number=n) for n in range(1, 1001)))
    yield "zero_scale.mp4", mp4(mp4_track(scale=0))
    yield "zero_step.mp4", mp4(mp4_track(step=0))
    yield "jump.mp4", mp4(mp4_track(step=0x7FFFFFFF))
    yield "negative_step.mp4", mp4(mp4_track(step=0xFFFFFFF0))
    yield "a_billion_frames.mp4", mp4(mp4_track(samples=1_000_000_000, sample_size=0))
    yield "past_the_end.mp4", mp4(mp4_track(samples=0x7FFFFFFF, sample_size=0x7FFFFFFF))
    yield "edits.mp4", mp4(mp4_track(samples=40, edits=2000))
    yield "no_tracks.mp4", mp4()
    yield (
        "nested.mp4",
        box(b"ftyp", b"isom\0\0\2\0") + bytes.fromhex("7fffffff") + b"moov" + b"\x7f\xff\xff\xfftrak" * 500,
    )
    yield "box_of_2_63.mp4", box(b"ftyp", b"isom\0\0\2\0") + b"\0\0\0\1mdat\x7f" + b"\xff" * 7 + bytes(64)
    yield "zero_hertz.wav", wav(rate=0)
    yield "four_gigahertz.wav", wav(rate=0xFFFFFFFF)
    yield "no_channel.wav", wav(channels=0)
    yield "channels.wav", wav(channels=65535, block=65535)
    yield "no_bits.wav", wav(bits=0)
    yield "block_of_0.wav", wav(block=0)
    yield "unknown_codec.wav", wav().replace(b"\x10\0\0\0\1\0", b"\x10\0\0\0\xfe\x77", 1)
    yield (
        "palette_of_177_megapixels.png",
        png(13300, 13300, (b"PLTE", bytes(3)), kind=3, data=zlib.compress(bytes(13301))),
    )
    yield "four_gigapixels.png", png(65535, 65535)
    yield "widest.png", png(0x7FFFFFFF, 1)
    yield "no_pixels.png", png(0, 0)
    text = b"k\0\0" + zlib.compress(bytes(200_000_000), 9)
    yield "text.png", png(8, 8, (b"zTXt", text), data=zlib.compress((b"\0" + bytes(24)) * 8))
    yield "profile.png", png(8, 8, (b"iCCP", text), data=zlib.compress((b"\0" + bytes(24)) * 8))
    yield "giant.gif", b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\0\0" + bytes(6) + b";"
    yield "giant.bmp", b"BM" + struct.pack("<IHHIIiiHHIIiiII", 58, 0, 0, 54, 40, 50000, 50000, 1, 24, 0, 0, 0, 0, 0, 0)
    vp8x = b"VP8X\x0a\0\0\0\x10\0\0\0\xff\x3f\0\xff\x3f\0"
    yield "giant.webp", b"RIFF" + struct.pack("<I", 4 + len(vp8x)) + b"WEBP" + vp8x
    yield "giant.ppm", b"P6 60000 60000 255\n" + bytes(30)
    yield "archive.mp4", b"PK\3\4" + bytes(60)
    yield "program.wav", b"\x7fELF" + bytes(100)
    yield "noise.mp4", np.random.default_rng(0).bytes(5000)
    yield "zeros.mkv", bytes(5000)
    yield "one_byte.mp3", b"\xff"
    yield "id3.mp3", b"ID3\4\0\0\x7f\x7f\x7f\x7f" + bytes(50)


def damaged(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of real files that were cut, changed or taken apart; ``folder`` holds the real ones."""
    mkv, movie = ((folder / f"good.{kind}").read_bytes() for kind in ("mkv", "mp4"))
    yield "nan_duration.mkv", patched(mkv, b"\x44\x89", struct.pack(">d", float("nan")))
    yield "negative_duration.mkv", patched(mkv, b"\x44\x89", struct.pack(">d", -1e18))
    yield "endless_duration.mkv", patched(mkv, b"\x44\x89", struct.pack(">d", float("inf")))
    for kind in ("mp4", "mkv", "wav", "flac", "png", "jpg"):
        data = (folder / f"good.{kind}").read_bytes()
        yield f"half.{kind}", data[: len(data) // 2]
        yield f"head.{kind}", data[:100]
        for seed in range(2):
            yield f"flipped{seed}.{kind}", flipped(data, seed)
    yield "no_index.mp4", movie[: movie.index(b"moov") - 4]


def fill(folder: Path, canary: Path, address: str) -> tuple[dict[str, Path], list[Path]]:
    """Makes the corpus.

    Args:
        folder: Empty folder, in which ``canary`` lies.
        canary: Video that nothing may open.
        address: Beginning of an address that nothing may ask.

    Returns:
        Good files by their kind (video, sound or picture, and ending), and the paths that are hostile.
    """
    good = {f"video {kind}": make_video(folder / f"good.{kind}") for kind in VIDEO_CODECS}
    good |= {f"sound {kind}": make_tone(folder / f"good.{kind}") for kind in SOUND_CODECS}
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 255, (SIDE, SIDE, 3), np.uint8))
    for kind in ("png", "jpg", "webp", "bmp", "gif", "tiff"):
        picture.save(folder / f"good.{kind}")
        good[f"picture {kind}"] = folder / f"good.{kind}"
    hostile = []
    for name, data in (*references(canary, address), *exceeding(), *damaged(folder)):
        (folder / name).write_bytes(data)
        hostile.append(folder / name)
    hostile.append(make_video(folder / "jump.mkv", times=[0, 40, 400_000_000]))
    hostile.append(make_video(folder / "a_day.mkv", times=[n * 500_000 for n in range(200)]))
    with zipfile.ZipFile(folder / "zipped.mp4", "w") as archive:
        archive.write(folder / "playlist.m3u8", "playlist.m3u8")
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 2_000_000, zip=True)
    picture.save(folder / "comment.png", pnginfo=info)
    with av.open(folder / "cover.mp3", "w") as file:  # a cover and no sound
        stream = file.add_stream("png", rate=1)
        stream.width = stream.height = SIDE
        stream.pix_fmt, stream.disposition = "rgb24", av.stream.Disposition.attached_pic
        file.add_stream("libmp3lame", rate=RATE)
        file.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")))
    hostile += [folder / "zipped.mp4", folder / "comment.png", folder / "cover.mp3", *_odd(folder)]
    return good, hostile


def _odd(folder: Path) -> Iterator[Path]:
    """Paths that are no ordinary files."""
    made: dict[str, Callable[[Path], object]] = {
        "pipe.mp4": os.mkfifo,
        "folder.mp4": os.mkdir,
        "empty.mp4": Path.touch,
        "loop.mp4": lambda path: path.symlink_to(path),
        "zero.wav": lambda path: path.symlink_to("/dev/zero"),
        "null.wav": lambda path: path.symlink_to("/dev/null"),
        "memory.mp4": lambda path: path.symlink_to("/proc/self/mem"),
        "users.txt": lambda path: path.symlink_to("/etc/passwd"),
        "dangling.png": lambda path: path.symlink_to("nowhere"),
        "sparse.mp4": lambda path: _sparse(path, b""),
        "sparse.png": lambda path: _sparse(path, b"\x89PNG\r\n\x1a\n"),
        "sparse.wav": lambda path: _sparse(path, wav(size=0xFFFFFFFF)),
        "sparse.webp": lambda path: _sparse(path, b"RIFF\xff\xff\xff\x7fWEBPVP8 "),
        "concat:good.mp4|good.mp4": lambda path: path.write_bytes(b"text"),
        "two\nlines.mp4": lambda path: path.write_bytes(b"text"),
    }
    for name, make in made.items():
        make(folder / name)
        yield folder / name
    listening = socket.socket(socket.AF_UNIX)
    place = os.getcwd()
    os.chdir(folder)  # an address has at most 108 bytes
    try:
        listening.bind("socket.mp4")
    finally:
        os.chdir(place)
        listening.close()
    yield folder / "socket.mp4"
    yield folder / "no\0name.mp4"
    yield folder / ("long" * 80)
    yield folder / "missing.mp4"


def _sparse(path: Path, head: bytes) -> None:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(1 << 38)
