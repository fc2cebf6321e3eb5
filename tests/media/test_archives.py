"""Files in archives: read in place, and what hostile or damaged archives may not do."""

import errno
import io
import os
import struct
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from media import FrameReader, MediaError, encode_video, look_at, look_at_headers, read_recording, read_sound
from media.archives import Contents, archive_of, contents, hash_of, is_file, member_of, open_file
from media.source import identify
from runtime.files import sha256_of

KINDS = ("tar", "stored.zip", "deflated.zip")


def pack(archive: Path, files: dict[str, Path | bytes]) -> Path:
    """Writes an archive whose kind its name tells."""
    if archive.suffix.lower() == ".tar":
        with tarfile.open(archive, "w") as tar:
            for name, content in files.items():
                data = content if isinstance(content, bytes) else content.read_bytes()
                header = tarfile.TarInfo(name)
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
    else:
        method = zipfile.ZIP_STORED if "stored" in archive.name else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(archive, "w", method) as packed:
            for name, content in files.items():
                packed.writestr(name, content if isinstance(content, bytes) else content.read_bytes())
    return archive


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("video") / "talk.mp4"
    frames = np.random.default_rng(0).integers(0, 255, (25, 64, 64, 3), np.uint8)
    sound = np.random.default_rng(1).normal(0, 0.1, 16000).astype(np.float32)
    path.write_bytes(encode_video(frames, sound=sound))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_reads_as_the_file_does(video, tmp_path, kind):
    archive = pack(tmp_path / f"a.{kind}", {"./front/readme.txt": b"x" * 1000, "./front/talk.mp4": video})
    member = archive / "front" / "talk.mp4"
    assert archive_of(member) == archive
    assert (is_file(member), is_file(archive / "front" / "none.mp4")) == (True, False)
    assert identify(member)[1] == video.stat().st_size
    assert hash_of(member) == sha256_of(video)
    assert look_at(member) == look_at(video)
    assert look_at_headers([member]) == look_at_headers([video])
    for reader in ("pyav", "decord"):
        frames, wanted = (np.stack(list(FrameReader(path, reader=reader))) for path in (member, video))
        np.testing.assert_array_equal(frames, wanted)
    np.testing.assert_array_equal(read_sound(member), read_sound(video))
    np.testing.assert_array_equal(read_recording(member).mono, read_recording(video).mono)


def test_an_archive_in_a_folder_that_is_named_like_one(video, tmp_path):
    (tmp_path / "folder.tar").mkdir()
    archive = pack(tmp_path / "folder.tar" / "A.TAR", {"talk.mp4": video})
    assert member_of(tmp_path / "folder.tar" / "talk.mp4") is None
    assert hash_of(archive / "talk.mp4") == sha256_of(video)


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_member_is_no_file(video, tmp_path, kind):
    archive = pack(tmp_path / f"a.{kind}", {"talk.mp4": video})
    with pytest.raises(MediaError, match=r"other\.mp4: no such file"):
        identify(archive / "other.mp4")


def test_a_replaced_archive_is_listed_again(video, tmp_path):
    archive = pack(tmp_path / "a.tar", {"talk.mp4": video})
    before = identify(archive / "talk.mp4")
    pack(archive, {"first.mp4": video, "talk.mp4": video})
    assert identify(archive / "talk.mp4") != before
    assert look_at(archive / "talk.mp4") == look_at(video)


def test_names_that_lead_out_and_links_are_problems(video, tmp_path):
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as tar:
        for name in ("../up.mp4", "/root.mp4", "a/../../b.mp4", "good.mp4"):
            header = tarfile.TarInfo(name)
            header.size = 4
            tar.addfile(header, io.BytesIO(b"data"))
        for name, kind in (("sym.mp4", tarfile.SYMTYPE), ("hard.mp4", tarfile.LNKTYPE), ("pipe.mp4", tarfile.FIFOTYPE)):
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, "/etc/passwd"
            tar.addfile(header)
    found = contents(archive)
    assert list(found.places) == ["good.mp4"]
    assert set(found.problems) == {
        "../up.mp4", "/root.mp4", "a/../../b.mp4", "sym.mp4", "hard.mp4", "pipe.mp4"
    }  # fmt: skip
    assert all("leads out" in found.problems[name] for name in ("../up.mp4", "/root.mp4", "a/../../b.mp4"))
    assert "is a link to '/etc/passwd'" in found.problems["sym.mp4"]


def test_links_and_encrypted_members_of_a_zip_are_problems(tmp_path):
    link = zipfile.ZipInfo("sym.mp4")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(link, "/etc/passwd")
        packed.writestr("secret.mp4", "data")
        packed.writestr("bz.mp4", "data", zipfile.ZIP_BZIP2)
        packed.writestr("../up.mp4", "data")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    at = data.index(b"PK\1\2", data.index(b"PK\1\2") + 1)
    data[at + 8] |= 1  # the flag of an encrypted one
    (tmp_path / "a.zip").write_bytes(data)
    found = contents(tmp_path / "a.zip")
    assert not found.places
    assert {name: text.split(";")[0] for name, text in found.problems.items()} == {
        "sym.mp4": "is a link",
        "secret.mp4": "is encrypted",
        "bz.mp4": "is compressed with bzip2",
        "../up.mp4": "has a path that leads out of the archive",
    }


def test_of_members_with_one_name_the_last_counts(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for data in (b"first", b"second"):
            header = tarfile.TarInfo("talk.mp4")
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("talk.mp4", "first")
        with pytest.warns(UserWarning, match="Duplicate name"):
            packed.writestr("talk.mp4", "second")
    for archive in (tmp_path / "a.tar", tmp_path / "a.zip"):
        assert contents(archive).replaced == ["talk.mp4"]
        with open_file(archive / "talk.mp4") as file:
            assert file.read() == b"second"


@pytest.mark.parametrize("cut", [600, 1024 + 512 + 100, 3 * 512])
def test_a_tar_that_is_cut_short_keeps_its_whole_members(tmp_path, cut):
    archive = pack(tmp_path / "a.tar", {"a.mp4": b"a" * 512, "b.mp4": b"b" * 512, "c.mp4": b"c" * 512})
    os.truncate(archive, cut)
    found = contents(archive)
    assert set(found.places) <= {"a.mp4", "b.mp4"}
    assert any("cut short" in text for text in found.problems.values()) or found.places == {}
    for name in found.places:
        with open_file(archive / name) as file:
            assert len(file.read()) == 512


def test_damage_amid_a_tar_is_a_problem(tmp_path):
    archive = pack(tmp_path / "a.tar", {"a.mp4": b"a" * 512, "b.mp4": b"b" * 512})
    with archive.open("r+b") as file:
        file.seek(1024)
        file.write(b"garbage" * 20)
    found = contents(archive)
    assert list(found.places) == ["a.mp4"]
    assert "after 1 files" in found.problems[""]


@pytest.mark.parametrize("data", [b"", b"no archive at all", b"\0" * 100])
@pytest.mark.parametrize("name", ["a.tar", "a.zip"])
def test_what_is_no_archive_is_one_problem(tmp_path, data, name):
    (tmp_path / name).write_bytes(data)
    found = contents(tmp_path / name)
    assert not found.places
    assert list(found.problems) == [""]


def test_a_bomb_is_not_decompressed(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed, packed.open("a.mp4", "w") as file:
        for _ in range(80):
            file.write(bytes(1 << 20))
    found = contents(tmp_path / "a.zip")
    assert "100 times its size" in found.problems["a.mp4"]


def test_a_member_that_lies_about_its_size_is_damaged(tmp_path):
    """The header announces 10 bytes; nothing beyond them is written."""
    archive = pack(tmp_path / "deflated.zip", {"a.mp4": bytes(1 << 20)})
    data = bytearray(archive.read_bytes())
    at = data.index(b"PK\1\2")
    data[at + 24 : at + 28] = (10).to_bytes(4, "little")
    archive.write_bytes(data)
    with pytest.raises(MediaError, match=r"a\.mp4: cannot be read \(is damaged in deflated\.zip"):
        look_at(archive / "a.mp4")
    with pytest.raises(OSError, match="damaged"):
        open_file(archive / "a.mp4")


def test_a_damaged_member_is_named(video, tmp_path):
    archive = pack(tmp_path / "deflated.zip", {"talk.mp4": video})
    member = member_of(archive / "talk.mp4")
    assert member is not None
    with archive.open("r+b") as file:
        file.seek(member.offset + member.stored // 2)
        file.write(b"\0" * 100)
    with pytest.raises(MediaError, match=r"talk\.mp4: cannot be read \(is damaged in deflated\.zip"):
        look_at(archive / "talk.mp4")


def test_a_full_temporary_folder_is_named(video, tmp_path, monkeypatch):
    archive = pack(tmp_path / "deflated.zip", {"talk.mp4": video})

    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    with pytest.raises(OSError, match=r"MB in .*; set TMPDIR to a folder with room, or unpack deflated\.zip"):
        open_file(archive / "talk.mp4")


def test_no_temporary_file_stays(video, tmp_path, monkeypatch):
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    archive = pack(tmp_path / "deflated.zip", {"talk.mp4": video})
    with open_file(archive / "talk.mp4") as file:
        assert file.read() == video.read_bytes()
    assert list(place.iterdir()) == []


def test_a_header_as_large_as_the_disk_is_not_read(tmp_path):
    """A long name of 4 GB, which is a hole in the file, and a zip whose list is one."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 4 << 30
    (tmp_path / "a.tar").write_bytes(header.tobuf())
    os.truncate(tmp_path / "a.tar", 5 << 30)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 2 << 30, 0, 0)
    with (tmp_path / "a.zip").open("wb") as file:
        file.seek(2 << 30)
        file.write(end)
    for name in ("a.tar", "a.zip"):
        found = contents(tmp_path / name)
        assert not found.places
        assert "a header of" in found.problems[""]


def test_many_members_are_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("media.archives.MAX_MEMBERS", 2)
    archive = pack(tmp_path / "a.tar", {f"{number}.mp4": b"x" for number in range(4)})
    assert len(contents(archive).places) == 2
    assert "more than 2 files" in contents(archive).problems[""]


def test_an_empty_tar_has_no_files(tmp_path):
    assert contents(pack(tmp_path / "a.tar", {})) == Contents()
