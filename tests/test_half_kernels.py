"""Kernels of bfloat16 against the formulas in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avatar.backbone import half_kernels
from avatar.backbone.half_kernels import bits
from avatar.backbone.linear import RUN, gelu

BF16 = torch.bfloat16
# A rounding to bfloat16 is at most 2^-8 of the number; powers of two add 1e-4, also in the sum.
ROUNDED = 2**-8 + 3e-4


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def weigh(scores: Tensor, scale: float) -> Tensor:
    parts, sums = scores.clone(), torch.empty(len(scores))
    half_kernels.softmax_parts(bits(parts), scale, sums.numpy())
    return parts.double() / sums[:, None].double()


def test_softmax_of_scores_of_any_size_and_sign() -> None:
    scores = (torch.tensor([[1.0], [30.0], [300.0]]) * randn(3, 1000) - 20).to(BF16)
    for rows in (scores, -scores.abs(), scores.abs()):
        expected = (0.25 * rows.double()).softmax(-1)
        torch.testing.assert_close(weigh(rows, 0.25), expected, rtol=ROUNDED, atol=1e-30)


def test_a_key_that_is_out_of_bounds_gets_nothing_and_nan_is_not_hidden() -> None:
    scores = randn(2, 100).to(BF16)
    scores[0, 3] = -torch.inf
    assert weigh(scores, 1.0)[0, 3] < 1e-30
    for bad in (torch.nan, -torch.nan, torch.inf):
        scores[0, 3] = bad
        found = weigh(scores, 1.0)
        assert found[0].isnan().all() and found[1].isfinite().all()


@pytest.mark.parametrize("threads", [1, 2])
def test_gelu_and_its_gradient(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    joined = (3 * randn(3, RUN // 4, 5)).to(BF16)
    joined[0, 0, :4] = torch.tensor([0.0, 30.0, -30.0, 1e4])
    x = joined[..., :3].requires_grad_()  # a part of a wider layer's result
    exact = x.detach().double().requires_grad_()
    grad = randn(*x.shape, seed=1).to(BF16)
    expected, found = F.gelu(exact, approximate="tanh"), gelu(x)
    torch.testing.assert_close(found.double(), expected, rtol=ROUNDED, atol=1e-5)
    (slope,), (found_slope,) = (
        torch.autograd.grad(y, z, g) for y, z, g in ((expected, exact, grad.double()), (found, x, grad))
    )
    torch.testing.assert_close(found_slope.double(), slope, rtol=ROUNDED, atol=1e-3)
    torch.set_num_threads(before)


def test_gelu_in_bfloat16_has_no_second_gradient_in_silence() -> None:
    x, weight = (randn(8, seed=i).to(BF16).requires_grad_() for i in range(2))
    (slope,) = torch.autograd.grad((weight * gelu(x)).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
