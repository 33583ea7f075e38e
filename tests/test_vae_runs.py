"""The decoder by runs of frames against the decoder layer by layer."""

import pytest
import torch

from avatar.backbone import vae_runs
from avatar.backbone.causal import Kernel
from avatar.backbone.vae import CausalVAE
from avatar.backbone.vae_nets import VAEConfig
from avatar.presets import MINI

FULL: Kernel = (3, 3, 3)


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("frames", [1, 2, 4, 5])
@pytest.mark.parametrize("widths", [(32, 32, 64, 64), (32, 96, 96, 128)])
def test_decode_by_runs(widths: tuple[int, ...], frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Widths from 96 on take the way of fewer products; runs of two frames begin and end everywhere."""
    monkeypatch.setattr(vae_runs, "LEAST", 1)
    torch.manual_seed(0)
    config = VAEConfig(widths=widths, kernels=((FULL, FULL),) * 4, layers_per_block=1)
    net = CausalVAE(config).eval().requires_grad_(False)
    z = torch.randn(2, 16, frames, 3, 2)
    expected = net.decode(z.clone().requires_grad_()).detach()  # with gradients: layer by layer
    assert error(net.decode(z), expected) < 1e-5
    monkeypatch.setattr(vae_runs, "RUN", 1)
    assert error(net.decode(z), expected) < 1e-5


def test_decode_by_runs_is_the_same_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, on a smooth clip whose small latents the norms enlarge: rounding does not count there."""
    monkeypatch.setattr(vae_runs, "LEAST", 1)
    torch.manual_seed(0)
    config = VAEConfig(widths=(32, 32, 64, 96), kernels=((FULL, FULL),) * 4, layers_per_block=1)
    net = CausalVAE(config).eval().requires_grad_(False).double()
    x = torch.nn.functional.interpolate(torch.randn(1, 3, 5, 6, 8).double(), (9, 24, 32), mode="trilinear")
    z = net.encode(x)
    expected = net.decode(z.clone().requires_grad_()).detach()
    assert error(net.decode(z), expected) < 1e-12


def test_only_the_public_kind_is_decoded_by_runs() -> None:
    z = torch.zeros(1, 16, 1, 8, 8)
    public = VAEConfig(widths=(32, 32, 64, 64), kernels=((FULL, FULL),) * 4, layers_per_block=1)
    assert vae_runs.suits(public, z)
    assert not vae_runs.suits(public, z[..., :7])
    assert not vae_runs.suits(MINI.vae, z)
