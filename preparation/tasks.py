"""Tasks of ``prepare.py``. Each takes the configuration and returns the exit status.

What reads and chooses scans is imported when it is used: it loads Arrow, which starts a thread.
"""

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
from datamodules.identities import IDENTITIES_NAME
from datamodules.sample_table import TABLE_NAME
from datamodules.schema import INDEX_NAME, Index, ShardError
from encoders.protocols import FPS
from encoders.weights import fetch_preset
from preparation.check import check
from preparation.clip_source import ClipReport, ClipSource, Reason
from preparation.contact_sheet import SHEET_NAME, draw_contact_sheet
from preparation.encoders import announced_dimensions
from preparation.header_lengths import HeaderLengths
from preparation.identities import write_identities
from preparation.merge import REPORT_NAME, forget_failed, merge, read_record, reports_of, unfinished
from preparation.plan import (
    PARTS_FOLDER,
    PIECE,
    PLAN_NAME,
    Plan,
    PlannedShard,
    bytes_per_frame,
    continued,
    extended,
    has_new_clips,
    make_plan,
    read_plan,
    require_same_settings,
    write_plan,
)
from preparation.preparation_report import step_seconds, step_table, summary_table
from preparation.sources import find_sources, without_duplicates
from preparation.workers import ClipWorkers, Described, write_shards
from runtime.console import new_console
from runtime.errors import printable
from runtime.files import require_writable
from runtime.locks import locked
from runtime.ownership import refuse
from runtime.progress import progress_bar

TOO_MANY_REJECTED = 3
SOME_FAILED = 3
LENGTHS_NAME = "lengths.jsonl"  # of the videos, while the plan is made


def prepare_task(config: PrepareConfig) -> int:
    """Prepares the clips of this part, and merges if all other parts are finished.

    ``task=encode`` prepares the shots of a scan that meet ``select``, ``task=prepare`` every clip as it is.

    Returns:
        0, or 3 if a clip of this part failed, or a larger share of them than ``max_rejected`` was not kept.
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
    clips = find_sources(config, output, console)
    if config.task == "encode":
        from preparation.scan_tasks import choose_clips

        clips = choose_clips(config, clips, output, console)
    plan = read_plan(output)
    part = parse_part(config.part)
    if plan is None or has_new_clips(plan, config, clips):
        plan = _make_plan(config, clips, output, console)
    problems = plan.problems
    plan = continued(plan, config, clips, output)
    forget_failed(output, plan.part(*part), config.retry, problems)
    if unfinished(output, plan.part(*part)):
        with ClipWorkers(config) as workers:
            _write(plan, plan.part(*part), workers, workers.describe(), output, console)
            for use in workers.uses():
                again = f", started again {use.deaths} times" if use.deaths else ""
                console.print(
                    f"encoder        {use.device}: {use.frames} frames in {use.busy:.1f} s{again}", markup=False
                )
    reports = [
        report
        for shard in plan.part(*part)
        if (record := read_record(output, shard.name)) is not None
        for report in reports_of(record, shard)
    ]
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
    tried = [report for report in reports if report["reason"] != Reason.NOT_CHOSEN]
    not_kept = sum(report["status"] != "kept" for report in tried)
    if tried and not_kept / len(tried) > config.max_rejected:
        console.print(
            f"[red]{not_kept} of {len(tried)} clips were not kept, more than max_rejected={config.max_rejected:g} "
            "allows[/]; the table above lists the reasons"
        )
        return TOO_MANY_REJECTED
    if failed := sum(report["status"] == "failed" for report in reports):
        console.print(
            f"[red]{failed} of {len(tried)} clips failed[/]; once their files are mended the same command prepares "
            "them again, and with retry=true at once"
        )
        return SOME_FAILED
    return 0


def scan_task(config: PrepareConfig) -> int:
    """Scans the clips of this part, and writes the table if all other parts are finished.

    Returns:
        0, or 3 if a clip could not be read.
    """
    from preparation.scan_tasks import scan

    return SOME_FAILED if scan(config) else 0


def all_task(config: PrepareConfig) -> int:
    """Scans the clips of this part, and prepares the shots that meet ``select`` if all other parts are scanned.

    Returns:
        0, or 3 as ``scan_task`` and ``prepare_task`` do.
    """
    from preparation.scan_tasks import scan

    failed = scan(replace(config, task="scan"))
    if failed is None:
        new_console(stderr=True).print("Then run the same command again, which prepares the chosen shots.")
        return 0
    return prepare_task(replace(config, task="encode")) or (SOME_FAILED if failed else 0)


def choose_task(config: PrepareConfig) -> int:
    """Applies ``select`` to a finished scan, writes the list of chosen shots and prints what the others miss."""
    from preparation.scan_tasks import choose

    choose(config)
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
    frames = int(index.samples.frames.sum())
    speakers = len(index.samples.label_codes("speaker")[1])
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


TASKS = {
    "prepare": prepare_task,
    "all": all_task,
    "scan": scan_task,
    "choose": choose_task,
    "encode": prepare_task,
    "merge": merge_task,
    "check": check_task,
    "weights": weights_task,
}


def _make_plan(config: PrepareConfig, clips: list[ClipSource], output: Path, console: Console) -> Plan:
    """Reads, makes or extends the plan of this output before any encoder is built.

    Of parts that start together the first makes it and the others wait. Planning that is killed is continued.
    """
    with locked(output / PARTS_FOLDER / ".plan.lock", f"the plan of {output}", "", wait=True):
        before = read_plan(output)
        if before is not None:
            require_same_settings(before, config, output)
            if not has_new_clips(before, config, clips):  # another part has made it
                return before
        dimensions = announced_dimensions(config.encoders, config.frame_size)
        if dimensions is None:
            with ClipWorkers(config) as workers:
                dimensions = workers.describe()[0]
        lengths = HeaderLengths(output / PARTS_FOLDER / LENGTHS_NAME)
        known = set(before.found) if before else set()
        with progress_bar(console, "reading the headers", len(clips) - len(known), "clips") as bar:
            noted = clips if config.task == "encode" else without_duplicates(clips)

            def on_probed() -> None:
                bar.advance(bar.task_ids[0])

            if before is None:
                plan = make_plan(config, noted, dimensions, on_probed, lengths)
            else:
                plan = extended(before, config, noted, dimensions, on_probed, lengths)
        if before is None:
            for name in (
                INDEX_NAME,
                TABLE_NAME,
                IDENTITIES_NAME,
                REPORT_NAME,
                SHEET_NAME,
                *(shard.name for shard in plan.shards),
            ):
                if os.path.lexists(output / name):  # without a plan it is none of an earlier run
                    refuse(output / name, f"output={output}")
        write_plan(output, plan)
        lengths.remove()
        console.print(_size_of(plan, known, bytes_per_frame(dimensions, config.store_audio)), markup=False)
    return plan


def _size_of(plan: Plan, known: set[str], frame_bytes: int) -> str:
    """What will be prepared: clips, hours and bytes."""
    new = (key for key in plan.frames.keys() - plan.problems.keys() - known if key.rpartition(PIECE)[0] not in known)
    frames = [plan.frames[key] for key in new]
    size = frame_bytes * sum(frames)
    shown = f"{size / 1e12:.2f} TB" if size >= 1e12 else f"{size / 1e9:.2f} GB"
    more = " more" if known else ""
    return f"plan: {len(frames)}{more} clips, {sum(frames) / FPS / 3600:.2f} h, about {shown}"


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
    if index is not None:
        write_identities(output, plan, index)
    console.print(f"report         {output / REPORT_NAME}", markup=False, soft_wrap=True)
    if index is None:
        console.print("no clip was kept, so there is no index; the report lists the reasons")
        return
    sheet = draw_contact_sheet(output, index)
    console.print(f"contact sheet  {sheet}", markup=False, soft_wrap=True)
    console.print(f"index          {output / INDEX_NAME}", markup=False, soft_wrap=True)
