"""scripts/inference.py: names masks after the portrait; imports its own package."""

import math
import os

import hallo  # noqa: F401
import yaml
from drawing import command_line, fail_as_requested, read_wav, talk, tint_of, write_video
from PIL import Image

parser = command_line("source_image", "driving_audio", "audio_ckpt_dir", output=".cache/output.mp4")
parser.add_argument("-c", "--config", default="configs/inference/default.yaml")
args = parser.parse_args()

with open(args.config) as file:
    config = yaml.safe_load(file) | {name: value for name, value in vars(args).items() if value is not None}
os.makedirs(config["save_path"], exist_ok=True)
fail_as_requested()
if tint_of(args.source_image).max() < 8:
    print("No faces detected in the image. Using the entire image as the face region.")
mask = os.path.join(config["save_path"], os.path.basename(args.source_image).split(".")[0] + "_face_mask.png")
Image.open(args.source_image).save(mask)
frames = math.ceil(len(read_wav(args.driving_audio)) / 16000 * 25)
write_video(args.output, talk(mask, args.driving_audio, frames, 25, 512), 25, args.driving_audio)
