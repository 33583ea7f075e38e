"""A pose put onto another person: their limb lengths, head size and place, the driver's motion.

The skeleton is a tree that grows from the neck. Every link keeps the direction that it has in the driver and
is scaled by what the reference's link is to the driver's; the neck moves by the driver's way, scaled. In the
first frame that shows it, it is where the reference has it. The trunk is compared in the frame in which the
driver stands most like the reference, so that a person who drives themselves is not scaled at all. A limb of
the reference that is shorter than the trunk says points at the camera. Shapes: T frames, 134 keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.pose import PoseSignal
from avatar.drivers.skeleton import FACE, FEET, HEAD_POINTS, INDEX, LEFT_HAND, RIGHT_HAND, SEEN
from avatar.errors import UserError

Array = NDArray[np.float32]
Flags = NDArray[np.bool_]
Link = tuple[int, int]  # parent, child

NECK, NOSE = INDEX["neck"], INDEX["nose"]
EXTENT = 90  # percentile over time of a length in the picture: that of a limb that lies across the view
# How far the ratio of a part may be from the body's; a limb can look too short and never too long.
TRUNK_RANGE, LIMB_RANGE = (0.67, 1.5), (1.0, 1.5)


def _sides(parent: str, child: str) -> tuple[Link, ...]:
    """The link on both sides of the body; the neck has no side."""
    start = [parent if parent == "neck" else f"{side}_{parent}" for side in ("left", "right")]
    return tuple((INDEX[p], INDEX[f"{s}_{child}"]) for p, s in zip(start, ("left", "right"), strict=True))


# Parents come before their children.
LIMBS: dict[str, tuple[Link, ...]] = {
    "neck": ((NECK, NOSE),),
    "shoulders": _sides("neck", "shoulder"),
    "upper arms": _sides("shoulder", "elbow"),
    "forearms": _sides("elbow", "wrist"),
    "torso": _sides("neck", "hip"),
    "thighs": _sides("hip", "knee"),
    "shins": _sides("knee", "ankle"),
}
# Parts that keep their shape and are scaled as one, by the spread of their points.
SHAPES: dict[str, tuple[tuple[Link, ...], ...]] = {
    "head": (tuple((NOSE, point) for point in (*HEAD_POINTS[1:], *FACE)),),
    "hands": tuple(
        tuple((INDEX[f"{side}_wrist"], point) for point in points)
        for side, points in (("left", LEFT_HAND), ("right", RIGHT_HAND))
    ),
    "feet": tuple(
        tuple((INDEX[f"{side}_ankle"], INDEX[name]) for name in FEET if name.startswith(side))
        for side in ("left", "right")
    ),
}


TRUNK = ("neck", "shoulders", "torso", "head")
FIGURE = (
    NOSE,
    NECK,
    *(INDEX[f"{side}_{part}"] for side in ("left", "right") for part in ("shoulder", "hip")),
)


def retarget(driver: PoseSignal, reference: PoseSignal) -> PoseSignal:
    """The driver's motion on the body and in the frame of the reference.

    A point that is missing in the driver goes where its parent goes, at its last known distance, and stays
    missing by its score.

    Args:
        driver: (T, 134) keypoints.
        reference: its first frame is the person, see `pose.picture_pose`.

    Raises:
        UserError: the two have neither neck nor nose in common, or no length to compare.
    """
    own, own_seen = reference.keypoints[0], reference.scores[0] >= SEEN
    seen = driver.scores >= SEEN
    anchor = next((point for point in (NECK, NOSE) if own_seen[point] and seen[:, point].any()), None)
    if anchor is None:
        raise UserError(
            "pose and reference have neither neck nor nose in common, use a reference that shows them"
        )
    ratios = _ratios(driver.keypoints, seen, own, own_seen)
    links = [(name, link) for name, limb in LIMBS.items() for link in limb]
    links += [(name, link) for name, parts in SHAPES.items() for part in parts for link in part]
    points = _completed(driver.keypoints, seen, own / ratios["body"], own_seen, [link for _, link in links])

    moved = np.zeros_like(points)
    moved[:, NECK] = points[:, NECK] * ratios["body"]
    for name, (parent, child) in links:
        moved[:, child] = moved[:, parent] + ratios[name] * (points[:, child] - points[:, parent])
    first = int(seen[:, anchor].argmax())
    moved += own[anchor] - moved[first, anchor]
    depth = driver.depth * np.float32(ratios["head"])
    return replace(driver, keypoints=moved.astype(np.float32), depth=depth, size=reference.size)


def _ratios(points: Array, seen: Flags, own: Array, own_seen: Flags) -> dict[str, float]:
    """Reference / driver of every part's length; "body" is the middle one of the trunk's."""
    found: dict[str, float] = {}
    alike = _most_alike(points, seen, own, own_seen)
    for name, limb in LIMBS.items():
        mine = [_length(own[None], own_seen[None], link) for link in limb]
        theirs = [_length(points[alike], seen[alike], link) for link in limb] if name in TRUNK else [0.0]
        if not any(a > 0 and b > 0 for a, b in zip(mine, theirs, strict=False)):
            theirs = [_length(points, seen, link) for link in limb]
        if (
            name in TRUNK
        ):  # both sides are seen by the same light, of limbs the longer one is nearer the truth
            both = [(a, b) for a, b in zip(mine, theirs, strict=True) if a > 0 and b > 0]
            mine, theirs = [sum(a for a, _ in both)], [sum(b for _, b in both)]
        if max(mine) > 0 and max(theirs) > 0:
            found[name] = max(mine) / max(theirs)
    for name, parts in SHAPES.items():
        spreads = []
        for part in parts:
            children = [child for _, child in part]
            near = (
                _spread_ratio(points[alike], seen[alike], own, own_seen, children) if name in TRUNK else 0.0
            )
            spreads.append(near or _spread_ratio(points, seen, own, own_seen, children))
        if known := [ratio for ratio in spreads if ratio > 0]:
            found[name] = float(np.mean(known))
    if not found:
        raise UserError(
            "pose and reference have no limb and no face in common, their sizes can not be compared"
        )
    sizes = [found[name] for name in TRUNK if name in found and name in LIMBS]
    body = float(np.median(sizes or [*found.values()]))
    ranges = {name: TRUNK_RANGE if name in TRUNK else LIMB_RANGE for name in (*LIMBS, *SHAPES)}
    return {"body": body} | {
        name: float(np.clip(found.get(name, body), body * low, body * high))
        for name, (low, high) in ranges.items()
    }


def _most_alike(points: Array, seen: Flags, own: Array, own_seen: Flags) -> slice:
    """The frame whose trunk, moved, turned and scaled, is most like the reference's, among those that show
    most of its points; all frames if none shows two."""
    shared = seen & own_seen
    shared[:, [point for point in range(shared.shape[1]) if point not in FIGURE]] = False
    counts = shared.sum(1)
    if counts.max() < 2:
        return slice(None)
    left = np.full(len(points), np.inf)
    for t in np.flatnonzero(counts == counts.max()):
        here = shared[t]
        mine, theirs = (_plane(own[here]), _plane(points[t, here]))
        scale = np.vdot(theirs, mine) / max(float(np.vdot(theirs, theirs).real), 1e-9)
        left[t] = np.linalg.norm(mine - scale * theirs) / max(float(np.linalg.norm(mine)), 1e-9)
    best = int(left.argmin())
    return slice(best, best + 1)


def _plane(points: Array) -> NDArray[np.complex128]:
    """Points (n, 2) about their mean as complex numbers, so that a turn and a scale are one factor."""
    about = points - points.mean(0)
    return about[:, 0] + 1j * about[:, 1].astype(np.complex128)


def _length(points: Array, seen: Flags, link: Link) -> float:
    """Of a link over all frames that show both its ends, px; 0 if none does."""
    both = seen[:, list(link)].all(1)
    if not both.any():
        return 0.0
    lengths = np.linalg.norm(points[both, link[0]] - points[both, link[1]], axis=-1)
    return float(np.percentile(lengths, EXTENT))


def _spread_ratio(points: Array, seen: Flags, own: Array, own_seen: Flags, part: Sequence[int]) -> float:
    """Reference / driver of the root mean square distance from the middle of a part's points; 0 if unknown.

    Only points count that the reference shows, and frames that show all of those.
    """
    common = [point for point in part if own_seen[point] and seen[:, point].any()]
    frames = seen[:, common].all(1)
    if len(common) < 2 or not frames.any():
        return 0.0
    shown = points[frames][:, common]
    theirs = np.sqrt(((shown - shown.mean(1, keepdims=True)) ** 2).sum(-1).mean(1))
    mine = np.sqrt(((own[common] - own[common].mean(0)) ** 2).sum(-1).mean())
    return float(mine / max(np.percentile(theirs, EXTENT), 1e-6))


def _completed(points: Array, seen: Flags, own: Array, own_seen: Flags, links: Sequence[Link]) -> Array:
    """Keypoints with the missing ones put at their last known distance from their parent.

    A point that the driver never shows has the distance of the reference, `own` in the driver's scale, and if
    that does not show it either, it lies on its parent.
    """
    out = points.copy()
    out[:, NECK] = _held(points[:, NECK], seen[:, NECK])
    by_nose = seen[:, NOSE] & ~seen[:, NECK]
    if by_nose.any():
        both = seen[:, NOSE] & seen[:, NECK]
        known = own[NECK] - own[NOSE] if own_seen[[NECK, NOSE]].all() else np.zeros(2, np.float32)
        offset = (
            _held(points[:, NECK] - points[:, NOSE], both) if both.any() else np.tile(known, (len(out), 1))
        )
        out[by_nose, NECK] = points[by_nose, NOSE] + offset[by_nose]
    for parent, child in links:
        both = seen[:, child] & seen[:, parent]
        if both.any():
            offset = _held(points[:, child] - points[:, parent], both)
        else:
            known = own_seen[child] and own_seen[parent]
            offset = np.tile(own[child] - own[parent] if known else np.zeros(2), (len(out), 1))
        missing = ~seen[:, child]
        out[missing, child] = out[missing, parent] + offset[missing]
    return out


def _held(values: Array, known: Flags) -> Array:
    """The last known of the values (T, 2) in every frame; before it is known, the first."""
    if not known.any():
        return values
    last = np.maximum.accumulate(np.where(known, np.arange(len(known)), -1))
    return values[np.where(last < 0, known.argmax(), last)]
