"""The formulas of the evaluation on tracks whose answer is known."""

import numpy as np
import pytest

from avatar import metrics
from avatar.metrics import Region
from avatar.phones import Phone, classify

FPS = 25.0
# "mama, put it", with a pause: every kind of phone, long enough to be judged.
SPOKEN = classify(
    [
        (0.0, 0.4, "SIL"),
        (0.4, 0.52, "M"),
        (0.52, 0.8, "AA"),
        (0.8, 0.92, "M"),
        (0.92, 1.2, "AH0"),
        (1.2, 1.6, "SIL"),
        (1.6, 1.72, "P"),
        (1.72, 1.92, "UH"),
        (1.92, 2.0, "T"),
        (2.0, 2.2, "IY"),
        (2.2, 2.3, "T"),
        (2.3, 2.8, "SIL"),
    ]
)
FRAMES = 70


def obedient() -> tuple[metrics.Array, metrics.Array]:
    """Aperture and width of a mouth that does what the phones ask, and no more."""
    aperture, width = np.full(FRAMES, 0.05), np.full(FRAMES, 0.40)
    levels = {"closed": 0.0, "pause": 0.01, "open": 0.12}
    widths = {"rounded": 0.34, "spread": 0.45}
    for phone in SPOKEN:
        frames = metrics.span(phone.start, phone.end, FPS, FRAMES)
        aperture[frames] = levels.get(phone.kind, 0.05)
        width[frames] = widths.get(phone.kind, 0.40)
    return aperture, width


def test_an_obedient_mouth_scores_full_marks() -> None:
    aperture, width = obedient()
    assert metrics.closure(aperture, SPOKEN, FPS) == 1.0
    assert metrics.opening(aperture, SPOKEN, FPS) == 1.0
    assert metrics.silence(aperture, SPOKEN, FPS) == 1.0
    rounding = metrics.rounding(width, SPOKEN, FPS)
    assert rounding is not None and rounding < -2
    r, lag = metrics.lagged_correlation(aperture, metrics.opening_curve(SPOKEN, FRAMES, FPS))
    assert r > 0.9 and lag == 0
    assert metrics.peak(aperture) == pytest.approx(0.12)


@pytest.mark.parametrize("late", [-3, 2, 6])
def test_lag_of_a_shifted_mouth_is_seen(late: int) -> None:
    aperture, _ = obedient()
    r, lag = metrics.lagged_correlation(np.roll(aperture, late), metrics.opening_curve(SPOKEN, FRAMES, FPS))
    assert lag == late and r > 0.8


@pytest.mark.parametrize("level", [0.0, 0.01, 0.2])
def test_a_still_mouth_fails(level: float) -> None:
    still = np.full(FRAMES, level)
    assert metrics.closure(still, SPOKEN, FPS) == 0.0
    assert metrics.silence(still, SPOKEN, FPS) == 0.0
    assert metrics.rounding(still, SPOKEN, FPS) == 0.0
    assert metrics.lagged_correlation(still, metrics.opening_curve(SPOKEN, FRAMES, FPS)) == (0.0, 0)


def test_noise_does_not_follow() -> None:
    rng = np.random.default_rng(0)
    noise = 0.05 + 0.02 * rng.standard_normal(FRAMES)
    assert metrics.correlation(noise, metrics.opening_curve(SPOKEN, FRAMES, FPS)) < 0.4
    closure = metrics.closure(noise, SPOKEN, FPS)
    assert closure is not None and closure < 0.5


def test_frames_without_a_face_do_not_count_as_closed() -> None:
    aperture, _ = obedient()
    aperture[metrics.span(0.4, 0.52, FPS, FRAMES, slack=1)] = np.nan
    assert metrics.closure(aperture, SPOKEN, FPS) == pytest.approx(2 / 3)
    assert metrics.closure(np.full(FRAMES, np.nan), SPOKEN, FPS) == 0.0


def test_short_phones_are_not_judged() -> None:
    aperture, _ = obedient()
    short = [Phone(0.5, 0.539, "P", "closed"), Phone(0.6, 0.65, "AA", "open"), Phone(1.0, 1.29, "", "pause")]
    assert metrics.closure(aperture, short, FPS) is None
    assert metrics.opening(aperture, short, FPS) is None
    assert metrics.silence(aperture, short, FPS) is None
    assert metrics.rounding(aperture, short, FPS) is None


def test_span_holds_the_frames_an_interval_touches() -> None:
    assert metrics.span(0.08, 0.16, FPS, 100) == slice(2, 4)
    assert metrics.span(0.09, 0.17, FPS, 100) == slice(2, 5)
    assert metrics.span(0.0, 9.0, FPS, 10, slack=1) == slice(0, 10)


def test_opening_curve_is_smooth_and_in_range() -> None:
    curve = metrics.opening_curve(SPOKEN, FRAMES, FPS)
    assert curve.shape == (FRAMES,)
    assert curve.min() == 0 and curve[16] == pytest.approx(1.0)  # 0.66 s, in the middle of the vowel
    assert np.abs(np.diff(curve)).max() <= 0.51  # a step spreads over 80 ms, two frames


def rotation(yaw: float, pitch: float, roll: float) -> metrics.Array:
    (cy, cp, cr), (sy, sp, sr) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    ry, rx = (
        np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]]),
        np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]]),
    )
    return np.asarray(np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]]) @ ry @ rx)


def test_head_angles_give_back_the_rotation() -> None:
    face = np.random.default_rng(1).standard_normal((len(metrics.RIGID), 3)) * [60, 80, 30]
    wanted = np.array([[0, 0, 0], [10, -5, 3], [-20, 12, -8], [0, 0, 30]])
    points = np.stack([face @ rotation(*np.radians(angles)).T * 1.1 + [300, 200, 5] for angles in wanted])
    gap = np.full_like(points[:1], np.nan)
    angles = metrics.head_angles(np.concatenate([gap, points]))
    assert np.isnan(angles[0]).all()
    np.testing.assert_allclose(angles[1:], wanted, atol=1e-6)


def test_tracks_are_ratios() -> None:
    points = np.random.default_rng(2).uniform(0, 100, (4, 478, 3))
    large = metrics.tracks(points * 3)
    for name, track in metrics.tracks(points)._asdict().items():
        np.testing.assert_allclose(getattr(large, name), track, atol=1e-6, err_msg=name)
    lips = np.linalg.norm(points[:, 13, :2] - points[:, 14, :2], axis=1)
    face = np.linalg.norm(points[:, 10, :2] - points[:, 152, :2], axis=1)
    np.testing.assert_allclose(metrics.tracks(points).aperture, lips / face)


def test_blinks_count_once_and_long_closures_never() -> None:
    eyes = np.full(200, 0.06)
    eyes[20:24] = [0.03, 0.01, 0.03, 0.045]
    eyes[60:66] = [0.03, 0.01, 0.04, 0.01, 0.03, 0.055]  # flutters, reopens once
    eyes[100:130] = 0.005  # eyes shut for over a second
    eyes[160] = 0.045  # hardly moves
    assert metrics.blinks(eyes, FPS) == [20, 60]
    assert metrics.blinks(np.full(50, 0.06), FPS) == []


def test_psnr() -> None:
    assert metrics.psnr(1.0) == pytest.approx(48.13, abs=0.01)
    assert metrics.psnr(0.0) > 100


def test_blur_lowers_laplacian_variance() -> None:
    sharp = np.random.default_rng(3).uniform(0, 255, (64, 64))
    soft = (sharp + np.roll(sharp, 1, 0) + np.roll(sharp, 1, 1)) / 3
    assert metrics.laplacian_variance(soft) < 0.6 * metrics.laplacian_variance(sharp)
    ramp = np.add.outer(np.arange(32.0), np.arange(32.0))
    assert metrics.laplacian_variance(ramp) == pytest.approx(0.0)


def test_seam_is_one_without_and_large_with_a_step() -> None:
    picture = np.add.outer(np.arange(80.0), np.arange(100.0))
    region = Region(30, 20, 40, 40)
    across, beside = metrics.seam_gradients(picture, region) or (0, 1)
    assert across / beside == pytest.approx(1.0)
    for place in (region, Region(30, 20, 40, 100), Region(-5, -5, 75, 65)):
        stepped = picture.copy()
        stepped[place.mask(80, 100)] += 9
        across, beside = metrics.seam_gradients(stepped, place) or (0, 1)
        assert across >= 8 and beside == pytest.approx(1.0), place
    assert metrics.seam_gradients(picture, Region(0, 0, 100, 80)) is None


def test_sound_offset_to_a_millisecond() -> None:
    rng = np.random.default_rng(4)
    rate = 16_000
    speech = rng.standard_normal(3 * rate) * np.repeat(rng.uniform(0, 1, 60), rate // 20)
    late = np.concatenate([np.zeros(rate // 10), speech])[: len(speech)]
    assert metrics.sound_offset(speech, speech, rate) == 0.0
    assert metrics.sound_offset(late, speech, rate) == pytest.approx(0.1, abs=0.001)
    assert metrics.sound_offset(speech, late, rate) == pytest.approx(-0.1, abs=0.001)
