"""inference.py: the result is named after the second in which the program started."""

import os
import shutil
from time import strftime

from drawing import command_line, fail_as_requested, read_wav, talk, tint_of, write_video
from PIL import Image

names = ("driven_audio", "source_image", "checkpoint_dir", "result_dir", "enhancer")
parser = command_line(*names, size=256, batch_size=2, flags=["still", "cpu"])
parser.add_argument("--preprocess", default="crop", choices=["crop", "extcrop", "resize", "full", "extfull"])
args = parser.parse_args()

save_dir = os.path.join(args.result_dir, strftime("%Y_%m_%d_%H.%M.%S"))
os.makedirs(save_dir, exist_ok=True)
open(os.path.join("src", "config", "facerender_still.yaml")).close()  # relative to the working directory
fail_as_requested()
if tint_of(args.source_image).max() < 8:
    print("Can't get the coeffs of the input")
    raise SystemExit(0)
width = Image.open(args.source_image).width if args.preprocess == "full" else args.size
frames = len(read_wav(args.driven_audio)) // 640
temporary = "one-of-its-own.mp4"  # in the working directory
write_video(temporary, talk(args.source_image, args.driven_audio, frames, 25, width), 25, args.driven_audio)
shutil.move(temporary, save_dir + ".mp4")
shutil.rmtree(save_dir)
