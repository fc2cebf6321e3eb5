"""Lists the clips of a run: those of a source folder, or of synthetic speakers that are rendered first."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from configs.preparation import PrepareConfig
from media import MediaError
from media.source import identify
from preparation.clip_source import ClipSource
from preparation.layouts import find_clips
from preparation.plan import PARTS_FOLDER
from runtime.files import sha256_of
from runtime.locks import locked
from runtime.progress import progress_bar

SAMPLE_BYTES = 4096


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


def with_duplicate_notes(clips: list[ClipSource]) -> list[ClipSource]:
    """Adds a note to each clip whose video has the same bytes as an earlier clip's, of the same span.

    Only files of equal size with equal samples of their content are read in full.
    """
    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for index, clip in enumerate(clips):
        if clip.problem is None:
            with suppress(MediaError, OSError):
                alike[clip.start, clip.end, clip.crop, *_samples(clip.path)].append(index)
    found = list(clips)
    for group in alike.values():
        first: dict[str, ClipSource] = {}
        for index in group if len(group) > 1 else ():
            with suppress(OSError):
                other = first.setdefault(sha256_of(clips[index].path), clips[index])
                if other is not clips[index]:
                    note = f"the same video as {other.name}; task=scan and task=encode keep one of them"
                    found[index] = replace(clips[index], notes=(*clips[index].notes, note))
    return found


def _samples(path: Path) -> tuple[int, bytes]:
    """Size of a file and a hash of three parts of it."""
    path, size, _ = identify(path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for place in (0, size // 2, max(0, size - SAMPLE_BYTES)):
            file.seek(place)
            digest.update(file.read(SAMPLE_BYTES))
    return size, digest.digest()


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
