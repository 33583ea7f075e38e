"""Nets whose weights stay in the file give the same, and a step under a limit runs."""

from dataclasses import replace
from pathlib import Path

import torch

from avatar import weights
from avatar.backbone import checkpoint
from avatar.backbone.dit import DiT, DiTConfig
from avatar.backbone.offload import Offload

CONFIG = DiTConfig(
    in_channels=4,
    out_channels=4,
    hidden=32,
    heads=2,
    double_blocks=2,
    single_blocks=2,
    rope_channels=(4, 6, 6),
)


def saved(path: Path, config: DiTConfig = CONFIG) -> DiT:
    torch.manual_seed(0)
    net = DiT(config).eval().requires_grad_(False)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    checkpoint.save(net, path, dtype=None)
    return net


def test_same_result_and_weights_stay_mapped(tmp_path: Path) -> None:
    expected = saved(tmp_path / "net.safetensors")
    net = weights.load(tmp_path / "net.safetensors").module().requires_grad_(False)
    places = [p.data_ptr() for p in net.parameters()]
    offload = Offload(net)
    x, time = torch.randn(1, 4, 3, 4, 6), torch.tensor([500.0])
    for _ in range(2):  # the second comes after the system was told that the weights are not needed
        assert torch.allclose(net(x, time), expected(x, time), rtol=1e-4, atol=1e-4)
    assert [p.data_ptr() for p in net.parameters()] == places
    offload.remove()
    assert not any(block._forward_pre_hooks for block in offload.blocks)


def test_file_larger_than_what_is_touched_costs_no_memory(tmp_path: Path) -> None:
    """13 MB of weights; nothing but pages of the file may appear."""
    saved(tmp_path / "net.safetensors", replace(CONFIG, hidden=256, rope_channels=(32, 48, 48)))
    net = weights.load(tmp_path / "net.safetensors").module().requires_grad_(False)
    Offload(net)
    x, time = torch.randn(1, 4, 1, 4, 4), torch.tensor([500.0])
    net(x, time)
    before = anonymous()
    net(x, time)
    assert anonymous() - before < 2e6


def anonymous() -> int:
    """Bytes of this process that no file stands behind (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
