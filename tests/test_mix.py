"""Signals that move one face: who moves what, and how far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from avatar.drivers.curves import CURVES, INDEX, MOUTH, curve_indices
from avatar.drivers.expression import CHEEKS, EYES, MOODS, ExpressionSignal
from avatar.drivers.mix import (
    BESIDE_SPEECH,
    LEAST_SMILE,
    MORE,
    WIDE,
    add_expressions,
    add_poses,
    mildly,
    opened,
    towards,
    within_reach,
)

Array = NDArray[np.float32]
FRAMES = 7
# The curves that make the lips' shape of a sound.
SHAPE = curve_indices(
    "jawOpen", "jawForward", "mouthClose", "mouthPucker", "mouthFunnel", "mouthPress", "mouthRollLower",
    "mouthRollUpper", "mouthLowerDown", "mouthShrugLower", "mouthShrugUpper", "tongueOut",
)  # fmt: skip


def some(seed: int, rows: int = FRAMES) -> Array:
    return np.random.default_rng(seed).random((rows, len(CURVES)), np.float32)


MOTION, REFERENCE, REST = some(0), 0.3 * some(1, 1)[0], 0.2 * some(2, 1)[0]
FILM = ExpressionSignal(fps=Fraction(25), curves=some(3))
MOOD = replace(FILM, absolute=False)


def mixed(signal: ExpressionSignal, speaks: float, motion: Array = MOTION) -> Array:
    return added([signal], speaks, motion)


def added(signals: Sequence[ExpressionSignal], speaks: float, motion: Array = MOTION) -> Array:
    """`speaks` is the speech's share of the mouth."""
    return add_expressions(motion, signals, REFERENCE, REST, np.full(FRAMES, speaks, np.float32))


def moved(before: Array, after: Array) -> set[int]:
    """The curves that differ in any frame, to the bit."""
    return set(np.flatnonzero((before != after).any(0)).tolist())


@pytest.mark.parametrize("speaks", [True, False])
@pytest.mark.parametrize("signal", [FILM, MOOD])
def test_strength_nought_is_no_signal_to_the_bit(signal: ExpressionSignal, speaks: bool) -> None:
    out = mixed(signal.scaled(0), speaks)
    assert out.dtype == np.float32 and np.array_equal(out, MOTION)
    assert moved(MOTION, mixed(signal, speaks))


def test_strength_is_of_each_frame() -> None:
    out = mixed(FILM.scaled([(0, 0), (0.08, 0), (0.12, 1)]), speaks=True)  # 0 up to frame 2, 1 from frame 3
    assert np.array_equal(out[:3], MOTION[:3])
    assert np.array_equal(out[3:], mixed(FILM, speaks=True)[3:])


@pytest.mark.parametrize("speaks", [True, False])
@pytest.mark.parametrize("signal", [FILM, MOOD])
def test_what_is_added_grows_in_a_straight_line(signal: ExpressionSignal, speaks: bool) -> None:
    """On a face at rest nothing fades, so the whole change is strength x what the signal adds."""
    rest = np.tile(REST, (FRAMES, 1))
    change = {
        scale: mixed(signal.scaled(scale), speaks, rest).astype(np.float64) - rest for scale in (0.5, 1, 1.5)
    }
    assert np.abs(change[1]).max() > 0.1
    assert np.abs(change[0.5] - 0.5 * change[1]).max() < 1e-6
    assert np.abs(change[1.5] - 1.5 * change[1]).max() < 1e-6


def test_a_film_adds_what_the_reference_does_not_show_and_a_mood_all_of_it() -> None:
    """Film: strength (curves - reference); mood: strength curves."""
    rest = np.tile(REST, (FRAMES, 1))
    assert np.allclose(mixed(FILM, False, rest) - rest, FILM.curves - REFERENCE, atol=1e-6)
    assert np.allclose(mixed(MOOD, False, rest) - rest, MOOD.curves, atol=1e-6)
    same = replace(FILM, curves=np.tile(REFERENCE, (FRAMES, 1)))
    assert np.allclose(mixed(same, False, rest), rest, atol=1e-6)  # a smile does not smile twice


def test_a_word_goes_up_to_its_value_and_takes_off_a_share() -> None:
    """0.7 where 0.5 is shown adds 0.2, where 0.9 nothing; -0.5 of 0.4 is -0.2; brows are not shown."""
    curves, shown = np.zeros((2, len(CURVES)), np.float32), np.zeros(len(CURVES), np.float32)
    left, right = curve_indices("mouthSmile")
    cheek, brow = INDEX["cheekSquintLeft"], INDEX["browDownLeft"]
    curves[1, [left, right, cheek, brow]] = 0.7, 0.7, -0.5, -0.3
    shown[[left, right, cheek]] = 0.5, 0.9, 0.4
    added = towards(curves, shown)
    assert not added[0].any() and added.dtype == np.float32
    assert np.allclose(added[1, [left, right, cheek, brow]], [0.2, 0, -0.2, -0.3], atol=1e-6)
    assert np.allclose(added[1].sum(), -0.3, atol=1e-6)  # nothing else moves


# ---- who moves what ----------------------------------------------------------------------------


def test_beside_speech_the_mouth_keeps_its_shape() -> None:
    out = mixed(FILM.scaled(1.5), speaks=True)
    assert np.array_equal(out[:, list(SHAPE)], MOTION[:, list(SHAPE)])
    assert moved(MOTION, out) & set(MOUTH) == set(BESIDE_SPEECH)
    assert moved(MOTION, out) == set(BESIDE_SPEECH) | set(EYES) | set(CHEEKS)


def test_beside_speech_the_corners_are_moved_and_not_replaced() -> None:
    """The speech's own curve stays whole: speech + strength x added, nothing of it fades."""
    corners = list(BESIDE_SPEECH)
    for strength in (0.5, 1.0, 1.5):
        expected = MOTION + strength * (FILM.curves - REFERENCE)
        assert np.allclose(mixed(FILM.scaled(strength), True)[:, corners], expected[:, corners], atol=1e-6)


def test_without_speech_the_mouth_follows() -> None:
    out = mixed(FILM, speaks=False)
    assert moved(MOTION, out) == set(range(len(CURVES)))
    assert np.allclose(out, REST + FILM.curves - REFERENCE, atol=1e-6)  # nothing but the film is left


@pytest.mark.parametrize("speaks", [True, False])
@pytest.mark.parametrize(
    ("region", "curves"),
    [("mouth", MOUTH), ("eyes", EYES), ("cheeks", CHEEKS), ("face", (*MOUTH, *EYES, *CHEEKS))],
)
def test_a_mask_keeps_all_other_curves_to_the_bit(region: str, curves: tuple[int, ...], speaks: bool) -> None:
    expected = set(curves) - (set(MOUTH) - set(BESIDE_SPEECH) if speaks else set())
    out = mixed(FILM.masked(region), speaks)
    assert moved(MOTION, out) == expected
    columns = sorted(expected)
    assert np.array_equal(out[:, columns], mixed(FILM, speaks)[:, columns])


@pytest.mark.parametrize("region", ["head", "body"])
def test_regions_without_curves_move_none(region: str) -> None:
    assert np.array_equal(mixed(FILM.masked(region), speaks=False), MOTION)


def test_every_curve_is_of_one_region() -> None:
    assert sorted((*MOUTH, *EYES, *CHEEKS)) == list(range(len(CURVES)))


@pytest.mark.parametrize("word", MOODS)
def test_a_mood_is_seen_beside_speech(word: str) -> None:
    signal = ExpressionSignal.of_mood(word).resampled(Fraction(25), FRAMES)
    out = mixed(signal, speaks=True, motion=np.tile(REST, (FRAMES, 1)))
    assert np.abs(out - REST).max() > 0.1
    assert np.array_equal(out[:, list(SHAPE)], np.tile(REST[list(SHAPE)], (FRAMES, 1)))


def test_idle_blinks_fade_before_those_of_a_film() -> None:
    """rest + (1 - min(strength, 1)) x idle of a blink, with a film that shows the reference's face."""
    blink = INDEX["eyeBlinkLeft"]
    idle = np.tile(REST, (FRAMES, 1))
    idle[3, blink] += 0.8
    same = replace(FILM, curves=np.tile(REFERENCE, (FRAMES, 1)))
    for strength, left in ((0.0, 0.8), (0.25, 0.6), (1.0, 0.0), (1.5, 0.0)):
        for speaks in (True, False):
            out = mixed(same.scaled(strength), speaks, idle)
            assert out[3, blink] - REST[blink] == pytest.approx(left, abs=1e-6)
    kept = mixed(same.masked("mouth", "cheeks"), True, idle)
    assert np.array_equal(kept[:, blink], idle[:, blink])


def test_the_mouth_becomes_the_expressions_as_the_speech_falls_silent() -> None:
    """(1 - share) of the way from the mouth beside speech to the mouth without."""
    with_speech, without = mixed(FILM, 1), mixed(FILM, 0)
    for share in (0.25, 0.5):
        assert np.allclose(mixed(FILM, share), share * with_speech + (1 - share) * without, atol=1e-6)


# ---- several of a kind -------------------------------------------------------------------------


def test_two_expressions_add_each_by_its_own_strength_and_mask() -> None:
    """rest + 0.5 (film - reference) in the eyes, rest + 0.7 mood in the mouth, both in nothing."""
    still = np.tile(REST, (FRAMES, 1))
    both = added([FILM.scaled(0.5).masked("eyes"), MOOD.scaled(0.7).masked("mouth")], 0, still) - REST
    assert np.allclose(both[:, EYES], 0.5 * (FILM.curves - REFERENCE)[:, EYES], atol=1e-6)
    assert np.allclose(both[:, MOUTH], 0.7 * MOOD.curves[:, MOUTH], atol=1e-6)
    assert np.array_equal(both[:, CHEEKS], np.zeros_like(both[:, CHEEKS]))


@pytest.mark.parametrize("speaks", [0.0, 0.5, 1.0])
def test_the_order_of_expressions_does_not_matter_and_two_halves_are_the_whole(speaks: float) -> None:
    other = replace(FILM, curves=some(6)).scaled(0.4)
    assert np.allclose(added([FILM, other], speaks), added([other, FILM], speaks), atol=1e-6)
    assert np.allclose(added([FILM.scaled(0.5)] * 2, speaks), mixed(FILM, speaks), atol=1e-6)
    assert np.array_equal(added([FILM, other.scaled(0)], speaks), mixed(FILM, speaks))


def test_poses_add_too() -> None:
    """(1 - min(sum of strengths, 1)) x sway + the sum of strength x driver."""
    out = add_poses(HEAD, [(DRIVEN, at(0.25)), (-0.5 * DRIVEN, at(0.5))])
    assert np.allclose(out, 0.25 * HEAD + (0.25 - 0.25) * DRIVEN, atol=1e-6)
    assert np.allclose(add_poses(HEAD, [(DRIVEN, at(0.5))] * 2), DRIVEN, atol=1e-6)
    assert np.array_equal(add_poses(HEAD, []), HEAD)


# ---- head --------------------------------------------------------------------------------------


HEAD, DRIVEN = some(4)[:, :6] - 0.5, some(5)[:, :6] - 0.5


def at(strength: float) -> Array:
    return np.full(FRAMES, strength, np.float32)


def test_a_pose_of_strength_nought_changes_no_bit() -> None:
    out = add_poses(HEAD, [(DRIVEN, at(0))])
    assert out.dtype == np.float32 and np.array_equal(out, HEAD)


def test_a_pose_takes_the_place_of_the_sway() -> None:
    """(1 - min(strength, 1)) x sway + strength x driver."""
    assert np.allclose(add_poses(HEAD, [(DRIVEN, at(0.25))]), 0.75 * HEAD + 0.25 * DRIVEN, atol=1e-6)
    assert np.array_equal(add_poses(HEAD, [(DRIVEN, at(1))]), DRIVEN)
    assert np.allclose(add_poses(HEAD, [(DRIVEN, at(1.5))]), 1.5 * DRIVEN, atol=1e-6)


def test_a_pose_grows_in_a_straight_line_on_a_still_head() -> None:
    still = np.zeros_like(HEAD)
    for strength in (0.5, 1, 1.5):
        assert np.allclose(add_poses(still, [(DRIVEN, at(strength))]), strength * DRIVEN, atol=1e-6)


def test_the_strength_of_a_pose_is_of_each_frame() -> None:
    strength = np.float32([0, 0, 0, 1, 1, 1, 1])
    assert np.array_equal(add_poses(HEAD, [(DRIVEN, strength)]), np.concatenate([HEAD[:3], DRIVEN[3:]]))


def test_curves_stay_within_reach() -> None:
    """Up to 1 nothing changes, beyond it what is more still grows, and never by as much as MORE."""
    curves = np.linspace(-1, 3, 41, dtype=np.float32)[:, None]
    found = within_reach(curves)
    assert np.array_equal(found[curves <= 1], curves[curves <= 1])
    assert (np.diff(found[:30, 0]) > 0).all() and found.max() <= 1 + MORE


def test_beyond_strength_1_a_mouth_opens_no_further_than_wide() -> None:
    jaw, brow, speech = INDEX["jawOpen"], INDEX["browInnerUp"], np.zeros(4, np.float32)
    curves = np.zeros((4, 52), np.float32)
    curves[:, jaw] = [0.2, 0.5, 0.65, 0.9]
    curves[:, brow] = 0.5
    nothing, rest = np.zeros_like(curves), np.zeros(52, np.float32)

    def found(*strengths: float) -> Array:
        signals = [ExpressionSignal(fps=Fraction(25), curves=curves).scaled(level) for level in strengths]
        mild = mildly(signals)
        added = add_expressions(nothing, signals, rest, rest, speech)
        if mild is None:
            return added
        return opened(added, add_expressions(nothing, mild, rest, rest, speech))

    assert mildly([ExpressionSignal(fps=Fraction(25), curves=curves)]) is None
    levels = np.stack([found(level) for level in (0.5, 1, 1.5, 2)])
    assert np.array_equal(levels[1], curves)
    rises = np.diff(levels[..., jaw], axis=0)
    assert (rises[:2, :3] > 0).all() and (levels[..., :3, jaw] <= np.float32(WIDE)).all()
    assert (levels[1:, 3, jaw] == np.float32(0.9)).all()  # the film's own is kept
    assert np.allclose(levels[2:, :, brow], [[0.75], [1]])  # only the mouth is held
    assert np.allclose(found(0.75, 0.75), levels[2], atol=1e-6)


def test_beyond_strength_1_a_photos_smile_is_not_turned_inside_out() -> None:
    smile = INDEX["mouthSmileLeft"]
    signal = ExpressionSignal(fps=Fraction(25), curves=np.zeros((1, 52), np.float32)).scaled(1.5)
    photo = np.zeros(52, np.float32)
    photo[smile] = 0.8
    strong, mild = (
        add_expressions(photo[None], signals, photo, photo, np.zeros(1, np.float32))
        for signals in ([signal], mildly([signal]) or [])
    )
    assert strong[0, smile] < -0.3 and mild[0, smile] == 0
    assert opened(strong, mild)[0, smile] == 0


def test_beside_speech_a_smile_is_not_wiped_off() -> None:
    """An expression that does not smile takes a part of the photo's smile away; without speech all of it."""
    smile = INDEX["mouthSmileLeft"]
    signal = ExpressionSignal(fps=Fraction(25), curves=np.zeros((1, 52), np.float32))
    photo, rest = np.zeros(52, np.float32), np.zeros(52, np.float32)
    photo[smile] = 0.8
    for speech, expected in ((1.0, -LEAST_SMILE), (0.0, -0.8)):
        curves = np.zeros((1, 52), np.float32)
        found = add_expressions(curves, [signal], photo, rest, np.full(1, speech, np.float32))
        assert found[0, smile] == np.float32(expected)
