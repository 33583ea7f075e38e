"""Sizes of the public releases on the meta device: every key, every shape, the counts of the reference."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch

from avatar.backbone.vae import CausalVAE
from avatar.presets import PRESETS
from avatar.releases import RELEASES

H, M = 3072, 12288  # hidden channels, MLP


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    release = RELEASES[name]
    with torch.device("meta"):
        net = release.net(release.dit)
    return {key: tuple(value.shape) for key, value in net.state_dict().items()}


def count(found: dict[str, tuple[int, ...]]) -> int:
    return sum(torch.Size(shape).numel() for shape in found.values())


def linear(name: str, rows: int, columns: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (rows, columns)} | ({f"{name}.bias": (rows,)} if bias else {})


def norm(name: str, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def base(channels: int, guidance: bool) -> dict[str, tuple[int, ...]]:
    """Section 2.4 of the reference, biases written out."""
    listed: dict[str, tuple[int, ...]] = {
        "img_in.proj.weight": (H, channels, 1, 2, 2),
        "img_in.proj.bias": (H,),
        **linear("txt_in.input_embedder", H, 4096),
        **linear("txt_in.t_embedder.mlp.0", H, 256),
        **linear("txt_in.t_embedder.mlp.2", H, H),
        **linear("txt_in.c_embedder.linear_1", H, 4096),
        **linear("txt_in.c_embedder.linear_2", H, H),
        **linear("time_in.mlp.0", H, 256),
        **linear("time_in.mlp.2", H, H),
        **linear("vector_in.in_layer", H, 768),
        **linear("vector_in.out_layer", H, H),
        **linear("final_layer.linear", 64, H),
        **linear("final_layer.adaLN_modulation.1", 2 * H, H),
    }
    if guidance:
        listed |= linear("guidance_in.mlp.0", H, 256) | linear("guidance_in.mlp.2", H, H)
    for j in range(2):
        block = f"txt_in.individual_token_refiner.blocks.{j}"
        listed |= norm(f"{block}.norm1", H) | norm(f"{block}.norm2", H)
        listed |= linear(f"{block}.self_attn_qkv", 3 * H, H) | linear(f"{block}.self_attn_proj", H, H)
        listed |= linear(f"{block}.mlp.fc1", M, H) | linear(f"{block}.mlp.fc2", H, M)
        listed |= linear(f"{block}.adaLN_modulation.1", 2 * H, H)
    for i in range(20):
        for s in ("img", "txt"):
            block = f"double_blocks.{i}.{s}"
            listed |= linear(f"{block}_mod.linear", 6 * H, H) | linear(f"{block}_attn_qkv", 3 * H, H)
            listed |= {f"{block}_attn_q_norm.weight": (128,), f"{block}_attn_k_norm.weight": (128,)}
            listed |= linear(f"{block}_attn_proj", H, H)
            listed |= linear(f"{block}_mlp.fc1", M, H) | linear(f"{block}_mlp.fc2", H, M)
    for i in range(40):
        block = f"single_blocks.{i}"
        listed |= linear(f"{block}.linear1", 3 * H + M, H) | linear(f"{block}.linear2", H, H + M)
        listed |= {f"{block}.q_norm.weight": (128,), f"{block}.k_norm.weight": (128,)}
        listed |= linear(f"{block}.modulation.linear", 3 * H, H)
    return listed


EXTRAS: dict[str, tuple[int, ...]] = {
    "ref_in.proj.weight": (H, 16, 1, 2, 2),
    "ref_in.proj.bias": (H,),
    **linear("before_proj", H, H),
    **linear("audio_proj.proj1", 1024, 19200),
    **linear("audio_proj.proj2", 1024, 1024),
    **linear("audio_proj.proj3", M, 1024),
    **norm("audio_proj.norm", H),
    **linear("motion_exp.mlp.0", 768, 256),
    **linear("motion_exp.mlp.2", 768, 768),
    **linear("motion_pose.mlp.0", 768, 256),
    **linear("motion_pose.mlp.2", 768, 768),
    **linear("fps_proj.mlp.0", H, 256),
    **linear("fps_proj.mlp.2", H, H),
}
for i in range(10):
    EXTRAS |= norm(f"audio_adapter_blocks.{i}.norm1", H) | norm(f"audio_adapter_blocks.{i}.norm2", H)
    EXTRAS |= linear(f"audio_adapter_blocks.{i}.to_q", 1024, H, bias=False)
    EXTRAS |= linear(f"audio_adapter_blocks.{i}.to_kv", 2048, H, bias=False)
    EXTRAS |= linear(f"audio_adapter_blocks.{i}.to_out", H, 1024, bias=False)


def test_text_and_image_by_tokens() -> None:
    for name in ("hunyuan", "hunyuan-i2v"):
        found = shapes(name)
        assert found == base(16, guidance=True)
        assert count(found) / 1e9 == pytest.approx(12.821, abs=5e-4)


def test_image_by_channels() -> None:
    found = shapes("hunyuan-i2v-concat")
    assert found == base(33, guidance=False)
    assert count(found) / 1e9 == pytest.approx(12.811, abs=5e-4)


def test_audio() -> None:
    found = shapes("hunyuan-avatar")
    assert found == base(16, guidance=False) | EXTRAS
    assert count(EXTRAS) / 1e6 == pytest.approx(180.7, abs=0.05)
    assert count(found) / 1e9 == pytest.approx(12.99, abs=5e-3)


def test_vae() -> None:
    for release in RELEASES.values():
        with torch.device("meta"):
            vae = CausalVAE(release.vae)
        assert sum(p.numel() for p in vae.parameters()) == 246_478_803


def test_releases_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        RELEASES["hunyuan"].sampling.steps = 3  # type: ignore[misc]
    assert PRESETS["hunyuan"].dit == RELEASES["hunyuan"].dit
    assert [r.sampling.embedded_guidance is not None for r in RELEASES.values()] == [
        r.dit.guidance_embed for r in RELEASES.values()
    ]
