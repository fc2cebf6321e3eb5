"""inference_for_demo.py: silent.mp4 in the working directory, 30 fps; fails if the pose is shorter than the speech."""

import os
import shutil

import numpy as np
from drawing import command_line, fail_as_requested, read_json, talk, write_video
from PIL import Image
from scipy.io import loadmat

args = command_line(
    *("audio_path", "style_clip_path", "pose_path", "src_img_path", "wav_path"), output_path="demo_output.npy",
    styletalk_checkpoint="checkpoints/styletalk_checkpoint.pth",
    renderer_checkpoint="checkpoints/renderer_checkpoint.pt",
).parse_args()  # fmt: skip

fail_as_requested()
open(args.styletalk_checkpoint).close()
phonemes = read_json(args.audio_path)
assert loadmat(args.style_clip_path)["coeff"][:, 80:144].shape[1] == 64
pose = loadmat(args.pose_path)
rows = np.concatenate([pose["coeff"][:, 224:227], pose["coeff"][:, 254:257], pose["transform_params"][:, -3:]], 1)
if len(rows) < len(phonemes):
    rows[-1].unsqueeze(0)  # StyleTalk's bug: a NumPy array has no such method
assert Image.open(args.src_img_path).size == (256, 256), "the renderer takes 256 x 256"
np.save(f"{args.output_path[:-4]}.npy", rows)
if os.path.exists("silent.mp4"):
    raise RuntimeError("another job's silent.mp4")
write_video("silent.mp4", talk(args.src_img_path, args.wav_path, len(phonemes), 30, 256), 30, args.wav_path)
shutil.copy("silent.mp4", args.output_path)
os.remove("silent.mp4")
