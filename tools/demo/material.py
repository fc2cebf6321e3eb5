"""Reads the outputs of the steps for the page: steps with their times, training curves, scores with explanations."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from tools.demo.demo_plan import PLAN
from tools.demo.people import ALL
from tools.pipeline.step import RECORDS, read_log

CHANCE_EMOTION = 1 / 8
FOLLOWS, PARTLY = 0.7, 0.3  # correlations; experiment ethd/tiny has to reach the first
Curves = dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class StepText:
    """A step as shown on the page.

    Attributes:
        name: Name of the step.
        title: Title.
        why: Reason for the step.
        command: Command as typed.
        seconds: Duration; None for the page's own step, which is still running.
        processor_seconds: Processor time; None for the page's own step.
        finished: Time of completion, ISO 8601 in UTC; empty for the page's own step.
    """

    name: str
    title: str
    why: str
    command: str
    seconds: float | None
    processor_seconds: float | None
    finished: str


@dataclass(frozen=True)
class Score:
    """A row of the table of scores.

    Attributes:
        name: Name of the score.
        value: Value as text; a dash if it was not computed.
        against: Reference for comparison: chance, the truth or a bound.
        meaning: Explanation.
        network: Network that computed it, or the reason why it was not computed.
    """

    name: str
    value: str
    against: str
    meaning: str
    network: str


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file, or None if there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def read_steps(folder: Path) -> list[StepText]:
    """Returns the steps in order, with the times of their records."""
    steps = []
    for step in read_json(folder / PLAN):
        record = read_json(folder / RECORDS / f"{step['name']}.json") or {}
        texts = {key: step[key] for key in ("name", "title", "why", "command")}
        seconds, busy = (record["seconds"], record["processor_seconds"]) if record.get("done") else (None, None)
        steps.append(StepText(**texts, seconds=seconds, processor_seconds=busy, finished=record.get("finished", "")))
    return steps


def read_curves(run: Path) -> Curves:
    """Returns column -> (step, value) points that a training logged."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in read_log(run):
        for name, value in row.items():
            if value and name not in ("step", "epoch"):
                found[name].append((float(row["step"]) + 1, float(value)))
    return dict(found)


def vaid_scores(report: Mapping[str, Any]) -> list[Score]:
    """Scores of V-AID."""
    unseen = "lip" in report
    lips, where = (report["lip"], "held-out people") if unseen else (report["lip_train"], "the training clips")
    own = "V-AID itself"
    rows = [
        Score(
            "Lip retrieval",
            percent(lips["near1"]),
            f"chance {percent(lips['chance'])}",
            f"Share of the frames of {where} for which the true lips nearest to the prediction belong to the same "
            "frame or to its neighbour, among all frames of the clip.",
            own,
        ),
        Score(
            "Lips explained (R²)",
            f"{lips['r2']:.2f}",
            "0 explains nothing, 1 everything",
            "Share of the variance of the lips that the speech explains.",
            own,
        ),
    ]
    if "expression" in report:
        expression = report["expression"]
        rows.append(
            Score(
                "Emotion of sampled expressions",
                percent(expression["emotion"]),
                f"true clips {percent(expression['emotion_truth'])}, chance {percent(CHANCE_EMOTION)}",
                "Share of the sequences sampled by Di-CTE for a held-out person, with another person's face as the "
                "source, that are nearest to the right emotion.",
                own,
            )
        )
    return rows


def synthetic_scores(report: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> list[Score]:
    """Scores of ETHD on synthetic speakers.

    Args:
        report: Scores after the training.
        before: Scores of the networks that the training started from, if there were any.
    """
    readers = "linear readers of pixels, fitted to the true videos of each person"

    def against(words: str, name: str, shown: Callable[[float], str]) -> str:
        return f"{words}; before this training {shown(before[name])}" if before else words

    lips, emotion = report["lips_of_true_clip"], report["emotion_of_true_clips"]
    return [
        Score(
            "Lips follow the speech",
            _two(report["lips_neutral"]),
            against(f"true clip {_two(lips)}, no connection 0", "lips_neutral", _two),
            "Correlation of the lip opening in generated videos of held-out people with the truth.",
            readers,
        ),
        Score(
            "Requested emotion",
            percent(report["emotion"]),
            against(f"true clips {percent(emotion)}, chance {percent(CHANCE_EMOTION)}", "emotion", percent),
            "Share of the videos in which the face outside the lips shows the right one of eight emotions.",
            readers,
        ),
        Score(
            "Picture, given the true motion",
            f"{report['own_psnr']:.1f} dB",
            against("more is better", "own_psnr", lambda value: f"{value:.1f} dB"),
            "PSNR of videos that are driven by the true clip's expression, and by its pose where the data have it.",
            "none: pixels",
        ),
        Score(
            "Sharpness",
            _two(report["own_sharpness"]),
            against("true clips 1", "own_sharpness", _two),
            "Variance of the Laplacian inside the face of the same videos.",
            "none: pixels",
        ),
    ]


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def mean_clip(report: Mapping[str, Any]) -> dict[str, Any]:
    """Mean of each number over the measured real clips that have it, in the form of one clip; None if none has it."""
    means: dict[str, Any] = {}
    clips = list(report.values())
    for name, first in clips[0].items():
        values = [clip[name] for clip in clips if clip[name] is not None]
        if isinstance(first, Mapping):
            means[name] = mean_clip({str(number): value for number, value in enumerate(values)})
        else:
            means[name] = fmean(values) if values else None
    return means


def read_people(folder: Path) -> dict[int, dict[str, Any]]:
    """Number of people in a training -> means over the clips of held-out people; empty if nobody was held out."""
    people = read_json(folder / "people" / "people.json")
    found = {}
    for name, trained in (people["trained"] if people else {}).items():
        report = read_json(folder / f"score_unseen{'' if name == ALL else f'-{name}'}.json")
        if report:
            found[len(trained)] = mean_clip(report)
    return found


def real_scores(report: Mapping[str, Any], who: str) -> list[Score]:
    """Scores of ETHD on real clips, means over them."""
    clip = mean_clip(report)
    voice, own, codec = clip["voice"], clip["own"], clip["codec"]
    network = "MediaPipe FaceLandmarker"
    return [
        Score(
            f"PSNR, {who}",
            f"{voice['psnr']:.1f} dB",
            f"first frame repeated {clip['psnr_first_frame']:.1f}, with the true motion {own['psnr']:.1f}, limit of "
            f"the codec {codec['psnr']:.1f}",
            "Similarity of the frames to the truth, from a clip's first frame and its speech alone.",
            "none: pixels",
        ),
        Score(
            f"Mouth follows the speech, {who}",
            _two(voice["jaw"]),
            f"with the clip's own expression {_two(own['jaw'])}, no connection 0",
            "Correlation of the jaw opening with the truth.",
            network,
        ),
        Score(
            f"A face is found, {who}",
            percent(voice["faces"]),
            f"true clip through the codec {percent(codec['faces'])}",
            "Share of the generated frames in which a face is detected.",
            network,
        ),
    ]


def metric_scores(results: Mapping[str, Any]) -> list[Score]:
    """The paper's metrics, from a results file of evaluate.py."""
    meanings = {
        "fid": "Realism of single frames: distance between the features of generated and real frames.",
        "fvd": "Realism of motion: the same for 16 frames at a time.",
        "sync": "Agreement of lips and audio: confidence and distance of SyncNet.",
        "efid": "Similarity of expressions: distance between expression coefficients.",
    }
    titles = {"fid": "FID", "fvd": "FVD", "sync": "Sync-C, Sync-D", "efid": "E-FID"}
    rows = []
    for name, record in results["metrics"].items():
        kind = next((key for key in meanings if name.startswith(key)), "")
        if record["value"] is None:
            reason = str(record["not_computed"]).splitlines()[0]
            rows.append(Score(titles.get(kind, name), "–", "", meanings.get(kind, ""), f"not computed: {reason}"))
            continue
        official = "" if record["official"] else ", not the official network"
        rows.append(
            Score(
                record["title"],
                f"{record['value']:.3g}",
                f"{record['better']} is better; {record['n']} of {record['expected']} clips",
                meanings.get(kind, ""),
                f"{record['network']} ({record['sha256'][:8]}{official})",
            )
        )
    return rows


def verdicts(synthetic: Mapping[str, Any] | None, seen: Mapping[str, Any] | None, unseen: Mapping[str, Any] | None
             ) -> list[str]:  # fmt: skip
    """Summarises the scores in sentences."""
    findings = []
    if synthetic is not None:
        findings.append(f"The lips of held-out people {_following(synthetic['lips_neutral'])}.")
        share, truth = synthetic["emotion"], synthetic["emotion_of_true_clips"]
        how = "about as often as by chance" if share < 2 * CHANCE_EMOTION else f"in {percent(share)} of the videos"
        findings.append(
            f"The face shows the requested emotion {how}; the same readers are right for {percent(truth)} of the true "
            "clips."
        )
    for report, who in ((seen, "training clips"), (unseen, "held-out people")):
        if not report:  # or all of its clips were rejected
            continue
        clip = mean_clip(report)
        gain = clip["voice"]["psnr"] - clip["psnr_first_frame"]
        closer = "closer to the truth than" if gain > 0 else "further from the truth than"
        findings.append(
            f"For {who}, the frames are {abs(gain):.1f} dB {closer} the repeated first frame, and the mouth "
            f"{_following(clip['voice']['jaw'], one=True)}."
        )
    return findings


def _following(correlation: float | None, one: bool = False) -> str:
    if correlation is None:
        return f"{'is' if one else 'are'} not found"
    verb = "follows" if one else "follow"
    number = f"(correlation {correlation:.2f})"
    if correlation >= FOLLOWS:
        return f"{verb} the speech {number}"
    if correlation >= PARTLY:
        return f"{verb} the speech in part {number}"
    return f"{'does' if one else 'do'} not follow the speech yet {number}"


def percent(share: float) -> str:
    """Formats 0.125 as 12 %, with a no-break space."""
    number = f"{100 * share:.0f}" if share >= 0.1 or share == 0 else f"{100 * share:.1f}"
    return f"{number}\N{NO-BREAK SPACE}%"
