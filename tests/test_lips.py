"""Teeth that a shifted flow fetches from between closed lips, and the seam in their place."""

from __future__ import annotations

import torch

from avatar.backbone.decode import Decoded, warp
from avatar.lips import RIM, keep_shut, show_seam

SIDE = 32
TEETH = slice(12, 20)  # rows of the reference in which its open mouth shows teeth


def scene(open_rows: int) -> tuple[Decoded, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A mouth of which the driven reference shows so many rows, decoded by a flow that fetches two rows more.

    Everything from the mouth's upper rim on comes from as far down as the mouth is narrower than it was, and
    as the teeth's edge is wide.
    """
    picture = torch.zeros(1, 3, SIDE, SIDE)
    inside = torch.zeros(1, 1, SIDE, SIDE)
    inside[..., TEETH, 8:24] = 1
    picture[..., TEETH, 8:24] = 1
    prior = torch.zeros(1, 2, SIDE, SIDE)
    rim = TEETH.start + open_rows
    prior[:, 1, rim:] = TEETH.stop + RIM - rim
    flow = prior.clone()
    flow[:, 1, rim:] -= RIM + 2
    image = warp(picture, flow)
    return Decoded(image, flow, torch.ones_like(inside), image, 0 * image), picture, prior, inside


def test_closed_lips_show_no_teeth_and_an_open_mouth_is_as_it_was() -> None:
    decoded, picture, prior, inside = scene(open_rows=0)
    driven, hole = warp(picture, prior), torch.zeros(1, SIDE, SIDE)
    assert decoded.image.max() > 0.9 and driven.max() < 0.1
    kept = keep_shut(decoded, driven, prior, hole, inside)
    assert kept.image.max() < 0.1 and (kept.mask[decoded.image[:, :1] > 0.9] == 0).all()
    assert torch.equal(kept.flow, decoded.flow)

    decoded, picture, prior, inside = scene(open_rows=4)
    kept = keep_shut(decoded, warp(picture, prior), prior, hole, inside)
    assert all(torch.equal(new, old) for new, old in zip(kept, decoded, strict=True))


def test_a_reference_without_an_open_mouth_changes_nothing() -> None:
    decoded, picture, prior, inside = scene(open_rows=0)
    assert keep_shut(decoded, picture, prior, torch.zeros(1, SIDE, SIDE), 0 * inside) is decoded


def test_the_driven_reference_is_shown_along_its_seam_alone() -> None:
    decoded, picture, _, _ = scene(open_rows=0)
    seam = torch.zeros(1, SIDE, SIDE)
    seam[:, 12], seam[:, 13] = 0.25, 0.05
    driven = picture - 0.5
    shown = show_seam(decoded, driven, seam)
    assert torch.equal(shown.image[..., 12, :], driven[..., 12, :]) and (shown.mask[..., 12, :] == 0).all()
    # BAND of 0.05 is a fifth.
    torch.testing.assert_close(shown.mask[..., 13, :], torch.full((1, 1, SIDE), 0.8))
    assert torch.equal(shown.image[..., 14:, :], decoded.image[..., 14:, :])
    assert torch.equal(shown.flow, decoded.flow)
