"""Attention and layers made for bfloat16 on a CPU against the plain ones."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avatar.backbone import attention as module
from avatar.backbone.attention import apply_rope, attention, rms_norm, rope_3d
from avatar.backbone.embed import MLP, without_padding
from avatar.backbone.linear import bare
from avatar.backbone.norm_rope import norm_rope
from avatar.backbone.rows import LEAST, ROWS, row_attention

BF16 = torch.bfloat16


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def error(found: Tensor, expected: Tensor) -> float:
    return ((found.float() - expected.float()).norm() / expected.float().norm()).item()


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)


@pytest.mark.parametrize("queries", [ROWS - 1, ROWS + 70])
def test_attention_by_rows_and_its_gradients(queries: int) -> None:
    """Rounding errors are those of bfloat16, 2^-9 = 0.2 % a number; the plain formula stays in float32."""
    shapes = ((2, queries, 2, 16), (2, 70, 2, 16), (2, 70, 2, 16))
    exact = [randn(*shape, seed=i).to(BF16).float().requires_grad_() for i, shape in enumerate(shapes)]
    rounded = [x.detach().to(BF16).requires_grad_() for x in exact]
    expected, found = plain(*exact), row_attention(*rounded)
    assert error(found, expected) < 0.01
    weight = randn(*expected.shape, seed=3).to(BF16)
    for a, b in zip(
        torch.autograd.grad(found, rounded, weight),
        torch.autograd.grad(expected, exact, weight.float()),
        strict=True,
    ):
        assert error(a, b) < 0.015


def test_attention_of_a_block_that_is_computed_again_is_computed_once() -> None:
    q, k, v = (randn(1, LEAST, 1, 16, seed=i).to(BF16).requires_grad_() for i in range(3))
    if module.kernel(q, k) != "rows":
        pytest.skip("rows are for CPUs with bfloat16")
    attend = module.KeptAttention()
    first = attend(q, k, v)
    second = attend(q, k, v)
    assert second.data_ptr() == first.data_ptr()
    for a, b in zip(*(torch.autograd.grad(x.sum(), (q, k, v)) for x in (first, second)), strict=True):
        assert torch.equal(a, b)


def test_kernel_is_chosen_by_type_length_and_mask() -> None:
    long, short = randn(1, 1024, 1, 8), randn(1, 64, 1, 8)
    assert module.kernel(long, long) == "sdpa"
    assert module.kernel(short.to(BF16), short.to(BF16)) == "sdpa"
    assert module.kernel(long.to(BF16), long.to(BF16), torch.ones(1, 1, 1, 1024).bool()) == "sdpa"
    by_rows = torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported()
    assert module.kernel(long.to(BF16), long.to(BF16)) == ("rows" if by_rows else "sdpa")


def test_few_pairs_are_trained_with_products_that_have_the_gradients_of_the_plain_formula() -> None:
    shapes = ((2, 40, 2, 16), (2, 9, 2, 16), (2, 9, 2, 16))
    q, k, v = (randn(*shape, seed=i).requires_grad_() for i, shape in enumerate(shapes))
    assert module.kernel(q, k) == "products" and module.kernel(q.detach(), k.detach()) == "sdpa"
    assert module.kernel(randn(1, 520, 1, 8).requires_grad_(), randn(1, 520, 1, 8)) == "sdpa"
    found, expected = attention(q, k, v), plain(q, k, v).flatten(2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    weight = randn(*found.shape, seed=3)
    pairs = zip(*(torch.autograd.grad(x, (q, k, v), weight) for x in (found, expected)), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_lengths_equal_a_mask_of_padding() -> None:
    q, k, v = (randn(2, 7, 2, 4, seed=i) for i in range(3))
    mask = (torch.arange(7) < torch.tensor([[7], [4]]))[:, None, None]
    assert torch.allclose(attention(q, k, v, lengths=[7, 4]), attention(q, k, v, mask), atol=1e-6)


def test_as_many_tokens_are_kept_as_count_from_the_first_on() -> None:
    text = torch.arange(8.0).view(2, 4, 1)
    mask = torch.tensor([[True, True, False, False], [True, False, False, False]])
    kept, counts = without_padding(text, mask)
    assert kept[:, :, 0].tolist() == [[0, 1], [4, 5]]
    assert counts == [2, 1]
    assert without_padding(text, mask[:1].expand(2, -1))[1] is None
    assert without_padding(text, None)[0] is text


def test_norm_and_rotation_and_their_gradients_are_those_of_the_plain_formula() -> None:
    rotation = rope_3d((3, 10, 12), (4, 6, 6), 256.0)  # more tokens than one run
    x, words = randn(2, 360, 2, 16).requires_grad_(), randn(2, 5, 2, 16, seed=1).requires_grad_()
    weights = [randn(16, seed=i).requires_grad_() for i in (2, 3)]
    expected = torch.cat([apply_rope(rms_norm(x, weights[0]), rotation), rms_norm(words, weights[1])], dim=1)
    found = norm_rope([(x, weights[0], rotation), (words, weights[1], None)])
    assert torch.allclose(found, expected, atol=1e-5)
    inputs, grad = (x, words, *weights), randn(*expected.shape, seed=4)
    for a, b in zip(
        torch.autograd.grad(found, inputs, grad), torch.autograd.grad(expected, inputs, grad), strict=True
    ):
        assert error(a, b) < 1e-5


def test_mlp_in_one_kernel() -> None:
    torch.manual_seed(0)
    net, x = MLP(32, 64).to(BF16), randn(1, 40, 32).to(BF16)
    expected = net(x)  # with gradients: layer by layer
    with torch.no_grad():
        assert bare(net.fc1, x)
        assert error(net(x), expected) < 0.01
        net.fc1.register_forward_hook(lambda *_: torch.zeros(1, 40, 64, dtype=BF16))
        assert not bare(net.fc1, x)
        assert torch.equal(net(x), net.fc2.bias.expand(1, 40, 32))
