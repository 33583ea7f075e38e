"""Where given frames stand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from avatar.backbone.image_condition import concat_condition, hold_first, start_from

FIRST, LAST = torch.full((1, 2, 1, 3, 4), 5.0), torch.full((1, 2, 1, 3, 4), 7.0)


def profile(condition: Tensor) -> list[list[float]]:
    """Values of the two latent channels and of the mask over time; all cells are equal."""
    assert torch.equal(condition, condition[..., :1, :1].expand_as(condition))
    return condition[0, 1:, :, 0, 0].tolist()


def test_first_frame_alone() -> None:
    assert profile(concat_condition(FIRST, 4)) == [[5, 0, 0, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize("frames", [2, 4])
def test_first_and_last_frame(frames: int) -> None:
    empty = [0.0] * (frames - 2)
    assert profile(concat_condition(FIRST, frames, LAST)) == [[5, *empty, 7], [1, *empty, 1]]


def test_two_pictures_need_two_frames() -> None:
    with pytest.raises(ValueError, match="need two latent frames"):
        concat_condition(FIRST, 1, LAST)


def test_held_frame_is_seen_and_does_not_move() -> None:
    seen = []

    def velocity(x: Tensor, time: float) -> Tensor:
        seen.append(x)
        return torch.ones_like(x)

    moved = hold_first(velocity, FIRST)(torch.zeros(1, 2, 3, 3, 4), 0.5)
    assert torch.equal(seen[0][:, :, :1], FIRST) and seen[0][:, :, 1:].abs().max() == 0
    assert moved[:, :, 0].abs().max() == 0 and moved[:, :, 1:].min() == 1


def test_share_of_the_picture_in_the_noise() -> None:
    start = start_from(torch.ones(1, 2, 3, 3, 4), FIRST, 0.25, hold=False)
    assert torch.equal(start, torch.full_like(start, 0.75 + 0.25 * 5))
    held = start_from(torch.ones(1, 2, 3, 3, 4), FIRST, 0.25, hold=True)
    assert torch.equal(held[:, :, :1], FIRST) and torch.equal(held[:, :, 1:], start[:, :, 1:])
