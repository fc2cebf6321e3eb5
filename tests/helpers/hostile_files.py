"""Hostile files that are not media: tensors and archives, JSON, CSV, YAML. Each is made here, of few bytes."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save, save_file

from lightning_modules.emotion.emotion_table import TABLE_KIND
from lightning_modules.ethd.export import KIND
from metrics.networks.proxy import HEADER

DEEP = 100_000
STOLEN = "stolen-secret"  # value of the environment variable SECRET, which nothing may show


class Runs:
    """Creates a folder when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self):
        return os.mkdir, (self.canary,)


def tensors(folder: Path, canary: Path) -> Iterator[Path]:
    """Files in place of weights, checkpoints and exports; ``canary`` must not come into being."""

    def saved(name: str, content: object, zipped: bool = True) -> Path:
        torch.save(content, folder / name, _use_new_zipfile_serialization=zipped)
        return folder / name

    def written(name: str, content: bytes) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    def archive(name: str, members: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> Path:
        with zipfile.ZipFile(folder / name, "w", packing) as made:
            for member, content in members.items():
                made.writestr(member, content)
        return folder / name

    yield saved("runs.ckpt", {"state_dict": Runs(canary)})
    yield saved("runs_legacy.ckpt", {"state_dict": Runs(canary)}, zipped=False)
    yield written("runs.pkl", pickle.dumps(Runs(canary)))
    yield written("runs_protocol_0.pkl", pickle.dumps(Runs(canary), 0))
    yield archive("runs_script.pt", {"x/constants.pkl": pickle.dumps(()), "x/data.pkl": pickle.dumps(Runs(canary))})
    code = b"__torch__.Evil\nimport os"
    yield archive("script_without_tensors.pt", {"x/constants.pkl": b"", "x/data.pkl": b"\x80\x02}.", "x/code": code})
    yield saved("module.ckpt", torch.nn.Linear(2, 2))
    yield saved("list.ckpt", [1, 2])
    yield saved("expanded.ckpt", {"w": torch.zeros(1).expand(1 << 40)})
    yield saved("function.ckpt", {"f": os.path.join})
    whole = saved("whole.ckpt", {"state_dict": {"w": torch.rand(1000)}, "emotivetalk": 7})
    content = whole.read_bytes()
    yield written("half.ckpt", content[: len(content) // 2])
    yield written("head.ckpt", content[:100])
    yield written("tail.ckpt", content[-200:])
    yield written("hole.ckpt", content[:1000] + bytes(500) + content[1500:])
    yield whole
    yield archive("bomb.ckpt", {"bomb/data.pkl": b"", "bomb/data/0": bytes(1 << 27)}, zipfile.ZIP_DEFLATED)
    yield archive("names.ckpt", {"../../evil": b"x", "/etc/evil": b"x"})
    yield archive("empty.ckpt", {})
    yield archive("lists.ckpt", {"a/data.pkl": b"\x80\x02" + b"(" * DEEP, "a/version": b"3"})
    yield archive("memo.ckpt", {"a/data.pkl": b"\x80\x02K\x01r\xff\xff\xff\x7f.", "a/version": b"3"})
    yield archive("long.ckpt", {"a/data.pkl": b"\x80\x02\x8b\xff\xff\xff\x7f.", "a/version": b"3"})
    yield written("tensors.safetensors", save({"w": torch.zeros(3)}))
    huge = json.dumps({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]}}).encode()
    yield written("huge.safetensors", struct.pack("<Q", len(huge)) + huge + bytes(4))
    negative = huge.replace(b"1099511627776", b"-1")
    yield written("negative.safetensors", struct.pack("<Q", len(negative)) + negative + bytes(4))
    yield written("header.safetensors", struct.pack("<Q", 1 << 62) + b"{}")
    yield written("cut.safetensors", save({"w": torch.zeros(300)})[:-100])
    deep = b"[" * DEEP
    yield written("deep.safetensors", struct.pack("<Q", len(deep)) + deep)
    for number, header in enumerate(("[" * DEEP, "7", "null", "{}", '{"version": "x"}', '{"version": 1e999}')):
        path = folder / f"metadata{number}.safetensors"
        kinds = (KIND, HEADER, TABLE_KIND)  # an export, a proxy network, a table of emotions
        save_file({"ethd.w": torch.zeros(3)}, path, metadata=dict.fromkeys(kinds, header))
        yield path
    yield written("page.ckpt", b"<html>Please accept the terms</html>")
    yield written("nothing.ckpt", b"")
    (folder / "device.ckpt").symlink_to("/dev/zero")
    yield folder / "device.ckpt"
    os.mkfifo(folder / "pipe.ckpt")
    yield folder / "pipe.ckpt"


def json_texts(schema: str) -> Iterator[bytes]:
    """JSON in place of results, records and plans; ``schema`` is the one that the reader expects."""
    yield from (b"", b"null", b"7", b'"x"', b"[]", b"{}", b"\xff\xfe{\x00}\x00", b"\x00", b"{", b'{"a": 1}}', b"NaN")
    yield from (
        b"[" * DEEP,
        b'{"a":' * DEEP,
        b"9" * 5000,
        b'{"schema": 1e999}',
        b'{"schema": {"a": []}}',
        b"\x1b]0;x\x07",
    )
    names = ("settings", "metrics", "clips", "record", "trials", "orders", "shards", "found", "cells", "rows")
    for value in (7, None, "x", [], [[]], {}, {"a": None}, [{"clip": 7}], "\ud800", -1):
        yield json.dumps({"schema": schema, **dict.fromkeys(names, value)}).encode()


def csv_texts(columns: str) -> Iterator[bytes]:
    """CSV in place of lists of cases and landmarks; ``columns`` is a header that the reader accepts."""
    yield from (b"", b"\n", b"\x00", b"\xff\xfea\x00", b'"', b"a,b\n1,2\n", b",,,\n,,,\n", b"\xef\xbb\xbf")
    head = columns.encode()
    count = columns.count(",") + 1
    yield head + b"\n"
    yield head + b"," + head + b"\n"
    yield head + b"\n" + b",".join([b"x"] * (count + 5)) + b"\n"
    yield head + b"\n" + b",".join([b"\x1b[31m"] * count) + b"\n"
    yield head + b"\n" + b",".join([b"=cmd|' /C calc'!A0"] * count) + b"\n"
    yield head + b"\n" + b",".join([b"${oc.env:SECRET}"] * count) + b"\n"
    yield head + b"\n" + b",".join([b"../../../etc/passwd"] * count) + b"\n"
    yield head + b"\n" + b",".join([b"a\0b"] * count) + b"\n"
    yield head + b"\n" + b",".join([b"x" * 200_000] * count) + b"\n"
    yield head + b"\n" + b",".join([b"nan"] * count) + b"\n"
    yield head + b"\n" + b",".join([b'"a\nb"'] * count) + b"\n"


def yaml_texts(canary: Path) -> Iterator[bytes]:
    """YAML in place of configurations and descriptions; ``canary`` must not come into being."""
    yield from (b"", b"7", b"[]", b"\x00", b"\xff\xfe", b"a: [", b"a: 1\na: 2", b"? [a]\n: 1", b"<<: 7", b"a: &x [*x]")
    yield b"[" * 5000
    yield b"a: " + b"{a: " * 5000
    laughs = ["a: &a0 [x, x, x, x, x, x, x, x, x]"]
    laughs += [f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    yield "\n".join(laughs).encode()
    yield f"!!python/object/apply:os.mkdir ['{canary}']".encode()
    yield f"stage: !!python/object/new:os.mkdir ['{canary}']".encode()
    yield b"stage: ${oc.env:SECRET}\ntitle: ${oc.env:SECRET}"
    yield b"stage: ${x:"
    yield b"stage: " + b"x" * (1 << 21)
    yield b"stage: {_target_: os.mkdir}"
