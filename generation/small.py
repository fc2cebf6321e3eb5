"""The small model that ``generate.py`` and ``app.py`` use without a run: its file, and the data that it reads."""

from pathlib import Path

SMALL = Path(__file__).with_name("small.safetensors")  # written by python -m tools.small
# Keys of prepare.py for such data. Errors of this codec are smooth, not speckle; ETHD need not guess the pose.
SMALL_ENCODERS = ("encoders/codec=dct", "encoders.codec.options.luma=16", "encoders/motion=landmarks_pose")
