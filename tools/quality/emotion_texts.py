"""Measures emotions and levels by text on texts that were held out, over several seeds.

    python -m tools.quality.emotion_texts RUN
    python -m tools.quality.emotion_texts RUN seeds=3 steps=900 encoder=clip

RUN is a run directory of the emotion experiment, of which only the label table is read. A mapping is trained for each
seed with the settings of emotion/tiny. Known words in held-out frames, hand-written paraphrases, and hand-written texts
that ask for a level are scored by the nearest cell of the table; a text that is refused counts as wrong.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch
from lightning.pytorch import Trainer

from configs.emotion import EmotionModelConfig
from configs.options import Readers, count, read_options, run_script
from configs.preparation import EncoderConfig
from encoders.factory import build_text_encoder
from encoders.text.checks import TextError
from lightning_modules.emotion.emotion_table import TABLE_FILE, EmotionTable
from lightning_modules.emotion.module import EmotionModule, EmotionReport
from lightning_modules.emotion.phrases import levelled_paraphrases
from lightning_modules.emotion.text_mapping import TextEmotion

VALUES = ("frames_emotion", "frames_level", "paraphrases_emotion", "paraphrases_level")


def main(arguments: list[str]) -> None:
    """Trains a mapping for each seed and prints accuracies, their means and ranges, and confused levels."""
    known: Readers = {"seeds": count, "steps": count, "encoder": str}
    options = read_options(__doc__, arguments, known, ("run",))
    table = EmotionTable.load(Path(options["run"]) / TABLE_FILE)
    encoder = build_text_encoder(options.get("encoder", "ngram"))
    config = EmotionModelConfig(text=EncoderConfig(encoder.identity.name))
    reports, confused = [], Counter[tuple[int, int]]()
    for seed in range(options.get("seeds", 3)):
        torch.manual_seed(seed)
        module = EmotionModule(config, table, encoder, steps := options.get("steps", 900), steps, seed)
        report = fitted(module)
        confused += levels_found(module.emotion(), table)
        reports.append(report)
        values = "  ".join(f"{name} {getattr(report, name):.3f}" for name in VALUES)
        print(f"seed {seed}  {report.phrases} phrases  {values}", flush=True)
    for name in VALUES:
        found = [getattr(report, name) for report in reports]
        print(f"{name:20s} mean {sum(found) / len(found):.3f}  from {min(found):.3f} to {max(found):.3f}")
    for wanted in (1, 2, 3):
        row = "  ".join(f"{level}: {confused[wanted, level]}" for level in (1, 2, 3))
        print(f"level {wanted} is found as  {row}  (texts of the right emotion)")


def fitted(module: EmotionModule) -> EmotionReport:
    """Trains a module and returns its report."""
    silent = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            default_root_dir=folder,
            accelerator="cpu",
            max_steps=module.max_steps,
            limit_val_batches=0,
            **silent,  # type: ignore[arg-type]
        ).fit(module)
        return module.write(Path(folder))


def levels_found(emotion: TextEmotion, table: EmotionTable) -> Counter[tuple[int, int]]:
    """Level asked for and level found -> number of texts whose emotion is right."""
    found: Counter[tuple[int, int]] = Counter()
    for text, wanted, level in levelled_paraphrases(table.cells):
        try:
            nearest = table.nearest(emotion(text)[0][None])[0]
        except TextError:
            continue
        found[level, nearest[1]] += nearest[0] == wanted
    return found


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
