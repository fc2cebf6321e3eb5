"""Initialisation of ETHD's U-Net with the weights of Stable Video Diffusion. Accounts for every parameter of both.

SVD's cross-attentions attend to a single CLIP token. ETHD replaces them by its own attentions: queries and output
biases are loaded from SVD, keys and values are new, and output projections are zero. At step 0 the network equals SVD
with a zero image embedding, which is SVD's unconditional mode.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from encoders.weight_files import WrongWeights
from lightning_modules.ethd.unet import UNet
from runtime.json_text import parse_json

CLASS = "UNetSpatioTemporalConditionModel"
WEIGHT_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors")
# Parameters of SVD that exist only for its image embedding: the attention and the norm of its queries.
IMAGE_ATTENTION = re.compile(r"transformer_blocks\.\d+\.(attn2\.(to_q|to_k|to_v|to_out\.0)\.weight|norm2\.\w+)$")
REPLACED = re.compile(r"\.attn2\.(to_k|to_v|to_out\.0)\.weight$")
GROUPS = (
    (re.compile(r"transformer_blocks\.\d+\.(attn2|norm2)\."), "image attention -> lip and expression attention"),
    (re.compile(r"\.injector\."), "expression decoupling injector"),
    (re.compile(r"\.attn1\."), "self-attention"),
    (re.compile(r"\.ff(_in)?\."), "feed-forward"),
    (re.compile(r"\.resnets\."), "residual blocks"),
    (re.compile(r"\.attentions\."), "norms and projections of transformers"),
    (re.compile(r""), "input, output, time, sampling"),
)


@dataclass(frozen=True)
class LoadedWeights:
    """Parameters by outcome of the loading.

    Attributes:
        loaded: name -> number of values loaded from SVD.
        new: name -> number of newly initialised values.
        skipped: name -> number of values of SVD that ETHD does not use.
    """

    loaded: dict[str, int]
    new: dict[str, int]
    skipped: dict[str, int]

    @property
    def source_parameters(self) -> int:
        """Number of SVD's parameters, loaded and skipped."""
        return sum(self.loaded.values()) + sum(self.skipped.values())

    def table(self) -> str:
        """Text table of parameter counts by group and outcome, with totals."""
        rows = [f"{'':50s}{'loaded':>15s}{'new':>15s}{'skipped':>15s}"]
        counts = [_by_group(sizes) for sizes in (self.loaded, self.new, self.skipped)]
        for _, group in GROUPS:
            rows.append(f"{group:50s}" + "".join(f"{count[group]:15,d}" for count in counts))
        rows.append(f"{'total':50s}" + "".join(f"{count.total():15,d}" for count in counts))
        return "\n".join(rows)


def is_new(name: str) -> bool:
    """Whether a parameter of the U-Net has no counterpart in SVD, so that it is new in every training."""
    return bool(REPLACED.search(name)) or ".injector." in name


def match_keys(ours: Mapping[str, torch.Size], theirs: Mapping[str, torch.Size], source: str) -> LoadedWeights:
    """Decides for every parameter of both networks whether it is loaded, new or skipped.

    Args:
        ours: name -> shape in ETHD's state dict.
        theirs: name -> shape in SVD's state dict.
        source: Name of SVD's file, for messages.

    Raises:
        WrongWeights: If SVD lacks an expected parameter, has an unexpected one, or has one of another shape.
    """
    loaded, new, skipped = {}, {}, {}
    for name, shape in ours.items():
        if is_new(name):
            new[name] = shape.numel()
        elif name not in theirs:
            raise WrongWeights(f"{source}: no parameter {name}; expected Stable Video Diffusion's U-Net of this shape")
        elif theirs[name] != shape:
            raise WrongWeights(
                f"{source}: {name} has shape {tuple(theirs[name])}, expected {tuple(shape)}; configure a network with "
                "the widths and latent channels of this checkpoint"
            )
        else:
            loaded[name] = shape.numel()
    for name, shape in theirs.items():
        if name in loaded:
            continue
        # If an ablation removes a branch, its queries and their norm are skipped too.
        if not IMAGE_ATTENTION.search(name):
            raise WrongWeights(f"{source}: unexpected parameter {name}; expected Stable Video Diffusion's U-Net")
        skipped[name] = shape.numel()
    return LoadedWeights(loaded, new, skipped)


def load_svd(unet: UNet, folder: Path) -> LoadedWeights:
    """Loads SVD's weights into a U-Net.

    Args:
        unet: Network to initialise; keeps its type and device.
        folder: ``unet/`` folder of a diffusers download, with config.json and a safetensors file.

    Raises:
        WrongWeights: If the folder is missing or contains another network. The U-Net is then unchanged.
    """
    path = weight_file(folder)
    parameters = unet.state_dict()
    try:
        opened = safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise WrongWeights(f"{path}: cannot be read as safetensors ({error}); fetch it again") from error
    with opened as file:
        theirs = {name: torch.Size(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        matched = match_keys({name: value.shape for name, value in parameters.items()}, theirs, str(path))
        for name in matched.loaded:  # one at a time, so that memory never holds a second copy of the network
            parameters[name].copy_(file.get_tensor(name))
    return matched


def weight_file(folder: Path) -> Path:
    """Path of the safetensors file in a U-Net folder of diffusers' format.

    Raises:
        WrongWeights: If there is none, or config.json names another network.
    """
    advice = f"give the unet/ folder of a Stable Video Diffusion download, with config.json and {WEIGHT_FILES[0]}"
    if not folder.is_dir():
        raise WrongWeights(f"{folder}: no such folder; {advice}")
    config = folder / "config.json"
    if not config.is_file():
        inside = " (there is a unet/ inside)" if (folder / "unet" / "config.json").is_file() else ""
        raise WrongWeights(f"{folder}: no config.json{inside}; {advice}")
    try:
        name = parse_json(config.read_bytes()).get("_class_name")
    except (ValueError, AttributeError) as error:
        raise WrongWeights(f"{config}: not a model's configuration ({error}); {advice}") from error
    if name != CLASS:
        raise WrongWeights(f"{config}: describes {name}, expected {CLASS}; {advice}")
    found = [folder / file for file in WEIGHT_FILES if (folder / file).is_file()]
    if not found:
        raise WrongWeights(f"{folder}: no {' or '.join(WEIGHT_FILES)}; {advice}")
    return found[0]


def _by_group(sizes: Mapping[str, int]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for name, size in sizes.items():
        counts[next(group for pattern, group in GROUPS if pattern.search(name))] += size
    return counts
