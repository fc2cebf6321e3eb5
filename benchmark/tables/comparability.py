"""Decides which rows of a group may be compared, scores them on the clips they share, and marks the best one.

Rows are compared if protocol, networks and frame rate are equal, and at least 90 % of the clips have the same real
video, the same frames, picture sizes and encodings. All others stand apart. The best row is marked if a paired
bootstrap shows that it is better than every other compared row.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.tables.reading import GROUND_TRUTH, RATED, Measured, ScoredClip
from benchmark.tables.shared_clips import MIN_CLIPS, NotAtHandError, RowScore, Span, difference_of, score_runs
from benchmark.tables.table import CONTROLS, Cell, Group, Row, Section, Table, half_interval, rounded
from evaluation.results import Column

ENCODING = "encoding"
SHARED = 0.9  # share of the clips, and of the frames of a clip, that compared rows have in common


@dataclass(frozen=True)
class Candidate:
    """A row with a value in one column, and the clips that all of its runs have."""

    row: Row
    cell: Cell
    clips: Mapping[str, ScoredClip]

    @property
    def signatures(self) -> set[str]:
        """Protocols and networks of its runs."""
        return {signature(measured) for measured in self.cell.measured}


def compare_rows(section: Section, group: Group, table: Table) -> None:
    """Compares the rows of a group in every column: sets rows apart, scores shared clips, marks the best."""
    apart: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    unmarked: defaultdict[str, list[str]] = defaultdict(list)
    for column in table.columns:
        found = [_candidate(row, row.cells[column.metric]) for row in group.rows if _has_value(row, column)]
        whole = [candidate for candidate in found if not candidate.cell.obstacles]
        chosen = _comparable(whole)
        for candidate in found:
            if candidate not in chosen and len(found) > 1:
                reasons = candidate.cell.obstacles or [_reason_apart(candidate, whole, chosen)]
                _set_apart(candidate, [] if candidate.cell.obstacles else reasons, table)
                apart[candidate.row.name].append((column.title, "; ".join(reasons)))
        if len(chosen) >= 2:
            reason = _score(chosen, group, column, table)
            if reason:
                unmarked[reason].append(column.title)
    where = f"{section.dataset}, {group.name}" if len(section.groups) > 1 else section.dataset
    for name, causes in apart.items():
        table.warnings.append(f"{where}: {name} is not compared with the other rows: {_by_reason(causes)}")
    for reason, titles in unmarked.items():
        table.remarks.append(f"{where}, {', '.join(titles)}: nothing is bold: {reason}")


def _has_value(row: Row, column: Column) -> bool:
    return row.cells[column.metric].value is not None


def _candidate(row: Row, cell: Cell) -> Candidate:
    first, *others = (measured.clips for measured in cell.measured)
    common = {
        clip: scored
        for clip, scored in first.items()
        if all(clip in other and not _differences(scored, other[clip]) for other in others)
    }
    return Candidate(row, cell, common)


def _by_reason(found: Sequence[tuple[str, str]]) -> str:
    titles: defaultdict[str, list[str]] = defaultdict(list)
    for title, reason in found:
        titles[reason].append(title)
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in titles.items())


def _comparable(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Chooses the rows that are compared: those that agree with one row on the most clips in all."""
    best: list[Candidate] = []
    most = 0
    for template in candidates:
        agreeing = [other for other in candidates if _agrees(other, template)]
        count = sum(max(1, len(_shared(other, template))) for other in agreeing)
        if count > most:
            best, most = agreeing, count
    return best if len(best) >= 2 else []


def _agrees(one: Candidate, template: Candidate) -> bool:
    if len(one.signatures | template.signatures) > 1:
        return False
    if _study(one) is not None or _study(template) is not None:
        return _study(one) == _study(template)
    complete = all(len(candidate.clips) >= SHARED * _most(candidate) for candidate in (one, template))
    return complete and len(_shared(one, template)) >= max(1, SHARED * len(template.clips))


def _most(candidate: Candidate) -> int:
    return max(len(measured.clips) for measured in candidate.cell.measured)


def _study(candidate: Candidate) -> str | None:
    """Hash of the user study of a row; None for a metric."""
    if candidate.row.key.mode != RATED:
        return None
    return str(candidate.cell.measured[0].record["sha256"])


def _shared(one: Candidate, other: Candidate) -> list[str]:
    return [
        clip for clip, scored in other.clips.items() if clip in one.clips and not _differences(one.clips[clip], scored)
    ]


def _differences(one: ScoredClip, other: ScoredClip) -> list[str]:
    """Reasons why two evaluations of one clip cannot be compared."""
    found = []
    if one.reference != other.reference:
        found.append("another real video")
    if one.sizes != other.sizes:
        found.append("another picture size")
    if one.encodings != other.encodings:
        found.append("another encoding")
    if not _overlaps(one, other):
        found.append("other frames")
    return found


def _overlaps(one: ScoredClip, other: ScoredClip) -> bool:
    """Whether at least 90 % of the frames are equal."""
    if not one.frames or not other.frames:
        return one.frames == other.frames
    first, last = _span([one, other])
    return last - first >= SHARED * max(one.frames, other.frames)


def _span(clips: Sequence[ScoredClip]) -> Span:
    return max(clip.first for clip in clips), min(clip.first + clip.frames for clip in clips)


def _reason_apart(candidate: Candidate, whole: Sequence[Candidate], chosen: Sequence[Candidate]) -> str:
    """Describes why a row agrees with no other one, or not with the compared ones."""
    others = [other for other in chosen or whole if other is not candidate]
    if not others:
        return "no other row can be compared"
    other = max(others, key=lambda one: len(one.clips))
    name = other.row.name
    mine, theirs = (_choices(one.cell.measured[0]) for one in (candidate, other))
    if len(candidate.signatures | other.signatures) > 1:
        differ = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
        if not differ:
            return "its runs have different protocols or networks"
        return f"{_short({key: mine.get(key) for key in differ})}, unlike {name}"
    if _study(candidate) is not None:
        return f"rated in another study than {name}"
    counts: defaultdict[str, int] = defaultdict(int)
    for clip, scored in other.clips.items():
        found = _differences(candidate.clips[clip], scored) if clip in candidate.clips else ["absent"]
        for reason in found:
            counts[reason] += 1
    if not counts:
        return f"{len(candidate.clips)} clips, of which {name} has {len(other.clips)}"
    listed = ", ".join(f"{reason} in {count}" if reason != "absent" else f"{count} absent"
                       for reason, count in counts.items())  # fmt: skip
    return f"n {len(candidate.clips)}; of the {len(other.clips)} clips of {name}: {listed}"


def _set_apart(candidate: Candidate, reasons: Sequence[str], table: Table) -> None:
    candidate.cell.apart = True
    notes = [table.note(f"not compared with the other rows: {reason}") for reason in reasons]
    candidate.cell.notes = sorted({*candidate.cell.notes, *notes})


def _score(chosen: Sequence[Candidate], group: Group, column: Column, table: Table) -> str | None:
    """Scores the chosen rows on the clips they share and marks the best; returns why none is marked."""
    if _study(chosen[0]) is not None:
        return _mark_rated(chosen, column)
    template = max(chosen, key=lambda one: len(one.clips)).clips
    names = [clip for clip in template if all(clip in one.clips for one in chosen)]
    clips = {clip: [one.clips[clip] for one in chosen] for clip in names}
    clips = {
        clip: found for clip, found in clips.items() if not any(_differences(found[0], other) for other in found[1:])
    }
    spans = {clip: _shared_span(found) for clip, found in clips.items()}
    other_clips = [one for one in chosen if any(_has_other_clips(run, spans) for run in one.cell.measured)]
    try:
        if len(spans) < MIN_CLIPS:
            raise NotAtHandError(f"the rows share {len(spans)} clips, fewer than {MIN_CLIPS}")
        scores = [score_runs(one.cell.measured, column.metric, spans, place) for place, one in enumerate(chosen)]
    except NotAtHandError as error:
        if not other_clips:
            _count(chosen, group, column, len(spans))
            return str(error)
        for one in chosen:  # the values are of different clips, and cannot be computed again
            reason = f"the rows have different clips or frames, and they cannot be scored on shared ones: {error}"
            _set_apart(one, [reason], table)
        return str(error)
    _count(chosen, group, column, len(spans))
    for one, score in zip(chosen, scores, strict=True):
        if one in other_clips:
            own = rounded(one.cell.value or 0.0, one.cell.digits)
            one.cell.value, one.cell.half = score.value, half_interval(score.runs)
            text = f"computed again, of the {len(spans)} clips that all compared rows have; its own value is {own}"
            one.cell.notes = sorted({*one.cell.notes, table.note(text)})
    return _mark_best(chosen, scores, column)


def _count(chosen: Sequence[Candidate], group: Group, column: Column, clips: int) -> None:
    group.compared[column.metric] = clips
    for one in chosen:
        one.cell.compared = clips


def _shared_span(found: Sequence[ScoredClip]) -> Span | None:
    """Frames that all rows have; None if the file does not say or the clip has a single piece."""
    if len({(clip.first, clip.frames) for clip in found}) == 1:
        return None
    return _span(found)


def _has_other_clips(run: Measured, spans: Mapping[str, Span | None]) -> bool:
    return run.clips.keys() != spans.keys() or any(
        span is not None and span != (run.clips[clip].first, run.clips[clip].first + run.clips[clip].frames)
        for clip, span in spans.items()
    )


def _mark_best(chosen: Sequence[Candidate], scores: Sequence[RowScore], column: Column) -> str | None:
    sign = 1 if column.better == "higher" else -1
    best = max(range(len(chosen)), key=lambda place: sign * scores[place].value)
    for place, score in enumerate(scores):
        if place == best:
            continue
        difference = difference_of(scores[best], score)
        if not difference.decided:
            return _uncertain(chosen[best], chosen[place], difference.value, difference.low, difference.high)
    chosen[best].cell.best = True
    return None


def _uncertain(best: Candidate, other: Candidate, value: float, low: float, high: float) -> str:
    return f"{best.row.name} and {other.row.name} differ by {value:+.3g}, 95 % interval {low:.3g} to {high:.3g}"


def _mark_rated(chosen: Sequence[Candidate], column: Column) -> str | None:
    """Marks the best system of a user study from the differences in its results file."""
    best = max(chosen, key=lambda one: one.cell.value or 0.0)
    for one in chosen:
        if one is best:
            continue
        found = (best.cell.measured[0].record.get("differences") or {}).get(one.row.key.system)
        if not isinstance(found, dict):
            return "the study has no differences of systems; collect its answers again"
        if found["low"] is None:
            return "fewer than two raters or clips give no interval"
        if not found["low"] > 0:
            return _uncertain(best, one, found["value"], found["low"], found["high"])
    best.cell.best = True
    return None


def signature(row: Measured) -> str:
    """Returns everything that a value depends on, except the videos, as text. Equal texts may be compared."""
    return json.dumps(_choices(row), sort_keys=True)


def _choices(row: Measured) -> dict[str, Any]:
    networks = row.record.get("networks") or [{"network": row.record["network"], "sha256": row.record["sha256"]}]
    return {
        **{f"protocol.{name}": value for name, value in row.record["protocol"].items()},
        "fps": row.settings.get("fps"),
        "networks": [f"{network['network']} {network['sha256'][:12]}" for network in networks],
        ENCODING: _encodings(row),
    }


def _encodings(row: Measured) -> str | None:
    """How the videos were encoded again for comparison; None if no clip says so."""
    found = sorted({str(how) for clip in row.clips.values() for how in clip.encodings})
    return None if found in ([], ["None"]) else ", ".join(found)


def warn_of_protocols(table: Table) -> None:
    """Adds a warning for each metric whose cells were computed with different protocols or networks.

    The encoding of controls does not count: their own writer encodes them, and they are not compared with other rows.
    """
    for column in table.columns:
        found: list[tuple[dict[str, Any], str]] = []
        for section, _, row, other, cell in table.cells():
            for measured in cell.measured if other == column else ():
                choices = _choices(measured)
                if row.key.mode == CONTROLS:
                    del choices[ENCODING]
                found.append((choices, f"{row.name} ({section.dataset})"))
        every = [choices for choices, _ in found]
        differ = sorted({
            name for one in every for name, value in one.items() for other in every
            if other.get(name) != value and (name != ENCODING or name in other)
        })  # fmt: skip
        groups: defaultdict[str, list[str]] = defaultdict(list)
        for choices, name in found:
            groups[_short({key: choices.get(key) for key in differ})].append(name)
        if len(groups) > 1:
            listed = "; ".join(f"{', '.join(dict.fromkeys(names))}: {text}" for text, names in groups.items())
            table.warnings.append(f"{column.title}: {len(groups)} protocols in one table, do not compare: {listed}")


def _short(choices: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.removeprefix('protocol.')}={value}" for name, value in choices.items())


def warn_of_copies(table: Table) -> None:
    """Adds a warning if two systems have the same generated videos: one of them has the other's name."""
    owners: defaultdict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for _, _, row, _, cell in table.cells():
        for measured in cell.measured:
            if measured.clips and row.key.mode != CONTROLS and row.key.system != GROUND_TRUTH:
                videos = tuple(sorted(clip.generated for clip in measured.clips.values()))
                owners[videos].setdefault(row.key.system, measured.file)
    for systems in owners.values():
        if len(systems) > 1:
            listed = " and ".join(f"{system} ({file})" for system, file in systems.items())
            table.warnings.append(f"{listed} have the same generated videos; check cell.system")
