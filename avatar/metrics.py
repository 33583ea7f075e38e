"""Formulas of the evaluation: numpy in, numbers out; no files, no detectors.

Shapes: T frames, H x W pixels. Tracks are (T,) arrays in frame order, NaN where no face was found.
A figure that cannot be computed (no such phone in the speech, for example) is None.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from avatar.phones import Kind, Phone

Array = NDArray[np.floating]

CLOSED_AT, OPEN_AT, SILENT_AT = 0.25, 0.5, 0.2  # shares of P90
MIN_CLOSED, MIN_OPEN, MIN_PAUSE = 0.040, 0.060, 0.3  # seconds; shorter phones are not judged
SMOOTHING = 0.080  # seconds, of the opening curve
MAX_LAG = 10  # frames
OPENING: dict[Kind, float] = {"closed": 0.0, "pause": 0.0, "open": 1.0}  # every other kind: 0.4
OTHER_OPENING = 0.4

# Points of the face mesh that speech and expression hardly move: forehead, bridge and tip of the nose, eye
# corners, temples. Numbers are those of MediaPipe's canonical mesh.
RIGID = (10, 151, 9, 8, 168, 6, 197, 195, 5, 4, 1, 33, 133, 362, 263, 127, 356, 54, 284, 67, 297)
FACE_OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)


# ---- tracks ----


class Tracks(NamedTuple):
    """What the face does, frame by frame; every track is (T,). Lengths are ratios, angles degrees."""

    aperture: Array  # inner lips / face height
    width: Array  # mouth corners / face width
    eyes: Array  # mean eye opening / face height
    brows: Array  # mean brow height over the eye / face height
    yaw: Array
    pitch: Array
    roll: Array


def tracks(points: Array) -> Tracks:
    """Tracks from mesh points (T, 478, 3) in pixels; the rows of a frame without a face are NaN."""

    def distance(a: int, b: int) -> Array:
        return np.asarray(np.linalg.norm(points[:, a, :2] - points[:, b, :2], axis=1))

    height, width = distance(10, 152), distance(234, 454)
    return Tracks(
        distance(13, 14) / height,
        distance(61, 291) / width,
        (distance(159, 145) + distance(386, 374)) / 2 / height,
        (distance(105, 159) + distance(334, 386)) / 2 / height,
        *head_angles(points[:, RIGID]).T,
    )


def head_angles(points: Array) -> Array:
    """Yaw, pitch, roll (T, 3) in degrees of rigid points (T, N, 3) against their first valid frame.

    Rotations by Kabsch (1976), with x to the right, y down, z away from the viewer, read as
    R = Rz(roll) Ry(yaw) Rx(pitch): positive turns to the picture's right, nods down, leans clockwise.
    """
    angles = np.full((len(points), 3), np.nan)
    valid = ~np.isnan(points).any(axis=(1, 2))
    if not valid.any():
        return angles
    centred = points[valid] - points[valid].mean(axis=1, keepdims=True)
    u, _, vt = np.linalg.svd(np.einsum("ni,tnj->tij", centred[0], centred))
    v, ut = np.swapaxes(vt, 1, 2), np.swapaxes(u, 1, 2)
    v[:, :, 2] *= np.sign(np.linalg.det(v @ ut))[:, None]  # a rotation, never a mirror image
    R = v @ ut
    yaw = np.arcsin(np.clip(R[:, 2, 0], -1, 1))
    pitch = np.arctan2(R[:, 2, 1], R[:, 2, 2])
    roll = np.arctan2(R[:, 1, 0], R[:, 0, 0])
    angles[valid] = np.degrees(np.stack([yaw, pitch, roll], axis=1))
    return angles


# ---- speech ----


def span(start: float, end: float, fps: float, count: int, slack: int = 0) -> slice:
    """Frames of `count` that an interval in seconds touches, plus `slack`; frame t starts at t / fps."""
    first, last = int(np.floor(start * fps + 1e-6)), int(np.ceil(end * fps - 1e-6))
    return slice(max(0, first - slack), min(count, last + slack))


def peak(aperture: Array) -> float:
    """P90, the 90th percentile of the mouth aperture: how far this mouth opens when it speaks."""
    return float(np.nanpercentile(aperture, 90)) if np.isfinite(aperture).any() else 0.0


def _share(passed: Sequence[bool]) -> float | None:
    return float(np.mean(passed)) if passed else None


def _judged(phones: Sequence[Phone], kind: Kind, shortest: float, frames: int, fps: float) -> list[Phone]:
    """Phones of a kind that are long enough and begin within the clip."""
    shown = [p for p in phones if p.kind == kind and p.start * fps < frames]
    return [p for p in shown if p.end - p.start >= shortest - 1e-6]


def closure(aperture: Array, phones: Sequence[Phone], fps: float) -> float | None:
    """Share of p, b, m in which the lips meet: smallest aperture, one frame of slack, <= 0.25 P90."""
    limit = CLOSED_AT * peak(aperture)
    judged = _judged(phones, "closed", MIN_CLOSED, len(aperture), fps)
    lowest = [aperture[span(p.start, p.end, fps, len(aperture), slack=1)] for p in judged]
    return _share([limit > 0 and bool((a <= limit).any()) for a in lowest])


def opening(aperture: Array, phones: Sequence[Phone], fps: float) -> float | None:
    """Share of open vowels in which the mouth opens: largest aperture >= 0.5 P90."""
    limit = OPEN_AT * peak(aperture)
    judged = _judged(phones, "open", MIN_OPEN, len(aperture), fps)
    highest = [aperture[span(p.start, p.end, fps, len(aperture))] for p in judged]
    return _share([limit > 0 and bool((a >= limit).any()) for a in highest])


def silence(aperture: Array, phones: Sequence[Phone], fps: float) -> float | None:
    """Share of pauses of 0.3 s or more whose median aperture is <= 0.2 P90."""
    limit = SILENT_AT * peak(aperture)
    judged = _judged(phones, "pause", MIN_PAUSE, len(aperture), fps)
    medians = [np.nanmedian(aperture[span(p.start, p.end, fps, len(aperture))]) for p in judged]
    return _share([limit > 0 and bool(m <= limit) for m in medians])


def rounding(width: Array, phones: Sequence[Phone], fps: float) -> float | None:
    """Mean mouth width over rounded sounds minus that over spread ones, in the clip's standard deviations."""
    means = []
    for kind in ("rounded", "spread"):
        parts = [width[span(p.start, p.end, fps, len(width))] for p in phones if p.kind == kind]
        values = np.concatenate([np.empty(0), *parts])
        if not np.isfinite(values).any():
            return None
        means.append(np.nanmean(values))
    deviation = np.nanstd(width)
    return float((means[0] - means[1]) / deviation) if deviation > 1e-9 else 0.0


def opening_curve(phones: Sequence[Phone], frames: int, fps: float) -> Array:
    """How far the phones ask the mouth to open, (frames,) in [0, 1], sampled at the middle of every frame."""
    milliseconds = np.zeros(int(np.ceil(frames / fps * 1000)) + 1)
    for p in phones:
        milliseconds[round(p.start * 1000) : round(p.end * 1000)] = OPENING.get(p.kind, OTHER_OPENING)
    window = int(SMOOTHING * 1000)
    smooth = np.convolve(milliseconds, np.ones(window) / window, "same")
    middles = ((np.arange(frames) + 0.5) / fps * 1000).astype(int)
    return np.asarray(smooth[middles])


def correlation(a: Array, b: Array) -> float:
    """Pearson r over the frames valid in both; 0 where one does not move."""
    valid = np.isfinite(a) & np.isfinite(b)
    if valid.sum() < 3 or np.std(a[valid]) < 1e-9 or np.std(b[valid]) < 1e-9:
        return 0.0
    return float(np.corrcoef(a[valid], b[valid])[0, 1])


def part_correlation(track: Array, wrong: Array, right: Array) -> float:
    """Pearson r of a track with that part of `wrong` which `right` does not have too (semipartial r)."""
    valid = np.isfinite(track) & np.isfinite(wrong) & np.isfinite(right)
    rest = np.full(len(wrong), np.nan)
    if valid.sum() >= 3:
        base = np.stack([np.ones(int(valid.sum())), right[valid]], axis=1)
        rest[valid] = wrong[valid] - base @ np.linalg.lstsq(base, wrong[valid], rcond=None)[0]
    return correlation(track, rest)


def response(track: Array, driver: Array) -> float:
    """By how much a track changes when its driver changes by one: slope of the regression, 0 for none."""
    valid = np.isfinite(track) & np.isfinite(driver)
    if valid.sum() < 3 or np.std(driver[valid]) < 1e-9:
        return 0.0
    moved = driver[valid] - driver[valid].mean()
    return float((moved * track[valid]).sum() / (moved**2).sum())


def at_times(track: Array, fps: float, wanted: float, count: int) -> Array:
    """A track read at the times of `count` frames of another rate, linear between its own; NaN after its end.

    Frame i of either is the moment i / its rate, and the last frame lasts for one frame.
    """
    rows = np.arange(count) * (fps / wanted)
    low = np.minimum(np.floor(rows + 1e-6).astype(int), len(track) - 1)
    high = np.minimum(low + 1, len(track) - 1)
    late = np.clip(rows - low, 0, 1)
    exact = late < 1e-6
    found = np.where(exact, track[low], (1 - late) * track[low] + late * track[high])
    return np.where(rows < len(track) - 1e-6, found, np.nan)


def lagged_correlation(track: Array, driver: Array, max_lag: int = MAX_LAG) -> tuple[float, int]:
    """Best Pearson r of a track against its driver, and its lag in frames; positive: the track is late."""

    def at(lag: int) -> float:
        n = len(track)
        return correlation(track[max(0, lag) : n + min(0, lag)], driver[max(0, -lag) : n - max(0, lag)])

    lags = sorted(range(-max_lag, max_lag + 1), key=abs)  # of equal values the smallest lag wins
    best = max((lag for lag in lags if abs(lag) < len(track) - 2), key=at, default=0)
    return at(best), best


# ---- picture ----


def grey(picture: NDArray) -> Array:
    """Luma of an RGB picture (..., 3), 0 to 255, BT.601."""
    return np.asarray(picture, np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def psnr(mean_square: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean square error in 8-bit levels."""
    return float(10 * np.log10(255**2 / max(mean_square, 1e-10)))


def laplacian_variance(picture: Array) -> float:
    """Variance of the four-neighbour Laplacian of a grey picture (H, W): how much fine detail it holds."""
    centre = picture[1:-1, 1:-1]
    neighbours = picture[:-2, 1:-1] + picture[2:, 1:-1] + picture[1:-1, :-2] + picture[1:-1, 2:]
    return float(np.var(neighbours - 4 * centre))


class Region(NamedTuple):
    """Rectangle in pixels: columns x to x + width, rows y to y + height; may reach beyond the picture."""

    x: int
    y: int
    width: int
    height: int

    def mask(self, height: int, width: int) -> NDArray[np.bool_]:
        """True inside, (height, width)."""
        inside = np.zeros((height, width), bool)
        x, y = max(0, self.x), max(0, self.y)
        inside[y : max(y, self.y + self.height), x : max(x, self.x + self.width)] = True
        return inside

    def scaled(self, factor: float) -> "Region":
        """The same place in a picture that is `factor` times as large."""
        return Region(*(round(v * factor) for v in self))


def seam_gradients(picture: Array, region: Region, reach: int = 4) -> tuple[float, float] | None:
    """Mean absolute step across the region's border, and mean step within the `reach` pixels just outside it.

    Args:
        picture: grey, (H, W).
        region: the generated rectangle. Sides at or beyond the edge of the picture do not count.
        reach: how many steps outside are averaged.

    Returns:
        (across, outside) in levels per pixel, or None where no side lies inside the picture.
    """
    across, outside = [], []
    for turned, start, length, low, high in (
        (picture, region.x, region.width, region.y, region.y + region.height),
        (picture.T, region.y, region.height, region.x, region.x + region.width),
    ):
        rows = turned[max(0, low) : max(0, high)]
        for strip, edge in ((rows, start), (rows[:, ::-1], rows.shape[1] - start - length)):
            if reach < edge < strip.shape[1]:  # `edge` is the first column inside, counted from the far side
                steps = np.abs(np.diff(strip[:, edge - 1 - reach : edge + 1], axis=1))
                across.append(steps[:, -1])
                outside.append(steps[:, :-1].mean(axis=1))
    if not across:
        return None
    return float(np.concatenate(across).mean()), float(np.concatenate(outside).mean())


# ---- life ----


def blinks(
    eyes: Array, fps: float, shut: float = 0.6, reopened: float = 0.8, longest: float = 0.6
) -> list[int]:
    """First frames of the blinks: eyes fall under `shut` of their median opening and rise above `reopened`.

    The two limits (hysteresis) keep one blink from counting twice; a closure of more than `longest` seconds
    is no blink.
    """
    level = eyes / np.nanmedian(eyes) if np.isfinite(eyes).any() else eyes
    starts, began = [], None
    for t, value in enumerate(level):
        if began is None and value < shut:
            began = t
        elif began is not None and value > reopened:
            if t - began <= longest * fps:
                starts.append(began)
            began = None
    return starts


# ---- sound ----


def envelope(waveform: Array, rate: int, hop: float = 0.001, window: float = 0.010) -> Array:
    """Loudness every `hop` seconds: mean absolute value over `window` seconds."""
    step = int(rate * hop)
    level = np.abs(waveform[: len(waveform) // step * step]).reshape(-1, step).mean(axis=1)
    width = max(1, int(window / hop))
    return np.asarray(np.convolve(level, np.ones(width) / width, "same"))


def sound_offset(sound: Array, original: Array, rate: int, within: float = 0.5) -> float:
    """Seconds by which `sound` lies behind `original`: cross-correlation of their envelopes, 1 ms steps."""
    a, b = envelope(sound, rate), envelope(original, rate)
    size = 1 << int(np.ceil(np.log2(len(a) + len(b))))
    spectrum = np.fft.rfft(a - a.mean(), size) * np.conj(np.fft.rfft(b - b.mean(), size))
    products = np.fft.irfft(spectrum, size)
    reach = int(within * 1000)
    lags = np.r_[0 : reach + 1, -reach:0]
    return float(lags[np.argmax(products[lags])] / 1000)
