"""HiFi-GAN: equal to transformers' on the same weights, public files, discriminators."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from avatar.backbone.hifigan import (
    PUBLIC,
    V2,
    DiscriminatorConfig,
    HiFiGAN,
    MultiPeriodDiscriminator,
    MultiScaleDiscriminator,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
    fold_weight_norm,
    load_public,
)

SMALL = DiscriminatorConfig(period_widths=(4, 8, 8), scale_widths=(16,) * 7)


def public_file(name: str, path: Path) -> tuple[Path, dict[str, Tensor]]:
    """A file as the authors wrote them, with random tensors."""
    net = HiFiGAN(PUBLIC[name])
    tensors: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(1)
    for key, value in net.state_dict().items():
        random = 0.1 * torch.randn(value.shape, generator=generator)
        if key.endswith("weight"):
            tensors[key + "_g"] = 0.5 + torch.rand(len(value), *[1] * (value.dim() - 1), generator=generator)
            tensors[key + "_v"] = random
        else:
            tensors[key] = random
    torch.save({"generator": tensors}, path)
    return path, tensors


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_it_equals_the_one_of_transformers(name: str) -> None:
    """v3 has residual blocks that no class of transformers has."""
    config = PUBLIC[name]
    theirs = SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            upsample_initial_channel=config.width,
            upsample_rates=list(config.rates),
            upsample_kernel_sizes=list(config.kernels),
            resblock_kernel_sizes=list(config.block_kernels),
            resblock_dilation_sizes=[list(d) for d in config.dilations],
            normalize_before=False,
            initializer_range=0.03,
        )
    ).eval()
    tensors = {n.replace("upsampler", "ups"): v for n, v in theirs.state_dict().items()}
    ours = HiFiGAN(config)
    ours.load_state_dict({n: v for n, v in tensors.items() if n not in ("mean", "scale")})
    mel = torch.randn(2, 80, 13, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made, expected = ours(mel), theirs(mel.transpose(1, 2))
    assert made.shape == (2, 13 * 256)
    assert expected.std() > 1e-4
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["v1", "v2", "v3"])
def test_public_files_load_with_weight_norm_folded(name: str, tmp_path: Path) -> None:
    path, tensors = public_file(name, tmp_path / f"generator_{name}")
    net = load_public(path)
    assert net.config == PUBLIC[name]
    by_torch = torch._weight_norm(tensors["ups.1.weight_v"], tensors["ups.1.weight_g"], 0)
    torch.testing.assert_close(net.ups[1].weight.detach(), by_torch)


def test_a_file_that_is_none_of_them_is_refused_by_name(tmp_path: Path) -> None:
    path, tensors = public_file("v2", tmp_path / "generator")
    del tensors["conv_pre.bias"]
    torch.save({"generator": tensors}, path)
    with pytest.raises(ValueError, match="v2 comes nearest: missing: conv_pre"):
        load_public(path)
    torch.save(tensors, path)
    with pytest.raises(ValueError, match="is not a generator file of HiFi-GAN"):
        load_public(path)


def test_folding_by_the_first_axis() -> None:
    folded = fold_weight_norm({"a.weight_g": torch.tensor([[2.0]]), "a.weight_v": torch.tensor([[3.0, 4.0]])})
    torch.testing.assert_close(folded["a.weight"], torch.tensor([[1.2, 1.6]]))  # 2 (3, 4) / 5


@pytest.mark.parametrize("name", ["v1", "v2", "v3"])
def test_each_frame_becomes_a_hop(name: str) -> None:
    with torch.no_grad():
        assert HiFiGAN(replace(PUBLIC[name], width=32))(torch.zeros(1, 80, 5)).shape == (1, 5 * 256)


def test_it_learns_with_a_plain_loss() -> None:
    torch.manual_seed(0)
    net = HiFiGAN(replace(V2, width=16))
    net(torch.randn(1, 80, 4)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_discriminators_have_the_parts_of_the_paper() -> None:
    torch.manual_seed(0)
    samples = 0.1 * torch.randn(2, 1001)
    scores, features = MultiPeriodDiscriminator(SMALL)(samples)
    assert len(scores) == 5 and [len(f) for f in features] == [4] * 5
    # 501 rows of 2, by strides of 3, 3 and 1: ceil(ceil(501 / 3) / 3) = 56
    assert scores[0].shape == (2, 56 * 2)
    scores, features = MultiScaleDiscriminator(SMALL)(samples)
    assert len(scores) == 3 and [len(f) for f in features] == [8] * 3
    assert features[0][0].shape == (2, 16, 1001) and features[1][0].shape == (2, 16, 501)


def test_the_paper_sizes_can_be_counted() -> None:
    """MPD 41.1 M and MSD 29.6 M parameters."""
    counts = []
    with torch.device("meta"):
        for kind in (MultiPeriodDiscriminator, MultiScaleDiscriminator):
            counts.append(sum(p.numel() for p in kind(DiscriminatorConfig()).parameters()))
    assert [round(c / 1e6, 1) for c in counts] == [41.1, 29.6]


def test_losses_by_hand() -> None:
    real, fake = [torch.tensor([[1.0, 0.5]])], [torch.tensor([[0.0, 1.0]])]
    assert discriminator_loss(real, fake).item() == pytest.approx(0.125 + 0.5)
    assert adversarial_loss(fake).item() == pytest.approx(0.5)
    assert feature_loss([real], [fake]).item() == pytest.approx(0.75)
