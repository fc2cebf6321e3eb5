"""CLIP's text encoder (Radford et al. 2021), frozen: the projected embedding of a text.

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
        model: repository of a known model, or a folder in transformers' format.
        device: where the network runs; the embeddings come back on the CPU.

    Raises:
        MissingWeights: when the weights are nowhere and cannot be fetched.
        WrongWeights: when they are not what they should be.
        ValueError: when ``model`` is neither a known repository nor a folder with a model in it.
    """

    pretrained = True

    def __init__(self, model: str = PUBLISHED, device: str = "cpu") -> None:
        folder = model_folder(model, "clip-vit-large-patch14", PUBLISHED, "encoders.text.options.model")
        self.tokenizer, self.network = load_network(folder)
        self.network.to(device)
        self.device = torch.device(device)
        self.width = int(self.network.config.projection_dim)
        # A start and an end stand around every text.
        self.limit = int(self.network.config.max_position_embeddings) - 2
        self.identity = Identity("clip", weights={WEIGHT_FILE: sha256_of(folder / WEIGHT_FILE)})

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(B, D_t) float32 of unit length.

        Raises:
            TextError: for a text without words or with more tokens than the network has places for.
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
    """The tokenizer and the frozen text half of a CLIP model in transformers' format, in float32.

    Raises:
        WrongWeights: when tensors are missing or do not fit.
    """
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer
    from transformers.utils import logging

    # transformers lists the tensors of the image half, which is not used; what matters is checked below.
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
