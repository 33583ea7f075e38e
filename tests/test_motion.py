"""Head, blinks, gaze and brows."""

import numpy as np
import pytest

from avatar.drivers.curves import BLINK, BROWS, CURVES, GAZE, INDEX
from avatar.drivers.motion import RATE, animate, animate_stream, hashed, prosody, value_noise

EYES_AND_BROWS = {*BLINK, *BROWS, *GAZE, INDEX["eyeWideLeft"], INDEX["eyeWideRight"]}


def talk(seconds: float, seed: int = 0) -> np.ndarray:
    """Mouth curves (n, 52) of four syllables a second with a pause of 1 s every 4 s."""
    time = np.arange(int(seconds * RATE)) / RATE
    size = 0.25 + 0.2 * value_noise(time, 0.4, seed, 99)
    curves = np.zeros((len(time), len(CURVES)), np.float32)
    curves[:, INDEX["jawOpen"]] = size * np.sin(4 * np.pi * time) ** 2 * (time % 4 < 3)
    return curves


def closings(curves: np.ndarray) -> np.ndarray:
    """Times of the blinks in seconds."""
    shut = curves[:, INDEX["eyeBlinkLeft"]] > 0.5
    return np.flatnonzero(shut[1:] & ~shut[:-1]) / RATE


def test_same_seed_same_motion() -> None:
    curves = talk(20)
    first, again, other = (animate(curves, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert np.abs(first[0] - other[0]).max() > 0.01


def test_stream_equals_whole() -> None:
    curves = talk(60)
    cuts = np.sort(np.random.default_rng(0).integers(0, len(curves), 25))
    heads, faces = zip(*animate_stream(np.split(curves, cuts), 3), strict=True)
    head, face = animate(curves, 3)
    np.testing.assert_allclose(np.concatenate(heads), head, atol=1e-6)
    np.testing.assert_allclose(np.concatenate(faces), face, atol=1e-6)


def test_the_past_does_not_depend_on_the_length() -> None:
    head, face = animate(talk(60), 1)
    short_head, short_face = animate(talk(60)[: 20 * RATE], 1)
    np.testing.assert_allclose(short_head[: 18 * RATE], head[: 18 * RATE], atol=1e-6)
    np.testing.assert_allclose(short_face[: 18 * RATE], face[: 18 * RATE], atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_blinks(seed: int) -> None:
    _, face = animate(talk(240), seed)
    times = closings(face)
    assert 12 <= len(times) / 4 <= 20
    assert np.diff(times).min() > 0.25
    lids = face[:, INDEX["eyeBlinkLeft"]]
    assert np.percentile([lids[int(t * RATE) : int(t * RATE) + 8].max() for t in times], 5) > 0.9
    shut = (lids > 0.1).sum() / RATE / len(times)
    assert 0.15 <= shut <= 0.25


def test_blinks_seek_pauses() -> None:
    curves = talk(240)
    speaking = prosody(curves).speaking
    _, face = animate(curves, 0)
    assert speaking[(closings(face) * RATE).astype(int)].mean() < 0.9 * speaking.mean()


def test_head_sways_smoothly() -> None:
    head, _ = animate(talk(120), 2)
    degrees = np.degrees(head[:, :3])
    assert (degrees.std(0) > 0.8).all()
    assert (degrees.std(0) < 2.5).all()
    assert np.abs(degrees).max() < 8
    assert np.abs(np.diff(degrees, axis=0)).max() * RATE < 40  # degrees per second
    assert np.abs(head[0]).max() == 0  # a clip starts in the pose of the reference


def test_stressed_syllables_nod() -> None:
    curves = talk(240)
    stress = prosody(curves).stress
    assert 5 <= ((stress[1:] > 0.4) & (stress[:-1] <= 0.4)).sum() / 4 <= 60  # a minute
    with_speech, _ = animate(curves, 0)
    without, _ = animate(np.zeros_like(curves), 0)
    nods = with_speech[:, 1] - without[:, 1]
    assert np.corrcoef(nods, stress)[0, 1] > 0.3


def test_strengths() -> None:
    curves = talk(30)
    head, face = animate(curves, 0, head_motion=0, expressiveness=0)
    assert np.abs(head).max() == 0
    assert face[:, [*BROWS, INDEX["jawOpen"]]].max() == 0
    assert len(closings(face)) > 3
    once, twice = (animate(curves, 0, head_motion=strength)[0] for strength in (1, 2))
    np.testing.assert_allclose(twice, 2 * once, atol=1e-6)
    np.testing.assert_allclose(
        animate(curves, 0, expressiveness=1.5)[1][:, INDEX["jawOpen"]], 1.5 * curves[:, INDEX["jawOpen"]]
    )


def test_closed_lips_stay_closed() -> None:
    curves = talk(10)
    curves[:, INDEX["mouthClose"]] = curves[:, INDEX["jawOpen"]]
    _, face = animate(curves, 0, expressiveness=1.4)
    np.testing.assert_allclose(face[:, INDEX["mouthClose"]], face[:, INDEX["jawOpen"]])


def test_silence_leaves_the_mouth_alone() -> None:
    _, face = animate(np.zeros((500, 52), np.float32), 0)
    others = [index for index in range(52) if index not in EYES_AND_BROWS]
    assert face[:, others].max() == 0
    assert face.min() >= 0
    assert face.max() <= 1


def test_eyes_keep_to_the_viewer() -> None:
    head, face = animate(talk(120), 0)
    right = face[:, INDEX["eyeLookOutLeft"]] - face[:, INDEX["eyeLookInLeft"]]
    assert np.corrcoef(head[:, 0], right)[0, 1] < -0.3  # against the turn of the head
    assert np.mean(np.abs(right + 0.8 * head[:, 0] / 0.55) < 0.06) > 0.8


def test_hash_is_uniform_and_apart() -> None:
    index = np.arange(-5000, 5000)
    values = np.stack([hashed(seed, channel, index) for seed in (0, 1) for channel in (0, 1)])
    assert values.min() >= 0
    assert values.max() < 1
    assert np.abs(values.mean(1) - 0.5).max() < 0.02
    assert np.abs(np.corrcoef(values) - np.eye(4)).max() < 0.05
