"""From motion to frames: the untrained start, windows that do not show, streaming, seeds and borders."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import TypeVar

import numpy as np
import pytest
import torch
from tiny import FEATURES, TINY, decoder, generator, landmarks, motion, picture, vae
from torch import Tensor

from avatar.backbone.decode import Decoded
from avatar.backbone.precision import fast_dtype
from avatar.drivers.expression import CODE
from avatar.drivers.mesh import FaceBasis
from avatar.drivers.mouth import MouthModel
from avatar.model import Conditions, Generator
from avatar.render import FADE, Frame, Motion, Nets, Renderer, Sampling, compose, pixels, smooth_jumps

Field = TypeVar("Field", np.ndarray, Tensor)

SIDE = 128  # px
STILL = Sampling()
ROUNDING = 1e-3 if fast_dtype() == torch.float32 else 8e-3  # bfloat16 keeps 8 bits


@cache
def renderer(random: bool = False, coder: bool = False, window: int | None = TINY.window) -> Renderer:
    """Nets as they start, or random weights in generator and decode (`random`) and in the VAE (`coder`),
    whose decode is then what is drawn."""
    nets = Nets(
        vae=vae(coder),
        generator=generator(random),
        decoder=decoder(random, plain=coder),
        basis=FaceBasis.load(),
        mouth=MouthModel.load(),
        window=window,
        device=torch.device("cpu"),
    )
    return Renderer(nets, picture(SIDE), landmarks(SIDE))


def inside(render: Renderer, values: Field) -> Field:
    """The nets' window of values (..., S, S)."""
    return values[..., render.rows, render.columns]


def sound(frames: int, seed: int = 0) -> Tensor:
    return torch.randn(frames, 10, FEATURES, generator=torch.Generator().manual_seed(seed))


def talk(frames: int) -> Motion:
    return Motion(*motion(frames), sound(frames))


def pieces(whole: Motion, sizes: Sequence[int]) -> Iterator[Motion]:
    start = 0
    for size in sizes:
        yield whole.cut(slice(start, start + size))
        start += size


def same(one: Sequence[Frame], other: Sequence[Frame]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a, b) for pair in zip(one, other, strict=True) for a, b in zip(*pair, strict=True)
    )


# ---- the untrained start -----------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2])
def test_untrained_nets_show_the_driven_reference(steps: int) -> None:
    render, whole = renderer(), talk(21)
    driven = render.driven(whole.curves, whole.head)
    frames = list(render([whole], Sampling(steps=steps)))
    for t, frame in enumerate(frames):
        assert np.array_equal(frame.flow, driven.flow[t])
        error = compose(frame, render.driven.picture).astype(float) - driven.picture[t]
        assert np.abs(error).mean() < 1
        error = error[driven.hole[t] == 0]
        assert np.quantile(np.abs(error), 0.99) < 3  # two kinds of interpolation, the soft edge of the paint
        assert frame.mask[driven.hole[t] > 0.9].max(initial=0) < 0.2  # there the plain decode is shown
        assert (frame.mask[driven.hole[t] == 0] > 0.9).mean() > 0.95  # but along lips and lids
    assert (driven.hole > 0.9).sum() > 500


def test_without_motion_the_picture_stays() -> None:
    render = renderer()
    curves, head = (0 * values for values in motion(6))
    for frame in render([Motion(curves, head)], STILL):
        assert np.abs(frame.flow).max() < 1e-3
        assert np.abs(compose(frame, render.driven.picture).astype(int) - render.driven.picture).max() <= 2


@pytest.mark.parametrize("random", [False, True])
def test_around_the_nets_window_everything_is_the_driven_reference(random: bool) -> None:
    render, whole = renderer(random, random), talk(18)
    driven = render.driven(whole.curves, whole.head)
    outside = np.ones((SIDE, SIDE), bool)
    outside[render.rows, render.columns] = False
    assert outside.sum() == SIDE**2 - (8 * 8) ** 2
    for t, frame in enumerate(render([whole], STILL)):
        assert (frame.mask[outside] == 1).all()
        assert np.array_equal(frame.flow[:, outside], driven.flow[t][:, outside])
        assert frame.mask.min() >= 0 and frame.mask.max() <= 1


def test_the_nets_word_fades_out_towards_their_window() -> None:
    render, whole = renderer(random=True, coder=True), talk(5)
    driven = render.driven(whole.curves, whole.head)
    frames = list(render([whole], STILL))
    said = np.mean([np.abs(f.flow - driven.flow[t]).sum(0) for t, f in enumerate(frames)], 0)
    light = np.mean([np.abs(f.shade).sum(0) for f in frames], 0)
    for word in (inside(render, said), inside(render, light)):
        rim = np.concatenate([word[0], word[-1], word[:, 0], word[:, -1]])
        deep = word[int(8 * FADE) : -int(8 * FADE), int(8 * FADE) : -int(8 * FADE)]
        assert 0 < rim.max() < 0.1 * deep.max()


def test_without_a_window_the_nets_work_on_the_whole_crop() -> None:
    render = renderer(random=True, window=None)
    assert render.reference.shape[-2:] == (SIDE, SIDE)
    frame = next(iter(render([talk(1)], STILL)))
    assert (np.abs(frame.shade) > 0).mean() > 0.99


@pytest.mark.parametrize("random", [False, True])
def test_the_border_of_the_crop_never_moves(random: bool) -> None:
    whole = talk(8)
    whole.head[:] = [0.2, 0.2, 0.15, 0.05, 0.05, 0.0]
    flow = np.stack([frame.flow for frame in renderer(random, random)([whole], STILL)])
    rims = (flow[:, :, 0], flow[:, :, -1], flow[..., 0], flow[..., -1])
    assert max(np.abs(rim).max() for rim in rims) < 0.2
    assert np.abs(flow).max() > 3


# ---- length and streaming ----------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 2, 4, 5, 17, 18, 33, 40])
def test_every_frame_of_the_motion_is_shown_once(frames: int) -> None:
    render, whole = renderer(), talk(frames)
    shown = list(render([whole], STILL))
    assert len(shown) == frames
    driven = render.driven(whole.curves, whole.head)
    assert all(np.array_equal(frame.flow, driven.flow[t]) for t, frame in enumerate(shown))


def test_no_motion_gives_no_frames() -> None:
    assert list(renderer()([], STILL)) == []


@pytest.mark.parametrize("sizes", [[1] * 40, [17, 23], [16, 1, 1, 22], [3, 33, 4], [39, 1]])
def test_the_size_of_the_pieces_does_not_matter(sizes: list[int]) -> None:
    render, whole = renderer(random=True, coder=True), talk(40)
    assert same(list(render(pieces(whole, sizes), STILL)), whole_frames())


@cache
def whole_frames() -> list[Frame]:
    return list(renderer(random=True, coder=True)([talk(40)], STILL))


def test_the_start_of_a_longer_motion_is_the_same() -> None:
    frames = list(renderer(random=True, coder=True)(pieces(talk(40), [25]), STILL))
    # The last window of the shorter motion has no successor: only what precedes it must agree.
    assert same(frames[:13], whole_frames()[:13])


def test_a_second_motion_does_not_remember_the_first() -> None:
    render = renderer(random=True, coder=True)
    list(render([Motion(*motion(9, seed=3), sound(9, 3))], STILL))
    assert same(list(render([talk(40)], STILL)), whole_frames())


def test_two_motions_can_be_shown_at_once() -> None:
    render = renderer(random=True, coder=True)
    streams = [render([talk(40)], STILL) for _ in range(2)]
    both = list(zip(*streams, strict=True))
    assert same([pair[0] for pair in both], whole_frames())
    assert same([pair[1] for pair in both], whole_frames())


def test_frames_come_before_all_the_motion_is_read() -> None:
    read = 0

    def listen() -> Iterator[Motion]:
        nonlocal read
        for piece in pieces(talk(60), [1] * 60):
            read += 1
            yield piece

    # A window is shown when there is one frame more: it is not the last. Its last latent waits for the next.
    needed = [18] * 13 + [34] * 16 + [50] * 16 + [60] * 15
    for shown, _ in enumerate(renderer()(listen(), STILL)):
        assert read == needed[shown]
    assert shown == 59


# ---- windows do not show -----------------------------------------------------------------------


def test_the_picture_coder_sees_one_clip_not_windows() -> None:
    render, whole = renderer(coder=True), talk(41)
    coder = render.nets.vae
    frames = np.stack([frame.rgb for frame in render([whole], STILL)])
    driven = render.driven(whole.curves, whole.head)
    with torch.no_grad():
        at_once = coder(inside(render, pixels(driven.picture)))[0].transpose(0, 1).numpy()
    error = np.abs(inside(render, frames) - at_once)
    assert np.quantile(error, 0.9) < ROUNDING  # the rest lies along lips and lids, where the flow jumps


def test_no_jump_where_windows_meet() -> None:
    render, count = renderer(random=True, coder=True), 16 * 6 + 1
    curves, head = (np.repeat(values[5:6], count, 0) for values in motion(6))
    silence = torch.zeros(count, 10, FEATURES)
    frames = render([Motion(curves, head, silence)], STILL)
    seen = np.stack([inside(render, frame.rgb) for frame in frames])
    # The motion is constant, so all change is the generator's: its noise is new in each latent frame.
    change = np.sqrt(np.square(np.diff(seen, axis=0)).mean((1, 2, 3)))
    latent = (np.arange(len(change)) + 3) // 4  # of the frame before each change
    into_next = change[latent != (np.arange(len(change)) + 4) // 4]
    joins = np.isin(np.arange(len(into_next)) % 4, [3, 0]) & (
        np.arange(len(into_next)) > 0
    )  # around 4, 8, ...
    assert joins.sum() == 11
    assert into_next[joins].mean() < 1.1 * into_next[~joins].mean()
    assert into_next[joins].max() < 1.2 * into_next[~joins].max()


class Echo(Generator):
    """Gives back the noise it gets."""

    def forward(self, x: Tensor, time: Tensor, given: Conditions, *_: object) -> Tensor:
        return x


class Mood(Generator):
    """The driven reference in a light that is one for the whole window, by its noise."""

    def forward(self, x: Tensor, time: Tensor, given: Conditions, *_: object) -> Tensor:
        return given.driven + 30 * x.mean()


def brightness(kind: type[Generator], latents: int) -> np.ndarray:
    """RGB (latent frames, 3, s, s) of the last frame of each latent frame of a still motion."""
    nets = replace(renderer().nets, decoder=decoder(False, plain=True))
    net = kind(TINY.generator).eval()
    render = Renderer(replace(nets, generator=net), picture(SIDE), landmarks(SIDE))
    curves, head = (0 * values for values in motion(4 * latents - 3))
    shown = [inside(render, frame.rgb) for frame in render([Motion(curves, head)], STILL)]
    return np.stack(shown[::4])


def test_neighbouring_windows_share_their_noise() -> None:
    loudness = brightness(Echo, 33).std((1, 2, 3))
    assert loudness[4:-1:4].mean() == pytest.approx(np.delete(loudness, np.s_[::4]).mean(), rel=0.05)


def test_what_two_windows_say_differently_is_halved_where_they_meet() -> None:
    light = brightness(Mood, 13).mean((1, 2, 3))
    steps = np.diff(light)
    assert np.abs(steps[[0, 1, 2, 5, 6, 9, 10, 11]]).max() < 1e-4
    for join in (4, 8):
        assert abs(steps[join]) > 1e-3
        assert steps[join - 1] == pytest.approx(steps[join], rel=10 * ROUNDING)


# ---- seeds and options -------------------------------------------------------------------------


def told(**options: object) -> list[Frame]:
    return list(renderer(random=True, coder=True)([talk(18)], Sampling(**options)))  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_frames() -> None:
    assert same(told(seed=5), told(seed=5))


@pytest.mark.parametrize(
    "options",
    [
        {"seed": 6},
        {"steps": 2},
        {"steps": 2, "shift": 3.0},
        {"guidance": 3.0},
        {"schedules": {"audio": lambda time: 0.0}},
        {"head_motion": 2.0},
        {"expressiveness": 0.0},
    ],
)
def test_options_change_the_frames_from_the_first_on(options: dict[str, object]) -> None:
    base: dict[str, object] = {"steps": 2} if "shift" in options else {}
    for one, other in zip(told(**base), told(**options), strict=True):
        assert np.abs(one.rgb - other.rgb).max() > 1e-3


def test_guidance_needs_a_sound() -> None:
    render, silent = renderer(random=True), Motion(*motion(5))
    assert same(list(render([silent], Sampling(guidance=3.0))), list(render([silent], STILL)))


def test_speech_changes_the_frames_that_hear_it() -> None:
    render, whole = renderer(random=True, coder=True), talk(60)
    assert whole.audio is not None
    other = whole._replace(audio=torch.cat([whole.audio[:40], sound(20, seed=1)]))
    frames = zip(render([whole], STILL), render([other], STILL), strict=True)
    changes = [np.abs(one.rgb - another.rgb).max() for one, another in frames]
    assert max(changes[:29]) == 0  # the windows before
    assert min(changes[41:]) > 1e-3


def driven_face(frames: int) -> Motion:
    """A talking head that the net is told of by codes and a skeleton too."""
    codes = np.random.default_rng(0).normal(size=(frames, CODE)).astype(np.float32)
    ones = np.ones((frames, 3), np.float32)
    return talk(frames)._replace(codes=codes, told=ones, pose_strength=ones[:, 0])


@pytest.mark.parametrize("sizes", [[17, 4], [1, 5, 15], [20, 1]])
def test_codes_and_skeletons_come_in_pieces_too(sizes: list[int]) -> None:
    render, whole = renderer(random=True, coder=True), driven_face(21)
    assert same(list(render(pieces(whole, sizes), STILL)), list(render([whole], STILL)))


@pytest.mark.parametrize("field", ["told", "pose_strength"])
def test_codes_and_skeletons_count_by_their_strength_and_schedule(field: str) -> None:
    render, whole = renderer(random=True, coder=True), driven_face(9)
    kind = {"told": "expression", "pose_strength": "pose"}[field]
    without = whole._replace(codes=None, told=None) if field == "told" else whole._replace(pose_strength=None)
    off = list(render([without], STILL))
    assert same(list(render([whole._replace(**{field: 0 * getattr(whole, field)})], STILL)), off)
    assert same(list(render([whole], Sampling(schedules={kind: lambda time: 0.0}))), off)
    changes = [np.abs(a.rgb - b.rgb).max() for a, b in zip(render([whole], STILL), off, strict=True)]
    assert min(changes) > 1e-3


def test_codes_are_heard_where_they_are_told_to() -> None:
    """The eyes' cells alone: what changes most lies in the upper half of the face."""
    render, whole = renderer(random=True, coder=True), driven_face(5)
    assert whole.told is not None
    eyes = whole._replace(told=whole.told * np.array([0, 1, 0], np.float32))
    deaf = whole._replace(codes=None, told=None)
    mouth = whole._replace(told=whole.told * np.array([1, 0, 0], np.float32))
    base = list(render([deaf], STILL))

    def upper_share(heard: Motion) -> float:
        pairs = zip(render([heard], STILL), base, strict=True)
        change = np.mean([np.abs(one.rgb - other.rgb).sum(0) for one, other in pairs], 0)
        return float(change[: SIDE // 2].sum() / change.sum())

    assert upper_share(eyes) > upper_share(mouth) + 0.1


def test_where_the_flow_jumps_the_small_picture_is_shown() -> None:
    torch.manual_seed(0)
    image, flow, mask, rgb, shade = (torch.rand(1, n, 16, 16) for n in (3, 2, 1, 3, 3))
    flow[..., :8], flow[..., 8:] = 0, 6
    share, drawn = smooth_jumps(Decoded(image, flow, mask, rgb, shade))
    assert share[..., 7:9].max() == 0
    torch.testing.assert_close(drawn[..., 7:9], image[..., 7:9])
    far = [*range(7), *range(9, 16)]
    assert torch.equal(share[..., far], mask[..., far]) and torch.equal(drawn[..., far], rgb[..., far])
