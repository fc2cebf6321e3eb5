"""Steps of ``make demo`` and ``make demo-real``, with their commands. ``words.yaml`` has their titles and reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path

import yaml

from generation.small import SMALL, SMALL_ENCODERS
from tools.demo.people import ALL, People
from tools.pipeline.precision import cpu_precision
from tools.pipeline.step import Files, Progress, Step, TrainingSteps

ROOT = Path(__file__).resolve().parents[2]  # where the steps run
EXPERIMENTS = ROOT / "configs" / "experiment"
RUN = "demo"  # run_id of every training
RANKS = 2  # of the experiments' trainings of ETHD
PLAN = "plan.json"  # titles, reasons and commands of the steps, for the page
Keys = tuple[str, ...]


@dataclass(frozen=True)
class Lengths:
    """Settings that determine how long the demonstration takes, as typed on the command line.

    Attributes:
        prepare: Keys of prepare.py.
        vaid: Keys of the training of V-AID.
        ethd: Keys of the training of ETHD.
        emotion: Keys of the training of labels and texts.
        image: Keys of the training of FID's proxy.
        generate: Keys of generate.py.
        measure: Options of the module that measures ETHD.
        seconds: Step -> approximate duration on two idle cores.
        clips: Number of clips that prepare.py renders.
        experiment: Experiment of ETHD.
        start: Exported networks that the trainings start from; None for none.
    """

    prepare: Keys
    vaid: Keys
    ethd: Keys
    emotion: Keys = ()
    image: Keys = ()
    generate: Keys = ()
    measure: Keys = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    clips: int = 0
    experiment: str = "ethd/tiny"
    start: Path | None = None


# Two clips of every emotion, because score_ethd tests its readers on clips that they were not fitted to.
PEOPLE = ("dataset.identities=24", "dataset.clips_per_identity=16", "dataset.seconds=2.4")
# All trainings are limited by steps, not by time: a busy machine is slower, never worse.
SCRATCH = Lengths(
    prepare=PEOPLE,
    vaid=("trainer.max_steps=600",),
    emotion=("trainer.max_steps=300",),
    ethd=("trainer.max_steps=500",),
    image=("trainer.max_steps=120",),
    measure=("frames=29",),
    seconds={"prepare": 200, "vaid": 150, "emotion": 35, "ethd": 360, "generate": 30, "image": 40, "score_ethd": 80},
    clips=384,
)
SYNTHETIC = replace(
    SCRATCH,
    prepare=(*PEOPLE, *SMALL_ENCODERS),
    # Low learning rates, which change little of what the networks know.
    vaid=("trainer.max_steps=100", "model.lr=2e-4", "model.lr_warmup=20"),
    ethd=("trainer.max_steps=100", "model.lr=2e-4", "model.lr_warmup=20", "model.ema=0.95"),
    experiment="ethd/bundled",
    start=SMALL.relative_to(ROOT),
    seconds={"prepare": 110, "vaid": 25, "emotion": 15, "ethd": 55, "image": 35,
             "score_before": 60, "score_ethd": 65, "generate": 25},
)  # fmt: skip
# As the small model was trained, from which these trainings start.
REAL = Lengths(
    prepare=("encoders/landmarks=mediapipe", *SMALL_ENCODERS),
    vaid=("trainer.max_steps=600", "model.lr_warmup=20"),
    ethd=(),
    measure=("clips=4",),
    experiment="ethd/faces",
    start=SMALL.relative_to(ROOT),
    seconds={"kept": 30, "prepare": 25, "vaid": 90, "ethd": 370, "generate": 45,
             "score_seen": 80, "score_unseen": 50, "evaluate": 30},
)  # fmt: skip


def synthetic_plan(folder: Path, lengths: Lengths = SYNTHETIC) -> list[Step]:
    """Returns the steps of the demonstration on synthetic speakers.

    Args:
        folder: Output folder.
        lengths: Lengths of the steps; ``SCRATCH`` trains from nothing.
    """
    plan = _Plan(folder, lengths)
    data, index, runs = plan.data, plan.data / "index.json", folder / "runs"
    emotion, proxy = runs / "emotion" / RUN, runs / "proxy" / RUN / "proxy_image.safetensors"
    prepare = ("prepare.py", "dataset=synthetic", "preset=tiny", *lengths.prepare, "store_video=all", f"output={data}")
    evaluate = (f"generated={folder}/videos/emotions", f"reference={folder}/cases/true/emotions")
    proxies = ("fid.network=proxy", f"fid.weights={proxy}")
    plan.add(
        "prepare", prepare, writes=[data], cores=None, progress=Files(data / "raw", "*.mp4", lengths.clips, "clips")
    )
    if lengths.start is not None:
        before = ("-m", "tools.quality.ethd_synthetic", str(lengths.start), str(data), *lengths.measure)
        plan.add("score_before", before, reads=[lengths.start, index], stdout=folder / "score_before.json")
    plan.train("vaid", "vaid/tiny", lengths.vaid, [*plan.start, "trainer.validate_every=50", "trainer.log_every=10"])
    plan.train("emotion", "emotion/tiny", lengths.emotion)
    plan.train("image", "proxy/image", lengths.image, stage="proxy")
    plan.ethd(lengths.experiment)
    measured = plan.ethd_run / "checkpoints" / "last.ckpt"
    measure = ("-m", "tools.quality.ethd_synthetic", str(plan.ethd_run), str(data), *lengths.measure)
    plan.add("score_ethd", measure, reads=[measured, index], stdout=folder / "score_ethd.json")
    plan.generate(data / "raw", emotion, videos=10)
    plan.evaluate([*evaluate, *proxies], [proxy])
    return plan.with_page()


def kept_plan(folder: Path, videos: Path, speaker: str | None = None, lengths: Lengths = REAL) -> list[Step]:
    """Returns the first steps of the demonstration on a folder of real videos, which decide who is in which training.

    Args:
        folder: Output folder.
        videos: Raw videos.
        speaker: Who speaks in a video, see ``dataset.speaker``.
        lengths: Lengths of the steps.
    """
    plan, kept, lists = _Plan(folder, lengths), folder / "data-kept", folder / "people"
    dataset = ("dataset=folder", "dataset.split=train", *(() if speaker is None else (f"dataset.speaker={speaker}",)))
    plan.prepare(dataset, videos, kept, "kept")
    choose = ("-m", "tools.demo.people", f"shards={kept}", f"output={lists}")
    plan.add("people", choose, reads=[kept], writes=[lists])
    return plan.steps


def real_plan(folder: Path, videos: Path, people: People, speaker: str | None = None, lengths: Lengths = REAL
              ) -> list[Step]:  # fmt: skip
    """Returns the steps of the demonstration on a folder of real videos: of all people but two, then of fewer.

    Args:
        folder: Output folder.
        videos: Raw videos.
        people: Result of the steps of ``kept_plan``, which come first.
        speaker: Who speaks in a video, see ``dataset.speaker``.
        lengths: Lengths of the steps.
    """
    plan = _Plan(folder, lengths, steps=kept_plan(folder, videos, speaker, lengths))
    names = (ALL, *(name for name in people.trained if name != ALL))
    parts = {name: plan.with_people("" if name == ALL else f"-{name}") for name in names}
    # Each rank of a training needs a clip of its own.
    keys = {
        name: ("data=manifest", *(("trainer.devices='1'",) if people.clips[name] < RANKS else ())) for name in names
    }
    for name, part in parts.items():
        listed = folder / "people" / f"{name}.csv"
        manifest = ("dataset=manifest", f"dataset.list_file={listed}")
        part.prepare(manifest, videos, part.data, "prepare", [listed])
    for name, part in parts.items():
        often = [*keys[name], *part.start, "trainer.validate_every=100", "trainer.log_every=10"]
        part.train("vaid", "vaid/tiny", lengths.vaid, often)
    for name, part in parts.items():
        part.ethd(lengths.experiment, keys[name])
    plan.measure("seen", "train")
    plan.generate(videos, None, videos=11)
    for part in parts.values() if people.held_out else ():
        part.measure("unseen", "test")
    plan.evaluate([f"generated={folder}/videos/seen", f"reference={folder}/cases/true/seen", "efid.network=3ddfa"], [])
    return plan.with_page()


class _Plan:
    """Collects the steps.

    Args:
        folder: Output folder.
        lengths: Lengths of the steps.
        part: End of the names of steps, data and runs, for trainings on fewer people.
        steps: Steps so far, to which others are added.
    """

    def __init__(self, folder: Path, lengths: Lengths, part: str = "", steps: list[Step] | None = None) -> None:
        self.folder, self.lengths, self.part = folder, lengths, part
        self.steps: list[Step] = [] if steps is None else steps
        self.data, self.runs, self.run = folder / f"data{part}", folder / "runs", RUN + part
        self.ethd_run = self.runs / "ethd" / self.run
        self.start = [] if lengths.start is None else [f"init={lengths.start}"]
        self._words = yaml.safe_load((resources.files(__package__) / "words.yaml").read_text(encoding="utf-8"))

    def with_people(self, part: str) -> _Plan:
        """The same plan for steps on other people."""
        return _Plan(self.folder, self.lengths, part, self.steps)

    def add(
        self,
        name: str,
        command: Keys,
        *,
        reads: Sequence[Path] = (),
        writes: Sequence[Path] = (),
        stdout: Path | None = None,
        accepted: tuple[int, ...] = (0,),
        progress: Progress | None = None,
        words: str | None = None,
        shorter: str = "",
        cores: int | None = 1,
    ) -> None:
        """Adds a step. Its title and reason come from words.yaml, under ``words`` or its name."""
        texts = self._words[words or name]
        title = texts["title"].format(shorter=shorter) + (f", {self.part[1:]} people" if self.part else "")
        seconds = self.lengths.seconds.get(name, 10.0)
        self.steps.append(
            Step(
                name + self.part,
                title,
                command,
                tuple(reads),
                tuple(writes),
                stdout,
                accepted,
                progress,
                seconds,
                texts["why"],
                cores,
            )
        )

    def prepare(self, dataset: Keys, videos: Path, data: Path, name: str, reads: Sequence[Path] = ()) -> None:
        """Adds the preparation of real videos."""
        command = ("prepare.py", *dataset, "preset=tiny", f"source={videos}", *self.lengths.prepare)
        self.add(
            name,
            (*command, "store_video=all", f"output={data}"),
            reads=[videos, *reads],
            writes=[data],
            words="prepare_real" if name == "prepare" else name,
            cores=None,
        )

    def train(
        self,
        name: str,
        experiment: str,
        keys: Keys,
        more: Sequence[str] = (),
        reads: Sequence[Path] = (),
        stage: str = "",
        cores: int | None = 1,
    ) -> None:
        """Adds a training, which resumes if it was interrupted."""
        run = self.runs / (stage or name) / self.run
        where = (f"data.root={self.data}", f"output={self.runs}", f"run_id={self.run}")
        self.add(
            name,
            ("train.py", f"experiment={experiment}", *where, *keys, *more, "ckpt_path=last"),
            reads=[self.data / "index.json", *reads],
            writes=[run],
            progress=TrainingSteps(run, max_steps(experiment, keys)),
            shorter=_shorter(experiment, keys),
            cores=cores,
        )

    def ethd(self, experiment: str, data: Sequence[str] = ()) -> None:
        """Adds the training of stage 2 on the trained V-AID."""
        vaid = self.runs / "vaid" / self.run
        every = max(100, max_steps(experiment, self.lengths.ethd) // 10)
        more = [*data, f"vaid={vaid}", *self.start, f"trainer.validate_every={every}", "trainer.validation_clips=4"]
        more += ["trainer.log_every=10", cpu_precision()]
        self.train("ethd", experiment, self.lengths.ethd, more, [vaid / "checkpoints" / "last.ckpt"], cores=None)

    def measure(self, name: str, split: str) -> None:
        """Adds the scores of real clips of a split."""
        data, sheets = self.data, self.folder / f"sheets_{name}{self.part}"
        command = ("-m", "tools.quality.ethd", str(self.ethd_run), str(data), f"split={split}", f"sheets={sheets}")
        self.add(
            f"score_{name}",
            (*command, *self.lengths.measure),
            reads=[self.ethd_run / "checkpoints" / "last.ckpt", data / "index.json"],
            writes=[sheets],
            stdout=self.folder / f"score_{name}{self.part}.json",
        )

    def generate(self, source: Path, emotion: Path | None, videos: int) -> None:
        """Adds V-AID's scores, the export, the inputs, one video with its own command, and a batch of the others."""
        folder, run, cases = self.folder, self.ethd_run, self.folder / "cases"
        vaid, last = (self.runs / stage / self.run / "checkpoints" / "last.ckpt" for stage in ("vaid", "ethd"))
        export, words = run / "export", [] if emotion is None else [f"emotion={emotion}"]
        score = ("-m", "tools.quality.vaid", str(vaid), str(self.data))
        choose = ("-m", "tools.demo.demo_inputs", f"shards={self.data}", f"source={source}", f"output={cases}")
        long = (f"portrait={cases}/long.png", f"speech={cases}/long.flac", f"output={folder}/long/long.mp4")
        batch = (f"batch={cases}/batch.csv", f"output={folder}/videos")
        made = (f"ethd={run}", *self.lengths.generate)
        index, read = self.data / "index.json", [] if emotion is None else [emotion]
        self.add("score_vaid", score, reads=[vaid, index], stdout=folder / "score_vaid.json")
        self.add("export", ("train.py", "task=export", f"run={run}", *words), reads=[last, *read], writes=[export])
        self.add("cases", choose, reads=[index], writes=[cases])
        self.add("long", ("generate.py", *long, *made), reads=[export, cases], writes=[folder / "long"])
        progress = Files(folder / "videos", "*.mp4", videos, "videos")
        self.add(
            "generate",
            ("generate.py", *batch, *made),
            reads=[export, cases],
            writes=[folder / "videos"],
            progress=progress,
        )

    def evaluate(self, keys: Sequence[str], reads: Sequence[Path]) -> None:
        """Adds the paper's metrics. Statuses 3 and 4 mean that some are missing; the page shows which."""
        folder = self.folder
        results, cache = folder / "results.json", folder / "cache"
        self.add(
            "evaluate",
            ("evaluate.py", *keys, f"output={results}", f"cache={cache}", "bootstrap=0"),
            reads=[folder / "videos", folder / "cases", *reads],
            writes=[results],
            accepted=(0, 3, 4),
        )

    def with_page(self) -> list[Step]:
        """Adds the page, and returns all steps."""
        shown = [
            path
            for step in self.steps
            for path in step.products
            if path.parent != self.folder or path.name[:4] != "data"
        ]
        page = ("-m", "tools.demo.demo_page", str(self.folder))
        self.add("page", page, reads=[self.folder / PLAN, *shown], writes=[self.folder / "index.html"])
        return self.steps


def max_steps(experiment: str, keys: Sequence[str] = ()) -> int:
    """Returns the optimizer steps of an experiment, or those of the last key that overrides them."""
    found = [key.partition("=")[2] for key in keys if key.startswith("trainer.max_steps=")]
    if found:
        return int(found[-1])
    text = (EXPERIMENTS / f"{experiment}.yaml").read_text(encoding="utf-8")
    return int(yaml.safe_load(text)["trainer"]["max_steps"])


def _shorter(experiment: str, keys: Sequence[str]) -> str:
    """Describes how much shorter than its experiment a training is."""
    whole, ours = max_steps(experiment), max_steps(experiment, keys)
    return f" (at most {ours} steps; experiment {experiment} takes {whole})" if ours != whole else ""
