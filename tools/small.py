"""Makes ``generation/small.safetensors`` anew, the small model that ``generate.py`` and ``app.py`` use without a run.

    python -m tools.small [folder=outputs/small] [experiment=ethd/bundled]

Prepares synthetic speakers, trains V-AID, the emotion model and ETHD, scores ETHD on held-out speakers and exports all
of them to one float16 file with the record of the training. An interrupted run resumes with the same command.
``python -m tools.doctor path=generation/small.safetensors`` shows the record.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.options import Readers, path, read_options, run_script
from generation.small import SMALL, SMALL_ENCODERS
from lightning_modules.ethd.export import load_export
from runtime.console import new_console
from runtime.errors import UserError
from runtime.files import write_whole
from tools.demo.demo_plan import max_steps
from tools.pipeline.command import ROOT
from tools.pipeline.run_steps import conclude, run_chain
from tools.pipeline.step import Files, Step, TrainingSteps

FOLDER = Path("outputs/small")
EXPERIMENT = "ethd/bundled"
MOST = 16_000_000  # bytes of the file, which every clone downloads
RUN = "small"  # run_id of every training
PEOPLE = ("dataset.identities=96", "dataset.clips_per_identity=12", "dataset.seconds=2.4")  # to learn from
TWELVE = ("dataset.identities=48", "dataset.seconds=2.4", "store_video=all")  # held out of them: twelve to score
CLIPS = 1152  # of each


def small_plan(folder: Path, experiment: str = EXPERIMENT, more: Sequence[str] = ()) -> list[Step]:
    """Steps from nothing to the file.

    Args:
        folder: Folder of data, runs, scores and the file.
        experiment: Experiment of ETHD.
        more: Further keys of its training.
    """
    data, people, scored, runs = folder / "data", folder / "people", folder / "scored", folder / "runs"
    vaid, emotion, ethd = (runs / stage / RUN for stage in ("vaid", "emotion", "ethd"))
    last, vaid_last = (run / "checkpoints" / "last.ckpt" for run in (ethd, vaid))
    draft, scores = folder / "draft.safetensors", folder / "scores.json"
    prepare = ("prepare.py", "dataset=synthetic", "preset=tiny", *SMALL_ENCODERS)
    export = ("train.py", "task=export", f"run={ethd}", f"emotion={emotion}", "half=true")
    score = ("-m", "tools.quality.ethd_synthetic", str(draft), str(scored))

    def train(run: Path, experiment: str, title: str, shards: Path, keys: Sequence[str], reads: Sequence[Path]) -> Step:
        where = (f"data.root={shards}", f"output={runs}", f"run_id={RUN}", "ckpt_path=last")
        progress = TrainingSteps(run, max_steps(experiment, keys))
        command = ("train.py", f"experiment={experiment}", *where, *keys)
        return Step(run.parent.name, title, command, (shards / "index.json", *reads), (run,), progress=progress)

    return [
        Step("prepare", "Prepare synthetic speakers for V-AID", (*prepare, f"output={data}"), writes=(data,)),
        *(
            Step(
                where.name,
                title,
                (*prepare, *keys, f"output={where}"),
                writes=(where,),
                progress=Files(where / "raw", "*.mp4", CLIPS, "clips"),
            )
            for where, title, keys in (
                (people, "Prepare more synthetic speakers for ETHD", PEOPLE),
                (scored, "Prepare the speakers to score it on", TWELVE),
            )
        ),
        train(vaid, "vaid/tiny", "Train V-AID", data, (), ()),
        train(emotion, "emotion/tiny", "Train the emotion model", data, (), ()),
        train(ethd, experiment, f"Train ETHD ({experiment})", people, (f"vaid={vaid}", *more), (vaid_last,)),
        Step("draft", "Export without scores", (*export, f"output={draft}"), reads=(last, emotion), writes=(draft,)),
        Step("score", "Score it on held-out speakers", score, reads=(draft, scored / "index.json"), stdout=scores),
        Step(
            "export",
            "Export with scores",
            (*export, f"output={folder / SMALL.name}", f"scores={scores}"),
            reads=(last, emotion, scores),
            writes=(folder / SMALL.name,),
        ),
    ]  # fmt: skip


def adopt(file: Path, target: Path = SMALL) -> None:
    """Copies a new file to its place in the tree.

    Raises:
        UserError: If it is too large.
        WrongWeights: If it cannot be loaded.
    """
    if (size := file.stat().st_size) > MOST:
        raise UserError(
            f"{file}: has {size / 1e6:.1f} MB, the tree keeps at most {MOST / 1e6:.0f} MB; choose a smaller network"
        )
    load_export(file)
    write_whole(target, file.read_bytes())


def main(arguments: Sequence[str]) -> int:
    """Parses the command line, runs the steps and replaces the file; returns the exit status."""
    known: Readers = {"folder": path, "experiment": str}
    options = read_options(__doc__, arguments, known)
    os.chdir(ROOT)
    folder, console = Path(options.get("folder", FOLDER)), new_console(highlight=False)
    steps = small_plan(folder, options.get("experiment", EXPERIMENT))
    status = conclude(run_chain(steps, folder, console), folder / SMALL.name, console)
    if status == 0:
        adopt(folder / SMALL.name)
        console.print(f"It is now {SMALL.relative_to(ROOT)}: commit it", soft_wrap=True)
    return status


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
