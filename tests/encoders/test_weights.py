"""Weights are found, downloaded, resumed and checked, with a real local HTTP server; errors are complete."""

import contextlib
import hashlib
import os
import pty
import signal
import subprocess
import sys
import termios
import time

import pytest
import torch

from encoders import weights
from encoders.weight_sources import SOURCES, WeightFile, Weights
from tests.helpers import warm
from tests.helpers.file_server import CONTENT, SHA256, put, serving, toy
from tests.helpers.refusals import refuses

pytestmark = pytest.mark.usefixtures("folders")


def test_downloaded_once_and_then_found(server, register, folders):
    register(toy(f"{server.url}/toy.bin"))
    path = weights.locate("toy")
    assert path == folders / "weights" / "toy.bin"
    assert path.read_bytes() == CONTENT
    assert weights.locate("toy") == path
    assert len(server.requests) == 1
    assert not list(path.parent.glob("*.part"))


def test_weights_folder_is_searched_before_the_cache(register, folders):
    register(toy())
    for place in ("cache/emotivetalk/weights/toy/toy.bin", "weights/toy.bin"):
        file = put(folders / place)
        assert weights.locate("toy") == file


@pytest.mark.slow
def test_broken_connection_is_resumed(server, register):
    server.break_after["/toy.bin"] = [300_000]
    register(toy(f"{server.url}/toy.bin"))
    assert weights.locate("toy").read_bytes() == CONTENT
    assert [headers.get("Range") for _, headers in server.requests] == [None, "bytes=300000-"]


@pytest.mark.slow
def test_partial_download_of_another_file_starts_again(server, register, folders):
    register(toy(f"{server.url}/toy.bin"))
    part = put(folders / "weights" / "toy.bin.part", b"x" * 1000)
    assert weights.locate("toy").read_bytes() == CONTENT
    part.write_bytes(b"x" * (len(CONTENT) + 5))  # longer than the server's file, which answers 416
    weights.locate("toy").unlink()
    assert weights.locate("toy").read_bytes() == CONTENT


def test_second_url_is_tried(server, register):
    register(toy(f"{server.url}/gone.bin", f"{server.url}/toy.bin"))
    assert weights.locate("toy").read_bytes() == CONTENT


def test_download_with_a_wrong_hash_is_deleted(server, register, folders):
    server.files["/toy.bin"] = b"another file"
    register(toy(f"{server.url}/toy.bin"))
    with pytest.raises(weights.WrongWeights) as caught:
        weights.locate("toy")
    assert SHA256 in str(caught.value)
    assert hashlib.sha256(server.files["/toy.bin"]).hexdigest() in str(caught.value)
    assert not [path for path in (folders / "weights").iterdir() if path.suffix != ".lock"]


def test_local_file_with_a_wrong_hash_is_refused_and_kept(register, folders):
    register(toy())
    wrong_file = put(folders / "weights" / "toy.bin", b"mine")
    with pytest.raises(weights.WrongWeights) as caught:
        weights.locate("toy")
    for part in (str(wrong_file), SHA256, hashlib.sha256(b"mine").hexdigest(), "neither used nor changed"):
        assert part in str(caught.value)
    assert wrong_file.read_bytes() == b"mine"


def test_file_of_another_network_is_recognised(register, folders):
    blob = subprocess.run(["git", "hash-object", "--stdin"], input=b"other", capture_output=True, check=True).stdout
    other = Weights("other", "another network", "CC0-1.0", (WeightFile("o.bin", git_blob=blob.decode().strip()),))
    register(toy(), other)
    put(folders / "weights" / "toy.bin", b"other")
    refuses(weights.WrongWeights, "which is other", weights.locate, "toy")
    put(folders / "weights" / "o.bin", b"other")
    assert weights.locate("other").name == "o.bin"  # the git blob id is sufficient


@pytest.mark.parametrize("switch", ["HF_HUB_OFFLINE", "EMOTIVETALK_OFFLINE"])
def test_offline_error_is_complete(server, register, folders, monkeypatch, switch):
    monkeypatch.setenv(switch, "1")
    register(toy(f"{server.url}/toy.bin"))
    with pytest.raises(weights.MissingWeights) as caught:
        weights.locate("toy")
    for part in ("toy.bin", f"{server.url}/toy.bin", SHA256, str(folders / "weights" / "toy.bin"), switch, "CC0-1.0"):
        assert part in str(caught.value)
    assert not server.requests


def test_error_names_the_smallest_preset(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for network, preset in (("syncnet", "metrics"), ("face_landmarker", "small"), ("pdfgc", None)):
        with pytest.raises(weights.MissingWeights) as caught:
            weights.locate(network)
        assert (f"task=weights preset={preset}" in str(caught.value)) == (preset is not None)


def test_failed_download_is_reported_with_its_reason(register, server):
    register(toy(f"{server.url}/gone.bin"))
    with pytest.raises(weights.MissingWeights, match="HTTP 404") as caught:
        weights.locate("toy")
    assert SHA256 in str(caught.value)


LOCATE = """
import sys
from encoders import weights
from encoders.weight_sources import WeightFile, Weights
file = WeightFile("toy.bin", (sys.argv[1],), sha256=sys.argv[2])
weights.WEIGHTS["toy"] = Weights("toy", "a test", "CC0-1.0", (file,))
print(weights.locate("toy"))
"""


def start(server, **options):
    command = [sys.executable, "-c", LOCATE, f"{server.url}/toy.bin", SHA256]
    return warm.Popen(command, stdout=subprocess.PIPE, text=True, **options)


@pytest.mark.slow
def test_two_processes_download_once(server, folders):
    server.delay = 0.02
    processes = [start(server), start(server)]
    found = {process.communicate(timeout=120)[0].strip() for process in processes}
    assert found == {str(folders / "weights" / "toy.bin")}
    assert len(server.requests) == 1


@pytest.mark.slow
def test_killed_download_is_resumed(server, register, folders):
    server.delay = 0.1
    process = start(server)
    part = folders / "weights" / "toy.bin.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (folders / "weights" / "toy.bin").exists()
    server.delay = 0.0
    register(toy(f"{server.url}/toy.bin"))
    assert weights.locate("toy").read_bytes() == CONTENT
    assert "Range" in server.requests[-1][1]


@pytest.mark.slow
def test_progress_bar_on_a_terminal(server):
    reader, writer = pty.openpty()
    termios.tcsetwinsize(writer, (24, 100))
    process = start(server, stderr=writer)
    os.close(writer)
    shown = b""
    with contextlib.suppress(OSError):  # a pseudo-terminal raises it when its last writer has closed
        while block := os.read(reader, 65536):
            shown += block
    os.close(reader)
    process.communicate(timeout=120)
    assert b"toy.bin: 100%" in shown
    assert b"1.00M/1.00M" in shown


@pytest.fixture
def hub(register):
    contents = {"config.json": b"{}", "model.safetensors": CONTENT}
    files = tuple(WeightFile(path, sha256=hashlib.sha256(content).hexdigest()) for path, content in contents.items())
    register(Weights("hub", "a test", "MIT", files, (), "org/name", "abc123", "sub", "name/sub"))
    return {f"/org/name/resolve/abc123/sub/{path}": content for path, content in contents.items()}


def test_hub_model_is_located_as_a_folder(server, hub, folders, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.files.update(hub)
    folder = weights.locate("hub")
    assert folder == folders / "weights" / "name" / "sub"
    assert (folder / "model.safetensors").read_bytes() == CONTENT
    (folder / "model.safetensors").unlink()
    assert weights.locate("hub") == folder  # only the missing file is downloaded again
    fetched = [path.rpartition("/")[2] for path, _ in server.requests]
    assert fetched == ["config.json", "model.safetensors", "model.safetensors"]


def test_hub_cache_is_used(hub, folders, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folders / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    snapshot = folders / "hub" / "models--org--name" / "snapshots" / "abc123" / "sub"
    for path, content in hub.items():
        put(snapshot / path.rpartition("/")[2], content)
    assert weights.locate("hub") == snapshot


def test_token_is_sent_only_to_the_hub(server, hub, monkeypatch):
    with serving() as storage:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        for path, content in hub.items():
            server.redirects[path] = storage.url + path
            storage.files[path] = content
        weights.locate("hub")
    assert all(headers["Authorization"] == "Bearer hf_secret" for _, headers in server.requests)
    assert not any("Authorization" in headers for _, headers in storage.requests)


def test_preset_continues_after_failures_and_prints_instructions(server, register, folders):
    by_hand, absent = WeightFile("hand.pth"), WeightFile("gone.bin", (f"{server.url}/gone.bin",), sha256="0" * 64)
    advice = "open https://drive.example and copy"
    manual = Weights("by_hand", "a test", "MIT", (by_hand,), ("small",), manual=advice)
    gone = Weights("gone", "a test", "MIT", (absent,), ("small",))
    register(manual, gone, toy(f"{server.url}/toy.bin"))
    lines = []
    report = weights.fetch_preset("small", lines.append)
    found = {row.name: row.status for row in report.rows}
    assert list(found.items()) == [("by_hand", "manual"), ("gone", "missing"), ("toy", "fetched")]
    assert not report.complete
    text = "\n".join(lines)
    for part in (advice, str(folders / "weights" / "hand.pth"), "HTTP 404", "CC0-1.0"):
        assert part in text
    (folders / "weights" / "hand.pth").write_bytes(b"1")
    register(manual, toy())
    report = weights.fetch_preset("small", lines.append)
    assert report.complete
    assert [row.status for row in report.rows] == ["present", "present"]


def test_networks_of_each_preset():
    needs = {preset: {w.name for w in SOURCES if preset in w.presets} for preset in weights.PRESETS}
    assert needs["tiny"] == set()
    assert needs["small"] == {"face_landmarker", "taef2_encoder", "taef2_decoder"}
    assert needs["paper"] == {
        "wav2vec2-base-960h", "svd-vae", "svd-unet", "pdfgc", "face_landmarker", "clip-vit-large-patch14",
        "inception_fid", "i3d_stylegan_v", "syncnet", "s3fd", "deep3dfacerecon", "deep3dfacerecon_template",
        "mtcnn_pnet", "mtcnn_rnet", "mtcnn_onet", "arcface",
    }  # fmt: skip
    refuses(ValueError, "tiny, small, paper", weights.fetch_preset, "huge")


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_every_source_has_urls_and_hashes(source):
    assert source.licence
    assert source.purpose
    for file in source.files:
        assert file.urls or source.repository or source.manual
        assert all(url.startswith("https://") for url in file.urls)
        assert file.sha256 is None or (len(file.sha256) == 64 and int(file.sha256, 16))
        assert file.git_blob is None or (len(file.git_blob) == 40 and int(file.git_blob, 16))
        assert file.has_hash or source.manual or source.revision  # the hub states the hash at a revision
    if source.repository:
        assert len(source.revision) == 40  # a commit, not a branch
        assert any(file.sha256 for file in source.files)


def test_real_files_have_the_published_hashes(asset_weights):
    encoding = "face_landmarker", "taef2_encoder", "taef2_decoder", "3ddfa_v2", "3ddfa_v2_statistics"
    for name in (*encoding, "mtcnn_pnet", "mtcnn_rnet", "mtcnn_onet", "deep3dfacerecon_template"):
        assert weights.find(name).parent == asset_weights


def test_pickles_that_run_code_are_refused(tmp_path):
    class Dangerous:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"weight": Dangerous()}, tmp_path / "bad.pth")
    refuses(weights.WrongWeights, r"bad\.pth.*any code", weights.load_pickle, tmp_path / "bad.pth")
    assert not (tmp_path / "ran").exists()
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 cut off")
    refuses(weights.WrongWeights, r"cut\.pth", weights.load_pickle, tmp_path / "cut.pth")


def test_tensors_are_loaded(tmp_path):
    from safetensors.torch import save_file

    tensors = {"a": torch.arange(3.0)}
    torch.save(tensors, tmp_path / "a.pth")
    save_file(tensors, tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        assert torch.equal(weights.load_tensors(tmp_path / name)["a"], tensors["a"])
    damaged = put(tmp_path / "b.safetensors", b"nonsense")
    refuses(weights.WrongWeights, r"b\.safetensors", weights.load_tensors, damaged)
