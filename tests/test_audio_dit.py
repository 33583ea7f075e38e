"""The released audio model's parts: who hears what, where the reference stands, and how it is sampled."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from avatar.adapters.audio_dit import AudioDiT, AudioDiTConfig, SpeechAttention, SpeechProjection
from avatar.adapters.audio_sampling import (
    fuse,
    guidance_at,
    shift_at,
    speech_frames,
    total_frames,
    window_frames,
)
from avatar.backbone.embed import sinusoid

TINY = AudioDiTConfig(
    in_channels=4,
    out_channels=4,
    hidden=32,
    heads=2,
    double_blocks=2,
    single_blocks=1,
    rope_channels=(4, 6, 6),
    text_dim=12,
    pooled_dim=6,
    speech=(3, 2, 5),
    speech_width=16,
    tokens_per_frame=2,
    speech_attention=8,
    speech_blocks=(1,),
    motion_values=4,
)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def net(config: AudioDiTConfig = TINY) -> AudioDiT:
    """A net none of whose parameters is zero."""
    torch.manual_seed(0)
    made = AudioDiT(config).eval().requires_grad_(False)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made


def inputs() -> dict[str, Any]:
    """Two samples of three latent frames, nine video frames; all of each picture is face."""
    return {
        "x": randn(2, 4, 3, 4, 6),
        "time": torch.tensor([900.0, 20.0]),
        "reference": randn(2, 4, 1, 4, 6, seed=1).expand(-1, -1, 3, -1, -1),
        "speech": randn(2, 9, *TINY.speech, seed=2),
        "face": torch.ones(2, 1, 1, 4, 6),
        "expression": torch.full((2, 4), 30.0),
        "pose": torch.full((2, 4), 25.0),
        "fps": torch.tensor([25.0, 12.5]),
        "text": randn(2, 5, 12, seed=3),
        "text_mask": torch.tensor([[True] * 5, [True] * 3 + [False] * 2]),
        "pooled": randn(2, 6, seed=4),
    }


def test_every_input_is_heard() -> None:
    given, made = inputs(), net()
    before = made.animate(**given)
    assert before.shape == given["x"].shape
    for name in given.keys() - {"text_mask"}:
        after = made.animate(**{**given, name: given[name] + 0.3})
        assert not torch.allclose(after, before, atol=1e-4), name


def test_nothing_is_heard_outside_the_face_after_the_last_attention() -> None:
    """With attention between tokens off (no single block), the other half of the picture keeps still."""
    made = net(replace(TINY, double_blocks=1, speech_blocks=(0,), single_blocks=0))
    given = inputs()
    given["face"][..., 3:] = 0
    changed = {**given, "speech": given["speech"] + 1}
    moved = (made.animate(**changed) - made.animate(**given)).abs().amax((0, 1, 2))
    # Tokens are 2 cells wide: nearest sampling of the mask's columns 0, 2, 4 gives 1, 1, 0.
    assert moved[:, 4:].max() == 0
    assert moved[:, :4].min() > 0


def test_latent_frames_hear_their_own_four_video_frames() -> None:
    made = net(replace(TINY, double_blocks=1, speech_blocks=(0,), single_blocks=0))
    given = inputs()
    before = made.animate(**given)
    for frame in range(9):
        speech = given["speech"].clone()
        speech[:, frame] += 1
        moved = (made.animate(**{**given, "speech": speech}) - before).abs().amax((0, 1, 3, 4)) > 1e-5
        assert moved.tolist() == [i == (frame + 3) // 4 for i in range(3)]


def test_projection_is_the_plain_formula() -> None:
    torch.manual_seed(0)
    layer, x = SpeechProjection(TINY), randn(2, 9, *TINY.speech)
    rows = torch.relu(x.reshape(18, 30) @ layer.proj1.weight.T + layer.proj1.bias)
    rows = torch.relu(rows @ layer.proj2.weight.T + layer.proj2.bias)
    rows = (rows @ layer.proj3.weight.T + layer.proj3.bias).reshape(2, 9, 2, 32)
    expected = (rows - rows.mean(-1, keepdim=True)) / (rows.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    assert torch.allclose(layer(x), expected, atol=1e-5)


def test_attention_is_the_plain_formula_and_zero_at_the_start() -> None:
    torch.manual_seed(0)
    layer = SpeechAttention(32, 8)
    x, audio = randn(3, 6, 32), randn(3, 4, 32, seed=1)
    assert layer(x, audio).abs().max() == 0
    torch.nn.init.normal_(layer.to_out.weight)
    q = layer.norm2(x) @ layer.to_q.weight.T
    k, v = (layer.norm1(audio) @ layer.to_kv.weight.T).chunk(2, dim=-1)
    expected = (q @ k.mT / math.sqrt(8)).softmax(-1) @ v @ layer.to_out.weight.T
    assert torch.allclose(layer(x, audio), expected, atol=1e-5)


def test_motion_values_are_embedded_one_by_one() -> None:
    made, values = net(), torch.tensor([30.0, 29.0, 3.0, 0.5])
    made.motion_exp.mlp[2].weight.zero_()
    made.motion_exp.mlp[2].weight += torch.eye(8)
    made.motion_exp.mlp[2].bias.zero_()
    got = made.motion_exp(values[:, None])
    rows = sinusoid(values) @ made.motion_exp.mlp[0].weight.T + made.motion_exp.mlp[0].bias
    assert torch.allclose(got, torch.nn.functional.silu(rows), atol=1e-5)
    assert got.shape == (4, 8)  # joined they are the 32 hidden channels


def test_guidance_falls_from_text_and_speech_to_speech_alone() -> None:
    first, ninth, tenth, last = (guidance_at(i, 50) for i in (0, 9, 10, 49))
    assert first == (7.5, True, 0.6)
    assert ninth.scale == pytest.approx(2 + 5.5 * 41 / 50) and ninth.negative_text
    assert tenth == (pytest.approx(3.5 + 3 * 40 / 50), False, 1.0)
    assert last.scale == pytest.approx(3.5 + 3 / 50)


@pytest.mark.parametrize(("video", "latents"), [(100, 33), (131, 33), (132, 65), (300, 97)])
def test_length_of_a_long_video(video: int, latents: int) -> None:
    assert total_frames(video) == latents


def test_windows_move_back_by_ten_each_step_and_wrap_around() -> None:
    assert [shift_at(i, 65) for i in range(5)] == [0, 10, 20, 30, 7]
    assert [shift_at(i, 33) for i in range(3)] == [0, 0, 0]
    windows = window_frames(65, 33, 10)
    assert windows[0].tolist() == [*range(55, 65), *range(23)]
    assert windows[1].tolist() == list(range(23, 56))


def test_a_window_hears_the_video_frames_of_its_latents() -> None:
    assert speech_frames(torch.arange(3), 100).tolist() == list(range(9))
    assert speech_frames((torch.arange(3) + 24) % 25, 100).tolist() == [96, 97, 98, 99, 0, 1, 2, 3, 4]


def test_fused_windows_are_averaged_where_they_meet() -> None:
    x, windows = torch.zeros(1, 1, 5, 1, 1), window_frames(5, 3, 1)
    assert [w.tolist() for w in windows] == [[4, 0, 1], [2, 3, 4]]
    values = iter([1.0, 3.0])
    fused = fuse(lambda part, frames: torch.full_like(part, next(values)), x, windows)
    assert fused.flatten().tolist() == [1, 1, 3, 3, 2]
