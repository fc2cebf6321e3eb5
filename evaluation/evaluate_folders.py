"""Evaluates two folders of videos and writes the results file; used by ``evaluate.py``."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from configs.evaluation import EvaluateConfig
from evaluation.aligned_clips import AlignedClip, Alignment, Clips, Panel, Side
from evaluation.cache import FeatureStore, default_folder
from evaluation.drift import compute_windows, with_drift
from evaluation.metric import Measures, Metric, build_metric, settings_of
from evaluation.networks import NotComputed
from evaluation.one_pass import Collector, decode_once
from evaluation.pairs import Missing, Pairing, pair_videos
from evaluation.ranks import Ranks, joined
from evaluation.report import print_results
from evaluation.results import SCHEMA, ClipValues, Results, Value, write_results
from runtime.console import new_console
from runtime.files import require_writable
from runtime.locks import LockedError, lock_of, locked
from runtime.ownership import require_own_json
from runtime.progress import progress_bar

MISSING_VIDEOS = 3
METRIC_NOT_COMPUTED = 4
SINGLE_PROCESS = Ranks()
Stores = tuple[FeatureStore, FeatureStore]


def evaluate_folders(config: EvaluateConfig, log: Callable[[Results], None] = lambda results: None) -> int:
    """Evaluates the folders, prints the table and writes the results file.

    Args:
        config: Configuration of the evaluation.
        log: Called with the written results, in the first process only.

    Returns:
        0; 3 if a video is missing or failed and ``allow_missing`` is off; 4 if a metric was not computed, or official
        Sync failed its self-check.

    Raises:
        EvaluationError: If there is nothing to evaluate, or the results cannot be written.
        LockedError: If another process writes these results.
    """
    output = Path(config.output)
    require_writable(output)
    require_own_json(output, SCHEMA.partition("/")[0], f"output={output}")
    with joined() as ranks, _only_evaluation(output, ranks):
        results = evaluate(config, new_console(stderr=True, quiet=not ranks.first), ranks)
        if not ranks.first:
            return 0
        write_results(output, results)
    console = new_console(stderr=False)
    print_results(console, results)
    console.print(f"results  {output}", markup=False, soft_wrap=True)
    log(results)
    if results.missing and not config.allow_missing:
        count = len({row.clip for row in results.missing})
        console.print(f"[red]{count} of {results.expected} clips are incomplete[/]; allow_missing=true accepts that")
        return MISSING_VIDEOS
    return METRIC_NOT_COMPUTED if results.not_computed or _self_check_failed(results) else 0


@contextmanager
def _only_evaluation(output: Path, ranks: Ranks) -> Iterator[None]:
    """Holds the lock of the results file in the first process. If that fails, all processes end."""
    with ExitStack() as held:
        refused: LockedError | None = None
        if ranks.first:
            try:
                held.enter_context(locked(lock_of(output), f"output={output}", "wait for it, or choose another output"))
            except LockedError as error:
                refused = error
        if any(ranks.together([refused is not None])):
            raise refused or SystemExit(LockedError.exit_status)
        yield


def _self_check_failed(results: Results) -> bool:
    """Whether official Sync failed its self-check."""
    checks = [value.extra.get("self_check") for value in results.values if value.official]
    return any(isinstance(check, dict) and not check["passed"] for check in checks)


def evaluate(
    config: EvaluateConfig, console: Console, ranks: Ranks = SINGLE_PROCESS, keep_generated: bool = True
) -> Results:
    """Computes all metrics over all pairs; with several processes, only the first one returns values.

    Args:
        config: Configuration of the evaluation.
        console: Console of the progress bars.
        ranks: This process among several.
        keep_generated: Whether features of generated videos stay in the cache, for another metric or comparison.

    Raises:
        EvaluationError: If no videos form a pair, or the cache cannot be written.
    """
    device = ranks.device(config.device)
    pairing = pair_videos(Path(config.generated), Path(config.reference))
    values: list[Value] = []
    not_computed: dict[str, str] = {}
    per_clip: dict[str, ClipValues] = {}
    with ranks.shared_folder(Path(config.output).absolute().parent) as own:
        store = FeatureStore(Path(config.cache) if config.cache else default_folder())
        stores = store, store if keep_generated else FeatureStore(own)
        panel: Panel | None = tuple(config.crop) if config.crop else None  # type: ignore[assignment]
        alignment = Alignment(config.fps, panel, config.offset, config.max_gap)
        clips, missing = _open_all(alignment, pairing, stores[0], console, ranks)
        metrics: dict[str, Metric] = {}
        for name in config.metrics:
            try:
                metrics[name] = build_metric(name, settings_of(config, name), device)
            except NotComputed as error:
                not_computed[name] = str(error)
        damaged = _decode(metrics, clips, stores, console, ranks)
        missing += damaged
        clips = [clip for clip in clips if clip.name not in {row.clip for row in damaged}]
        if ranks.size > 1:
            for name, metric in metrics.items():
                with suppress(NotComputed):  # raised again below, where it is reported
                    _prepare(name, metric, clips, stores, console, ranks)
            ranks.wait()
        windows: dict[str, list[Measures]] = {}
        if config.drift:
            for name, metric in metrics.items():
                windows[name] = compute_windows(metric, clips, config.drift, config.fps, stores, ranks, console)
        for name, metric in metrics.items() if ranks.first else ():
            try:
                if not clips:
                    raise NotComputed("no pair of videos could be compared; see the list of missing videos")
                with progress_bar(console, name, _frames(clips)) as bar:
                    found, lost, rows = metric.values(
                        clips, pairing.expected, stores, (config.bootstrap, config.seed), partial(_advance, bar)
                    )
            except NotComputed as error:
                not_computed[name] = str(error)
                missing += error.missing
                continue
            if config.drift:
                found = with_drift(found, windows[name], clips, config.drift, config.fps)
            values += found
            missing += lost
            per_clip[name] = rows
    return Results(
        tuple(values),
        not_computed,
        tuple(_clip_record(clip, per_clip) for clip in clips),
        tuple(missing),
        pairing.expected,
        _settings(config),
        _environment(device, ranks),
    )


def _open_all(
    alignment: Alignment, pairing: Pairing, store: FeatureStore, console: Console, ranks: Ranks
) -> tuple[list[AlignedClip], list[Missing]]:
    opened: list[AlignedClip | Missing] = []
    pairs = ranks.mine(pairing.pairs)
    with progress_bar(console, "probing the videos", len(pairs)) as bar:
        for pair in pairs:
            opened.append(alignment.open(pair, store))
            bar.advance(bar.task_ids[0])
    everything = ranks.together(opened)
    clips = [one for one in everything if isinstance(one, AlignedClip)]
    return clips, [*pairing.missing, *(one for one in everything if isinstance(one, Missing))]


def _decode(
    metrics: Mapping[str, Metric], clips: Clips, stores: Stores, console: Console, ranks: Ranks
) -> list[Missing]:
    """Decodes this process's share of the videos once for all metrics; returns the damaged videos of all processes."""
    functions = [metric.collectors(clips) for metric in metrics.values() if hasattr(metric, "collectors")]

    def collectors(clip: AlignedClip, side: Side) -> list[Collector]:
        return [one for function in functions for one in function(clip, side)]

    own = ranks.mine(clips)
    with progress_bar(console, "reading the videos", _frames(own)) as bar:
        damaged = decode_once(own, collectors, stores, partial(_advance, bar))
    return [row for rows in ranks.together([damaged]) for row in rows]


def _prepare(name: str, metric: Metric, clips: Clips, stores: Stores, console: Console, ranks: Ranks) -> None:
    """Computes this process's share of a metric's features and stores them."""
    own = ranks.mine(clips)
    with progress_bar(console, f"{name}, share of {ranks.size}", _frames(own)) as bar:
        metric.prepare(clips, own, stores, partial(_advance, bar))


def _advance(bar: Progress, frames: int) -> None:
    bar.advance(bar.task_ids[0], frames)


def _frames(clips: Clips) -> int:
    return sum(side.frames for clip in clips for side in (clip.reference, clip.generated))


def _clip_record(clip: AlignedClip, per_clip: dict[str, ClipValues]) -> dict[str, object]:
    return {
        "clip": clip.name,
        "frames": clip.generated.frames,
        **{
            side.name: {
                "file": str(side.path),
                "sha256": side.sha256,
                "first_frame": side.start,
                "encoding": side.encoding,
                **vars(side.info),
            }
            for side in (clip.generated, clip.reference)
        },
        "notes": list(clip.notes),
        "metrics": {name: rows[clip.name] for name, rows in per_clip.items() if clip.name in rows},
    }


def _settings(config: EvaluateConfig) -> dict[str, object]:
    """Configuration for the results file, without ``logger`` if no logger is chosen: loggers change no value."""
    settings = asdict(config)
    if not config.logger.chosen:
        del settings["logger"]
    return settings


def _environment(device: torch.device, ranks: Ranks) -> dict[str, str]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": f"{device.type}: {name}",
        "processes": str(ranks.size),
    }
