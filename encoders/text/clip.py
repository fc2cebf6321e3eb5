"""Frozen CLIP text encoder (Radford et al., 2021): the projected embedding of a text.

Shapes: B texts, D_t = 768 for ViT-L/14.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from encoders.protocols import Identity
from encoders.text.checks import require_fit
from encoders.weights import WrongWeights, model_folder
from runtime.files import sha256_of

PUBLISHED = "openai/clip-vit-large-patch14"
WEIGHT_FILE = "model.safetensors"
TEXTS_AT_ONCE = 64


class CLIPEncoder:
    """``TextEncoder`` of unit-length CLIP embeddings.

    Args:
        model: Repository of the published model, or a folder in transformers' format.
        device: Device of the network; embeddings are returned on the CPU.

    Raises:
        MissingWeights: If the weights are not found and cannot be downloaded.
        WrongWeights: If the files are not the published ones or not a CLIP model.
        ValueError: If ``model`` is neither the published repository nor a folder with a model.
    """

    pretrained = True

    def __init__(self, model: str = PUBLISHED, device: str = "cpu") -> None:
        folder = model_folder(model, "clip-vit-large-patch14", PUBLISHED, "encoders.text.options.model")
        self.tokenizer, self.network = load_network(folder)
        self.network.to(device)
        self.device = torch.device(device)
        self.width = int(self.network.config.projection_dim)
        # Two positions are taken by the start and end tokens.
        self.limit = int(self.network.config.max_position_embeddings) - 2
        self.identity = Identity("clip", weights={WEIGHT_FILE: sha256_of(folder / WEIGHT_FILE)})

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Encodes B texts to (B, D_t) float32 vectors of unit length.

        Raises:
            TextError: If a text has no words or more tokens than the network has positions.
        """
        for text in texts:
            tokens = self.tokenizer(text, add_special_tokens=False)["input_ids"] if text.strip() else []
            require_fit(text, len(tokens), self.limit, "tokens")
        parts = []
        for first in range(0, len(texts), TEXTS_AT_ONCE):
            batch = self.tokenizer(list(texts[first : first + TEXTS_AT_ONCE]), padding=True, return_tensors="pt")
            embedded = self.network(
                input_ids=batch["input_ids"].to(self.device), attention_mask=batch["attention_mask"].to(self.device)
            ).text_embeds
            parts.append(F.normalize(embedded.float(), dim=-1).cpu())
        return torch.cat(parts) if parts else torch.zeros(0, self.width)


def load_network(folder: Path) -> tuple[Any, Any]:
    """Loads the tokenizer and the frozen text encoder of a CLIP model in transformers' format, in float32.

    Raises:
        WrongWeights: If tensors are missing or have other shapes.
    """
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer
    from transformers.utils import logging

    # transformers warns about the unused tensors of the image encoder; missing tensors are checked below.
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        loaded: Any = CLIPTextModelWithProjection.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise WrongWeights(f"{folder}: is not a CLIP model: {str(error).strip()[:300]}") from error
    finally:
        logging.set_verbosity(verbosity)
    network, info = loaded
    if missing := set(info["missing_keys"]):
        raise WrongWeights(
            f"{folder / WEIGHT_FILE}: is not a CLIP model: {len(missing)} tensors are missing, e.g. {min(missing)}"
        )
    return tokenizer, network.eval().requires_grad_(False)
