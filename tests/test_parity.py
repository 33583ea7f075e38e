"""The nets and the sampler against those of diffusers, on tiny random weights: the same function."""

from __future__ import annotations

from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor

from avatar.backbone import flow, vae_runs
from avatar.backbone.causal import Kernel
from avatar.backbone.diffusers_keys import from_diffusers, to_diffusers
from avatar.backbone.dit import DiT, DiTConfig
from avatar.backbone.image_condition import concat_condition, hold_first, start_from
from avatar.backbone.tiling import Tiling
from avatar.backbone.vae import CausalVAE
from avatar.backbone.vae_nets import VAEConfig

FULL: Kernel = (3, 3, 3)
ERROR = 1e-5  # relative, in float32

VAE = VAEConfig(widths=(32, 32, 64, 64), kernels=((FULL, FULL),) * 4, layers_per_block=1, latent_channels=4)
DIT = DiTConfig(
    in_channels=4,
    out_channels=4,
    hidden=20,
    heads=2,
    double_blocks=2,
    single_blocks=2,
    rope_channels=(2, 4, 4),
    text_dim=16,
    pooled_dim=8,
    refiner_blocks=2,
)
KINDS = {
    "plain": DIT,
    "distilled": replace(DIT, guidance_embed=True),
    "token_replace": replace(DIT, guidance_embed=True, clean_first_frame=True),
    "latent_concat": replace(DIT, condition_channels=5),
}


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def error(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference, relative to the norm of what is expected."""
    assert found.shape == expected.shape
    return ((found - expected).norm() / expected.norm()).item()


def vaes(config: VAEConfig = VAE) -> tuple[CausalVAE, diffusers.AutoencoderKLHunyuanVideo]:
    """The same weights in both; without tiling until a test turns it on."""
    torch.manual_seed(0)
    ours = CausalVAE(config).eval()  # with gradients on, as here, it decodes layer by layer
    theirs = diffusers.AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=config.widths, layers_per_block=1, scaling_factor=1.0
    )
    theirs.load_state_dict(ours.state_dict())  # strict: the names are the same
    theirs.use_framewise_encoding = theirs.use_framewise_decoding = False
    return ours, theirs.eval().requires_grad_(False)


def clip(frames: int, height: int, width: int) -> Tensor:
    coarse = randn(1, 3, (frames + 3) // 2, height // 4, width // 4)
    return torch.nn.functional.interpolate(coarse, (frames, height, width), mode="trilinear")


@pytest.mark.parametrize("frames", [1, 5, 9])
def test_vae(frames: int) -> None:
    ours, theirs = vaes()
    x = clip(frames, 24, 32)
    posterior, expected = ours.posterior(x), theirs.encode(x).latent_dist
    assert posterior.logvar is not None
    assert error(posterior.mean, expected.mean) <= ERROR
    assert error(posterior.logvar, expected.logvar) <= ERROR
    z = expected.mean
    assert error(ours.decode(z), theirs.decode(z).sample) <= ERROR


TILES = Tiling(size=32, stride=24, frames=8, frame_stride=4)


def cut_as(tiling: Tiling, vae: diffusers.AutoencoderKLHunyuanVideo) -> None:
    """Turn tiles on."""
    vae.enable_tiling(
        tile_sample_min_height=tiling.size,
        tile_sample_min_width=tiling.size,
        tile_sample_min_num_frames=tiling.frames,
        tile_sample_stride_height=tiling.stride,
        tile_sample_stride_width=tiling.stride,
        tile_sample_stride_num_frames=tiling.frame_stride,
    )
    vae.use_framewise_encoding = vae.use_framewise_decoding = True


@pytest.mark.parametrize(
    ("frames", "height", "width"),
    [
        (9, 24, 32),  # in time only
        (5, 40, 72),  # in space only; 72 = 3 * 24
        (5, 32, 64),  # one side would fit, yet a row begins at the stride
        (13, 56, 48),  # both
    ],
)
def test_vae_in_tiles(frames: int, height: int, width: int) -> None:
    ours, theirs = vaes()
    ours.tiling = TILES
    cut_as(TILES, theirs)
    x = clip(frames, height, width)
    z = theirs.encode(x).latent_dist.mean
    assert error(ours.encode_tiled(x), z) <= ERROR
    y = theirs.decode(z).sample
    assert error(ours.decode_tiled(z), y) <= ERROR
    with torch.no_grad():
        assert error(ours.decode_tiled(z), y) <= ERROR
    assert error(ours.encode(x), z) > 100 * ERROR or error(ours.decode(z), y) > 100 * ERROR  # tiles count


def test_vae_by_runs_whole_and_in_tiles() -> None:
    """The user's way: no gradients, tiles large enough for runs of frames, and smaller ones at the border."""
    config = replace(VAE, widths=(32, 32, 96, 96))  # 96 takes the way of fewer products
    ours, theirs = vaes(config)
    ours.requires_grad_(False)
    x = clip(9, 64, 88)
    z = theirs.encode(x).latent_dist.mean
    assert vae_runs.suits(config, z)
    assert error(ours.decode(z), theirs.decode(z).sample) <= ERROR
    ours.tiling = replace(TILES, size=64, stride=40)
    cut_as(ours.tiling, theirs)
    assert error(ours.decode_tiled(z), theirs.decode(z).sample) <= ERROR


def test_vae_tiles_of_diffusers_own_size_in_time() -> None:
    """29 frames: tiles of 16 begin at 0, 12 and 24."""
    ours, theirs = vaes()
    ours.tiling = Tiling(frames=16, frame_stride=12)
    theirs.use_framewise_encoding = theirs.use_framewise_decoding = True
    x = clip(29, 16, 24)
    z = theirs.encode(x).latent_dist.mean
    assert error(ours.encode_tiled(x), z) <= ERROR
    assert error(ours.decode_tiled(z), theirs.decode(z).sample) <= ERROR


def dits(kind: str) -> tuple[DiT, diffusers.HunyuanVideoTransformer3DModel]:
    """The same random weights in both, through the key map."""
    config = KINDS[kind]
    torch.manual_seed(0)
    ours = DiT(config).eval().requires_grad_(False)
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    theirs = diffusers.HunyuanVideoTransformer3DModel(
        in_channels=config.in_channels + config.condition_channels,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=2,
        num_single_layers=2,
        num_refiner_layers=2,
        guidance_embeds=config.guidance_embed,
        text_embed_dim=16,
        pooled_projection_dim=8,
        rope_axes_dim=config.rope_channels,
        image_condition_type=kind if kind in ("token_replace", "latent_concat") else None,
    )
    theirs.load_state_dict(to_diffusers(ours.state_dict()))  # strict: none missing, none left over
    return ours, theirs.eval().requires_grad_(False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padded", [False, True])
def test_dit(kind: str, padded: bool) -> None:
    ours, theirs = dits(kind)
    x, time = randn(2, 4, 3, 4, 6), torch.tensor([20.0, 871.0])
    text, pooled = randn(2, 7, 16, seed=1), randn(2, 8, seed=2)
    mask = torch.ones(2, 7, dtype=torch.bool)
    if padded:
        mask[1, 4:] = False
    condition = concat_condition(randn(2, 4, 1, 4, 6, seed=3), 3) if kind == "latent_concat" else None
    guidance = torch.tensor([6.0, 1.5]) if ours.config.guidance_embed else None
    found = ours(x, time, condition, text=text, text_mask=mask, pooled=pooled, guidance=guidance)
    expected = theirs(
        hidden_states=x if condition is None else torch.cat([x, condition], dim=1),
        timestep=time,
        encoder_hidden_states=text,
        encoder_attention_mask=mask,
        pooled_projections=pooled,
        guidance=None if guidance is None else 1000 * guidance,
    ).sample
    assert error(found, expected) <= ERROR


def test_clean_first_frame_counts() -> None:
    """What `token_replace` adds is seen: without it the same weights give something else."""
    ours, _ = dits("token_replace")
    plain = DiT(replace(ours.config, clean_first_frame=False)).eval().requires_grad_(False)
    plain.load_state_dict(ours.state_dict())
    given = {"text": randn(1, 7, 16, seed=1), "pooled": randn(1, 8, seed=2), "guidance": torch.tensor([6.0])}
    x, time = randn(1, 4, 3, 4, 6), torch.tensor([500.0])
    assert error(ours(x, time, **given), plain(x, time, **given)) > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_key_map_goes_both_ways(kind: str) -> None:
    ours, theirs = dits(kind)
    back = from_diffusers(theirs.state_dict())
    assert back.keys() == ours.state_dict().keys()
    assert all(torch.equal(back[name], value) for name, value in ours.state_dict().items())


def test_last_modulation_has_its_halves_swapped() -> None:
    ours, theirs = dits("plain")
    shift, scale = ours.final_layer.adaLN_modulation[1].bias.chunk(2)
    assert torch.equal(theirs.norm_out.linear.bias, torch.cat([scale, shift]))


def test_key_map_names_what_it_can_not_place() -> None:
    tensors = dits("plain")[1].state_dict()
    tensors["double_blocks.0.wrong.weight"] = tensors.pop("proj_out.bias")
    with pytest.raises(ValueError, match=r"no part of this net: double_blocks\.0\.wrong\.weight"):
        from_diffusers(tensors)
    tensors = dits("plain")[1].state_dict()
    del tensors["single_transformer_blocks.1.attn.to_k.bias"]
    with pytest.raises(ValueError, match=r"missing: single_transformer_blocks\.1\.attn\.to_k\.bias"):
        from_diffusers(tensors)
    with pytest.raises(ValueError, match=r"diffusers has no place for: ref_in\.proj\.bias"):
        to_diffusers({"ref_in.proj.bias": torch.zeros(2)})


@pytest.mark.parametrize(("steps", "shift"), [(50, 7.0), (50, 5.0), (7, 17.0), (1, 1.0)])
def test_sampler_over_all_steps(steps: int, shift: float) -> None:
    """Times, and latents after each step of a velocity that depends on both."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1, 0, steps + 1)[:-1])
    times = flow.schedule(steps, shift, reverse=True)
    assert error(1000 * times[:-1], scheduler.timesteps) <= ERROR

    def velocity(x: Tensor, t: float) -> Tensor:
        return torch.sin(3 * x + t) + t * x

    start = randn(2, 4, 3, 4, 6)
    expected = start
    for i, t in enumerate(scheduler.timesteps):
        expected = scheduler.step(velocity(expected, t.item() / 1000), t, expected).prev_sample
        assert error(flow.euler(velocity, start, times[: i + 2]), expected) <= ERROR


@pytest.mark.parametrize("kind", KINDS)
def test_sampling_with_the_net(kind: str) -> None:
    """Four steps of net and sampler together, with the picture where the weights want one."""
    ours, theirs = dits(kind)
    image, text, pooled = randn(1, 4, 1, 4, 6, seed=3), randn(1, 7, 16, seed=1), randn(1, 8, seed=2)
    mask = torch.ones(1, 7, dtype=torch.bool)
    guidance = torch.tensor([6.0]) if ours.config.guidance_embed else None
    condition = concat_condition(image, 3) if kind == "latent_concat" else None
    hold, picture = kind == "token_replace", kind in ("token_replace", "latent_concat")

    def velocity(x: Tensor, t: float) -> Tensor:
        time = torch.tensor([1000 * t])
        return ours(x, time, condition, text=text, text_mask=mask, pooled=pooled, guidance=guidance)

    noise = randn(1, 4, 3, 4, 6, seed=5)
    start = start_from(noise, image, 0.001, hold) if picture else noise
    found = flow.euler(hold_first(velocity, image) if hold else velocity, start, flow.schedule(4, 7.0, True))

    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0)
    scheduler.set_timesteps(sigmas=np.linspace(1, 0, 5)[:-1])
    x = noise * 0.999 + image.repeat(1, 1, 3, 1, 1) * 0.001 if picture else noise
    for t in scheduler.timesteps:
        seen = torch.cat([image, x[:, :, 1:]], dim=2) if hold else x
        v = theirs(
            hidden_states=seen if condition is None else torch.cat([seen, condition], dim=1),
            timestep=t[None],
            encoder_hidden_states=text,
            encoder_attention_mask=mask,
            pooled_projections=pooled,
            guidance=None if guidance is None else 1000 * guidance,
        ).sample
        if hold:
            x = torch.cat([image, scheduler.step(v[:, :, 1:], t, x[:, :, 1:]).prev_sample], dim=2)
        else:
            x = scheduler.step(v, t, x).prev_sample
    assert error(found, x) <= ERROR
