"""The generator: its start, who hears the speech, and how frames and cells become latent ones."""

from dataclasses import replace

import pytest
import torch
from tiny import FEATURES, TINY, generator
from torch import Tensor

from avatar.backbone import flow
from avatar.model import Conditions, Strengths, face_window, group, hole_cells

CELLS = 8


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def given(audio: bool = True) -> Conditions:
    """Two samples of three latent frames; the face fills the middle."""
    face = torch.zeros(2, 1, CELLS, CELLS)
    face[..., 2:6, 2:6] = 1
    return Conditions(
        reference=randn(2, 16, 1, CELLS, CELLS, seed=1),
        driven=randn(2, 16, 3, CELLS, CELLS, seed=2),
        hole=torch.rand(2, 4, 3, CELLS, CELLS, generator=torch.Generator().manual_seed(3)),
        face=face,
        motion=torch.tensor([[1.5, 1.0], [0.0, 3.0]]),
        known=randn(2, 17, 3, CELLS, CELLS, seed=5),
        audio=randn(2, 3, 4, 10, FEATURES, seed=4) if audio else None,
        codes=randn(2, 3, 4, 48, seed=6),
        pose=randn(2, 16, 3, CELLS, CELLS, seed=7),
    )


NOISE, TIME = randn(2, 16, 3, CELLS, CELLS), torch.tensor([0.0, 0.7])


@pytest.mark.parametrize("audio", [True, False])
@torch.no_grad()
def test_an_untrained_net_gives_the_driven_latents(audio: bool) -> None:
    conditions = given(audio)
    assert torch.equal(generator(random=False)(NOISE, TIME, conditions), conditions.driven)


@pytest.mark.parametrize("steps", [1, 2, 4])
@torch.no_grad()
def test_sampling_the_untrained_net_gives_them_too(steps: int) -> None:
    net, conditions = generator(random=False), given()

    def velocity(x: Tensor, time: float) -> Tensor:
        return flow.velocity_from_clean(x, net(x, torch.full((2,), time), conditions), time)

    found = flow.euler(velocity, NOISE, flow.schedule(steps, 1.0))
    assert torch.allclose(found, conditions.driven, atol=1e-5)


@pytest.mark.parametrize("name", ["reference", "driven", "hole", "motion", "known", "audio", "codes", "pose"])
@torch.no_grad()
def test_every_condition_counts(name: str) -> None:
    net, conditions = generator(random=True), given()
    step = randn(*getattr(conditions, name).shape, seed=8)
    other = conditions._replace(**{name: getattr(conditions, name) + step})
    change = net(NOISE, TIME, other) - net(NOISE, TIME, conditions)
    if name == "driven":
        change = change - step  # the net's own answer alone
    assert (change.abs().amax((1, 2, 3, 4)) > 1e-3).all()


@torch.no_grad()
def test_a_fresh_adapter_changes_nothing() -> None:
    net = generator(random=True)
    for layer in (*net.audio.double_layers.values(), *net.audio.single_layers.values()):
        torch.nn.init.zeros_(layer.proj.weight)
        torch.nn.init.zeros_(layer.proj.bias)
    assert torch.equal(net(NOISE, TIME, given()), net(NOISE, TIME, given(audio=False)))


@torch.no_grad()
def test_speech_after_the_last_block_stays_inside_the_face() -> None:
    last = replace(TINY.audio, double_blocks=(), single_blocks=(TINY.dit.single_blocks - 1,))
    net = generator(random=True, config=replace(TINY, audio=last).generator)
    change = (net(NOISE, TIME, given()) - net(NOISE, TIME, given(audio=False))).abs().amax((1, 2))
    inside = given().face[:, 0] > 0
    assert change[~inside].max() == 0
    assert change[inside].min() > 0


@torch.no_grad()
def test_withheld_sound_is_no_sound() -> None:
    net = generator(random=True)
    heard, deaf = net(NOISE, TIME, given()), net(NOISE, TIME, given(audio=False))
    mixed = net(NOISE, TIME, given(), drop=torch.tensor([True, False]))
    assert torch.allclose(mixed[0], deaf[0], atol=1e-5)
    assert torch.allclose(mixed[1], heard[1], atol=1e-5)
    assert not torch.allclose(heard[0], deaf[0], atol=1e-2)


@torch.no_grad()
def test_the_scale_turns_the_speech_off() -> None:
    net, other = generator(random=True), given()._replace(audio=randn(2, 3, 4, 10, FEATURES, seed=9))
    silent, loud = (net(NOISE, TIME, given(), Strengths(audio=scale)) for scale in (0.0, 1.0))
    assert torch.equal(net(NOISE, TIME, other, Strengths(audio=0.0)), silent)
    assert not torch.allclose(net(NOISE, TIME, other, Strengths(audio=1.0)), loud, atol=1e-3)


@pytest.mark.parametrize(("signal", "strength"), [("codes", "expression"), ("pose", "pose")])
@torch.no_grad()
def test_a_signal_at_0_is_no_signal_and_counts_frame_by_frame(signal: str, strength: str) -> None:
    net = generator(random=True)
    without = net(NOISE, TIME, given()._replace(**{signal: None}))
    for nothing in (0.0, torch.zeros(2, 1), torch.zeros(1, 3)):
        assert torch.equal(net(NOISE, TIME, given(), Strengths(**{strength: nothing})), without)
    half = net(NOISE, TIME, given(), Strengths(**{strength: torch.tensor([[1.0], [0.0]])}))
    whole = net(NOISE, TIME, given())
    assert torch.allclose(half[0], whole[0], atol=1e-5) and torch.allclose(half[1], without[1], atol=1e-5)
    assert not torch.allclose(whole, without, atol=1e-2)


@torch.no_grad()
def test_nothing_known_is_what_none_means() -> None:
    net, nothing = generator(random=True), torch.zeros(2, 17, 3, CELLS, CELLS)
    assert torch.equal(
        net(NOISE, TIME, given()._replace(known=nothing)), net(NOISE, TIME, given()._replace(known=None))
    )


def test_hole_cells_hold_the_four_frames_of_a_latent_frame() -> None:
    frames = torch.zeros(9, 32, 32)
    frames[:, :8, 8:16] = torch.arange(9.0)[:, None, None] / 8  # a whole cell
    frames[:, 24:28, 24:32] = 1  # half a cell
    cells = hole_cells(frames, 4)
    assert cells.shape == (4, 3, 4, 4)
    expected = torch.tensor([[0, 1, 5], [0, 2, 6], [0, 3, 7], [0, 4, 8]]) / 8
    assert torch.allclose(cells[:, :, 0, 1], expected)
    assert torch.allclose(cells[:, :, 3, 3], torch.full((4, 3), 0.5))
    assert cells[:, :, 1:3].abs().max() == 0


def test_the_first_frame_fills_its_group_alone_and_later_pieces_have_whole_groups() -> None:
    frames = torch.arange(18.0).reshape(9, 2)
    first = group(frames, start=True)
    assert first[..., 0].tolist() == [[0, 0, 0, 0], [2, 4, 6, 8], [10, 12, 14, 16]]
    assert group(frames[:8], start=False)[..., 1].tolist() == [[1, 3, 5, 7], [9, 11, 13, 15]]


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        ((12, 20), (10, 22), (8, 8)),  # rows and columns of the face; where the square begins
        ((0, 10), (22, 32), (0, 16)),
        ((20, 32), (0, 6), (16, 0)),
        ((2, 30), (1, 31), (8, 8)),  # a face larger than the square
        ((15, 16), (19, 20), (8, 12)),
    ],
)
def test_the_square_is_around_the_face_and_inside_the_crop(
    rows: tuple[int, int], columns: tuple[int, int], expected: tuple[int, int]
) -> None:
    face = torch.zeros(32, 32)
    face[slice(*rows), slice(*columns)] = 1
    assert face_window(face, 16) == expected


def test_the_square_of_a_whole_crop_is_the_crop() -> None:
    face = torch.zeros(8, 8)
    face[1:3, 2:4] = 1
    assert face_window(face, 8) == (0, 0)
