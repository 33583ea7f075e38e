"""Errors of 8-bit weights on a tiny net, and what they save."""

import subprocess
import sys

import pytest
import torch

from avatar.backbone.dit import DiT, DiTConfig
from avatar.backbone.quantise import Weights, quantise

pytest.importorskip("torchao")

CONFIG = DiTConfig(
    in_channels=4,
    out_channels=4,
    hidden=128,
    heads=2,
    double_blocks=2,
    single_blocks=2,
    rope_channels=(16, 24, 24),
    text_dim=12,
)


@pytest.mark.parametrize(
    ("weights", "least", "most"),
    # Rounding: int8 steps are max / 127, about 0.6 % of a normal row; fp8 has 3 bits, about 2.6 %.
    [("int8", 1e-4, 0.02), ("fp8", 1e-3, 0.06)],
)
def test_error_of_small_weights(weights: Weights, least: float, most: float) -> None:
    torch.manual_seed(0)
    net = DiT(CONFIG).eval().requires_grad_(False)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    x, time, text = torch.randn(1, 4, 2, 8, 8), torch.tensor([500.0]), torch.randn(1, 5, 12)
    expected = net(x, time, text=text)
    quantise(net, weights)
    found = net(x, time, text=text)
    assert least < ((found - expected).norm() / expected.norm()).item() < most
    block = net.double_blocks[0]
    assert type(block.img_attn_qkv.weight) is not torch.nn.Parameter
    assert type(block.img_mod.linear.weight) is torch.nn.Parameter
    assert type(net.final_layer.linear.weight) is torch.nn.Parameter


def test_import_is_quiet_and_loud_again() -> None:
    """In a process of its own, since torchao is imported once only."""
    program = (
        "import logging, torch, avatar.backbone.quantise as q\n"
        "names = ('double_blocks', 'single_blocks')\n"
        "net = torch.nn.ModuleDict({name: torch.nn.Linear(8, 8) for name in names})\n"
        "q.quantise(net, 'int8')\n"
        "logging.getLogger('torchao').warning('later')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.split() == ["later"]
