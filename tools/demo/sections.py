"""The parts of the page that show videos: what came out, the longer clip, and the paper's Figures 3 and 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from tools.demo.material import read_json
from tools.demo.strips import HeatRows, decoupling_rows, embedded, file_picture, motion_rows, still_of, strip


def results_section(folder: Path, asked: Mapping[str, Any], findings: Sequence[str]) -> str:
    """Generated clips beside true ones, with what the numbers say of them in words."""
    shown = [one for one in asked["asked"] if one["name"].split("/")[0] in ("emotions", "seen", "unseen", "borrowed")]
    cards = "".join(_card(folder, one) for one in shown)
    who = (
        "none of these people was seen in training"
        if not any(one["seen"] for one in shown)
        else "each card says who was"
    )
    sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in findings)
    verdict = f'<div class="verdict"><ul>{sentences}</ul></div>' if findings else ""
    none = "" if asked["unseen"] else (
        '<p class="hint">All speakers of this folder were trained on, so nothing here shows how a stranger would come '
        "out. With more people, some are held out.</p>"
    )  # fmt: skip
    return (
        '<section id="results"><h2>What came out</h2><p>Left the true video, right what was generated from a '
        "portrait and "
        f"the sound alone; {who}. Below them the same moments, true above and generated below.</p>{verdict}{none}"
        f'<div class="cards">{cards}{_sheets(folder)}</div></section>'
    )


def _sheets(folder: Path) -> str:
    """The pictures of the measured clips: the truth, driven by the voice, and with the clip's own expression."""
    who = {"sheets_seen": "A clip training saw", "sheets_unseen": "A person nobody trained on"}
    return "".join(
        f'<div class="card wide"><h3>{words}</h3><p class="hint">Above the truth, below it what the first frame '
        "and the sound give, at the bottom the same with the clip's own expression. Its numbers are among the scores."
        f'</p><img src="{file_picture(path)}" alt="frames of the measured clip"></div>'
        for name, words in who.items()
        for path in sorted((folder / name).glob("*.png"))
    )


def _card(folder: Path, one: Mapping[str, Any], wide: bool = False) -> str:
    made = folder / ("long" if one["name"] == "long" else "videos") / f"{one['name']}.mp4"
    videos = ({"true": folder / "cases" / one["true"]} if one["true"] else {}) | {"generated": made}
    known = "seen in training" if one["seen"] else "never seen in training"
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
    """Videos beside each other and the button that plays them together; only the last is heard."""
    shown = "".join(
        f'<figure><video playsinline preload="metadata" poster="{still_of(path)}" src="{embedded(path)}" '
        f'aria-label="{escape(name)} video"></video><figcaption>{escape(name)}</figcaption></figure>'
        for name, path in videos.items()
    )
    words = "Play both" if len(videos) > 1 else "Play"
    return f'<div class="videos">{shown}</div><button type="button" data-play="{words}">{words}</button>'


def long_section(folder: Path, asked: Mapping[str, Any]) -> str:
    """A clip of several windows."""
    one = next(one for one in asked["asked"] if one["name"] == "long")
    record = read_json(folder / "long" / "long.json")
    sampling, frames = record["sampling"], record["video"]["frames"]
    stride = sampling["window"] - sampling["overlap"]
    windows = max(1, -(-(frames - sampling["overlap"]) // stride))
    return (
        f'<section id="long"><h2>A longer clip, {windows} windows long</h2><p>The network draws '
        f"{sampling['window']} frames "
        f"at a time. These {frames} frames were drawn in {windows} windows that overlap by "
        f"{sampling['overlap']} frame{'s' * (sampling['overlap'] != 1)} and "
        "are merged at every one of the denoising steps, so there should be no seams. Memory stays the same "
        "however long "
        f'the speech is.</p><div class="cards">{_card(folder, one, wide=True)}</div></section>'
    )


def decoupling_section(folder: Path, asked: Mapping[str, Any]) -> str:
    """Figure 3: driven by lips alone and by expression alone."""
    case = next(one for one in asked["asked"] if one["name"] == "drive/lips")
    lips, expression = (folder / "videos" / "drive" / f"{name}.mp4" for name in ("lips", "expression"))
    rows = decoupling_rows(folder / "cases" / case["row"]["portrait"], lips, expression)
    pairs = zip(
        (
            ("Driven by the lips alone", "drive=lips", lips),
            ("Driven by the expression alone", "drive=expression", expression),
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
        '<section id="decoupling"><h2>Lips and expression, one at a time</h2><p>The paper\'s Figure 3: the same '
        "portrait and "
        "voice, once with only the lips driven and once with only the expression. The bright places are where a frame "
        "differs from the portrait. After enough training the first lights up at the mouth and the second "
        "everywhere else "
        "in the face; what glows all over, background included, is what this short training has not learned yet.</p>"
        f'<div class="cards">{cards}</div></section>'
    )


def dicte_section(folder: Path) -> str:
    """Figure 4: with Di-CTE, and with the expression held still."""
    moving, held = (folder / "videos" / "dicte" / f"{name}.mp4" for name in ("with", "without"))
    rows = motion_rows(moving, held)
    titles = (("With Di-CTE", "an expression that lives", moving), ("Without", "the same expression held still", held))
    cards = "".join(
        f'<div class="card pair one"><h3>{title}</h3><p class="hint">{words}; pixels move by {row.mean:.1f} '
        "grey levels on "
        f"average</p>{_videos({'generated': video})}{_heat(row, 'motion in time', side=True)}</div>"
        for (title, words, video), row in zip(titles, rows, strict=True)
    )
    return (
        '<section id="dicte"><h2>A face that lives</h2><p>The paper\'s Figure 4: both videos aim at one '
        "expression, taken "
        "from a single picture of another person. On the left Di-CTE makes a moving sequence of it that fits "
        "the voice; on "
        "the right the expression is the same in every frame. Bright places move more. Both come from one "
        "network here, "
        f'while the paper trains one without Di-CTE.</p><div class="cards">{cards}</div></section>'
    )


def _heat(row: HeatRows, words: str, side: bool = False) -> str:
    style = ' style="max-width: 9rem"' if side else ""
    return (
        f'<figure class="strip"><img src="{row.frames}" alt="frames"><figcaption>{words}</figcaption>'
        f'<img src="{row.maps}" alt="heat map: {words}"{style}></figure>'
    )
