"""Causality, streaming, tiling, the linear start and the released layout of the VAE."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from avatar.backbone import checkpoint
from avatar.backbone.causal import CausalConv3d, FrameCausalAttention
from avatar.backbone.tiling import Tiling, blend, fold, map_space, unfold
from avatar.backbone.vae import CausalVAE
from avatar.backbone.vae_nets import VAEConfig
from avatar.presets import HUNYUAN, MINI, SPACE, TIME

PATCHED = replace(MINI.vae, widths=(16, 32))
STRIDED = VAEConfig(
    widths=(8, 16, 16, 16), kernels=((SPACE, TIME),) * 4, layers_per_block=1, norm="rms", mid_attention=False
)
GROUPED = VAEConfig(widths=(32, 32, 32, 32), kernels=((SPACE, TIME),) * 4, layers_per_block=1)
CONFIGS = [PATCHED, STRIDED, GROUPED]
NAMES = ["patched", "strided", "grouped"]


def random_vae(config: VAEConfig, seed: int = 0) -> CausalVAE:
    """A VAE none of whose parameters is zero."""
    torch.manual_seed(seed)
    vae = CausalVAE(config).eval().requires_grad_(False)
    for conv in (vae.encoder.conv_out.conv, vae.decoder.conv_out.conv):
        torch.nn.init.normal_(conv.weight, std=0.05)
    return vae


def clip(frames: int = 17, size: int = 32, seed: int = 1) -> Tensor:
    return torch.rand(1, 3, frames, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("config", CONFIGS, ids=NAMES)
@pytest.mark.parametrize("frames", [1, 5, 17])
def test_shapes(config: VAEConfig, frames: int) -> None:
    vae, x = random_vae(config), clip(frames)
    z = vae.encode(x)
    assert z.shape == (1, 16, (frames - 1) // 4 + 1, 4, 4)
    assert vae.decode(z).shape == x.shape


@pytest.mark.parametrize("config", [PATCHED, STRIDED], ids=NAMES[:2])
def test_latents_and_frames_never_depend_on_later_ones(config: VAEConfig) -> None:
    vae, x = random_vae(config), clip()
    z = vae.encode(x)
    for k in range(4):
        changed = x.clone()
        changed[:, :, 4 * k + 1 :] += 1
        assert torch.allclose(vae.encode(changed)[:, :, : k + 1], z[:, :, : k + 1], atol=1e-5)
        assert not torch.allclose(vae.encode(changed)[:, :, k + 1], z[:, :, k + 1], atol=1e-3)
        later = z.clone()
        later[:, :, k + 1 :] += 1
        same = 4 * k + 1
        assert torch.allclose(vae.decode(later)[:, :, :same], vae.decode(z)[:, :, :same], atol=1e-5)


@pytest.mark.parametrize("config", [PATCHED, STRIDED], ids=NAMES[:2])
@pytest.mark.parametrize("cuts", [[1, 4, 4, 4, 4], [3, 9, 5], [17], [1] * 17])
def test_stream_equals_whole(config: VAEConfig, cuts: list[int]) -> None:
    vae, x = random_vae(config), clip()
    whole = vae.encode(x)
    z = torch.cat(list(vae.encode_stream(x.split(cuts, dim=2))), dim=2)
    assert torch.allclose(z, whole, atol=1e-4)
    pieces = [1, 1, 3] if len(cuts) > 3 else [2, 3]
    frames = torch.cat(list(vae.decode_stream(whole.split(pieces, dim=2))), dim=2)
    assert torch.allclose(frames, vae.decode(whole), atol=1e-4)


def test_stream_yields_each_group_as_soon_as_it_is_whole() -> None:
    vae, x = random_vae(PATCHED), clip()
    taken = 0

    def frames() -> Iterator[Tensor]:
        nonlocal taken
        for frame in x.split(1, dim=2):
            taken += 1
            yield frame

    counts = [(taken, z.shape[2]) for z in vae.encode_stream(frames())]
    assert counts == [(1, 1), (5, 1), (9, 1), (13, 1), (17, 1)]


def test_stream_refuses_a_broken_group() -> None:
    with pytest.raises(ValueError, match="2 frames left over"):
        list(random_vae(PATCHED).encode_stream([clip(5), clip(2)]))


def test_clip_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="16 frames of 32x32 px does not fit"):
        random_vae(PATCHED).encode(clip(16))


@pytest.mark.parametrize("config", [PATCHED, STRIDED], ids=NAMES[:2])
def test_overlapping_tiles_are_closer_to_whole_than_cut_ones(config: VAEConfig) -> None:
    vae = random_vae(config)
    x = torch.nn.functional.interpolate(clip(9, 8), size=(29, 96, 80), mode="trilinear")
    z, frames = vae.encode(x), vae.decode(vae.encode(x))
    errors = []
    for stride, frame_stride in ((48, 12), (64, 16)):
        vae.tiling = Tiling(size=64, stride=stride, frames=16, frame_stride=frame_stride)
        tiled = vae.encode_tiled(x), vae.decode_tiled(z)
        assert tiled[0].shape == z.shape
        assert tiled[1].shape == frames.shape
        errors.append(
            ((tiled[0] - z).square().mean() / z.var(), (tiled[1] - frames).square().mean() / frames.var())
        )
    assert errors[0][0] < errors[1][0]
    assert errors[0][1] < errors[1][1]


def test_tiles_of_the_linear_start_equal_the_whole() -> None:
    torch.manual_seed(0)
    vae = CausalVAE(PATCHED, Tiling(size=64, stride=48, frames=16, frame_stride=12)).requires_grad_(False)
    x = clip(37, 80)
    assert torch.allclose(vae.encode_tiled(x), vae.encode(x), atol=1e-5)
    z = vae.encode(x)
    assert torch.allclose(vae.decode_tiled(z), vae.decode(z), atol=1e-5)


def test_group_norm_streams_through_tiles() -> None:
    vae = random_vae(GROUPED)
    vae.tiling = Tiling(size=32, stride=24, frames=8, frame_stride=4)
    x = clip(25)
    z = torch.cat(list(vae.encode_stream(x.split(3, dim=2))), dim=2)
    assert torch.allclose(z, vae.encode_tiled(x), atol=1e-6)
    assert torch.allclose(
        torch.cat(list(vae.decode_stream(z.split(2, dim=2))), 2), vae.decode_tiled(z), atol=1e-6
    )


def test_blend_is_a_linear_ramp() -> None:
    a, b = torch.zeros(1, 6), torch.ones(1, 6)
    parts = list(blend([a, b], 4, 1))
    assert torch.cat(parts, 1).tolist() == [[0, 0, 0, 0.25, 0.5, 0.75, 1, 1]]


def test_map_space_of_a_pointwise_function_is_exact() -> None:
    x = clip(5, 40)
    assert torch.allclose(map_space(lambda tile: 2 * tile, x, 16, 12, 1), 2 * x)


def test_fold_and_unfold_are_inverse() -> None:
    x = clip(4, 16)
    assert torch.equal(unfold(fold(x, (4, 8, 8)), (4, 8, 8)), x)


def test_linear_start_is_the_principal_transform() -> None:
    torch.manual_seed(0)
    vae = CausalVAE(PATCHED)
    basis = torch.randn(16, 768)
    blocks = torch.randn(4096, 16) @ basis + 0.3
    vae.init_linear_shortcut(blocks)
    cells = blocks[:32].view(1, 2, 4, 4, 768)
    x = unfold(cells, (4, 8, 8))[:, :, 3:]
    group = unfold(cells, (4, 8, 8))[:, :, 4:]
    z = vae.encode(x)
    assert torch.allclose(vae.decode(z)[:, :, 1:], group, atol=1e-3)
    assert vae.shortcut_in(blocks).detach().square().mean().sqrt() == pytest.approx(1, abs=0.02)


def test_convolution_takes_no_future_and_replicates_the_first_frame() -> None:
    conv = CausalConv3d(1, 1, (3, 1, 1))
    torch.nn.init.ones_(conv.conv.weight)
    torch.nn.init.zeros_(conv.conv.bias)
    x = torch.tensor([1.0, 10.0, 100.0]).view(1, 1, 3, 1, 1)
    assert conv(x).flatten().tolist() == [3, 12, 111]


@pytest.mark.parametrize("causal", [True, False])
def test_mid_attention_is_causal_by_frames(causal: bool) -> None:
    torch.manual_seed(0)
    attention = FrameCausalAttention(32, "rms", causal)
    x = torch.randn(1, 32, 3, 2, 2)
    q, k, v = (
        layer(attention.group_norm(x).movedim(1, -1).flatten(1, 3))
        for layer in (attention.to_q, attention.to_k, attention.to_v)
    )
    frame = torch.arange(12) // 4
    later = (frame[None] > frame[:, None]) & causal
    logits = (q @ k.mT / 32**0.5).masked_fill(later, -torch.inf)
    expected = attention.to_out[0](logits.softmax(-1) @ v).unflatten(1, (3, 2, 2)).movedim(-1, 1) + x
    assert torch.allclose(attention(x), expected, atol=1e-5)


def test_released_layout() -> None:
    with torch.device("meta"):
        vae = CausalVAE(HUNYUAN.vae)
    assert sum(p.numel() for p in vae.parameters()) == 246_478_803
    assert sum(p.numel() for p in vae.encoder.parameters()) == pytest.approx(100.34e6, abs=0.01e6)
    shapes = {name: tuple(value.shape) for name, value in vae.state_dict().items()}
    listed = {
        "encoder.conv_in.conv.weight": (128, 3, 3, 3, 3),
        "encoder.down_blocks.0.resnets.0.norm1.weight": (128,),
        "encoder.down_blocks.0.resnets.0.conv1.conv.weight": (128, 128, 3, 3, 3),
        "encoder.down_blocks.0.downsamplers.0.conv.conv.weight": (128, 128, 3, 3, 3),
        "encoder.down_blocks.1.resnets.0.conv_shortcut.conv.weight": (256, 128, 1, 1, 1),
        "encoder.mid_block.resnets.1.conv2.conv.weight": (512, 512, 3, 3, 3),
        "encoder.mid_block.attentions.0.group_norm.bias": (512,),
        "encoder.mid_block.attentions.0.to_q.weight": (512, 512),
        "encoder.mid_block.attentions.0.to_out.0.bias": (512,),
        "encoder.conv_norm_out.weight": (512,),
        "encoder.conv_out.conv.weight": (32, 512, 3, 3, 3),
        "quant_conv.weight": (32, 32, 1, 1, 1),
        "post_quant_conv.weight": (16, 16, 1, 1, 1),
        "decoder.conv_in.conv.weight": (512, 16, 3, 3, 3),
        "decoder.up_blocks.0.upsamplers.0.conv.conv.weight": (512, 512, 3, 3, 3),
        "decoder.up_blocks.2.resnets.0.conv_shortcut.conv.weight": (256, 512, 1, 1, 1),
        "decoder.up_blocks.2.upsamplers.0.conv.conv.weight": (256, 256, 3, 3, 3),
        "decoder.up_blocks.3.resnets.0.conv_shortcut.conv.weight": (128, 256, 1, 1, 1),
        "decoder.conv_norm_out.weight": (128,),
        "decoder.conv_out.conv.weight": (3, 128, 3, 3, 3),
    }
    assert {name: shapes.get(name) for name in listed} == listed
    assert not any("blocks.3" in name and "sampler" in name for name in shapes)
    factors = [HUNYUAN.vae.stride(level) for level in range(4)]
    assert factors == [(1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 1, 1)]


def test_posterior_is_sampled_from_a_seed() -> None:
    vae, x = random_vae(GROUPED), clip(5)
    draws = [vae.encode(x, sample=True, generator=torch.Generator().manual_seed(s)) for s in (3, 3, 4)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert vae.posterior(x).logvar is not None
    assert random_vae(PATCHED).posterior(x).logvar is None


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    vae, path = random_vae(replace(PATCHED, scaling_factor=0.5)), tmp_path / "vae.safetensors"
    checkpoint.save(vae, path, torch.float32)
    loaded = checkpoint.load(CausalVAE, path)
    assert loaded.config == vae.config
    assert torch.equal(loaded.encode(clip()), vae.encode(clip()))
    checkpoint.save(vae, path)
    assert next(iter(load_file(path).values())).dtype == torch.float16
    assert next(checkpoint.load(CausalVAE, path).parameters()).dtype == torch.float32
    assert [p.name for p in tmp_path.iterdir()] == ["vae.safetensors"]


def test_checkpoint_names_what_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "vae.safetensors"
    checkpoint.save(random_vae(PATCHED), path)
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors["extra"] = tensors.pop("shortcut_in.bias")
    save_file(tensors, path, metadata)
    with pytest.raises(ValueError, match=r"missing: shortcut_in.bias; unexpected: extra"):
        checkpoint.load(CausalVAE, path)
    save_file(tensors, path, metadata | {"config": metadata["config"].replace("stochastic", "stochastics")})
    with pytest.raises(ValueError, match="unknown fields of VAEConfig: stochastics"):
        checkpoint.load(CausalVAE, path)


@dataclass(frozen=True, kw_only=True)
class _Nested:
    vae: VAEConfig
    other: VAEConfig | None
    names: tuple[str, ...]


def test_nested_configs_are_rebuilt() -> None:
    for other in (None, STRIDED):
        config = _Nested(vae=PATCHED, other=other, names=("a", "b"))
        assert checkpoint.from_json(_Nested, json.loads(json.dumps(asdict(config))), "file") == config
