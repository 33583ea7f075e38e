"""How frames look to CLIP (Radford et al. 2021), for the soundtrack's larger nets: a vector for four frames.

Shape legend: T frames of S px, t = (T - 1) / 4 + 1 vectors of K numbers, one for a latent frame of the VAE.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatar.drivers.prompt_encoders import clip_pixels, import_transformers, load_model
from avatar.drivers.sight import GROUP


class CLIPEyes:
    """CLIP's image encoder with its projection; it looks at the last frame of every four.

    Args:
        folder: as transformers writes it; nothing is ever downloaded.

    Raises:
        UserError: transformers is not installed, or the folder does not hold CLIP.
    """

    side = 256

    def __init__(self, folder: Path, device: torch.device) -> None:
        import_transformers()
        from transformers import CLIPVisionModelWithProjection

        kind = CLIPVisionModelWithProjection
        self.net = load_model(kind, folder, torch.float32, "clip", "clip_vision_model").to(device)
        self.device = device

    def __call__(self, pieces: Iterator[NDArray[np.uint8]]) -> Tensor:
        """(t, K) of frames in pieces (any, S, S, 3), 4n + 1 in all."""
        seen, found, size = 0, [], self.net.config.image_size
        for frames in pieces:
            for frame in frames[-seen % GROUP :: GROUP]:
                pixels = clip_pixels(frame, size, squash=True).to(self.device)
                found.append(self.net(pixel_values=pixels).image_embeds.cpu())
            seen += len(frames)
        return torch.cat(found)
