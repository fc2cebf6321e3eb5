"""inference.py: the name of the result is the second it was begun in."""

import os
import shutil
from argparse import ArgumentParser
from time import strftime

from drawing import read_wav, stumble, talk, tint_of, write_video
from PIL import Image

parser = ArgumentParser()
for name in ("--driven_audio", "--source_image", "--checkpoint_dir", "--result_dir", "--enhancer"):
    parser.add_argument(name)
parser.add_argument("--size", type=int, default=256)
parser.add_argument("--batch_size", type=int, default=2)
parser.add_argument("--preprocess", default="crop", choices=["crop", "extcrop", "resize", "full", "extfull"])
parser.add_argument("--still", action="store_true")
parser.add_argument("--cpu", action="store_true")
args = parser.parse_args()

save_dir = os.path.join(args.result_dir, strftime("%Y_%m_%d_%H.%M.%S"))
os.makedirs(save_dir, exist_ok=True)
open(os.path.join("src", "config", "facerender_still.yaml")).close()  # relative to the working directory
stumble()
if tint_of(args.source_image).max() < 8:
    print("Can't get the coeffs of the input")
    raise SystemExit(0)
width = Image.open(args.source_image).width if args.preprocess == "full" else args.size
frames = len(read_wav(args.driven_audio)) // 640
temporary = "one-of-its-own.mp4"  # in the working directory
write_video(temporary, talk(args.source_image, args.driven_audio, frames, 25, width), 25, args.driven_audio)
shutil.move(temporary, save_dir + ".mp4")
shutil.rmtree(save_dir)
