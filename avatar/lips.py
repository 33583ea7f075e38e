"""Lips that are shut stay shut in what the decoder makes of them.

The decoder shifts whole cells of 4 px. Where the reference shows its teeth and the driven lips are closed, a
shift fetches teeth from between the lips, the more the further a head is pitched from the reference's. There
the driven reference, which knows the line of the lips, is shown instead. A mouth that is open in the driven
reference is left as it is. Shapes: T frames, s side of the nets' window in pixels.
"""

from __future__ import annotations

from torch import Tensor

from avatar.backbone.decode import Decoded, warp

# Share of the reference's inner mouth that the driven one shows: up to the first it is shut, from the second
# on it is open.
SHUT, OPEN = 0.1, 0.3
LEAK = 4.0  # a pixel that takes a quarter of its colour from between the lips is replaced as a whole


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
    shown = warp(between, prior)
    open_share = (shown[:, 0] + hole).sum((1, 2)) / whole
    shut = ((OPEN - open_share) / (OPEN - SHUT)).clamp(0, 1)[:, None, None, None]
    leak = shut * (LEAK * (warp(between, decoded.flow.float()) - shown)).clamp(0, 1)
    return decoded._replace(
        image=decoded.image + leak * (driven - decoded.image),
        rgb=decoded.rgb + leak * (driven - decoded.rgb),
        mask=decoded.mask * (1 - leak),
    )
