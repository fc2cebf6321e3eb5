"""Tasks of ``prepare.py``: prepare, merge, check and weights. Each takes the configuration, returns the exit status."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from configs.preparation import PrepareConfig
from configs.rules import parse_part
from datamodules.schema import INDEX_NAME, Dimensions, Index, ShardError
from encoders.weights import fetch_preset
from preparation.check import check
from preparation.clip_source import ClipReport, ClipSource
from preparation.contact_sheet import SHEET_NAME, draw_contact_sheet
from preparation.layouts import find_clips
from preparation.merge import REPORT_NAME, merge, read_record, unfinished
from preparation.plan import PARTS_FOLDER, PLAN_NAME, Plan, PlannedShard, continued, make_plan, read_plan, write_plan
from preparation.preparation_report import step_seconds, step_table, summary_table
from preparation.workers import ClipWorkers, Described, write_shards
from runtime.console import new_console
from runtime.errors import printable
from runtime.files import require_writable
from runtime.locks import locked
from runtime.ownership import refuse
from runtime.progress import progress_bar

TOO_MANY_REJECTED = 3


def prepare_task(config: PrepareConfig) -> int:
    """Prepares the clips of this part, and merges if all other parts are finished.

    Returns:
        0, or 3 if a larger share of this part's clips than ``max_rejected`` was not kept.
    """
    assert config.output is not None
    output = Path(config.output)
    require_writable(output / PARTS_FOLDER / PLAN_NAME, f"output={output}")
    index, parts = parse_part(config.part)
    what = f"output={output}" + (f" part={config.part}" if parts > 1 else "")
    remedy = "wait for it, or give each process another part=i/n or output"
    with locked(output / PARTS_FOLDER / f".part-{index + 1}-of-{parts}.lock", what, remedy):
        return _prepare(config, output, new_console(stderr=True))


def _prepare(config: PrepareConfig, output: Path, console: Console) -> int:
    clips = _find(config, output, console)
    plan = read_plan(output)
    if plan is not None:
        plan = continued(plan, config, clips, output)
    part = parse_part(config.part)
    if plan is None or unfinished(output, plan.part(*part)):
        with ClipWorkers(config) as workers:
            described = workers.describe()
            plan = plan or _make_plan(config, clips, output, described[0], console)
            _write(plan, plan.part(*part), workers, described, output, console)
    reports = [clip for shard in plan.part(*part) for clip in (read_record(output, shard.name) or {})["clips"]]
    console.print(summary_table(reports))
    if frames := sum(report["frames"] for report in reports):
        console.print(step_table(step_seconds(reports), frames))
    if waiting := unfinished(output, plan.shards):
        console.print(
            f"This part is finished; {len(waiting)} of {len(plan.shards)} shards of other parts are not. "
            "The part that finishes last writes the index."
        )
    else:
        _merge(output, plan, console)
    not_kept = sum(report["status"] != "kept" for report in reports)
    if reports and not_kept / len(reports) > config.max_rejected:
        console.print(
            f"[red]{not_kept} of {len(reports)} clips were not kept, more than max_rejected={config.max_rejected:g} "
            "allows[/]; the table above lists the reasons"
        )
        return TOO_MANY_REJECTED
    return 0


def merge_task(config: PrepareConfig) -> int:
    """Writes the index over the shards of all parts; needs only the output folder."""
    assert config.output is not None
    output = Path(config.output)
    plan = read_plan(output)
    if plan is None:
        raise ShardError(f"{output / PARTS_FOLDER}: has no plan; give an output folder of prepare.py")
    _merge(output, plan, new_console(stderr=True))
    return 0


def check_task(config: PrepareConfig) -> int:
    """Validates every shard against the index and the schema, and prints each problem.

    Returns:
        0, or 1 if there are problems.
    """
    assert config.output is not None
    console = new_console()
    folder = Path(config.output)
    index = Index.read(folder)
    with progress_bar(console, "checking", len(index.shards), "shards") as bar:
        problems = check(folder, lambda: bar.advance(bar.task_ids[0]))
    for problem in problems:
        console.print(f"[red]problem[/] {escape(printable(problem))}", soft_wrap=True)
    frames = sum(sample.frames for sample in index.samples)
    speakers = len({sample.speaker for sample in index.samples})
    console.print(
        f"{folder}: {len(index.shards)} shards, {len(index.samples)} clips, {speakers} speakers, {frames} frames: "
        + (f"{len(problems)} problems" if problems else "valid"),
        markup=False,
        soft_wrap=True,
    )
    return 1 if problems else 0


def weights_task(config: PrepareConfig) -> int:
    """Downloads the weights of every network in the preset; needs internet access.

    Returns:
        0, or 1 if weights are still missing; the printed table gives the next steps.
    """
    console = new_console()
    report = fetch_preset(config.preset, lambda line: console.print(line, markup=False, soft_wrap=True))
    return 0 if report.complete else 1


TASKS = {"prepare": prepare_task, "merge": merge_task, "check": check_task, "weights": weights_task}


def _find(config: PrepareConfig, output: Path, console: Console) -> list[ClipSource]:
    """Lists all clips of the source; a synthetic source is rendered first."""
    dataset = config.dataset
    source = output / "raw" if config.source is None else Path(config.source)
    if dataset.name == "synthetic":
        return _synthetic(config, source, console)
    found = find_clips(dataset, source)
    ignored = ", ".join(f"{count} {what}" for what, count in found.ignored.most_common())
    for note in ([f"ignored in {source}: {ignored}"] if ignored else []) + found.notes:
        console.print(note, markup=False, soft_wrap=True)
    return found.clips


def _synthetic(config: PrepareConfig, folder: Path, console: Console) -> list[ClipSource]:
    """Renders the synthetic speakers and lists their clips; parts that start together wait for the first one."""
    from preparation.synthetic import split_of, write_dataset  # imports scipy, which real data does not need

    dataset = config.dataset
    with locked(folder.parent / PARTS_FOLDER / ".raw.lock", f"the synthetic speakers in {folder}", "", wait=True):
        clips = dataset.identities * dataset.clips_per_identity
        with progress_bar(console, "synthetic speakers", clips, "clips") as bar:
            write_dataset(
                folder,
                layout=dataset.layout,
                identities=dataset.identities,
                clips_per_identity=dataset.clips_per_identity,
                seconds=dataset.seconds,
                size=dataset.size,
                seed=dataset.seed,
                workers=config.workers or 0,
                progress=lambda: bar.advance(bar.task_ids[0]),
            )
    return [
        clip
        if clip.problem
        else replace(clip, split=split_of(clip.speaker), factors=clip.path.with_suffix(".factors.npz"))
        for clip in find_clips(dataset, folder).clips
    ]


def _make_plan(
    config: PrepareConfig, clips: list[ClipSource], output: Path, dimensions: Dimensions, console: Console
) -> Plan:
    """Reads or makes the plan of this output. Of parts that start together the first makes it and the others wait."""
    with locked(output / PARTS_FOLDER / ".plan.lock", f"the plan of {output}", "", wait=True):
        plan = read_plan(output)
        if plan is None:
            with progress_bar(console, "probing the videos", len(clips), "clips") as bar:
                plan = make_plan(config, clips, dimensions, lambda: bar.advance(bar.task_ids[0]))
            for name in (INDEX_NAME, REPORT_NAME, SHEET_NAME, *(shard.name for shard in plan.shards)):
                if os.path.lexists(output / name):  # without a plan it is none of an earlier run
                    refuse(output / name, f"output={output}")
            write_plan(output, plan)
    return continued(plan, config, clips, output)


def _write(
    plan: Plan,
    mine: tuple[PlannedShard, ...],
    workers: ClipWorkers,
    described: Described,
    output: Path,
    console: Console,
) -> None:
    waiting = unfinished(output, mine)
    frames = sum(plan.frames[clip.key] for shard in mine if shard.name in waiting for clip in shard.clips)
    with progress_bar(console, "preparing", frames, "frames") as bar:

        def on_clip(report: ClipReport) -> None:
            bar.advance(bar.task_ids[0], plan.frames[report.key])
            if report.status == "failed":
                line = f"{escape(report.source)}: {escape(report.detail)}"
                bar.console.print(f"[red]{report.reason}[/] {line}", soft_wrap=True)

        try:
            write_shards(mine, workers, output, described, on_clip)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            free = shutil.disk_usage(output).free
            raise ShardError(
                f"{output}: the disk is full ({free / 1e6:.0f} MB free). Finished shards are kept: make room (a shard "
                f"is about {plan.settings['shard_bytes'] / 1e6:.0f} MB) and run the same command again"
            ) from error


def _merge(output: Path, plan: Plan, console: Console) -> None:
    index = merge(output, plan)
    console.print(f"report         {output / REPORT_NAME}", markup=False, soft_wrap=True)
    if index is None:
        console.print("no clip was kept, so there is no index; the report lists the reasons")
        return
    sheet = draw_contact_sheet(output, index)
    console.print(f"contact sheet  {sheet}", markup=False, soft_wrap=True)
    console.print(f"index          {output / INDEX_NAME}", markup=False, soft_wrap=True)
