"""Work shared out among threads is what one thread does."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from avatar.backbone import rows
from avatar.backbone.attention import rope_3d
from avatar.backbone.norm_rope import norm_rope
from avatar.backbone.threads import share


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_each_item_once_with_kernels_of_one_thread() -> None:
    seen: list[tuple[int, int, bool]] = []
    with torch.no_grad():
        share(lambda i: seen.append((i, torch.get_num_threads(), torch.is_grad_enabled())), range(20))
    assert sorted(seen) == [(i, 1, False) for i in range(20)]
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_an_error_of_a_thread_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        share(lambda i: 1 // i and None, range(3))


def heads(seed: int) -> Tensor:
    return torch.randn(1, 300, 2, 16, generator=torch.Generator().manual_seed(seed)).to(torch.bfloat16)


def test_attention_and_norms_are_those_of_one_thread() -> None:
    rotation = rope_3d((3, 10, 10), (4, 6, 6), 256.0)
    found = []
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        with torch.inference_mode():
            normed = norm_rope([(heads(0), torch.ones(16), rotation)])
        q, k, v = (heads(i).requires_grad_() for i in range(3))
        out = rows.row_attention(q, k, v)
        found.append([normed, out, *torch.autograd.grad(out.float().square().sum(), (q, k, v))])
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
