"""Every documented training command passes the checks before training, with its number of ranks.

Commands stand in the README, in docs/, in the headers of experiments and batch files, and in the container files. Each
is checked against the ``prepare.py`` commands that make its data, and against shards as those commands write them.
"""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from configs.command_line import compose
from configs.data import DataConfig
from configs.models import EthdConfig, UNetConfig
from configs.preparation import PrepareConfig
from configs.registries import STAGES
from configs.rules import check
from configs.training import NO_INIT, TrainConfig
from configs.training_rules import check_ranks
from datamodules.datamodule import ShardDataModule
from datamodules.mixture import datamodule
from datamodules.schema import Index
from encoders.protocols import Identity
from runtime.errors import UserError
from tests.helpers import ROOT
from tests.helpers.prepare_command import made
from tests.helpers.shards import TINY, change_index, make_shards
from tools.check_sbatch import options_of
from training.fit import check_encoder_names
from training.preflight import slurm_tasks
from training.rehearsal import MARK, Rehearsal

FILES = [
    ROOT / "README.md", ROOT / "Dockerfile", ROOT / "emotivetalk.def", ROOT / "slurm" / "train.sbatch",
    *sorted((ROOT / "docs").glob("[!a]*.md")),  # docs/adding_a_*.md have a test of their own, test_lab.py
    *sorted((ROOT / "configs" / "experiment").rglob("*.yaml")),
]  # fmt: skip
SCRIPT = re.compile(r"(?:python \S*|sbatch slurm/)(prepare|train)(?:\.py|\.sbatch) (\S+=[^`|]*)")
REHEARSE = "task=rehearse"
GPUS = 8  # of a machine, where a command names no number


@dataclass(frozen=True)
class Command:
    """A documented command.

    Attributes:
        file: File it stands in.
        script: prepare or train.
        typed: Arguments.
        batch_file: Whether it is submitted with slurm/train.sbatch.
    """

    file: Path
    script: str
    typed: tuple[str, ...]
    batch_file: bool = False


def commands_of(file: Path) -> Iterator[Command]:
    """Commands in a file; a line that ends with a backslash continues."""
    text = re.sub(r"^# ?", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if found := SCRIPT.search(line):
            words = shlex.split(re.split(r"\s{3,}|\s#", found[2])[0])
            typed = tuple(word for word in words if "=" in word and not word.startswith("-") and word != REHEARSE)
            yield Command(file, found[1], typed, "sbatch" in found[0])


def expanded(command: Command) -> Iterator[Command]:
    """The runs of a sweep, which names several values of a key."""
    for place, word in enumerate(command.typed):
        key, _, values = word.partition("=")
        if re.fullmatch(r"[\w/]+(,[\w/]+)+", values) and key in ("model.variant", "seed", "experiment"):
            for value in values.split(","):
                yield from expanded(
                    replace(command, typed=(*command.typed[:place], f"{key}={value}", *command.typed[place + 1 :]))
                )
            return
    yield command


COMMANDS = [each for file in FILES for command in commands_of(file) for each in expanded(command)]
TRAINED = list(
    dict.fromkeys(
        command
        for command in COMMANDS
        if command.script == "train" and any(word.startswith("experiment=") and word[11:] for word in command.typed)
    )
)
PREPARED = {  # folder -> dataset, preset and keys of encoders
    values["output"].removeprefix("/"): (
        values["dataset"],
        values["preset"],
        tuple(word for word in command.typed if word.startswith("encoders")),
    )
    for command in COMMANDS
    if (values := dict(word.split("=", 1) for word in command.typed)) and command.script == "prepare"
    if {"dataset", "preset", "output"} <= values.keys() and "task" not in values
}


def test_the_files_have_commands():
    assert len(TRAINED) >= 30
    assert {command.file.parent.name for command in TRAINED} >= {"slurm", "docs", "vaid", "ethd", "emotion", "proxy"}
    assert {"data/hdtf", "data/mead", "data/synthetic", "data/me"} <= PREPARED.keys()


def ranks_of(command: Command, config: TrainConfig) -> tuple[int, int]:
    """Processes per machine, and machines."""
    if command.batch_file:
        options = options_of((ROOT / "slurm" / "train.sbatch").read_text(encoding="utf-8"))
        return int(options["ntasks-per-node"]), int(options["nodes"])
    devices = config.trainer.devices
    many = config.trainer.strategy != "auto" or config.trainer.accelerator == "auto"
    return int(devices) if devices.isdecimal() else GPUS if many else 1, config.trainer.nodes


@functools.cache
def encoder_names(preset: str, keys: tuple[str, ...]) -> dict[str, str]:
    """Encoders of a preset with further keys, by kind."""
    encoders = compose("prepare", PrepareConfig, [f"preset={preset}", "task=weights", *keys]).encoders
    return {kind: getattr(encoders, kind).name for kind in ("audio", "motion", "codec", "landmarks")}


def shards_for(folder: str, place: Path, batch: int) -> str:
    """Writes shards as the documented command for ``folder`` would, with little content."""
    name = folder.removeprefix("/")
    assert name in PREPARED, f"no prepare.py command has output={name}"
    dataset, preset, keys = PREPARED[name]
    target = place / name.replace("/", "-")
    if not target.exists():
        dims = replace(TINY, latent_size=8)
        splits = ("train",) * 5 + ("val",)
        samples = -(-6 * batch // 5) + 6
        make_shards(target, samples=samples, frames=(130,), shards=2, dataset=dataset, splits=splits, dims=dims)
        encoders = {kind: Identity(name) for kind, name in encoder_names(preset, keys).items()}
        encoders["codec"] = replace(encoders["codec"], weights={"network.safetensors": "0" * 64})
        change_index(target, encoders={**Index.read(target).encoders, **encoders}, frame_size=64)
    return str(target)


def config_of(command: Command) -> TrainConfig:
    """Configuration of a command, with what slurm/train.sbatch adds."""
    typed = list(command.typed)
    if command.batch_file:
        options = options_of((ROOT / "slurm" / "train.sbatch").read_text(encoding="utf-8"))
        typed += [
            f"trainer.nodes={options['nodes']}",
            f"trainer.devices='{options['ntasks-per-node']}'",
            "ckpt_path=last",
        ]
    return compose("train", TrainConfig, [word for word in typed if not word.startswith("hydra")])


def with_shards(data: DataConfig, place: Path) -> DataConfig:
    """The data of a configuration from shards in ``place``."""
    if data.roots:
        batch = data.batch_size
        return replace(data, roots={name: shards_for(root, place, batch) for name, root in data.roots.items()})
    return replace(data, root=shards_for(str(data.root), place, data.batch_size))


def simulate(command: Command, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Does what a start does before the first step, for every rank.

    Raises:
        UserError: As the start would.
    """
    config = config_of(command)
    check(config)
    devices, nodes = ranks_of(command, config)
    check_ranks(config, devices * nodes)
    monkeypatch.setenv("SLURM_NTASKS", str(devices * nodes))
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", str(devices))
    monkeypatch.setenv("SLURM_NNODES", str(nodes))
    assert list(slurm_tasks(devices, config.trainer.nodes if command.batch_file else nodes)) == []
    if isinstance(config.model, EthdConfig) and config.model.unet == UNetConfig():
        assert config.init != NO_INIT, "trains 1.6 billion parameters from noise"
    for key, stage in (("vaid", "vaid"), ("init", config.stage)):
        value = str(getattr(config, key) or "")
        if value.startswith("outputs/"):
            wanted = (stage, value.rpartition("/")[2])
            assert wanted in trained_runs(), f"{key}={value}: no documented command makes this run"
    data, batch = with_shards(config.data, place), config.data.batch_size
    if STAGES.get(config.stage).own_loaders:
        return check_encoders_of(datamodule(data), config)
    drawn = []
    for rank in range(devices * nodes):
        module = datamodule(replace(data, split="stored", workers=0))
        module.trainer = SimpleNamespace(global_rank=rank, world_size=devices * nodes)
        check_encoders_of(module, config)
        for part in module.train_dataloader().dataset.of_rank(0, rank):
            drawn += [window.draw for window in part.windows]
    assert sorted(drawn) == list(range(batch))
    return None


def check_encoders_of(data: ShardDataModule, config: TrainConfig) -> None:
    """Reads the shards and compares their encoders with those of the experiment."""
    data.setup("fit")
    check_encoder_names(data, config.encoders, config.name)


@functools.cache
def trained_runs() -> set[tuple[str, str | None]]:
    """Stage and run_id of all documented trainings."""
    alone = (command for command in TRAINED if not any(word.startswith("hydra/launcher=") for word in command.typed))
    return {(config.stage, config.run_id) for config in (compose("train", TrainConfig, one.typed) for one in alone)}


def label(command: Command) -> str:
    """Name of a case."""
    return f"{command.file.parent.name}/{command.file.name}: {' '.join(command.typed)}"[:150]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("shards")


@pytest.mark.parametrize("command", TRAINED, ids=label)
def test_a_documented_training_starts(command, place, monkeypatch):
    simulate(command, place, monkeypatch)


@pytest.mark.parametrize(
    ("typed", "sbatch", "message"),
    [
        ("experiment=vaid/paper data=mead data.root=data/hdtf run_id=hdtf trainer=ddp", True, "data.name=mead expects"),
        (
            "experiment=ethd/paper data=hdtf data.root=data/hdtf vaid=v run_id=a trainer=ddp",
            True,
            "16 ranks .* cannot share",
        ),
        ("experiment=ethd/paper data=hdtf data.root=data/hdtf vaid=v init=none run_id=a", False, "from noise"),
        ("experiment=ethd/paper data=hdtf data.root=data/hdtf vaid=outputs/vaid/x run_id=a", False, "makes this run"),
        ("experiment=vaid/tiny data=hdtf data.root=data/hdtf run_id=a", False, "made by the audio encoder wav2vec2"),
    ],
)
def test_wrong_commands_are_noticed(typed, sbatch, message, place, monkeypatch):
    with pytest.raises((AssertionError, UserError), match=message):
        simulate(Command(ROOT / "README.md", "train", tuple(typed.split()), sbatch), place, monkeypatch)


def rehearsed(command: Command) -> tuple[object, ...]:
    """What a rehearsal of a command depends on."""
    config = config_of(command)
    trainer, model = with_ranks(command, config).trainer, replace(config.model, lr=1e-3)
    return str((config.stage, trainer, model, replace(config.data, root=None, roots={}), config.videos)), config.init


def with_ranks(command: Command, config: TrainConfig) -> TrainConfig:
    """A configuration with the real number of ranks, and the strategy that Lightning chooses for them."""
    devices, nodes = ranks_of(command, config)
    strategy = "ddp" if config.trainer.strategy == "auto" and devices * nodes > 1 else config.trainer.strategy
    return replace(config, trainer=replace(config.trainer, devices=str(devices), nodes=nodes, strategy=strategy))


@functools.cache
def distinct() -> list[Command]:
    """One command for each rehearsal."""
    return list({rehearsed(command): command for command in TRAINED}.values())


def rehearse(config: TrainConfig) -> dict[str, list[str]]:
    """Rehearses a configuration, and returns its parts by their status."""
    lines: list[str] = []
    Rehearsal(config, lines.append).run()
    return {status: [line.split()[1] for line in lines if line.startswith(status)] for status in ("ok", "failed")}


def with_runs(command: Command, place: Path) -> TrainConfig:
    """Configuration of a command on its shards; the runs that it names are rehearsed first, on one rank."""
    config = config_of(command)
    if config.logger.chosen:
        config.logger = replace(config.logger, use={}, name=None)  # may not be installed, and is not rehearsed
    if config.stage == "proxy" and not (place / "data-proxy").exists():  # faces, and factors of expressions
        made(place / "data-proxy", dataset="synthetic", preset="tiny", frame_size=128, store_video="all",
             dataset__identities=4, dataset__clips_per_identity=4, dataset__seconds=2.6)  # fmt: skip
    for key, stage in (("vaid", "vaid"), ("init", config.stage)):
        value = str(getattr(config, key) or "")
        if (
            value.startswith("outputs/")
            and not (place / "rehearse" / Path(value).relative_to("outputs") / MARK).exists()
        ):
            named = stage, value.rpartition("/")[2]
            source = next(other for other in TRAINED if (at := config_of(other)) and (at.stage, at.run_id) == named)
            alone = with_runs(source, place)
            alone.trainer = replace(alone.trainer, devices="1", nodes=1, accelerator="cpu", strategy="auto")
            alone.data.batch_size = alone.data.micro_batch or alone.data.batch_size
            assert {*rehearse(alone)["failed"]} <= WEIGHTS
    return replace(config, data=with_shards(config.data, place), output=str(place))


WEIGHTS = {"init", "codec", "text"}  # parts that need weights, which a test has not


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("command", TRAINED, ids=label)
def test_a_documented_training_rehearses(command, place, monkeypatch):
    """With its real number of ranks, strategy, window and batch."""
    if command not in distinct():
        pytest.skip("another command has the same rehearsal")
    monkeypatch.setenv("EMOTIVETALK_WEIGHTS", str(place / "none"))
    monkeypatch.setenv("EMOTIVETALK_OFFLINE", "1")
    config = with_ranks(command, with_runs(command, place))
    parts = rehearse(config)
    assert {*parts["failed"]} <= WEIGHTS, parts
    last = {"ethd": "generate", "vaid": "loaded"}.get(config.stage, "stop")
    assert {"steps", "validation", "checkpoint", "kill", "resume", last} <= {*parts["ok"]}
    assert STAGES.get(config.stage).videos is ("video" in parts["ok"])
