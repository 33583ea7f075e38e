"""Attention, rotary positions and the DiT against plain formulas, its start and the released layout."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from avatar.backbone import checkpoint
from avatar.backbone.attention import Grid, apply_rope, attention, rms_norm, rope_3d, rope_frequencies
from avatar.backbone.dit import DiT, DiTConfig, PatchEmbed
from avatar.backbone.embed import sinusoid
from avatar.backbone.norm_rope import norm_rope
from avatar.presets import HUNYUAN

PLAIN = DiTConfig(
    in_channels=4,
    condition_channels=8,
    out_channels=4,
    hidden=32,
    heads=2,
    double_blocks=1,
    single_blocks=2,
    rope_channels=(4, 6, 6),
    scalars=2,
)
TEXT = replace(PLAIN, condition_channels=0, text_dim=12, pooled_dim=6, guidance_embed=True, scalars=0)


def random_dit(config: DiTConfig) -> DiT:
    """A net none of whose parameters is zero."""
    torch.manual_seed(0)
    net = DiT(config).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return net


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_attention_is_the_plain_formula() -> None:
    q, k, v = randn(2, 5, 3, 4, seed=0), randn(2, 7, 3, 4, seed=1), randn(2, 7, 3, 4, seed=2)
    mask = torch.tensor([True] * 5 + [False] * 2).expand(2, 1, 5, 7)
    for used in (None, mask):
        logits = torch.einsum("bnad,bmad->banm", q, k) / 2
        if used is not None:
            logits = logits.masked_fill(~used, -torch.inf)
        expected = torch.einsum("banm,bmad->bnad", logits.softmax(-1), v).flatten(2)
        assert torch.allclose(attention(q, k, v, used), expected, atol=1e-5)


def test_rope_turns_adjacent_pairs_by_position_times_frequency() -> None:
    grid, channels = (2, 3, 2), (2, 4, 2)
    x = randn(1, 12, 1, 8)
    y = apply_rope(x, rope_3d(grid, channels, 256.0, first_frame=-1))
    frequencies = [1.0, 1.0, 256 ** (-2 / 4), 1.0]
    for n in range(12):
        t, h, w = n // 6 - 1, n // 2 % 3, n % 2
        for pair, position in enumerate([t, h, h, w]):
            angle = position * frequencies[pair]
            a, b = x[0, n, 0, 2 * pair : 2 * pair + 2].tolist()
            turned = [a * math.cos(angle) - b * math.sin(angle), b * math.cos(angle) + a * math.sin(angle)]
            assert y[0, n, 0, 2 * pair : 2 * pair + 2].tolist() == pytest.approx(turned, abs=1e-5)


def test_patches_are_those_of_a_convolution_and_lie_token_by_token() -> None:
    torch.manual_seed(0)
    embed, x = PatchEmbed(3, 8, (1, 2, 2)), torch.randn(2, 3, 2, 4, 6)
    found = embed(x)
    assert found.is_contiguous()
    torch.testing.assert_close(found, embed.proj(x).flatten(2).transpose(1, 2), rtol=0, atol=1e-6)


def test_rope_knows_distances_only() -> None:
    q, k = randn(1, 8, 2, 16, seed=0), randn(1, 8, 2, 16, seed=1)

    def logits(first_frame: int) -> Tensor:
        rotation = rope_3d((2, 2, 2), (4, 6, 6), 256.0, first_frame)
        return torch.einsum("bnad,bmad->banm", apply_rope(q, rotation), apply_rope(k, rotation))

    assert torch.allclose(logits(0), logits(37), atol=1e-4)


def test_rope_frequencies() -> None:
    assert torch.allclose(rope_frequencies(4, 256.0), torch.tensor([1.0, 1 / 16]))


def test_a_gradient_of_any_layout_goes_back_through_norm_and_rotation() -> None:
    torch.manual_seed(0)
    x, weight, rotation = (
        torch.randn(2, 5, 3, 8, requires_grad=True),
        torch.rand(8),
        rope_3d((5, 1, 1), (8, 0, 0), 9),
    )
    grad = torch.randn(2, 3, 8, 5).permute(0, 3, 1, 2)  # as products of queries and keys give it
    found = [
        torch.autograd.grad(norm_rope([(x, weight, rotation)]), x, g)[0] for g in (grad, grad.contiguous())
    ]
    torch.testing.assert_close(*found)


def test_norm_of_heads_is_computed_in_float32() -> None:
    x = (300 * randn(4, 8)).half()
    expected = x.float() / x.float().square().mean(-1, keepdim=True).add(1e-6).sqrt()
    assert torch.allclose(rms_norm(x, torch.ones(8)).float(), expected, atol=2e-3)


def test_sinusoid_has_cosines_first() -> None:
    row = sinusoid(torch.tensor([500.0]))[0]
    assert row[0].item() == pytest.approx(math.cos(500), abs=1e-4)
    assert row[128].item() == pytest.approx(math.sin(500), abs=1e-4)
    assert row[64].item() == pytest.approx(math.cos(500 / 100), abs=1e-4)


def test_untrained_net_gives_zero_and_its_blocks_change_nothing() -> None:
    torch.manual_seed(0)
    net = DiT(PLAIN)
    x, condition, time = randn(2, 4, 3, 4, 6), randn(2, 8, 3, 4, 6), torch.tensor([0.0, 700.0])
    assert net(x, time, condition, scalars=torch.rand(2, 2)).abs().max() == 0
    tokens, vector = randn(2, 18, 32), randn(2, 32)
    rotation = rope_3d((3, 2, 3), PLAIN.rope_channels, 256.0)
    assert torch.equal(net.double_blocks[0](tokens, None, vector, rotation, None)[0], tokens)
    assert torch.equal(net.single_blocks[0](tokens, vector, rotation, None), tokens)


def test_every_input_is_heard() -> None:
    net = random_dit(replace(TEXT, condition_channels=8, scalars=2))
    given = {
        "x": randn(1, 4, 2, 4, 4),
        "time": torch.tensor([300.0]),
        "condition": randn(1, 8, 2, 4, 4, seed=1),
        "text": randn(1, 5, 12, seed=2),
        "pooled": randn(1, 6, seed=3),
        "guidance": torch.tensor([6.0]),
        "scalars": torch.tensor([[0.2, 0.4]]),
    }
    before = net(**given)
    assert before.shape == (1, 4, 2, 4, 4)
    for name in given:
        assert not torch.allclose(net(**{**given, name: given[name] + 0.3}), before, atol=1e-4), name


def test_padded_text_changes_nothing() -> None:
    net = random_dit(TEXT)
    x, time, text = randn(1, 4, 2, 4, 4), torch.tensor([300.0]), randn(1, 5, 12, seed=2)
    common = {"pooled": randn(1, 6, seed=3), "guidance": torch.tensor([6.0])}
    padded = torch.cat([text, 9 * randn(1, 3, 12, seed=4)], dim=1)
    mask = torch.tensor([[True] * 5 + [False] * 3])
    expected = net(x, time, text=text, text_mask=mask[:, :5], **common)
    assert torch.allclose(net(x, time, text=padded, text_mask=mask, **common), expected, atol=1e-4)
    assert torch.allclose(net(x, time, text=text, **common), expected, atol=1e-4)


def test_time_may_start_anywhere() -> None:
    net = random_dit(PLAIN)
    x, condition, time = randn(1, 4, 3, 4, 4), randn(1, 8, 3, 4, 4), torch.tensor([0.0])
    expected = net(x, time, condition)
    assert torch.allclose(net(x, time, condition, first_frame=50), expected, atol=1e-3)


def test_patches_go_back_to_their_place() -> None:
    """With blocks that do nothing, an output patch depends on the input patch at the same place alone."""
    net = DiT(PLAIN).eval()
    torch.nn.init.normal_(net.final_layer.linear.weight)
    x, condition = randn(1, 4, 2, 4, 6), randn(1, 8, 2, 4, 6)
    changed = x.clone()
    changed[:, :, 1, 2:4, 4:6] += 1
    moved = (net(changed, torch.zeros(1), condition) - net(x, torch.zeros(1), condition)).abs().sum(1)[
        0
    ] > 1e-4
    expected = torch.zeros(2, 4, 6, dtype=torch.bool)
    expected[1, 2:4, 4:6] = True
    assert torch.equal(moved, expected)


class _Recorder:
    def __init__(self) -> None:
        self.calls: list[tuple[str, int, Grid]] = []

    def after_double(self, index: int, tokens: Tensor, grid: Grid) -> Tensor:
        self.calls.append(("double", index, grid))
        assert tokens.shape[1] == math.prod(grid)
        return tokens + torch.linspace(0, 1, tokens.shape[2])

    def after_single(self, index: int, tokens: Tensor, grid: Grid) -> Tensor:
        self.calls.append(("single", index, grid))
        assert tokens.shape[1] == math.prod(grid)
        return tokens


@pytest.mark.parametrize("config", [PLAIN, TEXT], ids=["plain", "text"])
def test_adapters_see_the_video_tokens_after_every_block(config: DiTConfig) -> None:
    net, recorder = random_dit(config), _Recorder()
    inputs = {"condition": randn(1, 8, 3, 4, 6)} if config is PLAIN else {"text": randn(1, 5, 12)}
    x, time = randn(1, 4, 3, 4, 6), torch.tensor([10.0])
    changed = net(x, time, adapters=[recorder], **inputs)
    grid = (3, 2, 3)
    assert recorder.calls == [("double", 0, grid), ("single", 0, grid), ("single", 1, grid)]
    assert not torch.allclose(changed, net(x, time, **inputs), atol=1e-3)


def test_recomputing_gives_the_same_gradients() -> None:
    net = random_dit(PLAIN).train()
    x, condition, time = randn(1, 4, 2, 4, 4), randn(1, 8, 2, 4, 4), torch.tensor([10.0])
    gradients = []
    for net.recompute in (False, True):
        net.zero_grad()
        net(x, time, condition).square().mean().backward()
        gradients.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


def test_gradients_of_two_samples_are_the_sum_of_both() -> None:
    """The gate of one sample goes into the weights of the layer before it, those of two do not."""
    net = random_dit(TEXT).train()
    x, text, time = randn(2, 4, 2, 4, 4), randn(2, 5, 12, seed=2), torch.tensor([10.0, 600.0])

    def gradients(samples: slice) -> list[Tensor]:
        loss = net(x[samples], time[samples], text=text[samples]).square().sum()
        used = [p for name, p in net.named_parameters() if "guidance" not in name and "vector" not in name]
        return list(torch.autograd.grad(loss, used))

    parts = zip(gradients(slice(0, 1)), gradients(slice(1, 2)), strict=True)
    for both, (one, other) in zip(gradients(slice(0, 2)), parts, strict=True):
        assert (both - one - other).norm() < 1e-4 * both.norm()


def test_released_layout() -> None:
    with torch.device("meta"):
        plain, distilled = DiT(replace(HUNYUAN.dit, guidance_embed=False)), DiT(HUNYUAN.dit)

    def count(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert count(plain.double_blocks[0]) == 339_831_296
    assert count(plain.single_blocks[0]) == 141_591_808
    assert count(plain) / 1e9 == pytest.approx(12.811, abs=5e-4)
    assert count(distilled) / 1e9 == pytest.approx(12.821, abs=5e-4)
    shapes = {name: tuple(value.shape) for name, value in distilled.state_dict().items()}
    h, m = 3072, 12288
    listed = {
        "img_in.proj.weight": (h, 16, 1, 2, 2),
        "txt_in.input_embedder.weight": (h, 4096),
        "txt_in.t_embedder.mlp.0.weight": (h, 256),
        "txt_in.t_embedder.mlp.2.weight": (h, h),
        "txt_in.c_embedder.linear_1.weight": (h, 4096),
        "txt_in.c_embedder.linear_2.weight": (h, h),
        "time_in.mlp.0.weight": (h, 256),
        "time_in.mlp.2.weight": (h, h),
        "vector_in.in_layer.weight": (h, 768),
        "vector_in.out_layer.weight": (h, h),
        "guidance_in.mlp.0.weight": (h, 256),
        "guidance_in.mlp.2.weight": (h, h),
        "final_layer.linear.weight": (64, h),
        "final_layer.adaLN_modulation.1.weight": (2 * h, h),
    }
    for j in range(2):
        refiner = f"txt_in.individual_token_refiner.blocks.{j}."
        listed |= {
            refiner + "norm1.weight": (h,),
            refiner + "norm2.weight": (h,),
            refiner + "self_attn_qkv.weight": (3 * h, h),
            refiner + "self_attn_proj.weight": (h, h),
            refiner + "mlp.fc1.weight": (m, h),
            refiner + "mlp.fc2.weight": (h, m),
            refiner + "adaLN_modulation.1.weight": (2 * h, h),
        }
    for i in range(20):
        for s in ("img", "txt"):
            block = f"double_blocks.{i}.{s}_"
            listed |= {
                block + "mod.linear.weight": (6 * h, h),
                block + "attn_qkv.weight": (3 * h, h),
                block + "attn_q_norm.weight": (128,),
                block + "attn_k_norm.weight": (128,),
                block + "attn_proj.weight": (h, h),
                block + "mlp.fc1.weight": (m, h),
                block + "mlp.fc2.weight": (h, m),
            }
    for i in range(40):
        block = f"single_blocks.{i}."
        listed |= {
            block + "linear1.weight": (3 * h + m, h),
            block + "linear2.weight": (h, h + m),
            block + "q_norm.weight": (128,),
            block + "k_norm.weight": (128,),
            block + "modulation.linear.weight": (3 * h, h),
        }
    assert {name: shapes.get(name) for name in listed} == listed
    assert {name for name in shapes if not name.endswith("bias")} == listed.keys()


def test_without_text_its_parameters_do_not_exist() -> None:
    names = DiT(PLAIN).state_dict()
    assert not any("txt" in name or "vector_in" in name or "guidance" in name for name in names)


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    net = random_dit(PLAIN)
    checkpoint.save(net, tmp_path / "dit.safetensors", torch.float32)
    loaded = checkpoint.load(DiT, tmp_path / "dit.safetensors")
    x, condition, time = randn(1, 4, 2, 4, 4), randn(1, 8, 2, 4, 4), torch.tensor([10.0])
    assert torch.allclose(loaded(x, time, condition), net(x, time, condition), atol=1e-4)


def test_blocks_look_at_as_many_text_tokens_as_count_from_the_first_on() -> None:
    """Also where others are marked, as in the audio release; only the refiner, left out here, minds that."""
    net = random_dit(replace(TEXT, refiner_blocks=0))
    x, time, text = randn(1, 4, 2, 4, 4), torch.tensor([500.0]), randn(1, 4, 12, seed=1)

    def video(text: Tensor) -> Tensor:
        given = {"pooled": randn(1, 6, seed=2), "guidance": torch.tensor([6.0])}
        with torch.no_grad():
            return net(x, time, text=text, text_mask=torch.tensor([[True, False, True, False]]), **given)

    before = video(text)
    for token, heard in enumerate((True, True, False, False)):
        changed = text.clone()
        changed[:, token] += 1
        assert torch.allclose(video(changed), before, atol=1e-5) != heard, token
