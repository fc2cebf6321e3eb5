"""Stable Video Diffusion's U-Net weights into ETHD's, with every parameter of both accounted for.

SVD's cross-attentions look at one CLIP token, so their output is one vector; ETHD puts its own attentions there. Of
those, queries and output biases are SVD's, keys and values are new, and output projections start at zero: at step 0 the
network is SVD with its image embedding zeroed, SVD's own unconditional mode.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from encoders.weight_files import WrongWeights
from lightning_modules.ethd.unet import UNet

CLASS = "UNetSpatioTemporalConditionModel"
WEIGHT_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors")
# What looks at SVD's image embedding, writes what it saw, and normalises its queries.
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
    """What became of every parameter.

    Attributes:
        loaded: name -> number of values taken from SVD.
        new: name -> number of values that SVD does not have or that start afresh.
        skipped: name -> number of values of SVD that have no place.
    """

    loaded: dict[str, int]
    new: dict[str, int]
    skipped: dict[str, int]

    @property
    def source_parameters(self) -> int:
        """Number of SVD's parameters: those loaded and those skipped."""
        return sum(self.loaded.values()) + sum(self.skipped.values())

    def table(self) -> str:
        """A table for people: parameters by group and fate, with totals."""
        rows = [f"{'':50s}{'loaded':>15s}{'new':>15s}{'skipped':>15s}"]
        counts = [_by_group(fate) for fate in (self.loaded, self.new, self.skipped)]
        for _, group in GROUPS:
            rows.append(f"{group:50s}" + "".join(f"{count[group]:15,d}" for count in counts))
        rows.append(f"{'total':50s}" + "".join(f"{count.total():15,d}" for count in counts))
        return "\n".join(rows)


def match_keys(ours: Mapping[str, torch.Size], theirs: Mapping[str, torch.Size], source: str) -> LoadedWeights:
    """Decides for every parameter of both networks whether it is loaded, new or skipped.

    Args:
        ours: name -> shape of this network's state dict.
        theirs: the same of SVD's.
        source: where ``theirs`` comes from, for messages.

    Raises:
        WrongWeights: if SVD lacks a parameter that it should have, has one that nothing accounts for, or has one of
            another shape.
    """
    loaded, new, skipped = {}, {}, {}
    for name, shape in ours.items():
        if REPLACED.search(name) or ".injector." in name:
            new[name] = shape.numel()
        elif name not in theirs:
            raise WrongWeights(f"{source}: no parameter {name}; expected Stable Video Diffusion's U-Net of this shape")
        elif theirs[name] != shape:
            raise WrongWeights(
                f"{source}: {name} is {tuple(theirs[name])}, expected {tuple(shape)}; only a network of the "
                "checkpoint's own widths and latent channels can start from it"
            )
        else:
            loaded[name] = shape.numel()
    for name, shape in theirs.items():
        if name in loaded:
            continue
        # An ablated branch leaves its queries and their norm without a place too.
        if not IMAGE_ATTENTION.search(name):
            raise WrongWeights(f"{source}: parameter {name} has no place here; expected Stable Video Diffusion's U-Net")
        skipped[name] = shape.numel()
    return LoadedWeights(loaded, new, skipped)


def load_svd(unet: UNet, folder: Path, report: Callable[[str], None] = print) -> LoadedWeights:
    """Copies SVD's U-Net into ours and reports a table of what was loaded, new and skipped.

    Args:
        unet: receives the weights in its own dtype and on its own device.
        folder: ``unet/`` of a diffusers download, with config.json and a safetensors file.
        report: is given the table.

    Raises:
        WrongWeights: if the folder is missing or holds something else; the network is then unchanged.
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
        for name in matched.loaded:  # one by one: never two copies of the network
            parameters[name].copy_(file.get_tensor(name))
    report(f"{path}\n{matched.table()}")
    return matched


def weight_file(folder: Path) -> Path:
    """The safetensors file of a U-Net folder in diffusers' format.

    Raises:
        WrongWeights: if there is none, or the folder's config.json names another network.
    """
    advice = f"give the unet/ folder of a Stable Video Diffusion download, with config.json and {WEIGHT_FILES[0]}"
    if not folder.is_dir():
        raise WrongWeights(f"{folder}: no such folder; {advice}")
    config = folder / "config.json"
    if not config.is_file():
        inside = " (there is a unet/ inside)" if (folder / "unet" / "config.json").is_file() else ""
        raise WrongWeights(f"{folder}: no config.json{inside}; {advice}")
    try:
        name = json.loads(config.read_text()).get("_class_name")
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise WrongWeights(f"{config}: not a model's configuration ({error}); {advice}") from error
    if name != CLASS:
        raise WrongWeights(f"{config}: is of {name}, expected {CLASS}; {advice}")
    found = [folder / file for file in WEIGHT_FILES if (folder / file).is_file()]
    if not found:
        raise WrongWeights(f"{folder}: no {' or '.join(WEIGHT_FILES)}; {advice}")
    return found[0]


def _by_group(sizes: Mapping[str, int]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for name, size in sizes.items():
        counts[next(group for pattern, group in GROUPS if pattern.search(name))] += size
    return counts
