"""Steps that the tables share: test sets, systems, evaluations, and the table itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open

from metrics.networks.proxy import find_proxies
from runtime.errors import UserError
from tools.pipeline.step import Progress, Step, TrainingSteps

PROXIES = {"fid": "image", "fvd": "video", "sync": "sync", "efid": "expression"}  # metric -> kind
WORKERS = {"cpu": 2, "cuda": 1}  # clips generated at a time
IN_THE_TABLE = "metrics=[fid,sync,efid]"  # columns of Tables 2 and 3
EVALUATE_STATUSES = (0, 3, 4)  # accepted statuses of evaluate.py: its results name missing values
RUN_STATUSES = (0, 3)  # accepted statuses of benchmark.run_system: its records name failed clips


@dataclass
class TablePlan:
    """Steps of one table.

    Attributes:
        folder: Output folder.
        dataset: Name of the dataset's block in the table.
        metrics: Keys of evaluate.py that select networks and protocol.
        networks: Files named by these keys.
        device: cuda or cpu, for systems and metrics.
        steps: Steps added so far.
    """

    folder: Path
    dataset: str
    metrics: tuple[str, ...] = ()
    networks: tuple[Path, ...] = ()
    device: str = "cpu"
    steps: list[Step] = field(default_factory=list)

    @property
    def results(self) -> Path:
        """Folder of the results files."""
        return self.folder / "results"

    def add(
        self,
        name: str,
        title: str,
        command: Sequence[object],
        reads: Iterable[Path] = (),
        writes: Iterable[Path] = (),
        accepted: tuple[int, ...] = (0,),
        progress: Progress | None = None,
    ) -> None:
        """Adds a command."""
        words = tuple(str(word) for word in command)
        self.steps.append(
            Step(name, title, words, tuple(reads), tuple(writes), accepted=accepted, progress=progress)
        )  # fmt: skip

    def train(self, experiment: str, run_id: str, keys: Sequence[object], reads: Iterable[Path], steps: int) -> Path:
        """Adds a training; returns its run directory."""
        run = self.folder / "runs" / experiment.partition("/")[0] / run_id
        command = ["train.py", f"experiment={experiment}", *keys, f"output={self.folder / 'runs'}"]
        self.add(
            f"train_{run_id}",
            f"trains {run_id} ({experiment})",
            [*command, f"run_id={run_id}", "ckpt_path=last", "trainer.progress_bar=false"],
            reads,
            [run],
            progress=TrainingSteps(run, steps),
        )
        return run

    def test_set(self, kind: str, name: str, options: Sequence[object], reads: Iterable[Path] = ()) -> Path:
        """Adds a test set; returns its folder."""
        output = self.folder / name
        command = ["-m", "benchmark.test_sets", kind, *options, f"output={output}"]
        self.add(name, f"makes the test set {name}", command, reads, [output])
        return output

    def system(
        self, name: str, system: str, cases: Path, keys: Sequence[object] = (), reads: Iterable[Path] = ()
    ) -> Path:
        """Adds the clips of a system; returns the folder of the run."""
        output = self.folder / "clips" / name
        command = ["-m", "benchmark.run_system", f"system={system}", f"cases={cases}", f"output={output}"]
        self.add(
            f"clips_{name}",
            f"makes the clips of {name}",
            [*command, f"device={self.device}", f"workers={WORKERS[self.device]}", *keys],
            [cases, *reads],
            [output / "records"],
            RUN_STATUSES,
        )
        return output

    def evaluate(
        self, name: str, generated: Path, reference: Path, cell: Mapping[str, object], keys: Sequence[object] = ()
    ) -> None:
        """Adds the evaluation of one cell."""
        output = self.results / f"{name}.json"
        # ``new``: the user chooses the name of the data set.
        labels = [f"cell.{key}={value}" for key, value in {"dataset": self.dataset, **cell, "new": "true"}.items()]
        folders = [f"generated={generated}", f"reference={reference}", f"output={output}"]
        self.add(
            f"evaluate_{name}",
            f"evaluates {name}",
            ["evaluate.py", *folders, *labels, f"device={self.device}", *self.metrics, *keys],
            [generated, reference, *self.networks],
            [output],
            EVALUATE_STATUSES,
        )

    def table(self, number: str) -> None:
        """Adds the table of all results files."""
        output = self.folder / "tables"
        self.add(
            f"table{number}",
            f"makes table {number}",
            ["evaluate.py", f"table={number}", f"datasets=[{self.dataset}]", f"results={self.results}",
             f"output={output}"],
            [self.results],
            [output / f"table{number}.{ending}" for ending in ("md", "tex", "csv", "html")],
            RUN_STATUSES,
        )  # fmt: skip


def chosen_networks(proxies: Path | None, real_faces: bool) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    """Returns the keys of evaluate.py for official networks or proxies, and the proxies' files.

    Args:
        proxies: Folder of the runs of ``train.py experiment=proxy/...``; None for the official networks.
        real_faces: Whether faces are real; E-FID then uses 3DDFA_V2 instead of a proxy.

    Raises:
        UserError: If a proxy is missing.
    """
    if proxies is None:
        return (), ()
    needed = {metric: kind for metric, kind in PROXIES.items() if metric != "efid" or not real_faces}
    files = {metric: found_in(proxies, kind) for metric, kind in needed.items()}
    return proxy_keys(files, real_faces), tuple(files.values())


def proxy_keys(files: dict[str, Path], real_faces: bool) -> tuple[str, ...]:
    """Returns the keys of evaluate.py that select proxies, with faces found by MediaPipe."""
    keys = [key for metric, file in files.items() for key in (f"{metric}.network=proxy", f"{metric}.weights={file}")]
    if real_faces:
        keys.append("efid.network=3ddfa")
    # Small networks generate small pictures, in which a face is a little over half the width.
    return (*keys, "sync.mode=fast", "sync.detector=mediapipe", "sync.min_face=20", "sync.min_track=25")


def found_in(folder: Path, kind: str) -> Path:
    """Returns the weights of a proxy below a folder.

    Raises:
        UserError: If there is none, or more than one.
    """
    files = find_proxies(folder, kind)
    if len(files) != 1:
        raise UserError(
            f"proxies={folder}: has {len(files)} files proxy_{kind}.safetensors, expected one; train it with "
            f"python train.py experiment=proxy/{kind}"
        )
    return files[0].absolute()


def exported(run: Path, key: str = "ethd") -> Path:
    """Returns the exported file of an ETHD run that the option ``key`` names.

    Raises:
        UserError: If there is none.
    """
    file = run if run.is_file() else run / "export" / "ethd.safetensors"
    if not run.exists():
        raise UserError(f"{key}={run}: no such run; expected a run exported by python train.py task=export")
    if not file.is_file():
        raise UserError(f"{key}={run}: has no export/ethd.safetensors; run python train.py task=export run={run}")
    try:
        with safe_open(file, framework="numpy"):  # checked now: the steps that use it run hours later
            pass
    except (SafetensorError, OSError) as error:
        raise UserError(f"{key}={file}: is not an export ({error}); run python train.py task=export") from error
    return file.absolute()
