"""The expression adapter: its tokens, its places after every K-th block, the mask and strengths over time."""

import pytest
import torch
from torch import Tensor

from avatar.adapters.expression import TOKENS, ExpressionAdapter, ExpressionAdapterConfig
from avatar.presets import HUNYUAN, MINI

GRID = (3, 2, 4)


def adapter(every: int = 2) -> ExpressionAdapter:
    """An adapter that has something to say after every chosen block."""
    torch.manual_seed(0)
    config = ExpressionAdapterConfig(
        code=6, width=8, hidden=16, heads=2, every=every, double_blocks=4, single_blocks=5
    )
    net = ExpressionAdapter(config)
    for layers in (net.double_layers, net.single_layers):
        for layer in layers.values():
            torch.nn.init.normal_(layer.proj.weight)
    return net


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


CODES, FACE, X = randn(2, 3, 4, 6), torch.ones(1, 1, 1, 2, 4), randn(2, 24, 16, seed=1)


@torch.no_grad()
def test_a_latent_frame_has_sixteen_tokens_of_its_four_codes() -> None:
    net = adapter()
    tokens = net.tokens(CODES)
    assert tokens.shape == (2, 3, TOKENS, 8) and TOKENS == 16
    for frame in range(4):
        other = CODES.clone()
        other[0, 1, frame] += 1
        changed = (net.tokens(other) - tokens).abs().amax((2, 3)) > 1e-4
        assert changed.tolist() == [[False, True, False], [False, False, False]]


@pytest.mark.parametrize(
    ("every", "double", "single"), [(1, "0123", "01234"), (2, "13", "13"), (3, "2", "2")]
)
def test_it_follows_every_kth_block(every: int, double: str, single: str) -> None:
    net = adapter(every)
    assert [*net.double_layers] == [*double] and [*net.single_layers] == [*single]
    bound = net.bind(CODES, FACE)
    for index in range(5):
        assert torch.equal(bound.after_single(index, X, GRID), X) == (str(index) not in single)


@torch.no_grad()
def test_the_mask_and_the_strength_of_each_frame_scale_what_it_says() -> None:
    net = adapter()
    face = torch.zeros(1, 1, 1, 2, 4)
    face[..., :2], face[..., 2] = 1, 0.5
    full = net.bind(CODES, FACE).after_double(1, X, GRID) - X
    scale = torch.tensor([[0.0, 1.0, 2.0]])
    told = net.bind(CODES, face, scale).after_double(1, X, GRID) - X
    expected = full.reshape(2, *GRID, 16) * face.reshape(1, 1, 2, 4, 1) * scale.reshape(1, 3, 1, 1, 1)
    assert torch.allclose(told, expected.reshape(told.shape), atol=1e-5)


def test_presets_have_it_after_the_blocks_of_their_dit() -> None:
    for preset in (MINI, HUNYUAN):
        sizes = preset.dit.double_blocks, preset.dit.single_blocks, preset.dit.hidden, preset.dit.heads
        own = preset.expression
        assert (own.double_blocks, own.single_blocks, own.hidden, own.heads) == sizes
