"""The audio adapter: alignment by time, identity at the start, and the face mask."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from avatar.adapters.audio import AudioAdapter, AudioAdapterConfig, align
from avatar.backbone import checkpoint
from avatar.backbone.dit import DiT, DiTConfig
from avatar.presets import MINI

CONFIG = AudioAdapterConfig(
    feature_dim=6,
    width=8,
    tokens_per_frame=2,
    hidden=16,
    heads=2,
    double_blocks=(0,),
    single_blocks=(1,),
)
GRID = (3, 2, 4)


def loud_adapter() -> AudioAdapter:
    """An adapter that has something to say after every chosen block."""
    torch.manual_seed(0)
    adapter = AudioAdapter(CONFIG)
    for layers in (adapter.double_layers, adapter.single_layers):
        for layer in layers.values():
            torch.nn.init.normal_(layer.proj.weight)
    torch.nn.init.normal_(adapter.null)
    return adapter


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def windows(seed: int = 0) -> Tensor:
    return randn(2, 3, 4, 10, 6, seed=seed)


@pytest.mark.parametrize("fps", [23.976, 25.0, 29.97, 30.0, 50.0, 60.0])
@pytest.mark.parametrize("first_frame", [0, 7])
def test_every_video_frame_hears_a_tenth_of_a_second_on_both_sides(fps: float, first_frame: int) -> None:
    centres = (torch.arange(1000)[:, None] + 0.5) / 50  # s
    heard = align(centres, 6, fps, first_frame, start=1.0)[..., 0]
    assert heard.shape == (6, 4, 10)
    for i in range(6):
        latent = first_frame + i
        frames = [4 * latent - 3 + k for k in range(4)] if latent else [0] * 4
        for place, frame in enumerate(frames):
            assert (heard[i, place] - 1 - (frame + 0.5) / fps).abs().max() <= 0.1001
            assert heard[i, place].diff().allclose(torch.tensor(0.02), atol=1e-4)


def test_alignment_has_no_limit_of_length_and_repeats_the_ends() -> None:
    features = torch.arange(60_000.0)[:, None]  # 20 minutes
    last = align(features, 2, 25.0, first_frame=7500)
    assert last.max() == 59_999
    assert (align(features[:3], 4, 25.0)[-1] == 2).all()
    assert align(features, 1, 25.0)[0, 0, :5, 0].tolist() == [0, 0, 0, 0, 0]


@pytest.mark.parametrize(("fps", "step"), [(25.0, 2), (50.0, 1)])
def test_windows_move_evenly(fps: float, step: int) -> None:
    firsts = align(torch.arange(400.0)[:, None], 20, fps, first_frame=5)[:, :, 0, 0].flatten()
    assert (firsts.diff() == step).all()


def test_windows_of_a_long_video_agree() -> None:
    features = randn(500, 6)
    whole = align(features, 20, 29.97)
    assert torch.equal(align(features, 5, 29.97, first_frame=8), whole[8:13])
    later = align(features, 5, 25.0, start=1.0)
    assert torch.equal(later[2:], align(features[50:], 5, 25.0)[2:])
    assert torch.equal(later[0, 0, :5], features[46:51])  # the past second is heard too


def test_fresh_adapter_is_the_identity() -> None:
    adapter, x = AudioAdapter(CONFIG), randn(2, 24, 16)
    bound = adapter.bind(windows(), torch.ones(1, 1, 1, 2, 4))
    assert torch.equal(bound.after_double(0, x, GRID), x)
    assert torch.equal(bound.after_single(1, x, GRID), x)


def test_audio_changes_nothing_outside_the_face() -> None:
    adapter, x = loud_adapter(), randn(2, 24, 16)
    face = torch.zeros(2, 1, 3, 2, 4)
    face[0, :, 1, 0, 2] = 1
    face[1, :, :, 1, 3] = 0.5
    bound = adapter.bind(windows(), face)
    for y in (bound.after_double(0, x, GRID), bound.after_single(1, x, GRID)):
        changed = (y - x).abs().amax(2).view(2, *GRID) > 0
        assert torch.equal(changed, face[:, 0] > 0)
    full = adapter.bind(windows(), torch.ones(1, 1, 1, 2, 4)).after_double(0, x, GRID)
    inside = face.flatten(1)[..., None]
    assert torch.allclose(bound.after_double(0, x, GRID) - x, (full - x) * inside, atol=1e-5)


def test_face_may_come_at_latent_size() -> None:
    adapter, x = loud_adapter(), randn(2, 24, 16)
    face = torch.zeros(1, 1, 1, 4, 8)
    face[..., 0:2, 2:4] = 1
    y = adapter.bind(windows(), face).after_double(0, x, GRID)
    changed = (y - x).abs().amax(2).view(2, *GRID) > 0
    assert changed[:, :, 0, 1].all()
    assert changed.sum() == 6


def test_latent_frames_hear_their_own_audio_only() -> None:
    adapter, x = loud_adapter(), randn(2, 24, 16)
    face = torch.ones(1, 1, 1, 2, 4)
    heard = windows()
    other = heard.clone()
    other[:, 1] += randn(4, 10, 6, seed=3)
    a, b = (adapter.bind(w, face).after_double(0, x, GRID) for w in (heard, other))
    changed = (a - b).abs().amax(2).view(2, *GRID) > 1e-6
    assert changed[:, 1].all()
    assert not changed[:, [0, 2]].any()


def test_other_blocks_are_left_alone_and_scale_is_linear() -> None:
    adapter, x = loud_adapter(), randn(2, 24, 16)
    heard, face = windows(), torch.ones(1, 1, 1, 2, 4)
    assert adapter.bind(heard, face).after_single(0, x, GRID) is x
    assert adapter.bind(heard, face, 0.0).after_double(0, x, GRID) is x
    once, twice = (adapter.bind(heard, face, s).after_double(0, x, GRID) - x for s in (1.0, 2.0))
    assert torch.allclose(twice, 2 * once, atol=1e-5)


def test_dropped_samples_hear_no_audio() -> None:
    adapter, x, face = loud_adapter(), randn(2, 24, 16), torch.ones(1, 1, 1, 2, 4)
    mixed = adapter.bind(windows(), face, drop=torch.tensor([True, False])).after_double(0, x, GRID)
    silent, heard = (adapter.bind(w, face).after_double(0, x, GRID) for w in (None, windows()))
    assert torch.allclose(mixed[0], silent[0], atol=1e-5)
    assert torch.allclose(mixed[1], heard[1], atol=1e-5)
    assert not torch.allclose(silent, heard, atol=1e-2)


def test_gradient_reaches_a_fresh_adapter_in_a_dit() -> None:
    torch.manual_seed(0)
    net = DiT(
        DiTConfig(
            in_channels=4,
            out_channels=4,
            hidden=16,
            heads=2,
            double_blocks=1,
            single_blocks=2,
            rope_channels=(4, 2, 2),
        )
    )
    torch.nn.init.normal_(net.final_layer.linear.weight)
    adapter = AudioAdapter(CONFIG)
    bound = adapter.bind(windows(), torch.ones(1, 1, 1, 4, 8))
    x, time = randn(2, 4, 3, 4, 8), torch.zeros(2)
    out = net(x, time, adapters=[bound])
    assert torch.equal(out, net(x, time))
    out.square().mean().backward()
    assert adapter.single_layers["1"].proj.weight.grad is not None
    assert adapter.single_layers["1"].proj.weight.grad.abs().max() > 0


def test_preset_fits_its_dit() -> None:
    config = MINI.audio
    assert config.hidden == MINI.dit.hidden
    assert max(config.double_blocks) < MINI.dit.double_blocks
    assert max(config.single_blocks) < MINI.dit.single_blocks


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    adapter = loud_adapter()
    checkpoint.save(adapter, tmp_path / "audio.safetensors", torch.float32)
    loaded = checkpoint.load(AudioAdapter, tmp_path / "audio.safetensors")
    assert loaded.config == CONFIG
    assert torch.allclose(loaded.tokens(windows()), adapter.tokens(windows()), atol=1e-5)
