"""Tables printed at the end of preparation: kept clips, reasons for rejection, time of each step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from encoders.protocols import FPS
from preparation.clip_source import EXPLANATIONS, Reason
from preparation.prepare_clip import STEPS


def step_seconds(clips: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Sums the seconds spent in each step over all clips."""
    rows = list(clips)
    return {step: sum(clip["seconds"].get(step, 0.0) for clip in rows) for step in STEPS}


def summary_table(clips: Iterable[Mapping[str, Any]]) -> Table:
    """Builds the table of kept clips and of the others by reason, with two examples each."""
    rows = list(clips)
    table = Table(title=f"{len(rows)} clips", title_justify="left")
    table.add_column("clips", justify="right")
    for column in ("result", "meaning", "examples"):
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
    """Builds the table of the seconds, share of time and frames per second of each step."""
    total = sum(step_seconds.values()) or 1.0
    table = Table(title="time per step", title_justify="left")
    for column in ("step", "seconds", "share", "frames/s"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for step, seconds in step_seconds.items():
        rate = f"{frames / seconds:.0f}" if seconds else "-"
        table.add_row(step, f"{seconds:.1f}", f"{seconds / total:.0%}", rate)
    return table
