"""The programs that ``tools.nightly.chaos`` disturbs: their commands, and what must be equal afterwards."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import socket
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from generation.examples import draw_examples
from lightning_modules.checkpoint_files import LAST
from lightning_modules.checkpoints import read_checkpoint
from runtime.errors import UserError
from runtime.files import sha256_of
from tools.nightly.kill_ranks import OF_STAGE, SETTINGS, losses
from tools.nightly.warm_commands import ON_THE_CPU, start

STEPS = 24
START_SECONDS = 600.0  # time limit of an undisturbed command
VIDEOS = 4
SPEECH_SECONDS = 1.0


@dataclass(frozen=True)
class Program:
    """A command that is disturbed.

    Attributes:
        name: Name in the report.
        command: Output folder -> arguments of python.
        result: Output folder -> what must equal the result of an undisturbed run.
        ranks: Number of processes that a launcher starts.
        environment: Additional variables.
        serves: Whether it runs until it is ended, and its port.
    """

    name: str
    command: Callable[[Path], list[str]]
    result: Callable[[Path], Any]
    ranks: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    serves: int | None = None


def programs(folder: Path, environment: Mapping[str, str]) -> list[Program]:
    """Makes the inputs of all programs in a folder, each once, and returns the programs.

    Raises:
        UserError: If a command fails.
    """
    data, runs, logs = folder / "data", folder / "runs", folder / "logs"
    prepared = _prepare_command(data, seconds=2)
    once(prepared, environment, data / "index.json", logs / "prepare.txt")
    vaid = runs / "vaid" / "source" / "checkpoints" / LAST
    once(_train_command("vaid", data, runs), environment, vaid, logs / "vaid.txt")
    source = f"vaid={runs / 'vaid' / 'source'}"
    exported = runs / "ethd" / "source" / "export"
    ethd = exported.parent / "checkpoints" / LAST
    once([*_train_command("ethd", data, runs), source], environment, ethd, logs / "ethd.txt")
    once(["train.py", "task=export", f"run={exported.parent}"], environment, exported, logs / "export.txt")
    image = ["train.py", "experiment=proxy/image", f"data.root={data}", f"output={runs}", "run_id=image"]
    image += ["trainer.max_steps=4", "trainer.validate_every=4", "data.workers=0", "data.steps_per_epoch=4"]
    network = runs / "proxy" / "image" / "proxy_image.safetensors"
    once(image, environment, network, logs / "image.txt")
    cases = _cases(folder / "inputs")
    generate = ["generate.py", f"ethd={exported.parent}", f"batch={cases}", "steps=2", "device=cpu"]
    video = folder / "videos" / f"{VIDEOS - 1}.mp4"
    once([*generate, f"output={folder / 'videos'}"], environment, video, logs / "generate.txt")
    evaluate = ["evaluate.py", f"generated={folder / 'videos'}", f"reference={folder / 'videos'}", "metrics=[fid]"]
    evaluate += ["fid.network=proxy", f"fid.weights={network}", "device=cpu", "bootstrap=0"]
    port = free_port()
    train, zero = _train_command("vaid", data), [*_train_command("ethd", data), source]
    return [
        Program("prepare", lambda output: _prepare_command(output), _shards),
        Program("train, DDP, 2 ranks", _with_output([*train, "trainer.strategy=ddp"]), _trained("vaid"), 2),
        Program(
            "train, ZeRO-2, 2 ranks", _with_output([*zero, "trainer.strategy=deepspeed"]), _trained("ethd"), 2,
            {ON_THE_CPU: "1"},
        ),
        Program("generate, batch", _with_output(generate), _videos),
        Program(
            "evaluate",
            lambda output: [*evaluate, f"output={output / 'results.json'}", f"cache={output / 'cache'}"],
            _scores,
        ),
        Program(
            "app", lambda output: ["app.py", f"ethd={exported.parent}", "device=cpu", f"port={port}"],
            lambda output: "", 1, {}, port,
        ),
    ]  # fmt: skip


def once(typed: list[str], environment: Mapping[str, str], product: Path, log: Path) -> None:
    """Runs a command unless its product exists. ``log`` gets what it prints.

    Raises:
        UserError: If it fails.
    """
    if product.exists():
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    process = start(typed, environment, log)
    process.join(START_SECONDS)
    if process.exitcode != 0 or not product.exists():
        process.kill()
        raise UserError(f"{' '.join(typed)}: ended with status {process.exitcode}; see {log}")


def answers(port: int, seconds: float = START_SECONDS) -> bool:
    """Waits until a page answers, and returns whether it did."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with opener.open(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            time.sleep(0.2)
    return False


def free_port() -> int:
    """A port of this machine that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _prepare_command(output: Path, seconds: int = 1) -> list[str]:
    return ["prepare.py", "dataset=synthetic", "preset=tiny", "dataset.identities=4", "dataset.clips_per_identity=2",
            f"dataset.seconds={seconds}", "dataset.size=96", "dataset.split=person", "store_video=all", "workers=2",
            "shard_bytes=300000", f"output={output}"]  # fmt: skip


def _train_command(stage: str, data: Path, output: Path | None = None) -> list[str]:
    typed = ["train.py", f"experiment={stage}/tiny", *SETTINGS, *OF_STAGE[stage], f"data.root={data}"]
    typed.append("watchdog.join_minutes=0.7")  # a rank whose other was killed before they connected ends after this
    if output is not None:  # one of the inputs
        return [*typed, "trainer.devices='1'", "trainer.strategy=auto", "run_id=source", "trainer.max_steps=4",
                f"output={output}"]  # fmt: skip
    return [*typed, f"trainer.max_steps={STEPS}", "trainer.devices='2'", "run_id=run"]


def _with_output(typed: list[str]) -> Callable[[Path], list[str]]:
    return lambda output: [*typed, f"output={output}"]


def _cases(folder: Path) -> Path:
    file = folder / "cases.csv"
    if not file.exists():
        rows = ["portrait,speech,output,seed"]
        examples = draw_examples(folder, SPEECH_SECONDS)
        for number in range(VIDEOS):
            example = examples[number % len(examples)]
            rows.append(f"{example.portrait.name},{example.speech.name},{number}.mp4,{number}")
        file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return file


def _shards(output: Path) -> Any:
    return {path.name: sha256_of(path) for path in [*sorted(output.glob("*.tar")), output / "index.json"]}


def _trained(stage: str) -> Callable[[Path], Any]:
    def result(output: Path) -> Any:
        folder = output / stage / "run"
        digest = hashlib.sha256()
        for name, weight in sorted(read_checkpoint(folder / "checkpoints" / LAST, stage)["state_dict"].items()):
            digest.update(name.encode() + weight.float().numpy().tobytes())
        with (folder / "csv" / "metrics.csv").open() as file:
            epochs = [(row["step"], row["epoch"]) for row in csv.DictReader(file)]
        return losses(folder), epochs, digest.hexdigest()

    return result


def _videos(output: Path) -> Any:
    records = {path.name: json.loads(path.read_text())["inputs"] for path in sorted(output.glob("*.json"))}
    return {path.name: sha256_of(path) for path in sorted(output.glob("*.mp4"))}, records


def _scores(output: Path) -> Any:
    found = json.loads((output / "results.json").read_text())
    return found["metrics"], found["n"]


def left_behind(folder: Path) -> list[str]:
    """Names of temporary files and locks in a folder."""
    endings = (".partial", ".part", ".lock")
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name.endswith(endings))


def emptied(folder: Path) -> Path:
    """The folder, new and empty."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    return folder
