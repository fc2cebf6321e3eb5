"""The steps of ``make demo`` and ``make demo-real``: every command of the way, with what it is for in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from chain.step import Files, Step, TrainingSteps
from configs.schema import DatasetConfig
from preparation.layouts import find_clips

EXPERIMENTS = Path(__file__).resolve().parents[1] / "configs" / "experiment"
RUN = "demo"  # run_id of every training
PLAN = "plan.json"  # what the page knows of the steps


@dataclass(frozen=True)
class Lengths:
    """How much of everything, as it is typed.

    Attributes:
        prepare: keys of prepare.py.
        vaid: keys of the training of V-AID.
        emotion: keys of the training of labels and texts.
        ethd: keys of the training of ETHD.
        image: keys of the training of FID's stand-in.
        generate: keys of generate.py.
        evaluate: options of the module that scores ETHD.
        clips: how many clips prepare.py makes, where that is known.
    """

    prepare: tuple[str, ...]
    vaid: tuple[str, ...]
    emotion: tuple[str, ...]
    ethd: tuple[str, ...]
    image: tuple[str, ...]
    generate: tuple[str, ...]
    evaluate: tuple[str, ...]
    clips: int = 0


SYNTHETIC = Lengths(
    prepare=("dataset.clips_per_identity=8", "dataset.seconds=4"),
    vaid=("trainer.max_steps=600", "trainer.max_minutes=4"),
    emotion=("trainer.max_steps=300",),
    ethd=("trainer.max_steps=500", "trainer.max_minutes=6"),
    image=("trainer.max_steps=120", "trainer.max_minutes=2"),
    generate=("steps=6",),
    evaluate=("frames=29", "steps=6"),
    clips=96,
)
REAL = Lengths(
    prepare=(),
    vaid=("trainer.max_steps=900", "trainer.max_minutes=8"),
    emotion=(),
    ethd=("trainer.max_steps=1500", "trainer.max_minutes=30"),
    image=(),
    generate=("steps=6",),
    evaluate=("steps=6",),
)


def synthetic_plan(folder: Path, lengths: Lengths = SYNTHETIC) -> list[Step]:
    """From nothing to the page, on speakers the project draws itself.

    Args:
        folder: where everything goes.
        lengths: how much of everything.
    """
    data, runs = folder / "data", folder / "runs"
    index = data / "index.json"
    emotion = runs / "emotion" / RUN
    steps = [
        Step(
            "prepare",
            "Draw twelve speakers with voices and prepare their clips",
            ("prepare.py", "dataset=synthetic", "preset=tiny", *lengths.prepare, "store_video=all", f"output={data}"),
            writes=(data,),
            progress=Files(data / "raw", "*.mp4", lengths.clips, "clips") if lengths.clips else None,
            seconds=75,
            why="Twelve people are drawn, each with a face, a voice and eight emotions. prepare.py treats them like any "
            "videos: it finds the face, cuts it out, and keeps for every frame what the networks need: sound features, "
            "the state of lips and of the rest of the face, a compressed picture. Three of the people are held out: no "
            "training sees them.",
        ),
        _vaid(folder, "tiny", data, lengths, 110),
        Step(
            "emotion",
            f"Learn what the words for emotions mean{_shorter('emotion/tiny', lengths.emotion)}",
            ("train.py", "experiment=emotion/tiny", f"data.root={data}", f"output={runs}", f"run_id={RUN}",
             *lengths.emotion, "ckpt_path=last"),
            reads=(index,),
            writes=(emotion,),
            progress=_steps_of(emotion, lengths.emotion),
            seconds=30,
            why="So that one can ask for 'happy, level 3' or for 'a warm smile': a table of what each emotion looks like "
            "on average, and a small network that leads from words to it.",
        ),
        _ethd(folder, "tiny", data, lengths, 300),
        *_generation(folder, data, data / "raw", lengths, emotion, 90),
        Step(
            "image",
            f"Train a stand-in for FID's network{_shorter('standin/image', lengths.image)}",
            ("train.py", "experiment=standin/image", f"data.root={data}", f"output={runs}", f"run_id={RUN}",
             *lengths.image, "ckpt_path=last"),
            reads=(index,),
            writes=(runs / "standin" / RUN,),
            progress=_steps_of(runs / "standin" / RUN, lengths.image),
            seconds=60,
            why="FID compares pictures through a network. The official one cannot be had without the internet, so a small "
            "one learns here to tell the drawn people apart. Its values are labelled and comparable with themselves only.",
        ),
        Step(
            "evaluate",
            "Compare the generated videos with the true ones",
            ("evaluate.py", f"generated={folder / 'videos' / 'emotions'}", f"reference={folder / 'cases/true/emotions'}",
             f"output={folder / 'results.json'}", f"cache={folder / 'cache'}", "bootstrap=0", "fid.network=standin",
             f"fid.weights={runs / 'standin' / RUN / 'standin_image.safetensors'}"),
            reads=(folder / "videos", folder / "cases", runs / "standin" / RUN / "standin_image.safetensors"),
            writes=(folder / "results.json",),
            accepted=(0, 4),
            seconds=40,
            why="The paper's four metrics. What lacks its network is reported as not computed, never guessed.",
        ),
        Step(
            "score_ethd",
            "Read lips and emotion off generated videos of held-out people",
            ("-m", "evaluation.ethd_synthetic", str(runs / "ethd" / RUN), str(data), *lengths.evaluate),
            reads=(runs / "ethd" / RUN / "checkpoints" / "last.ckpt", index),
            stdout=folder / "score_ethd.json",
            seconds=90,
            why="Drawn people have known lips and emotions, so what a generated video shows can be read off its pixels: "
            "does the mouth follow the sound, does the face show the emotion that was asked for?",
        ),
    ]  # fmt: skip
    return [*steps, _page(folder, steps)]


def real_plan(folder: Path, videos: Path, lengths: Lengths = REAL) -> list[Step]:
    """The same on a folder of real videos.

    Args:
        folder: where everything goes.
        videos: the raw videos.
        lengths: how much of everything.

    Raises:
        LayoutError: if the folder of videos cannot be read.
    """
    data = folder / "data"
    split, unseen = split_of(videos)
    steps = [
        Step(
            "prepare",
            "Find the faces, cut them out and prepare the clips",
            ("prepare.py", "dataset=folder", "preset=small", f"source={videos}", f"dataset.split={split}",
             *lengths.prepare, "store_video=all", f"output={data}"),
            reads=(videos,),
            writes=(data,),
            seconds=150,
            why="prepare.py finds the one face of each clip, cuts it out, and keeps for every frame what the networks "
            "need: sound features, 52 movements of the face, a compressed picture. "
            + ("By a hash of the name, some people are held out: no training sees them." if unseen else
               "There are too few people to hold one out, so all of them train."),
        ),
        _vaid(folder, "small", data, lengths, 480),
        _ethd(folder, "small", data, lengths, 1800),
        *_generation(folder, data, videos, lengths, None, 240),
        *(
            Step(
                f"score_{name}",
                title,
                ("-m", "evaluation.ethd", str(folder / "runs/ethd" / RUN), str(data), f"split={split}",
                 *lengths.evaluate, f"sheets={folder / f'sheets_{name}'}"),
                reads=(folder / "runs/ethd" / RUN / "checkpoints/last.ckpt", data / "index.json"),
                writes=(folder / f"sheets_{name}",),
                stdout=folder / f"score_{name}.json",
                seconds=90,
                why=why,
            )
            for name, split, title, why in (
                ("seen", "train", "Measure a clip that training saw",
                 "From the clip's first frame and its sound alone: how close is the picture to the truth, does the mouth "
                 "open when the true one does?"),
                *([("unseen", unseen, "Measure a person nobody trained on",
                    "The same for a held-out person, which is what counts in the end, and what so few videos and so "
                    "little training cannot teach.")] if unseen else []),
            )
        ),
        Step(
            "evaluate",
            "Compare the generated videos with the true ones",
            ("evaluate.py", f"generated={folder / 'videos' / 'seen'}", f"reference={folder / 'cases/true/seen'}",
             f"output={folder / 'results.json'}", f"cache={folder / 'cache'}", "bootstrap=0", "efid.network=3ddfa"),
            reads=(folder / "videos", folder / "cases"),
            writes=(folder / "results.json",),
            accepted=(0, 3, 4),
            seconds=60,
            why="The paper's four metrics. What lacks its network is reported as not computed, never guessed.",
        ),
    ]  # fmt: skip
    return [*steps, _page(folder, steps)]


def split_of(videos: Path) -> tuple[str, str | None]:
    """How a folder of videos is split: ``dataset.split``, and the split of held-out people, if there are any.

    Raises:
        LayoutError: if it cannot be read.
    """
    sides = {clip.split for clip in find_clips(DatasetConfig(name="folder", split="person"), videos).clips}
    unseen = next((side for side in ("test", "val") if side in sides), None)
    return ("person", unseen) if unseen and "train" in sides else ("train", None)


def _vaid(folder: Path, size: str, data: Path, lengths: Lengths, seconds: float) -> Step:
    run = folder / "runs" / "vaid" / RUN
    return Step(
        "vaid",
        f"Stage one, V-AID: hear lips and expression in a voice{_shorter(f'vaid/{size}', lengths.vaid)}",
        ("train.py", f"experiment=vaid/{size}", f"data.root={data}", f"output={folder / 'runs'}", f"run_id={RUN}",
         *lengths.vaid, "trainer.validate_every=100", "trainer.log_every=10", "ckpt_path=last"),
        reads=(data / "index.json",),
        writes=(run,),
        progress=_steps_of(run, lengths.vaid),
        seconds=seconds,
        why="A voice says two things at once: how the lips move, and how the speaker feels. V-AID takes them apart: a small "
        "transformer turns sound into lip movements, and a diffusion model, given one expression to aim at, invents how "
        "the rest of the face moves along.",
    )  # fmt: skip


def _ethd(folder: Path, size: str, data: Path, lengths: Lengths, seconds: float) -> Step:
    run, vaid = folder / "runs" / "ethd" / RUN, folder / "runs" / "vaid" / RUN
    return Step(
        "ethd",
        f"Stage two, ETHD: draw a face that moves so{_shorter(f'ethd/{size}', lengths.ethd)}",
        ("train.py", f"experiment=ethd/{size}", f"vaid={vaid}", f"data.root={data}", f"output={folder / 'runs'}",
         f"run_id={RUN}", *lengths.ethd, "trainer.validate_every=50", "trainer.log_every=10", "ckpt_path=last"),
        reads=(data / "index.json", vaid / "checkpoints" / "last.ckpt"),
        writes=(run,),
        progress=_steps_of(run, lengths.ethd),
        seconds=seconds,
        why="A video diffusion network learns to turn noise into frames of one person, given a portrait. The lips of V-AID "
        "steer the mouth; the expression steers the rest of the face, and only there.",
    )  # fmt: skip


def _generation(
    folder: Path, data: Path, source: Path, lengths: Lengths, emotion: Path | None, seconds: float
) -> list[Step]:
    """Export, cases, one video by a command of its own, the others as a batch, and V-AID's scores."""
    run, cases = folder / "runs" / "ethd" / RUN, folder / "cases"
    export, vaid = run / "export" / "ethd.safetensors", folder / "runs" / "vaid" / RUN / "checkpoints" / "last.ckpt"
    last = run / "checkpoints" / "last.ckpt"
    return [
        Step(
            "score_vaid",
            "Score V-AID on people it never heard",
            ("-m", "evaluation.vaid", str(vaid), str(data)),
            reads=(vaid, data / "index.json"),
            stdout=folder / "score_vaid.json",
            seconds=25,
            why="Retrieval: from the sound of a frame, can its lips be told from those of all other frames of the clip?",
        ),
        Step(
            "export",
            "Pack what was learned into one file",
            ("train.py", "task=export", f"run={run}", *([f"emotion={emotion}"] if emotion else [])),
            reads=(last, *([emotion] if emotion else [])),
            writes=(run / "export",),
            seconds=10,
            why="The averaged weights of ETHD, V-AID, and the names of the encoders: all that generate.py needs.",
        ),
        Step(
            "cases",
            "Choose portraits and speech",
            ("-m", "demonstration.cases", "--shards", str(data), "--source", str(source), "--output", str(cases)),
            reads=(data / "index.json",),
            writes=(cases,),
            seconds=15,
            why="Every clip's first frame becomes a portrait and its sound the speech, so that the true video can stand "
            "beside the generated one.",
        ),
        Step(
            "long",
            "Generate a clip several windows long",
            ("generate.py", f"portrait={cases / 'long.png'}", f"speech={cases / 'long.flac'}",
             f"output={folder / 'long' / 'long.mp4'}", f"ethd={run}", *lengths.generate),
            reads=(export, cases),
            writes=(folder / "long",),
            seconds=seconds / 5,
            why="The network draws a window of frames at a time. Longer videos are drawn in overlapping windows that are "
            "merged at every denoising step, so that there are no seams and memory does not grow.",
        ),
        Step(
            "generate",
            "Generate the other clips in one go",
            ("generate.py", f"batch={cases / 'batch.csv'}", f"output={folder / 'videos'}", f"ethd={run}",
             *lengths.generate),
            reads=(export, cases),
            writes=(folder / "videos",),
            progress=Files(folder / "videos", "*.mp4", 10, "videos"),
            seconds=seconds,
            why="Each row of the list names a portrait, speech and an emotion. Interrupted, it goes on with the next row.",
        ),
    ]  # fmt: skip


def _page(folder: Path, steps: Sequence[Step]) -> Step:
    made = [path for step in steps for path in step.products if step.name not in ("prepare", "vaid", "ethd", "emotion")]
    trained = [folder / "runs" / stage / RUN / "checkpoints" / "last.ckpt" for stage in ("vaid", "ethd")]
    return Step(
        "page",
        "Write the page",
        ("-m", "demonstration.page", str(folder)),
        reads=(folder / PLAN, *trained, *made),
        writes=(folder / "index.html",),
        seconds=15,
        why="One file with everything inside; it needs no network.",
    )


def _steps_of(run: Path, keys: Sequence[str]) -> TrainingSteps:
    return TrainingSteps(run, _max_steps(keys) or 0)


def _max_steps(keys: Sequence[str]) -> int | None:
    found = [key.partition("=")[2] for key in keys if key.startswith("trainer.max_steps=")]
    return int(found[-1]) if found else None


def _shorter(experiment: str, keys: Sequence[str]) -> str:
    """Words for how much shorter than its experiment a training is."""
    whole = yaml.safe_load((EXPERIMENTS / f"{experiment}.yaml").read_text(encoding="utf-8"))["trainer"]["max_steps"]
    ours = _max_steps(keys) or whole
    return f" (at most {ours} steps; experiment {experiment} takes {whole})" if ours != whole else ""
