"""A photo cut into what stands behind, a sheet of the person without arms, and the pieces of the arms.

Colours of a piece go on beyond its rim, so that no rim is drawn with what was behind it in the photo. Where
an arm lies before the torso the sheet is filled with the torso's colours; where it lies beside, the sheet
ends, without a cleft. Behind the person the photo is filled from around. Pixels: (H, W) of the photo.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.drivers.inpaint import fill
from avatar.drivers.puppet import SIDES, Body, Bone, arm_bones, segment_distance

Array = NDArray[np.float32]
Flags = NDArray[np.bool_]
Pixels = NDArray[np.uint8]

HALO = 0.01  # of the long side, by how much the hole behind the person is larger than the matte
TRACE = 0.02  # of the matte that still counts as person
SOLID = 0.97  # of the matte from which a pixel has none of the background's colour
KEPT = 0.14  # shoulder widths around a shoulder that stay on the trunk: the cap on which the arm turns
# An upper arm begins in a circle of so many of its radii, whose middle is so many circle's radii beyond the
# shoulder: where it meets the arm's sides, they are still on the cap.
ROUND, BEYOND = 1.4, 0.65
HEALED = 0.12  # shoulder widths, clefts in the trunk up to twice as wide are closed where an arm was
LEGS = 2.0  # shoulder widths, length of thighs whose knees are not seen
THIGH, NECK = 0.2, 0.13  # shoulder widths, half the width of what is certainly thigh or neck
HEAD = 0.4  # face heights, the same of the head
FREE = 0.3  # shoulder widths from an arm beyond which nothing is an arm
SKIRT = 1.3  # shoulder widths, length of a torso whose hips are not seen
CORE, DOUBT = 0.45, 1.0  # of half an arm's width: so far inside it is arm, so far outside it is not
LEAST = 0.1  # of a bone's pixels, trunk beside it that is worth a look at colours
THREAD = 5  # px, what is thinner holds nothing
HIPS = 1.35  # a torso is so much wider than the joints of its hips


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A stiff layer: RGB and matte, (h, w, 4), its first pixel at `corner` (x, y) of the photo."""

    bone: Bone
    picture: Pixels
    corner: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Cutout:
    """A photo in layers.

    Attributes:
        plate: what is behind the person, (H, W, 3).
        around: what of it is the photo's own, (H, W, 1).
        sheet: head and trunk, RGB and matte, (H, W, 4).
        arms: pieces of each arm, from the shoulder on.
    """

    plate: Pixels
    around: Flags
    sheet: Pixels
    arms: tuple[tuple[Piece, ...], ...]


def cut(photo: Pixels, matte: Array, body: Body) -> Cutout:
    """Cut a photo (H, W, 3) of a person whose matte (H, W) is known."""
    height, width = matte.shape
    grow = 2 * max(3, round(HALO * max(height, width))) + 1
    person = matte > TRACE
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (grow, grow))
    hole = cv2.dilate(person.astype(np.uint8), disc) > 0
    plate = _levels(fill(photo, hole))

    trunk = trunk_distance(body, (width, height))
    centres = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1)
    chains = [bones for side in SIDES if (bones := arm_bones(body, side))]
    removed = np.zeros((height, width), bool)
    arms = []
    for bones in chains:
        rooms = [_outside(centres, bone) for bone in bones]
        beyond = _past_shoulder(centres, bones[0]) | (np.argmin(rooms, 0) > 0)
        arm = _arm(photo, person, beyond, bones, rooms, trunk, FREE * body.unit)
        arms.append(_pieces(photo, matte, bones, rooms, arm, centres))
        removed |= arm & (np.hypot(*(centres - bones[0].start).transpose(2, 0, 1)) > KEPT * body.unit)
    inside = (trunk <= 0) & person
    rest = (person & (inside | ~removed)).astype(np.uint8)
    inside |= _closed(rest, HEALED * body.unit) & removed
    gone = cv2.dilate(removed.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    free = (gone & (removed | (matte < SOLID)) & ~inside).astype(np.float32)
    free = cv2.GaussianBlur(free, (0, 0), 0.8)
    covered = np.where(inside, np.maximum(matte, removed), matte * (1 - free))
    colours = fill(photo, (matte < SOLID) | gone)
    return Cutout(plate=plate, around=~hole[..., None], sheet=_layer(colours, covered), arms=tuple(arms))


def trunk_distance(body: Body, size: tuple[int, int]) -> Array:
    """How far every pixel is from head, torso and thighs, px, negative inside them, (H, W)."""
    right, left = body.shoulders()
    down, unit = (body.chin - body.crown) / body.height, body.unit
    mask = np.zeros(size[::-1], np.uint8)
    if body.has("right_hip", "left_hip"):
        hips = np.stack([body.at("right_hip"), body.at("left_hip")])
        low = hips.mean(0) + HIPS * (hips - hips.mean(0))
        for side, hip in zip(SIDES, hips, strict=True):
            knee = body.at(f"{side}_knee") if body.has(f"{side}_knee") else hip + LEGS * unit * down
            _line(mask, hip, knee, THIGH * unit)
        # Knees are often guessed: what hangs straight under the hips are legs in any case.
        legs = low + LEGS * unit * down
        cv2.fillPoly(mask, [np.stack([*low, *legs[::-1]]).round().astype(np.int32)], 1)
    else:
        across = (left - right) / 2
        low = np.stack([right + 0.15 * across, left - 0.15 * across]) + SKIRT * unit * down
    cv2.fillPoly(mask, [np.stack([right, left, low[1], low[0]]).round().astype(np.int32)], 1)
    _line(mask, body.chin, (right + left) / 2, NECK * unit)
    _line(mask, body.chin + 0.4 * (body.crown - body.chin), body.crown, HEAD * body.height)
    outside = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5)
    return np.where(mask > 0, -cv2.distanceTransform(mask, cv2.DIST_L2, 5), outside).astype(np.float32)


def _line(mask: Pixels, start: NDArray, end: NDArray, half: float) -> None:
    """Draw a limb that is `half` px thick on both sides of its bone."""
    ends = [tuple(point.round().astype(int).tolist()) for point in (start, end)]
    cv2.line(mask, ends[0], ends[1], 1, max(1, round(2 * half)))


def _arm(
    photo: Pixels,
    whole: Flags,
    beyond: Flags,
    bones: list[Bone],
    rooms: list[Array],
    trunk: Array,
    reach: float,
) -> Flags:
    """Where an arm is, (H, W): by distance from bones and trunk, and along a trunk that it touches by colour.

    Each bone is cut for itself, so that a hand before a shirt is told from a sleeve of the same shirt. Only
    what lies `beyond` the shoulder of the `whole` person is cut.
    """
    person = whole & beyond
    owner, nearest = np.argmin(rooms, 0), np.min(rooms, 0)
    arm = np.zeros_like(person)
    for number, (bone, room) in enumerate(zip(bones, rooms, strict=True)):
        half = min(bone.radius)
        own = person & (owner == number) & (nearest < reach)
        guess = own & (nearest < np.maximum(trunk, 0))
        core, doubt = own & (room < -CORE * half), own & (room < DOUBT * half) & (room >= -CORE * half)
        rows, columns = (np.flatnonzero((doubt | core).any(axis)) for axis in (1, 0))
        if not len(rows) or not core.any():
            arm |= guess
            continue
        edge = round(half)
        box = (
            slice(max(rows[0] - edge, 0), rows[-1] + edge + 1),
            slice(max(columns[0] - edge, 0), columns[-1] + edge + 1),
        )
        other = person & ~guess & ~doubt & (owner == number)
        if (other[box]).sum() < core.sum() * LEAST:  # it hangs free
            arm |= guess
            continue
        # What is not the person at all must not count as a colour of the trunk.
        picture = _levels(fill(photo[box], ~(person[box] & ~core[box])))
        picture[person[box]] = photo[box][person[box]]
        state = np.where(guess[box], cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
        state[doubt[box] & ~guess[box]] = cv2.GC_PR_BGD
        state[guess[box] & ~doubt[box]] = cv2.GC_FGD
        models = np.zeros((2, 1, 65), np.float64)
        cv2.setRNGSeed(0)
        cv2.grabCut(picture, state, None, models[0], models[1], 2, cv2.GC_INIT_WITH_MASK)
        arm[box] |= ((state == cv2.GC_FGD) | (state == cv2.GC_PR_FGD)) & own[box]
    return arm | _cut_off(whole & ~arm, arm, trunk <= 0)


def _cut_off(rest: Flags, arm: Flags, trunk: Flags) -> Flags:
    """What of the rest of a person touches the arm and hangs on the trunk by a thread at most, (H, W)."""
    square = np.ones((THREAD, THREAD), np.uint8)
    _, labels = cv2.connectedComponents(cv2.morphologyEx(rest.astype(np.uint8), cv2.MORPH_OPEN, square))
    held = (labels > 0) & np.isin(labels, labels[trunk & (labels > 0)])
    loose = rest & ~trunk & (cv2.dilate(held.astype(np.uint8), square) == 0)
    _, labels = cv2.connectedComponents(loose.astype(np.uint8))
    touched = np.unique(labels[(cv2.dilate(arm.astype(np.uint8), square) > 0) & loose])
    return loose & np.isin(labels, touched)


def _past_shoulder(centres: NDArray, upper: Bone) -> Flags:
    """Where an upper arm begins, round: no corner of it stands out when it turns, (H, W)."""
    way = upper.end - upper.start
    length = max(float(np.hypot(*way)), 1e-6)
    radius = min(ROUND * upper.radius[0], length)
    away, along = segment_distance(centres, upper.start + BEYOND * radius * way / length, upper.end)
    return (away < radius) | (along > 0)


def _closed(mask: Pixels, radius: float) -> Flags:
    """A mask with all its clefts and holes closed that no disc of this radius, px, fits into."""
    near = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5) <= radius
    return cv2.distanceTransform(near.astype(np.uint8), cv2.DIST_L2, 5) > radius


def _outside(centres: NDArray, bone: Bone) -> Array:
    """How far every pixel is from the surface of a limb, px, negative inside, (H, W)."""
    away, along = segment_distance(centres, bone.start, bone.end)
    return (away - bone.radius[0] - along * (bone.radius[1] - bone.radius[0])).astype(np.float32)


def _pieces(
    photo: Pixels, matte: Array, bones: list[Bone], rooms: list[Array], arm: Flags, centres: NDArray
) -> tuple[Piece, ...]:
    """An arm in pieces, each with a disc of its neighbours around the joints."""
    owner = np.argmin(rooms, 0)
    pieces = []
    for number, bone in enumerate(bones):
        part = arm & (owner == number)
        for joint, radius in ((bone.start, bone.radius[0]), (bone.end, bone.radius[1])):
            part |= arm & (np.hypot(*(centres - joint).transpose(2, 0, 1)) < radius)
        if not part.any():
            break
        rows, columns = (np.flatnonzero(part.any(axis)) for axis in (1, 0))
        edge = 6
        box = (
            slice(max(rows[0] - edge, 0), rows[-1] + edge + 1),
            slice(max(columns[0] - edge, 0), columns[-1] + edge + 1),
        )
        soft = cv2.GaussianBlur(part[box].astype(np.float32), (0, 0), 1.0) * matte[box]
        colours = fill(photo[box], ~(part[box] & (matte[box] >= SOLID)))
        pieces.append(Piece(bone=bone, picture=_layer(colours, soft), corner=(box[1].start, box[0].start)))
    return tuple(pieces)


def _layer(colours: Array, covered: Array) -> Pixels:
    return _levels(np.dstack([colours, 255 * covered]))


def _levels(values: Array) -> Pixels:
    return (values + 0.5).clip(0, 255).astype(np.uint8)
