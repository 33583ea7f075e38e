"""Signals brought to the frames of one video, and added to its motion piece by piece."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from test_head import pose_of
from tiny import landmarks, motion

from avatar.drivers.curves import CURVES, INDEX, MOUTH
from avatar.drivers.expression import EYES, MOODS, ExpressionReader, ExpressionSignal
from avatar.drivers.head import HeadSignal
from avatar.drivers.mesh import FaceBasis, ReferenceMesh
from avatar.drivers.mix import mix_codes, shown_by, towards
from avatar.drivers.pose import PoseSignal
from avatar.drivers.split import turned_only
from avatar.errors import UserError
from avatar.mixing import HEAD_STEADY, Mixer, WhenShort, fitted
from avatar.windows import Motion

Array = NDArray[np.float32]
FPS, FRAMES = Fraction(25), 20


def film(numbers: list[float], fps: int = 25) -> ExpressionSignal:
    """An expression whose curves all are the frame's number."""
    curves = np.repeat(np.float32(numbers)[:, None], len(CURVES), 1)
    return ExpressionSignal(fps=Fraction(fps), curves=curves)


def numbers(signal: ExpressionSignal) -> list[float]:
    return signal.curves[:, 0].round(4).tolist()


# ---- length ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when_short", "expected"),
    [
        ("hold", [0, 1, 2, 2, 2, 2, 2, 2]),
        ("loop", [0, 1, 2, 0, 1, 2, 0, 1]),
        ("mirror", [0, 1, 2, 1, 0, 1, 2, 1]),
    ],
)
def test_a_signal_that_ends_early_does_as_it_is_told(when_short: WhenShort, expected: list[float]) -> None:
    out = fitted(film([0, 1, 2]), FPS, 8, when_short)
    assert numbers(out) == expected and out.fps == FPS and len(out.strength) == 8


def test_or_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"the expression signal has 0\.12 s, the video 0\.32 s; use --when"):
        fitted(film([0, 1, 2]), FPS, 8, "error")
    assert numbers(fitted(film([0, 1, 2]), FPS, 3, "error")) == [0, 1, 2]


@pytest.mark.parametrize("when_short", ["hold", "loop", "mirror", "error"])
def test_one_frame_holds_whatever_is_said(when_short: WhenShort) -> None:
    assert numbers(fitted(film([7]), FPS, 5, when_short)) == [7] * 5


@pytest.mark.parametrize("when_short", ["hold", "loop", "mirror", "error"])
def test_a_signal_that_goes_on_is_cut(when_short: WhenShort) -> None:
    assert numbers(fitted(film([0, 1, 2, 3]), FPS, 2, when_short)) == [0, 1]


def test_signals_meet_the_video_by_time() -> None:
    """Frame i of the video is the moment i / 25 s, the row 0.4 i at 10 frames a second and 2 i at 50."""
    slow = fitted(film([0, 1, 2, 3], 10), FPS, 8, "hold")
    assert np.allclose(slow.curves[:, 0], 0.4 * np.arange(8), atol=1e-6)
    assert numbers(fitted(film([*range(16)], 50), FPS, 8, "hold")) == [0, 2, 4, 6, 8, 10, 12, 14]


def test_loops_are_by_time_too() -> None:
    """0.2 s at 10 frames a second: frame i of 25 a second is the row 0.4 i of 0, 1, 0, 1, ..."""
    out = fitted(film([0, 1], 10), FPS, 10, "loop")
    rows = 0.4 * np.arange(10)
    assert np.allclose(out.curves[:, 0], np.interp(rows, np.arange(4), [0, 1, 0, 1]), atol=1e-6)


def test_strength_is_fitted_with_the_signal() -> None:
    faded = film([5, 5]).scaled([(0, 0), (0.04, 1)])
    assert fitted(faded, FPS, 5, "loop").strength.tolist() == [0, 1, 0, 1, 0]
    assert fitted(faded, FPS, 4, "hold").strength.tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("when_short", ["loop", "error"])
def test_a_signal_that_is_there_at_the_last_frame_is_long_enough(when_short: WhenShort) -> None:
    """33 frames at 30 a second end at 1.1 s; 28 at 25 are the video's ceil(1.1 x 25), the last at 1.08 s."""
    out = fitted(film([*range(33)], 30), FPS, 28, when_short)
    assert np.allclose(out.curves[:, 0], np.minimum(1.2 * np.arange(28), 32), atol=1e-5)


# ---- mixing ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mesh() -> ReferenceMesh:
    return ReferenceMesh(FaceBasis.load(), landmarks(256))


@pytest.fixture(scope="module")
def expression() -> ExpressionSignal:
    curves = np.random.default_rng(0).random((12, len(CURVES)), np.float32)
    return ExpressionSignal(fps=Fraction(30), curves=curves)


@pytest.fixture(scope="module")
def pose(mesh: ReferenceMesh) -> PoseSignal:
    """A head that turns and moves, at 12 frames a second."""
    time = np.linspace(0, 1, 8)
    still = np.zeros_like(time)
    head = np.stack([0.4 * time, -0.2 * time, 0.1 * np.sin(5 * time), 0.2 * time, still, -time], 1)
    return replace(pose_of(mesh.basis, head.astype(np.float32)), fps=Fraction(12))


def mixer(
    mesh: ReferenceMesh,
    expression: ExpressionSignal | None,
    pose: PoseSignal | None,
    *,
    when_short: WhenShort = "mirror",
    speaks: bool = True,
) -> Callable[[Array, Array, int], tuple[Array, Array]]:
    signals = [signal for signal in (expression, pose) if signal is not None]
    mix = Mixer(mesh, signals, fps=FPS, frames=FRAMES, when_short=when_short)

    def mixed(curves: Array, head: Array, first: int) -> tuple[Array, Array]:
        out = mix(Motion(curves, head), first, np.full(len(curves), speaks, np.float32))
        return out.curves, out.head

    return mixed


@pytest.mark.parametrize("size", [1, 3, 7, FRAMES])
def test_pieces_of_any_size_are_the_whole(
    mesh: ReferenceMesh, expression: ExpressionSignal, pose: PoseSignal, size: int
) -> None:
    curves, head = motion(FRAMES)
    mix = mixer(mesh, expression, pose)
    whole = mix(curves, head, 0)
    starts = range(0, FRAMES, size)
    parts = [mix(curves[start : start + size], head[start : start + size], start) for start in starts]
    for index in range(2):
        assert np.array_equal(np.concatenate([part[index] for part in parts]), whole[index])
        assert len(whole[index]) == FRAMES and np.abs(whole[index] - (curves, head)[index]).max() > 0.1


def test_without_signals_motion_passes(mesh: ReferenceMesh) -> None:
    curves, head = motion(FRAMES)
    out = mixer(mesh, None, None)(curves, head, 0)
    assert np.array_equal(out[0], curves) and np.array_equal(out[1], head)


@pytest.mark.parametrize("speaks", [True, False])
def test_strength_nought_changes_nothing(
    mesh: ReferenceMesh, expression: ExpressionSignal, pose: PoseSignal, speaks: bool
) -> None:
    curves, head = motion(FRAMES)
    out = mixer(mesh, expression.scaled(0), pose.scaled(0), speaks=speaks)(curves, head, 0)
    assert np.array_equal(out[0], curves) and np.array_equal(out[1], head)


def test_each_signal_moves_its_own_part(
    mesh: ReferenceMesh, expression: ExpressionSignal, pose: PoseSignal
) -> None:
    curves, head = motion(FRAMES)
    both = mixer(mesh, expression, pose)(curves, head, 0)
    face, turn = (mixer(mesh, *given)(curves, head, 0) for given in ((expression, None), (None, pose)))
    assert np.array_equal(face[0], both[0]) and np.array_equal(face[1], head)
    assert np.array_equal(turn[0], curves) and np.array_equal(turn[1], both[1])


def test_a_pose_without_the_head_in_its_mask_moves_nothing(mesh: ReferenceMesh, pose: PoseSignal) -> None:
    curves, head = motion(FRAMES)
    masked = pose.masked("body", "face")
    out = mixer(mesh, None, masked)(curves, head, 0)
    assert np.array_equal(out[0], curves) and np.array_equal(out[1], head)
    assert not np.array_equal(mixer(mesh, None, pose.masked("head"))(curves, head, 0)[1], head)


def test_the_head_turns_as_the_pose_does(mesh: ReferenceMesh, pose: PoseSignal) -> None:
    """At strength 1 the sway is gone and yaw and pitch of the smooth pose are there, at the video's times."""
    curves, head = motion(FRAMES)
    out = mixer(mesh, None, pose, when_short="hold")(curves, head, 0)[1]
    smooth = HeadSignal.of_pose(pose.smoothed(*HEAD_STEADY).resampled(FPS, FRAMES), mesh.basis)
    expected = turned_only(smooth.head)
    assert np.array_equal(out, expected) and np.abs(out).max() > 0.2
    half = mixer(mesh, None, pose.scaled(0.5), when_short="hold")(curves, head, 0)[1]
    assert np.allclose(half, 0.5 * head + 0.5 * expected, atol=1e-6)


def test_a_pose_without_a_face_is_refused(mesh: ReferenceMesh, pose: PoseSignal) -> None:
    with pytest.raises(UserError, match="shows no face"):
        mixer(mesh, None, replace(pose, scores=0 * pose.scores))


def test_speech_keeps_its_mouth_and_an_idle_mouth_follows(
    mesh: ReferenceMesh, expression: ExpressionSignal
) -> None:
    curves, head = motion(FRAMES)
    jaw = INDEX["jawOpen"]
    spoken = mixer(mesh, expression, None, speaks=True)(curves, head, 0)[0]
    idle = mixer(mesh, expression, None, speaks=False)(curves, head, 0)[0]
    assert np.array_equal(spoken[:, jaw], curves[:, jaw])
    assert np.abs(idle[:, list(MOUTH)] - curves[:, list(MOUTH)]).max(0).min() > 0.1


def test_an_expression_that_the_reference_shows_changes_nothing(mesh: ReferenceMesh) -> None:
    """What the net reads from the reference is taken off what it reads from the film."""
    shown = ExpressionReader()(mesh.landmarks[None])
    assert np.abs(shown).max() > 0.02  # the net reads something there
    rest = np.tile(mesh.rest, (FRAMES, 1))
    same = ExpressionSignal(fps=FPS, curves=shown)
    out = mixer(mesh, same, None, speaks=False)(rest, np.zeros((FRAMES, 6), np.float32), 0)[0]
    assert np.allclose(out, rest, atol=1e-6)


@pytest.mark.parametrize("word", MOODS)
def test_a_mood_goes_from_what_the_photo_shows_to_what_the_word_says(mesh: ReferenceMesh, word: str) -> None:
    """Strength x what is missing; the lids' and brows' are added whole, as one photo does not tell them."""
    rest = np.tile(mesh.rest, (FRAMES, 1))
    mood, shown = ExpressionSignal.of_mood(word), shown_by(mesh, ExpressionReader()(mesh.landmarks[None])[0])
    assert shown[list(MOUTH)].any() and not shown[list(EYES)].any()
    out = mixer(mesh, mood.scaled(0.7), None, speaks=False)(rest, np.zeros((FRAMES, 6), np.float32), 0)[0]
    assert np.allclose(out, rest + 0.7 * towards(mood.curves, shown), atol=1e-6)
    assert np.allclose((out - rest)[:, list(EYES)], 0.7 * mood.curves[:, list(EYES)], atol=1e-6)


def test_an_expression_that_is_too_short_is_refused_when_asked(
    mesh: ReferenceMesh, expression: ExpressionSignal, pose: PoseSignal
) -> None:
    with pytest.raises(UserError, match=r"the expression signal has 0\.4 s, the video 0\.8 s"):
        mixer(mesh, expression, None, when_short="error")
    with pytest.raises(UserError, match=r"the pose signal has 0\.66\d+ s, the video 0\.8 s"):
        mixer(mesh, None, pose, when_short="error")


def test_the_net_is_told_of_what_there_is(
    mesh: ReferenceMesh, expression: ExpressionSignal, pose: PoseSignal
) -> None:
    """Nothing of a mood, which has no codes, nor of signals at strength 0."""
    own = Motion(*motion(FRAMES))
    silent = np.zeros(FRAMES, np.float32)

    def mixed(*signals: ExpressionSignal | PoseSignal) -> Motion:
        return Mixer(mesh, signals, fps=FPS, frames=FRAMES, when_short="hold")(own, 0, silent)

    for nothing in (mixed(), mixed(expression), mixed(pose.scaled(0)), mixed(coded(1.0).scaled(0))):
        assert nothing.codes is None and nothing.told is None and nothing.pose_strength is None
    told = mixed(coded(1.0).scaled(0.5), pose.scaled(0.7))
    assert np.allclose(told.codes, 1) and np.allclose(told.told, 0.5) and np.allclose(told.pose_strength, 0.7)


def coded(value: float) -> ExpressionSignal:
    return replace(ExpressionSignal.of_mood("happy"), codes=np.full((), value), absolute=True)


def test_codes_are_weighed_and_leave_the_mouth_to_the_speech() -> None:
    """0.75 x 2 + 0.25 x 6 = 3; eyes and cheeks follow both signals, 1.5 + 0.5, but no further than 1."""
    signals = [coded(2.0).scaled(1.5), coded(6.0).scaled(0.5).masked("eyes", "cheeks")]
    codes, told = mix_codes(signals, np.array([0.25], np.float32))
    assert np.allclose(codes, 3) and np.allclose(told, [[0.75, 1, 1]])


def test_steps_of_signals_of_one_kind_must_agree(mesh: ReferenceMesh, pose: PoseSignal) -> None:
    late = pose.over_steps((0.0, 0.0), (1.0, 1.0))
    given = {"fps": FPS, "frames": FRAMES, "when_short": "hold"}
    assert Mixer(mesh, [late], **given).schedules["pose"](0.25) == pytest.approx(0.25)
    with pytest.raises(UserError, match="the pose signals of one face differ in their steps"):
        Mixer(mesh, [late, pose], **given)
    with pytest.raises(UserError, match="expression: has no strengths over steps"):
        Mixer(mesh, [ExpressionSignal.of_mood("sad").over_steps((0.0, 0.0), (1.0, 1.0))], **given)
