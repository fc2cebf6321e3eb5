"""What a person sees of a run: a progress bar, and at the end a table of what was kept and why the rest was not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from encoders.protocols import FPS
from preparation.clip_source import EXPLANATIONS, Reason
from preparation.prepare_clip import STEPS
from runtime.progress import Bars


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.{0 if speed >= 10 else 1}f} {task.fields['unit']}/s" if speed else "")


@contextmanager
def progress_bar(console: Console, what: str, unit: str, total: int) -> Iterator[Progress]:
    """A bar of one task with amount, rate and time left; where there is no terminal, lines now and then."""
    with Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=console,
    ) as bar:
        bar.add_task(what, total=total, unit=unit)
        yield bar


def step_seconds(clips: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds spent in each step over all clips."""
    rows = list(clips)
    return {step: sum(clip["seconds"].get(step, 0.0) for clip in rows) for step in STEPS}


def summary_table(clips: Iterable[Mapping[str, Any]]) -> Table:
    """Kept clips, and the others by reason with the first few names."""
    rows = list(clips)
    table = Table(title=f"{len(rows)} clips", title_justify="left")
    table.add_column("clips", justify="right")
    for column in ("what", "meaning", "for example"):
        table.add_column(column, overflow="fold")
    kept = [clip for clip in rows if clip["status"] == "kept"]
    seconds = sum(clip["frames"] for clip in kept) / FPS
    table.add_row(str(len(kept)), "kept", f"{seconds:.1f} s of speech", "")
    counts = Counter(clip["reason"] for clip in rows if clip["status"] != "kept")
    for reason, count in counts.most_common():
        examples = [f"{clip['source']} ({clip['detail']})" for clip in rows if clip["reason"] == reason]
        more = f" and {len(examples) - 2} more" if len(examples) > 2 else ""
        table.add_row(
            str(count), Text(reason, "red"), EXPLANATIONS[Reason(reason)], Text("; ".join(examples[:2]) + more)
        )
    return table


def step_table(step_seconds: Mapping[str, float], frames: int) -> Table:
    """Where the time went: seconds, share and frames per second of each step."""
    total = sum(step_seconds.values()) or 1.0
    table = Table(title="where the time went", title_justify="left")
    for column in ("step", "seconds", "share", "frames/s"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for step, seconds in step_seconds.items():
        rate = f"{frames / seconds:.0f}" if seconds else "-"
        table.add_row(step, f"{seconds:.1f}", f"{seconds / total:.0%}", rate)
    return table
