"""Sections of the page that show videos: results, the longer clip, and the paper's Figures 3 and 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from tools.demo.material import read_json
from tools.demo.strips import HeatRows, decoupling_rows, embedded, file_picture, likeness, motion_rows, still_of, strip

RESULTS = ("emotions", "seen", "unseen", "borrowed")  # folders of the videos that are shown with their true ones


def best_video(folder: Path, asked: Mapping[str, Any]) -> str:
    """The generated video nearest to its true one, playing without sound; nothing if none has a true one."""
    compared = [one for one in asked["asked"] if one["true"] and one["name"].split("/")[0] in RESULTS]
    if not compared:
        return ""
    best = max(compared, key=lambda one: likeness(_made(folder, one), folder / "cases" / one["true"]))
    path = _made(folder, best)
    words = f"{best['speaker']}, generated: {best['words']}"
    return (
        f'<figure><video autoplay muted loop playsinline poster="{still_of(path)}" src="{embedded(path)}" '
        f'aria-label="{escape(words)}"></video><figcaption>{escape(words)}</figcaption></figure>'
    )


def _made(folder: Path, one: Mapping[str, Any]) -> Path:
    """Generated video of an entry of ``cases.json``."""
    return folder / ("long" if one["name"] == "long" else "videos") / f"{one['name']}.mp4"


def results_section(folder: Path, asked: Mapping[str, Any], findings: Sequence[str]) -> str:
    """Section with generated and true clips, and sentences about the scores."""
    shown = [one for one in asked["asked"] if one["name"].split("/")[0] in RESULTS]
    cards = "".join(_card(folder, one) for one in shown)
    who = (
        "none of these people was in the training data"
        if not any(one["seen"] for one in shown)
        else "each card states whether the person was in the training data"
    )
    sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in findings)
    verdict = f'<div class="verdict"><ul>{sentences}</ul></div>' if findings else ""
    none = "" if asked["unseen"] else (
        '<p class="hint">All speakers of this folder were in the training data, so these videos do not show how the '
        "model works on other people. With more people, some are held out.</p>"
    )  # fmt: skip
    return (
        '<section id="results"><h2>Results</h2><p>Left: the true video. Right: the video generated from a portrait and '
        f"the speech alone; {who}. Below: the same frames, true above and generated below.</p>{verdict}{none}"
        f'<div class="cards">{cards}{_sheets(folder)}</div></section>'
    )


def _sheets(folder: Path) -> str:
    """Contact sheets of the measured clips: the truth, driven by speech, and with the clip's own expression."""
    who = {"sheets_seen": "A training clip", "sheets_unseen": "A held-out person"}
    return "".join(
        f'<div class="card wide"><h3>{words}</h3><p class="hint">Top: the truth. Middle: generated from the first '
        "frame and the speech. Bottom: the same with the clip's own expression and pose. The scores below include this "
        "clip."
        f'</p><img src="{file_picture(path)}" alt="frames of the measured clip"></div>'
        for name, words in who.items()
        for path in sorted((folder / name).glob("*.png"))
    )


def _card(folder: Path, one: Mapping[str, Any], wide: bool = False) -> str:
    made = _made(folder, one)
    videos = ({"true": folder / "cases" / one["true"]} if one["true"] else {}) | {"generated": made}
    known = "in the training data" if one["seen"] else "not in the training data"
    strips = "".join(
        f'<figcaption>{name}</figcaption><img src="{strip(path, 12 if wide else 8)}" alt="frames of the {name} video">'
        for name, path in videos.items()
    )
    kind = "".join((" one" if len(videos) == 1 else "", " wide" if wide else ""))
    return (
        f'<div class="card pair{kind}"><h3>{escape(one["speaker"])}</h3>'
        f'<p class="hint">{escape(one["words"])}; {known}</p>{_videos(videos)}'
        f'<figure class="strip">{strips}</figure></div>'
    )


def _videos(videos: Mapping[str, Path]) -> str:
    """Returns videos side by side and a button that plays them together; only the last one has sound."""
    shown = "".join(
        f'<figure><video playsinline preload="metadata" poster="{still_of(path)}" src="{embedded(path)}" '
        f'aria-label="{escape(name)} video"></video><figcaption>{escape(name)}</figcaption></figure>'
        for name, path in videos.items()
    )
    words = "Play both" if len(videos) > 1 else "Play"
    return f'<div class="videos">{shown}</div><button type="button" data-play="{words}">{words}</button>'


def long_section(folder: Path, asked: Mapping[str, Any]) -> str:
    """Section with a clip of several windows."""
    one = next(one for one in asked["asked"] if one["name"] == "long")
    record = read_json(folder / "long" / "long.json")
    sampling, frames = record["sampling"], record["video"]["frames"]
    stride = sampling["window"] - sampling["overlap"]
    windows = max(1, -(-(frames - sampling["overlap"]) // stride))
    return (
        f'<section id="long"><h2>A longer clip, {windows} windows long</h2><p>The network generates '
        f"{sampling['window']} frames at a time. These {frames} frames were generated in {windows} windows that "
        f"overlap by {sampling['overlap']} frame{'s' * (sampling['overlap'] != 1)}. "
        "The windows are merged at every denoising step, so there should be no seams. Memory does not grow with the "
        f'length of the speech.</p><div class="cards">{_card(folder, one, wide=True)}</div></section>'
    )


def decoupling_section(folder: Path, asked: Mapping[str, Any]) -> str:
    """Section on Figure 3: driven by lips only and by expression only."""
    case = next(one for one in asked["asked"] if one["name"] == "drive/lips")
    lips, expression = (folder / "videos" / "drive" / f"{name}.mp4" for name in ("lips", "expression"))
    rows = decoupling_rows(folder / "cases" / case["row"]["portrait"], lips, expression)
    pairs = zip(
        (
            ("Driven by lips only", "drive=lips", lips),
            ("Driven by expression only", "drive=expression", expression),
        ),
        rows,
        strict=True,
    )
    cards = "".join(
        f'<div class="card pair one"><h3>{title}</h3><p class="hint"><code>{key}</code>; the mean change is '
        f"{row.mean:.1f} of 255 grey levels</p>{_videos({'generated': video})}{_heat(row, 'where it differs')}</div>"
        for (title, key, video), row in pairs
    )
    return (
        '<section id="decoupling"><h2>Lips and expression, one at a time</h2><p>This is Figure 3 of the paper: the '
        "same portrait and speech, driven once by lips only and once by expression only. Bright pixels differ from the "
        "portrait. After enough training, only the mouth is bright in the first video, and only the rest of the "
        "face in the second. Brightness elsewhere, for example in the background, shows that the training "
        "was too short.</p>"
        f'<div class="cards">{cards}</div></section>'
    )


def dicte_section(folder: Path) -> str:
    """Section on Figure 4: with Di-CTE, and with a constant expression."""
    moving, held = (folder / "videos" / "dicte" / f"{name}.mp4" for name in ("with", "without"))
    rows = motion_rows(moving, held)
    titles = (("With Di-CTE", "the expression moves", moving), ("Without", "the expression is constant", held))
    cards = "".join(
        f'<div class="card pair one"><h3>{title}</h3><p class="hint">{words}; pixels move by {row.mean:.1f} '
        "grey levels on "
        f"average</p>{_videos({'generated': video})}{_heat(row, 'motion in time', side=True)}</div>"
        for (title, words, video), row in zip(titles, rows, strict=True)
    )
    return (
        '<section id="dicte"><h2>Moving expression</h2><p>This is Figure 4 of the paper. Both videos show one '
        "expression, taken from a single image of another person. Left: Di-CTE generates a moving sequence that fits "
        "the speech. Right: the expression is the same in every frame. Bright pixels move more. Both videos "
        'come from one network: the paper "conducted inference using two configurations", with and without Di-CTE. '
        "A network trained without Di-CTE (<code>model.variant=wo_dicte</code>) is the other reading.</p>"
        f'<div class="cards">{cards}</div></section>'
    )


def _heat(row: HeatRows, words: str, side: bool = False) -> str:
    style = ' style="max-width: 9rem"' if side else ""
    return (
        f'<figure class="strip"><img src="{row.frames}" alt="frames"><figcaption>{words}</figcaption>'
        f'<img src="{row.maps}" alt="heat map: {words}"{style}></figure>'
    )
