"""code/demo.py: joins whatever lies in <result_path>/frames; uses a demonstration clip's features where they lie."""

import argparse
import os

import numpy as np
from drawing import read_wav, stumble, talk, write_video
from PIL import Image

parser = argparse.ArgumentParser()
parser.add_argument("--infer_type", default="mfcc_pose_only")
parser.add_argument("--test_image_path", default="./test_demos/portraits/monalisa.jpg")
parser.add_argument("--test_audio_path", default="./test_demos/audios/english_female.wav")
parser.add_argument("--test_hubert_path", default="./test_demos/audios_hubert/english_female.npy")
parser.add_argument("--result_path", default="./results/")
parser.add_argument("--stage1_checkpoint_path", default="./ckpts/stage1.ckpt")
parser.add_argument("--stage2_checkpoint_path", default="./ckpts/pose_only.ckpt")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--device", default="cuda:0")
parser.add_argument("--face_sr", action="store_true")
args = parser.parse_args()

folder = os.path.join(args.result_path, "frames")
os.makedirs(folder, exist_ok=True)
stumble()
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
