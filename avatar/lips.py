"""Lips that are shut stay shut in what the decoder makes of them.

The decoder shifts whole cells of 4 px. Where the reference shows its teeth and the driven lips are closed, a
shift fetches teeth from between the lips, the more the further a head is pitched from the reference's. There
and along the seam, of which the decoder makes little, the driven reference is shown instead, which knows
where lips meet. A mouth that is open in the driven reference is left as it is. Shapes: T frames, s side of
the nets' window in pixels.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from avatar.backbone.decode import Decoded, warp

# Share of the reference's inner mouth that the driven one shows: up to the first it is shut, from the second
# on it is open.
SHUT, OPEN = 0.1, 0.3
LEAK = 4.0  # a pixel that takes a quarter of its colour from between the lips is replaced as a whole
RIM = 2  # px around what is surely between the lips in which teeth may still show
BAND = 4.0  # a pixel on which a quarter of the seam's shadow lies is replaced as a whole


def keep_shut(decoded: Decoded, driven: Tensor, prior: Tensor, hole: Tensor, inside: Tensor) -> Decoded:
    """What was decoded, the driven reference in its place where closed lips leak.

    Args:
        driven: the picture of the driven reference, (T, 3, s, s) in [-1, 1].
        prior: its flow, (T, 2, s, s).
        hole: what it paints of the mouth, (T, s, s).
        inside: 1 between the reference's lips, (1, 1, s, s).
    """
    whole = inside.sum()
    if whole == 0:
        return decoded
    between = inside.expand(len(prior), -1, -1, -1)
    open_share = (warp(between, prior)[:, 0] + hole).sum((1, 2)) / whole
    shut = ((OPEN - open_share) / (OPEN - SHUT)).clamp(0, 1)[:, None, None, None]
    near = F.max_pool2d(between, 2 * RIM + 1, 1, RIM)
    leak = warp(near, decoded.flow.float()) - warp(near, prior)
    return _replaced(decoded, driven, shut * (LEAK * leak).clamp(0, 1))


def show_seam(decoded: Decoded, driven: Tensor, seam: Tensor) -> Decoded:
    """What was decoded, the driven reference in its place along its seam.

    Args:
        driven: as in `keep_shut`.
        seam: as in `avatar.drivers.warp.Driven`, (T, s, s).
    """
    return _replaced(decoded, driven, (BAND * seam[:, None]).clamp(0, 1))


def _replaced(decoded: Decoded, driven: Tensor, share: Tensor) -> Decoded:
    return decoded._replace(
        image=decoded.image + share * (driven - decoded.image),
        rgb=decoded.rgb + share * (driven - decoded.rgb),
        mask=decoded.mask * (1 - share),
    )
