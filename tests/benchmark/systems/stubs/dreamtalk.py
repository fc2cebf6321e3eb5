"""inference_for_demo_video.py: splits paths at spaces, and burns a watermark into the finished video."""

import os
import shutil

from configs.default import CFG  # a package in the script's folder
from drawing import command_line, fail_as_requested, read_wav, talk, write_video
from scipy.io import loadmat

names = ("wav_path", "image_path", "style_clip_path", "pose_path")
parser = command_line(*names, max_gen_len=1000, cfg_scale=1.0, output_name="test", device="cuda")
parser.add_argument("--disable_img_crop", dest="img_crop", action="store_false")
args = parser.parse_args()

os.makedirs(f"tmp/{args.output_name}", exist_ok=True)
fail_as_requested()
shutil.copy(*f"{args.wav_path} tmp/{args.output_name}/sound.wav".split())
assert not args.img_crop, "dlib would crop the portrait"
assert CFG
frames = len(read_wav(args.wav_path)) // 320 // 2
pose = loadmat(args.pose_path)["coeff"]
if len(pose) < frames:
    pose[-1].unsqueeze(0)
output_video_path = f"output_video/{args.output_name}.mp4"
pictures = list(talk(args.image_path, args.wav_path, frames, 25, 256))
write_video(output_video_path, pictures, 25, args.wav_path)

if True:
    # add watermark
    no_watermark_video_path = f"{output_video_path}-no_watermark.mp4"
    shutil.move(output_video_path, no_watermark_video_path)
    for marked in pictures:
        marked[220:, 140:] = 128
    write_video(output_video_path, pictures, 25, args.wav_path)
    os.remove(no_watermark_video_path)
    print("done")
