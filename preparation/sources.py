"""Lists the clips of a run: those of a source folder, or of synthetic speakers that are rendered first."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from configs.preparation import PrepareConfig
from media import MediaError
from media.archives import hash_of
from preparation.clip_source import ClipSource, Reason
from preparation.identities import fingerprint
from preparation.layouts import find_clips
from preparation.plan import PARTS_FOLDER
from runtime.locks import locked
from runtime.progress import progress_bar


def find_sources(config: PrepareConfig, output: Path, console: Console) -> list[ClipSource]:
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


def without_duplicates(clips: list[ClipSource]) -> list[ClipSource]:
    """Gives each clip whose video and sound have the same bytes as an earlier clip's, of the same span, a problem.

    Only files of equal size with equal samples of their content are read in full.
    """
    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for index, clip in enumerate(clips):
        if clip.problem is None:
            with suppress(MediaError, OSError):
                sound = None if clip.audio is None else fingerprint(clip.audio)
                alike[clip.start, clip.end, clip.crop, fingerprint(clip.path), sound].append(index)
    found = list(clips)
    for group in alike.values():
        first: dict[tuple[str, ...], ClipSource] = {}
        for index in group if len(group) > 1 else ():
            clip = clips[index]
            with suppress(OSError):
                other = first.setdefault(tuple(hash_of(path) for path in (clip.path, clip.audio) if path), clip)
                if other is not clip:
                    detail = f"has the same content as {other.name}"
                    found[index] = replace(clip, problem=Reason.DUPLICATE, problem_detail=detail)
    return found


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
