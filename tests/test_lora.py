"""LoRA files of each format: read, merged and kept live, against diffusers' own application."""

from __future__ import annotations

import json
import math

import pytest
import torch
from test_parity import ERROR, dits, error, randn
from torch import Tensor, nn

from avatar.adapters.lora import LiveLora, Lora, is_lora, merge, parse
from avatar.backbone.diffusers_keys import their_modules
from avatar.backbone.dit import DiT

RANK = 3
OURS = [
    "double_blocks.0.img_attn_qkv",
    "double_blocks.1.txt_attn_qkv",
    "double_blocks.1.img_mod.linear",
    "double_blocks.0.txt_mlp.fc1",
    "single_blocks.0.linear1",
    "single_blocks.1.linear2",
    "final_layer.adaLN_modulation.1",
    "final_layer.linear",
    "txt_in.individual_token_refiner.blocks.1.self_attn_qkv",
    "vector_in.in_layer",
]
THEIRS = [part for module in OURS for part in their_modules(module) or ()]


def factors(net: nn.Module, modules: list[str], seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Random down and up factors of linear modules."""
    weights = {name: net.get_submodule(name).get_parameter("weight") for name in modules}
    return {
        name: (randn(RANK, w.shape[1], seed=seed + i), randn(w.shape[0], RANK, seed=seed + 100 + i))
        for i, (name, w) in enumerate(weights.items())
    }


def kohya(net: nn.Module, prefix: str, alpha: float | None, seed: int = 0) -> dict[str, Tensor]:
    file = {}
    for name, (down, up) in factors(net, OURS, seed).items():
        flat = prefix + name.replace(".", "_")
        file |= {f"{flat}.lora_down.weight": down, f"{flat}.lora_up.weight": up}
        if alpha is not None:
            file[f"{flat}.alpha"] = torch.tensor(alpha)
    return file


def diffusers_file(net: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    file = {}
    for name, (down, up) in factors(net, THEIRS, seed).items():
        file |= {f"transformer.{name}.lora_A.weight": down, f"transformer.{name}.lora_B.weight": up}
    return file


def evaluate(net: DiT) -> Tensor:
    return net(
        randn(1, 4, 2, 4, 6),
        torch.tensor([400.0]),
        text=randn(1, 7, 16, seed=1),
        text_mask=torch.ones(1, 7, dtype=torch.bool),
        pooled=randn(1, 8, seed=2),
    )


def evaluate_theirs(net: nn.Module) -> Tensor:
    return net(
        hidden_states=randn(1, 4, 2, 4, 6),
        timestep=torch.tensor([400.0]),
        encoder_hidden_states=randn(1, 7, 16, seed=1),
        encoder_attention_mask=torch.ones(1, 7, dtype=torch.bool),
        pooled_projections=randn(1, 8, seed=2),
    ).sample


def merged(net: DiT, *loras: tuple[Lora, float]) -> DiT:
    out = DiT(net.config).eval().requires_grad_(False)
    out.load_state_dict(merge(net.state_dict(), loras))
    return out


def with_live(net: DiT, *loras: tuple[Lora, float]) -> Tensor:
    live = [LiveLora(net, lora, strength) for lora, strength in loras]
    try:
        return evaluate(net)
    finally:
        for attached in live:
            attached.remove()


@pytest.mark.parametrize("alpha", [None, 1.5])
def test_one_file_equals_diffusers(alpha: float | None) -> None:
    ours, theirs = dits("plain")
    plain, file = evaluate(ours), diffusers_file(theirs)
    metadata = None
    if alpha is not None:
        config = {"transformer.lora_alpha": alpha, "transformer.r": RANK}
        metadata = {"lora_adapter_metadata": json.dumps(config)}
    lora = parse(file, metadata)
    assert len(lora.layers) == len(THEIRS) and lora.format == "diffusers"
    alphas = {name.replace("lora_A.weight", "alpha"): alpha for name in file if "lora_A" in name}
    theirs.load_lora_adapter(dict(file), prefix="transformer", network_alphas=alphas if alpha else None)
    expected = evaluate_theirs(theirs)
    assert error(evaluate(merged(ours, (lora, 1.0))), expected) <= ERROR
    assert error(with_live(ours, (lora, 1.0)), expected) <= ERROR
    assert error(expected, plain) > 1e-2  # it does something
    assert torch.equal(evaluate(ours), plain)  # and is gone when it is removed


def test_two_files_with_strengths_equal_diffusers() -> None:
    ours, theirs = dits("plain")
    files, strengths = [diffusers_file(theirs, seed) for seed in (0, 50)], [0.7, -0.4]
    for name, file in zip("ab", files, strict=True):
        theirs.load_lora_adapter(dict(file), prefix="transformer", adapter_name=name)
    theirs.set_adapters(["a", "b"], weights=strengths)
    expected = evaluate_theirs(theirs)
    loras = [(parse(file), strength) for file, strength in zip(files, strengths, strict=True)]
    assert error(evaluate(merged(ours, *loras)), expected) <= ERROR
    assert error(with_live(ours, *loras), expected) <= ERROR


@pytest.mark.parametrize(
    ("prefix", "name"),
    [("lora_unet_", "kohya"), ("Hunyuan_video_I2V_lora_", "image-to-video training")],
)
@pytest.mark.parametrize("alpha", [None, 1.5])
def test_flat_names_are_the_plain_formula(prefix: str, name: str, alpha: float | None) -> None:
    ours, _ = dits("plain")
    file = kohya(ours, prefix, alpha)
    lora = parse(file)
    assert lora.format == name and [y.place.module for y in lora.layers] == sorted(OURS)
    after, scale = merge(ours.state_dict(), [(lora, 0.5)]), (alpha or RANK) / RANK
    for module, (down, up) in factors(ours, OURS, 0).items():
        expected = ours.state_dict()[f"{module}.weight"] + 0.5 * scale * up @ down
        assert torch.allclose(after[f"{module}.weight"], expected, atol=1e-5), module
    untouched = after.keys() - {f"{module}.weight" for module in OURS}
    assert all(torch.equal(after[n], ours.state_dict()[n]) for n in untouched)
    assert error(with_live(ours, (lora, 0.5)), evaluate(merged(ours, (lora, 0.5)))) <= ERROR


def test_dotted_original_names_carry_alpha_in_their_factors() -> None:
    """The other form that kohya's converter writes: sqrt(alpha / rank) in each factor, no alpha."""
    ours, _ = dits("plain")
    root = math.sqrt(1.5 / RANK)
    file = {}
    for name, (down, up) in factors(ours, OURS, 0).items():
        file[f"diffusion_model.{name}.lora_A.weight"] = root * down
        file[f"diffusion_model.{name}.lora_B.weight"] = root * up
    found = merge(ours.state_dict(), [(parse(file), 1.0)])
    expected = merge(ours.state_dict(), [(parse(kohya(ours, "lora_unet_", 1.5)), 1.0)])
    assert all(torch.allclose(found[n], expected[n], atol=1e-5) for n in expected)


def test_sums_are_rounded_once() -> None:
    """Two halves that each round to nothing beside a bfloat16 weight of 1 still add up."""
    name = "double_blocks.0.img_attn_proj"
    file = {f"{name}.lora_A.weight": torch.ones(1, 4), f"{name}.lora_B.weight": torch.full((4, 1), 2.0**-9)}
    weights = {f"{name}.weight": torch.ones(4, 4, dtype=torch.bfloat16)}
    after = merge(weights, [(parse(file), 1.0), (parse(file), 2.0)])[f"{name}.weight"]
    assert after.dtype == torch.bfloat16 and (after == 1 + 2.0**-7).all()  # 3 / 512 rounds to 4 / 512


def test_what_can_not_be_used_is_named() -> None:
    ours, _ = dits("plain")
    assert not is_lora(ours.state_dict())
    file = kohya(ours, "lora_unet_", 1.0)
    with pytest.raises(ValueError, match=r"unknown layers: lora_unet_down_blocks_0\.lora_up\.weight"):
        parse(file | {"lora_unet_down_blocks_0.lora_up.weight": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match=r"unknown layers: .*dora_scale"):
        parse(file | {"lora_unet_single_blocks_0_linear2.dora_scale": torch.zeros(2)})
    torn = {name: value for name, value in file.items() if "linear2.lora_up" not in name}
    with pytest.raises(ValueError, match=r"factors without their partner: single_blocks\.1\.linear2"):
        parse(torn)
    with pytest.raises(ValueError, match="not a LoRA"):
        parse(ours.state_dict())
    with pytest.raises(ValueError, match="not supported: use_rslora"):
        parse(file, {"lora_adapter_metadata": json.dumps({"transformer.use_rslora": True})})
    other = parse(
        {"single_blocks.7.linear2.lora_A.weight": randn(3, 100)}
        | {"single_blocks.7.linear2.lora_B.weight": randn(20, 3)}
    )
    for use in (lambda: merge(ours.state_dict(), [(other, 1.0)]), lambda: LiveLora(ours, other)):
        with pytest.raises(ValueError, match=r"layers of another net: single_blocks\.7\.linear2"):
            use()
    name = "final_layer.linear"
    wide = parse({f"{name}.lora_A.weight": randn(3, 21), f"{name}.lora_B.weight": randn(16, 3)})
    with pytest.raises(ValueError, match=r"final_layer\.linear: factors \(16, 3\) and \(3, 21\) do not fit"):
        merge(ours.state_dict(), [(wide, 1.0)])
    down, up = randn(3, 4, 1, 2, 2), randn(20, 3, 1, 1, 1, seed=1)
    patch = parse({"img_in.proj.lora_A.weight": down, "img_in.proj.lora_B.weight": up})
    found = merge(ours.state_dict(), [(patch, 1.0)])["img_in.proj.weight"]
    change = torch.einsum("or,rcthw->octhw", up[..., 0, 0, 0], down)
    assert torch.allclose(found, ours.state_dict()["img_in.proj.weight"] + change, atol=1e-5)
    with pytest.raises(ValueError, match=r"can only be merged, not live: img_in\.proj"):
        LiveLora(ours, patch)
