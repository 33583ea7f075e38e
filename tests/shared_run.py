"""What every process of tests/test_parallel.py runs: shared results beside those of one process."""

import sys
from pathlib import Path

import torch
from torch.distributed import destroy_process_group
from torch.distributed.device_mesh import init_device_mesh

from avatar.backbone.causal import Kernel
from avatar.backbone.dit import DiT, DiTConfig
from avatar.backbone.parallel import share_tiles, share_tokens
from avatar.backbone.tiling import Tiling
from avatar.backbone.vae import CausalVAE
from avatar.backbone.vae_nets import VAEConfig

FULL: Kernel = (3, 3, 3)
DIT = DiTConfig(
    in_channels=4,
    out_channels=4,
    hidden=64,
    heads=4,
    double_blocks=2,
    single_blocks=2,
    rope_channels=(4, 6, 6),
    text_dim=12,
    pooled_dim=6,
    guidance_embed=True,
    clean_first_frame=True,
)
VAE = VAEConfig(widths=(32, 32, 32, 32), kernels=((FULL, FULL),) * 4, layers_per_block=1)


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def main(processes: int) -> None:
    """Fail unless shared and single results agree."""
    mesh = init_device_mesh("cpu", (processes,))
    torch.manual_seed(0)
    net = DiT(DIT).eval().requires_grad_(False)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[1, 4:] = False
    given = {
        "text": torch.randn(2, 7, 12),
        "text_mask": mask,
        "pooled": torch.randn(2, 6),
        "guidance": torch.tensor([6.0, 2.0]),
    }
    x, time = torch.randn(2, 4, 3, 6, 10), torch.tensor([300.0, 900.0])  # 45 tokens: no multiple of 2 or 4
    expected = net(x, time, **given)
    share_tokens(net, mesh)
    assert error(net(x, time, **given), expected) < 1e-4
    vae = CausalVAE(VAE, Tiling(size=32, stride=24, frames=8, frame_stride=4)).eval().requires_grad_(False)
    z = torch.randn(1, 16, 3, 6, 7)  # tiles at the border are smaller
    whole = vae.decode_tiled(z)
    share_tiles(vae, mesh)
    assert error(vae.decode_tiled(z), whole) < 1e-4


if __name__ == "__main__":
    main(int(sys.argv[1]))
    destroy_process_group()  # mesh and nets are gone: this ends the group's threads
    assert "gloo" not in "".join(name.read_text() for name in Path("/proc/self/task").glob("*/comm"))
