"""inference.py: a strip of five panels, two frames late and four fewer; the video includes frames of earlier runs."""

import argparse
import os

import numpy as np
from drawing import command_line, fail_as_requested, read_wav, talk, write_video
from PIL import Image

names = ("cfg_file", "name", "audio_path", "app_img_path", "pose_path", "exp_path", "eye_path")
parser = command_line(*names, flags=["all"])
parser.add_argument("opts", default=None, nargs=argparse.REMAINDER)
args = parser.parse_args()

fail_as_requested()
folders = [args.pose_path, args.exp_path, args.eye_path]
driving = [[np.asarray(Image.open(os.path.join(d, name))) for name in sorted(os.listdir(d))] for d in folders]
assert all(frame.shape == (224, 224, 3) for frames in driving for frame in frames)
identity = np.asarray(Image.open(args.app_img_path).convert("RGB"))
assert identity.shape == (224, 224, 3)
save_dir = f"test/images/{args.name}"
os.makedirs(save_dir, exist_ok=True)
os.makedirs("test/mp4s", exist_ok=True)
count = len(read_wav(args.audio_path)) // 640 - 4
results = talk(args.app_img_path, args.audio_path, count, 25, 224, first=2)
for index, result in enumerate(results):
    result = result if args.all else identity
    panels = [identity, result, *(frames[index % len(frames)] for frames in driving)]
    Image.fromarray(np.concatenate(panels, 1)).save(f"{save_dir}/{index:0>4d}.jpg", quality=95, subsampling=0)
joined = [np.asarray(Image.open(f"{save_dir}/{name}")) for name in sorted(os.listdir(save_dir))]
write_video(f"test/mp4s/{args.name}.mp4", joined, 25, args.audio_path)
