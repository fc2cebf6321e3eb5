"""scripts/audio2vid.py: three panels, 30 fps, folders named by the minute; fails up to 5 s, drops 5 s of multiples."""

import math
import os
from datetime import datetime
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from scripts.drawing import command_line, fail_as_requested, read_wav, talk, write_video

parser = command_line(config="./configs/prompts/animation_audio.yaml", seed=42, cfg=3.5, steps=25, fps=30)
for name in ("-W", "-H"):
    parser.add_argument(name, type=int, default=512)
parser.add_argument("-L", type=int)
parser.add_argument("-acc", "--accelerate", action="store_true")
args = parser.parse_args()

with open(args.config) as file:
    config = yaml.safe_load(file)
open(config["pose_guider_path"]).close()
minute = datetime.now().strftime("%H%M")
folder = Path(f"output/{datetime.now():%Y%m%d}/{minute}--seed_{args.seed}-{args.W}x{args.H}")
folder.mkdir(exist_ok=True, parents=True)
fail_as_requested()
for portrait, sounds in config["test_cases"].items():
    for wav in sounds:
        samples = len(read_wav(wav))
        seq_len, chunks = math.ceil(samples / 16000 * 30), math.ceil(samples / 80000)
        lengths = [150] * (chunks - 1) + [seq_len % 150]
        lengths[-2] = lengths[-2] + lengths[-1]  # IndexError up to 5 s
        results = talk(portrait, wav, sum(lengths[:-1]), 30, args.W)
        reference = np.asarray(Image.open(portrait).convert("RGB").resize((args.W, args.H)))
        grids = []
        for result in results:
            grid = np.zeros((args.H + 4, 3 * args.W + 8, 3), np.uint8)
            for place, panel in enumerate((reference, reference // 3, result)):
                left = 2 + place * (args.W + 2)
                grid[2 : 2 + args.H, left : left + args.W] = panel
            grids.append(grid)
        stem = f"{Path(portrait).stem}_{Path(wav).stem}_{args.H}x{args.W}_{int(args.cfg)}_{minute}"
        if (folder / f"{stem}.mp4").exists():
            input("File already exists. Overwrite? [y/N]")
        write_video(folder / f"{stem}_noaudio.mp4", grids, args.fps)
        os.replace(folder / f"{stem}_noaudio.mp4", folder / f"{stem}.mp4")
