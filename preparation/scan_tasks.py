"""Tasks ``scan`` and ``choose`` of ``prepare.py``, and the shots that ``encode`` prepares."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from configs.preparation import PrepareConfig
from configs.rules import parse_part
from datamodules.schema import ShardError
from preparation.choice.choose_shots import (
    CHOICE_NAME,
    Choice,
    choose_shots,
    chosen_clips,
    columns_of,
    with_names,
    write_choice,
)
from preparation.choice.report_page import write_report_page
from preparation.choice.select_expression import parse_select
from preparation.choice.split_people import on_one_side
from preparation.clip_source import EXPLANATIONS, FAILURES, ClipSource, Reason
from preparation.scan.networks import OPTIONAL, present
from preparation.scan.scan_clip import Row
from preparation.scan.scan_clips import SCAN_FOLDER, changed_since, merge_scan, read_scan, scan_clips, table_path
from preparation.sources import find_sources
from runtime.console import new_console
from runtime.files import require_writable
from runtime.locks import locked
from runtime.progress import progress_bar


def scan(config: PrepareConfig) -> int | None:
    """Scans the clips of this part, and writes the table if all other parts are finished.

    Returns:
        Number of clips that could not be read; None while other parts are not finished.
    """
    assert config.output is not None
    console = new_console(stderr=True)
    output = Path(config.output)
    parse_select(config.select, columns_of(config))  # before hours of work
    require_writable(table_path(output), f"output={output}")
    index, parts = parse_part(config.part)
    what = f"output={output} task=scan" + (f" part={config.part}" if parts > 1 else "")
    remedy = "wait for it, or give each process another part=i/n or output"
    with locked(output / SCAN_FOLDER / f".part-{index}-of-{parts}.lock", what, remedy):
        return _scan(config, output, console)


def _scan(config: PrepareConfig, output: Path, console: Console) -> int | None:
    clips = find_sources(config, output, console)
    if missing := sorted(set(config.networks) - present(config.networks).keys()):
        what = ", ".join(f"{name} ({OPTIONAL[name]})" for name in missing)
        console.print(f"no weights of {what}; task=weights preset=paper fetches them", markup=False, soft_wrap=True)
    index, parts = parse_part(config.part)
    mine = clips[index::parts]
    with progress_bar(console, "scanning", len(mine), "clips") as bar:
        bar.advance(bar.task_ids[0], 0)

        def on_clip(rows: list[Row]) -> None:
            bar.advance(bar.task_ids[0])
            if rows[0]["problem"] in FAILURES:
                line = f"{escape(rows[0]['source'])}: {escape(rows[0]['detail'])}"
                bar.console.print(f"[red]{rows[0]['problem']}[/] {line}", soft_wrap=True)

        scan_clips(config, mine, output, on_clip)
        bar.update(bar.task_ids[0], completed=len(mine))
    table = merge_scan(config, clips, output)
    if table is None:
        console.print("This part is finished; others are not. The part that finishes last writes the table.")
        return None
    console.print(f"scan           {table_path(output)}", markup=False, soft_wrap=True)
    _show(choose_shots(table, config), config, console)
    failed = _failed(table)
    if failed:
        console.print(
            f"[red]{failed} of {len(clips)} clips could not be read[/]; once their files are mended the same command "
            "scans them again, and with retry=true at once"
        )
    return failed


def choose(config: PrepareConfig) -> None:
    """Applies ``select`` to a finished scan, writes the list of chosen shots and prints what the others miss."""
    assert config.output is not None
    console = new_console(stderr=True)
    output = Path(config.output)
    table, notes = on_one_side(read_scan(output), config.dataset)
    for note in notes:
        console.print(note, markup=False, soft_wrap=True)
    choice = choose_shots(table, config)
    path = write_choice(choice, config, output)
    _show(choice, config, console)
    console.print(f"chosen shots   {path}", markup=False, soft_wrap=True)
    console.print(f"counts         {output / SCAN_FOLDER / CHOICE_NAME}", markup=False, soft_wrap=True)


def choose_clips(config: PrepareConfig, clips: list[ClipSource], output: Path, console: Console) -> list[ClipSource]:
    """Applies ``select`` to a finished scan, writes the list of chosen shots, and returns the shots as clips."""
    scanned = read_scan(output)
    if changed := changed_since(output, scanned, clips):
        names = ", ".join(clip.name for clip in changed[:3]) + (", ..." if len(changed) > 3 else "")
        raise ShardError(f"{len(changed)} videos have changed since they were scanned ({names}); run task=scan again")
    table, notes = on_one_side(with_names(scanned, clips), config.dataset)
    for note in notes:
        console.print(note, markup=False, soft_wrap=True)
    choice = choose_shots(table, config)
    write_choice(choice, config, output)
    return chosen_clips(table, choice, clips, config.audio.correct_lag)


def _failed(table: pa.Table) -> int:
    failed = pc.is_in(table["problem"], value_set=pa.array(sorted(str(reason) for reason in FAILURES)))
    return len(pc.unique(table.filter(failed)["clip"]))


def _show(choice: Choice, config: PrepareConfig, console: Console) -> None:
    """Prints a choice and writes its page."""
    frames = pc.sum(choice.chosen["frames"]).as_py() or 0
    console.print(
        f"select keeps {len(choice.chosen)} of {choice.shots} shots, {frames} frames ({frames / 25 / 3600:.2f} h)",
        markup=False,
    )
    if choice.missed:
        table = Table("condition", "missed by", "by nothing else", "not measured", box=None)
        for missed in choice.missed:
            table.add_row(escape(missed.text), str(missed.shots), str(missed.alone), str(missed.unknown))
        console.print(table)
    for problem, count in sorted(choice.problems.items()):
        console.print(f"{count} clips: {EXPLANATIONS[Reason(problem)]}", markup=False)
    page = write_report_page(choice, config, Path(str(config.output)) / SCAN_FOLDER)
    console.print(f"page           {page}", markup=False, soft_wrap=True)
