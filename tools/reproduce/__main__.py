"""The command line: plans a table's steps and runs them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from encoders.weights import WeightsError, locate
from tools.pipeline.clock import told
from tools.pipeline.run_steps import ROOT, run_chain
from tools.pipeline.step import ChainError, Step
from tools.reproduce.table1 import PUBLISHED, SIZE, Table1, table1
from tools.reproduce.table2 import Table2, table2
from tools.reproduce.table3 import Table3, table3
from tools.reproduce.table_plan import PlanError, TablePlan, chosen_networks, exported

FOLDERS = {"table1": "outputs/tables/mini", "table2": "outputs/tables/ablation", "table3": "outputs/tables/long"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line; returns the exit status."""
    keys = _parser().parse_args(arguments)
    console = Console(highlight=False)
    for name in ("videos", "ethd", "standins", "output"):
        if getattr(keys, name, None) is not None:
            setattr(keys, name, Path(getattr(keys, name)).expanduser().absolute())
    os.chdir(ROOT)
    try:
        if keys.table != "table2" and keys.standins is None:
            console.print("No --standins: metrics use their official networks, and say what of them is missing.")
        locate("face_landmarker")
        steps = {"table1": _table1, "table2": _table2, "table3": _table3}[keys.table](keys)
        outcomes = run_chain(steps, _folder(keys), console, keep_going=True)
    except (PlanError, ChainError, WeightsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return 130
    if failed := [outcome.step.name for outcome in outcomes if not outcome.done]:
        console.print(f"\nNot done: {escape(', '.join(failed))}; the table says what it lacks.", soft_wrap=True)
        console.print("Mend what the log says and run the same command again: what is done stays done.")
        return 1
    spent, busy = (sum(getattr(one, key) for one in outcomes) for key in ("seconds", "processor_seconds"))
    console.print(f"\n[bold]All done[/] in {told(spent)}, {told(busy)} of processor time.")
    console.print(f"Look at {escape(str(_folder(keys) / 'tables'))}", soft_wrap=True)
    return 0


def _folder(keys: argparse.Namespace) -> Path:
    return keys.output or Path(FOLDERS[keys.table])


def _plan(keys: argparse.Namespace, dataset: str, real_faces: bool) -> TablePlan:
    metrics, networks = chosen_networks(keys.standins, real_faces)
    return TablePlan(_folder(keys), dataset, metrics, networks, keys.device)


def _table1(keys: argparse.Namespace) -> list[Step]:
    if not keys.videos.is_dir():
        raise PlanError(f"--videos {keys.videos}: no such folder")
    installed = {}
    for name, repository, python in keys.installed:
        if name not in PUBLISHED:
            raise PlanError(f"--installed {name}: no such system; there are {', '.join(PUBLISHED)}")
        installed[name] = (os.path.abspath(os.path.expanduser(repository)), python)
    ethd = exported(keys.ethd) if keys.ethd else None
    wanted = Table1(keys.videos, ethd, keys.size, keys.clips, keys.frames, installed)
    return table1(_plan(keys, keys.dataset, real_faces=True), wanted)


def _table2(keys: argparse.Namespace) -> list[Step]:
    wanted = Table2(
        keys.seed, keys.steps, keys.clips, keys.seconds, keys.identities, keys.clips_per_identity, keys.standins
    )
    return table2(TablePlan(_folder(keys), "synthetic", device=keys.device), wanted)


def _table3(keys: argparse.Namespace) -> list[Step]:
    return table3(_plan(keys, "synthetic", real_faces=False), Table3(exported(keys.ethd), keys.clips))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.reproduce",
        description="Makes one of the paper's tables, step by step.",
        epilog="Interrupted, the same command goes on where it was; delete the folder to begin anew.",
    )
    tables = parser.add_subparsers(dest="table", required=True)
    one = tables.add_parser("table1", help="all systems on a folder of talking videos")
    one.add_argument("--videos", required=True, help="folder of talking videos, one person each")
    one.add_argument("--ethd", help="exported run of EmotiveTalk; without it these rows say that they were not run")
    one.add_argument(
        "--size", type=int, default=SIZE, help=f"pixels of EmotiveTalk's frames, and of the real ones' ({SIZE})"
    )
    one.add_argument("--clips", type=int, help="at most so many clips, spread over all")
    one.add_argument("--frames", type=int, help="only the first frames of each clip; shorter clips are left out")
    one.add_argument("--dataset", default="mini", help="name of the block in the table (mini)")
    one.add_argument("--installed", nargs=3, action="append", default=[], metavar=("SYSTEM", "REPOSITORY", "PYTHON"),
                     help="a published system that is on this machine; may be repeated")  # fmt: skip
    two = tables.add_parser("table2", help="ablations of V-AID, trained on synthetic speakers")
    wanted = Table2()
    two.add_argument("--seed", type=int, default=wanted.seed, help="run it with three to get intervals")
    two.add_argument("--steps", type=int, help="most steps of each training, to see that everything works")
    two.add_argument("--clips", type=int, default=wanted.clips, help=f"test clips ({wanted.clips})")
    two.add_argument("--seconds", type=float, default=wanted.seconds, help=f"length of each ({wanted.seconds:g})")
    two.add_argument("--identities", type=int, default=wanted.identities, help=f"speakers drawn ({wanted.identities})")
    two.add_argument("--clips-per-identity", type=int, default=wanted.clips_per_identity, help="clips of each")
    three = tables.add_parser("table3", help="120 to 1500 frames of synthetic speakers, and the drift")
    three.add_argument("--ethd", required=True, help="exported run of EmotiveTalk")
    three.add_argument("--clips", type=int, default=4, help="test clips of each length (4)")
    for table in tables.choices.values():
        table.add_argument("--standins", help="folder of trained stand-ins for the metrics' networks")
        table.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
        table.add_argument("--output", help=f"where everything goes ({FOLDERS[table.prog.split()[-1]]})")
    return parser


if __name__ == "__main__":
    sys.exit(main())
