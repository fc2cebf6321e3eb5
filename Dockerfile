# EmotiveTalk with everything it needs, for a machine with an NVIDIA driver and nvidia-container-toolkit:
#   docker build -t emotivetalk .
#   docker run --gpus all --shm-size=8g -v "$PWD":/data -e EMOTIVETALK_WEIGHTS=/data/weights emotivetalk \
#       python train.py experiment=vaid/tiny data.root=/data/synthetic output=/data/outputs run_id=first
# Loader processes hand batches over in shared memory, 0.6 GB for vaid/paper; Docker gives 64 MB without --shm-size.
FROM python:3.11-slim-bookworm

# MediaPipe's library links to EGL, OpenGL ES and OpenGL, even on the CPU; FFmpeg's program is for Sync's reference mode.
# Debian's mirrors keep one version of each, so none is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ffmpeg libegl1 libgl1 libgles2 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/emotivetalk
COPY . .
# The versions are those that were tested; hadolint takes "." for a package's name.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir -c requirements.lock ".[app,deepspeed,tensorboard,wandb]"

EXPOSE 7860
CMD ["python", "train.py", "--help"]
