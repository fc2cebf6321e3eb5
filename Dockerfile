# EmotiveTalk with everything it needs on a machine with an NVIDIA driver and nvidia-container-toolkit:
#   docker build -t emotivetalk .
#   docker run --gpus all -v "$PWD":/work -e EMOTIVETALK_WEIGHTS=/work/weights emotivetalk python train.py --help
FROM python:3.11-slim-bookworm

# MediaPipe's library links to EGL, OpenGL ES and OpenGL, even on the CPU; FFmpeg's program is for Sync's reference mode.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ffmpeg git libegl1 libgl1 libgles2 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/emotivetalk
COPY . .
RUN pip install --no-cache-dir --editable ".[app,deepspeed,tensorboard,wandb]"

# Scripts are called by name from any folder; what they write goes to the mounted one.
ENV PATH="/opt/emotivetalk/container:${PATH}"
WORKDIR /work
CMD ["python", "/opt/emotivetalk/train.py", "--help"]
