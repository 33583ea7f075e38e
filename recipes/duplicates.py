"""Clips that are there twice, and clips of one kind that are there too often.

Two clips are near-duplicates where they look alike and move alike: pictures of one person in one room always
look alike, but only copies of one moment move alike. Clips are balanced by k-means over how they look and who
is in them. Shapes: N clips, T frames, D numbers of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.signal import correlate

Array = NDArray[np.float64]

LUMA, CHROMA = 8, 4  # lowest frequencies, and cells of colour, a side
ALIKE = 0.95  # cosine of two pictures' vectors
TOGETHER = 0.75  # correlation of two motions: 0.70 to 0.99 for blurred or reduced copies, to 0.62 for others
OVERLAP = 0.6  # share of the shorter clip that must fit
BLOCK = 1024  # clips compared at once
MOST_CLUSTERS = 10_000
SEED = 0


def picture_vector(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How a picture looks: low frequencies of its light and its coarse colours, (D,) of length 1."""
    ycc = cv2.cvtColor(picture, cv2.COLOR_RGB2YCrCb)
    light = cv2.resize(ycc[..., 0], (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    waves = dctn(light, norm="ortho")[:LUMA, :LUMA].ravel()[1:]  # without the mean
    waves /= max(float(np.linalg.norm(waves)), 1e-6)
    colours = cv2.resize(ycc[..., 1:], (CHROMA, CHROMA), interpolation=cv2.INTER_AREA).ravel() / 128.0 - 1
    vector = np.concatenate([waves, colours])
    return (vector / max(float(np.linalg.norm(vector)), 1e-6)).astype(np.float32)


def likeness(one: Array, other: Array) -> float:
    """Best correlation of two motions (T, 3) and (T', 3), wherever one is laid beside the other."""
    short, long = sorted((_changes(one), _changes(other)), key=len)
    least = max(2, int(OVERLAP * len(short)))
    if len(short) < least:
        return 0.0
    # Entry i lays the first frame of `short` on frame i - len(short) + 1 of `long`.
    products = sum(correlate(long[:, c], short[:, c]) for c in range(short.shape[1]))
    begin = np.arange(len(products)) - len(short) + 1
    end = np.minimum(begin + len(short), len(long))
    inside = np.maximum(begin, 0)
    energy_long = _energy(long, inside, end)
    energy_short = _energy(short, inside - begin, end - begin)
    fits = end - inside >= least
    return float((products / np.sqrt(np.maximum(energy_long * energy_short, 1e-12)))[fits].max())


def _changes(motion: Array) -> Array:
    """Changes over three frames, so that where a face is does not count."""
    motion = np.asarray(motion, float)
    return motion[3:] - motion[:-3]


def _energy(changes: Array, start: NDArray[np.int64], end: NDArray[np.int64]) -> Array:
    """Sums of squares over frames start to end, for every pair of them."""
    total = np.concatenate([[0.0], np.cumsum((changes**2).sum(1))])
    return np.asarray(total[end] - total[start])


def near_duplicates(pictures: Array, motions: Sequence[Array], better: Sequence[float]) -> dict[int, int]:
    """Clips that are near-duplicates, each with the clip that stands for it.

    Args:
        pictures: `picture_vector` of every clip, (N, D).
        motions: of every clip, (T, 3).
        better: of two duplicates the one with more of this stays; of equals the first.
    """
    order = sorted(range(len(motions)), key=lambda i: (-better[i], i))
    ranked = np.asarray(pictures, np.float32)[order]
    twins: dict[int, int] = {}
    for start in range(0, len(order), BLOCK):
        alike = ranked[start : start + BLOCK] @ ranked.T >= ALIKE
        for row, place in enumerate(range(start, min(start + BLOCK, len(order)))):
            for earlier in np.flatnonzero(alike[row, :place]).tolist():
                one, other = order[place], order[earlier]
                if other not in twins and likeness(motions[one], motions[other]) >= TOGETHER:
                    twins[one] = other
                    break
    return twins


def surplus(vectors: Array, better: Sequence[float], share: float, clusters: int | None = None) -> set[int]:
    """Clips of crowded clusters that are left out, so that none has more than `share` times the median size.

    Args:
        vectors: (N, D).
        better: of a crowded cluster those with the most of this stay.
        share: how many times the median; 0 leaves everything in.
        clusters: for k-means; the square root of N / 2 by default, at most 10 000.
    """
    if share <= 0 or len(vectors) < 4:
        return set()
    from sklearn.cluster import KMeans

    wanted = clusters or round((len(vectors) / 2) ** 0.5)
    distinct = len(np.unique(np.asarray(vectors).round(6), axis=0))
    number = max(1, min(wanted, MOST_CLUSTERS, distinct))
    labels = KMeans(number, n_init=3, random_state=SEED).fit_predict(np.asarray(vectors, float))
    most = max(1, int(np.ceil(share * np.median(np.bincount(labels, minlength=number)))))
    out: set[int] = set()
    for label in range(number):
        members = sorted(np.flatnonzero(labels == label).tolist(), key=lambda i: (-better[i], i))
        out |= set(members[most:])
    return out
