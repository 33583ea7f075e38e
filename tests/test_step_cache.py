"""Steps are skipped where the first block says that little changed, and what is skipped is the known rest."""

import pytest
import torch
from torch import Tensor

from avatar.backbone.dit import DiT, DiTConfig
from avatar.backbone.step_cache import StepCache

CONFIG = DiTConfig(
    in_channels=4,
    out_channels=4,
    hidden=32,
    heads=2,
    double_blocks=2,
    single_blocks=2,
    rope_channels=(4, 6, 6),
    text_dim=8,
)


def test_rest_is_added_again_until_the_first_block_changes() -> None:
    cache = StepCache(0.1, most=2)
    start, ones = torch.zeros(1, 2, 3), torch.ones(1, 2, 3)

    def rest(tokens: Tensor, text: Tensor | None) -> Tensor:
        return tokens + 10

    assert torch.equal(cache(start, ones, None, rest), 11 * ones)
    assert torch.allclose(cache(start, 1.05 * ones, None, rest), 11.05 * ones)
    assert (cache.whole, cache.skips) == (1, 1)
    cache(start, 1.2 * ones, None, rest)  # 20 % more
    assert (cache.whole, cache.skips) == (2, 1)
    for _ in range(3):  # two may be skipped in a row
        cache(start, 1.2 * ones, None, rest)
    assert (cache.whole, cache.skips) == (3, 3)
    cache.branch = "negative"
    cache(start, 1.2 * ones, None, rest)
    assert cache.whole == 4
    cache.clear()
    cache(start, 1.2 * ones, None, rest)
    assert cache.whole == 5


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_net_with_a_cache(threshold: float) -> None:
    torch.manual_seed(0)
    net = DiT(CONFIG).eval().requires_grad_(False)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x, text = torch.randn(1, 4, 2, 4, 4), torch.randn(1, 3, 8)
    times = [torch.tensor([500.0]), torch.tensor([500.2])]
    expected = [net(x, time, text=text) for time in times]
    net.cache = StepCache(threshold)
    found = [net(x, time, text=text) for time in times]
    assert torch.allclose(found[0], expected[0], atol=1e-5)
    assert (net.cache.skips == 1) == (threshold > 0)
    apart = (found[1] - expected[1]).norm() / expected[1].norm()
    assert (apart < 1e-5) == (threshold == 0)
    assert apart < 0.1
