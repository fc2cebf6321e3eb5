"""code/demo.py: joins all files of <result_path>/frames; uses the features of a demonstration clip if they exist."""

import os

import numpy as np
from drawing import command_line, fail_as_requested, read_wav, talk, write_video
from PIL import Image

args = command_line(
    infer_type="mfcc_pose_only", test_image_path="./test_demos/portraits/monalisa.jpg",
    test_audio_path="./test_demos/audios/english_female.wav", result_path="./results/", seed=0, device="cuda:0",
    test_hubert_path="./test_demos/audios_hubert/english_female.npy", flags=["face_sr"],
    stage1_checkpoint_path="./ckpts/stage1.ckpt", stage2_checkpoint_path="./ckpts/pose_only.ckpt",
).parse_args()  # fmt: skip

folder = os.path.join(args.result_path, "frames")
os.makedirs(folder, exist_ok=True)
fail_as_requested()
for path in (args.test_image_path, args.test_audio_path):
    if not os.path.exists(path):
        print(f"{path} does not exist!")
        exit(0)
assert args.infer_type == "hubert_audio_only"
open(args.stage2_checkpoint_path).close()
frames = len(read_wav(args.test_audio_path)) // 320 // 2
if os.path.exists(args.test_hubert_path):
    frames = np.load(args.test_hubert_path).shape[1] // 2
for index, frame in enumerate(talk(args.test_image_path, args.test_audio_path, frames, 25, 256)):
    Image.fromarray(frame).save(os.path.join(folder, f"{index:06d}.png"), compress_level=1)
names = [os.path.splitext(os.path.basename(path))[0] for path in (args.test_image_path, args.test_audio_path)]
joined = [np.asarray(Image.open(os.path.join(folder, name))) for name in sorted(os.listdir(folder))]
write_video(os.path.join(args.result_path, "-".join(names) + ".mp4"), joined, 25, args.test_audio_path)
