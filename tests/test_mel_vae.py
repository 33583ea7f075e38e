"""The mel-VAE: shapes, principal components, what a latent can reach."""

from __future__ import annotations

import pytest
import torch

from avatar.backbone.mel_vae import MelVAE, MelVAEConfig, kl_divergence
from avatar.backbone.vae import Posterior

TINY = MelVAEConfig(bands=8, channels=6, hidden=16, encoder_blocks=1, decoder_blocks=2, kernel=3)


def net(random: bool = True) -> MelVAE:
    torch.manual_seed(0)
    made = MelVAE(TINY)
    if random:
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return made.eval()


def test_four_frames_are_a_latent() -> None:
    vae, mel = net(), torch.randn(2, 8, 20)
    posterior = vae.posterior(mel)
    assert posterior.mean.shape == (2, 5, 6)
    assert posterior.logvar is not None and posterior.logvar.shape == (2, 5, 6)
    assert vae.decode(posterior.mean).shape == (2, 8, 20)


def test_patches_and_decode_agree_on_the_order_of_bands_and_frames() -> None:
    """With as many channels as numbers the linear transform alone gives every number back."""
    torch.manual_seed(0)
    vae = MelVAE(MelVAEConfig(bands=3, channels=12, hidden=4, encoder_blocks=1, decoder_blocks=1))
    mel = torch.randn(8, 3, 40)
    vae.init_linear_shortcut(mel)
    torch.testing.assert_close(vae.decode(vae.encode(mel)), mel, atol=1e-4, rtol=0)


def test_the_principal_components_have_unit_mean_square_and_the_least_error() -> None:
    mel = torch.randn(16, 8, 40) * torch.linspace(0.1, 3, 8)[:, None] - 5
    vae = net(random=False)
    vae.init_linear_shortcut(mel)
    latents = vae.encode(mel)
    assert latents.square().mean().item() == pytest.approx(1, abs=0.01)
    patches = vae.patches(mel).flatten(0, 1).double()
    values = torch.linalg.eigvalsh(torch.cov(patches.T, correction=0))
    error = (vae.patches(vae.decode(latents)) - vae.patches(mel)).square().sum(-1).mean()
    assert error.item() == pytest.approx(values[:-6].sum().item(), rel=1e-3)  # of what is left out


def test_a_latent_reaches_no_further_than_it_says() -> None:
    vae = net()
    latents = torch.randn(1, 21, 6, requires_grad=True)
    vae.decode(latents)[:, :, 40:44].sum().backward()  # latent 10
    assert latents.grad is not None
    seen = torch.nonzero(latents.grad[0].abs().sum(-1))[:, 0]
    assert vae.reach == 2
    assert seen.tolist() == [8, 9, 10, 11, 12]


def test_divergence_by_hand() -> None:
    standard = Posterior(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2))
    assert kl_divergence(standard).item() == 0
    moved = Posterior(torch.full((1, 1, 1), 2.0), torch.zeros(1, 1, 1))
    assert kl_divergence(moved).item() == pytest.approx(2.0)  # mean^2 / 2
