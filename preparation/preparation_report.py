"""What a person sees at the end of a run: a table of what was kept and why the rest was not."""

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
