"""A person of a photo as a puppet of flat layers: a trunk with the head on it, and arms in front.

The trunk is one sheet. Its map, from the moved picture back to the photo, is a smooth mean of three rigid
ones, of head, chest and pelvis, with weights that move along: such a map stretches a neck and never tears it.
An arm is cut out along its bones: upper arm, forearm and hand are stiff layers that overlap in a disc at each
joint. Every joint goes where it is told, exactly. What the photo does not show is not invented: an arm
without elbow stays on the trunk, one without wrist is stiff. Shapes: 134 keypoints of
avatar.drivers.skeleton; maps are affine, (2, 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.drivers.skeleton import INDEX, LEFT_HAND, RIGHT_HAND

Array = NDArray[np.float32]
Flags = NDArray[np.bool_]
Wide = NDArray[np.float64]
Pixels = NDArray[np.uint8]

SIDES = ("right", "left")
STILL = np.array([[1.0, 0, 0], [0, 1, 0]])
CELL = 8  # px of the grid on which the trunk's map is made
BAND = 8  # cells, rows of it that are drawn at once, no wider than the person is there
# In face heights: from the chin to the line of the shoulders, and half their width, where they are not seen.
NECK, HALF = 0.5, 1.05
# The head is a capsule from above the chin to over the crown; where the trunk's map is the head's alone and
# where the chest's, as share of the way from the line of the shoulders.
CAPSULE, CROWN, HEAD_RADIUS = 0.42, 1.4, 0.45
NECK_FROM, NECK_TO = 0.1, 1.0
PIT = 0.3  # face heights below the line of the shoulders, where the chest moves stiffly
BROAD, BELOW = 0.75, 20.0  # shoulder widths, half the width of the torso; how many of these it reaches down
DRIFT = 0.1  # shoulder widths that hips must move by to be followed: detectors let them drift
WAIST = (
    0.3,
    1.0,
)  # of the way from shoulders to hips, where the pelvis begins to count and where it alone does


def affine(source: tuple[Wide, Wide], target: tuple[Wide, Wide], across: float) -> Wide:
    """The map that takes one bone onto another: scaled along itself as it must be, and by `across` beside."""
    (a, b), (c, d) = source, target
    along, there = b - a, d - c
    length, reach = max(float(np.hypot(*along)), 1e-6), float(np.hypot(*there))
    u = along / length
    v = there / reach if reach > 1e-6 else u
    turn = (reach / length) * np.outer(v, u) + across * np.outer([-v[1], v[0]], [-u[1], u[0]])
    return np.column_stack([turn, c - turn @ a])


def inverse(move: Wide) -> Wide:
    turn = np.linalg.inv(move[:, :2])
    return np.column_stack([turn, -turn @ move[:, 2]])


def apply(move: Wide, points: NDArray) -> Wide:
    """Points (..., 2) moved."""
    return points @ move[:, :2].T + move[:, 2]


@dataclass(frozen=True, kw_only=True)
class Body:
    """What of the reference's body the layers are made by.

    Attributes:
        points: (134, 2), px of the photo.
        seen: (134,), which of them the photo shows.
        beyond: (134,), which lie outside of the photo: a guess of the detector.
        chin, crown: of the face, (2,), px.
    """

    points: Wide
    seen: Flags
    beyond: Flags
    chin: Wide
    crown: Wide

    @property
    def height(self) -> float:
        """Of the face, px."""
        return float(np.hypot(*(self.chin - self.crown)))

    @property
    def unit(self) -> float:
        """Shoulder width of a person who faces the camera, px."""
        ends = self.shoulders()
        return max(float(np.hypot(*(ends[0] - ends[1]))), 1.7 * self.height)

    def has(self, *names: str) -> bool:
        return bool(self.seen[[INDEX[name] for name in names]].all())

    def at(self, name: str) -> Wide:
        return self.points[INDEX[name]]

    def shoulders(self) -> tuple[Wide, Wide]:
        """The right one and the left one; what is not seen is guessed by the face."""
        down = (self.chin - self.crown) / self.height
        middle = self.chin + NECK * self.height * down
        aside = HALF * self.height * np.array([-down[1], down[0]])  # the person's right is the picture's left
        guess = {"right": middle + aside, "left": middle - aside}
        right, left = (
            self.at(f"{side}_shoulder") if self.has(f"{side}_shoulder") else guess[side] for side in SIDES
        )
        return right, left


class Trunk:
    """Head, neck, torso and what hangs on it.

    Args:
        body: of the reference.
        size: (width, height) of the photo, px.
        matte: where the photo shows them, (H, W).
    """

    def __init__(self, body: Body, size: tuple[int, int], matte: Pixels) -> None:
        self.body, self.size = body, size
        self.ends = body.shoulders()
        self.waist = (body.at("right_hip") + body.at("left_hip")) / 2
        self.has_hips = body.has("right_hip", "left_hip")
        reach = 2 * CELL + 1  # what is drawn near, or moved a little by the face, is found too
        self.near = cv2.dilate(matte, np.ones((reach, reach), np.uint8))
        # One cell more on each side, so that enlarging never has to guess beyond the last one.
        columns, rows = (np.arange(-1, -(-side // CELL) + 1) * CELL + CELL / 2 - 0.5 for side in size)
        self.grid = np.stack(np.meshgrid(columns, rows), -1)

    def chest(self, posed: Wide, zoom: float) -> Wide:
        """From photo to moved picture."""
        body, names = self.body, ("right_shoulder", "left_shoulder")
        if body.has(*names):
            there = (posed[INDEX[names[0]]], posed[INDEX[names[1]]])
            return affine(self.ends, there, zoom)
        for name in names:
            if body.has(name):
                return np.column_stack([np.eye(2), posed[INDEX[name]] - body.at(name)])
        return STILL

    def carried(self, posed: Wide) -> Wide:
        """Where a head goes that stays on its neck: it shifts and turns with the shoulders."""
        there = apply(self.chest(posed, 1.0), np.stack(self.ends))
        own, way = self.ends[1] - self.ends[0], there[1] - there[0]
        way *= np.hypot(*own) / max(float(np.hypot(*way)), 1e-6)
        return affine(self.ends, (there.mean(0) - way / 2, there.mean(0) + way / 2), 1.0)

    def __call__(self, posed: Wide, head: Wide, zoom: float) -> Array:
        """Where every cell of the moved picture lies in the photo, (h + 2, w + 2, 2), px, centres of pixels
        at whole numbers; one cell more on each side.

        Args:
            posed: keypoints (134, 2), px.
            head: of the head, from photo to moved picture.
            zoom: by how much the body has come nearer.
        """
        body, x = self.body, self.grid + 0.5
        chest = self.chest(posed, zoom)
        back = apply(inverse(chest), x)
        ends = apply(chest, np.stack(self.ends))
        if self.has_hips:
            way = (posed[INDEX["right_hip"]] + posed[INDEX["left_hip"]]) / 2 - self.waist
            middle = self.waist + way * max(0.0, 1 - DRIFT * body.unit / max(float(np.hypot(*way)), 1e-6))
            pelvis = np.column_stack([zoom * np.eye(2), middle - zoom * self.waist])
            spine = middle - ends.mean(0)
            way = (x - ends.mean(0)) @ spine / max(float(spine @ spine), 1e-6)
            share = _smoothstep(way, *WAIST)[..., None]
            back = back + share * (apply(inverse(pelvis), x) - back)
        up = body.crown - body.chin
        low, high = apply(head, np.stack([body.chin + CAPSULE * up, body.chin + CROWN * up]))
        scale = float(np.sqrt(abs(np.linalg.det(head[:, :2]))))
        near = np.maximum(segment_distance(x, low, high)[0] - HEAD_RADIUS * scale * body.height, 0)
        pit = apply(chest, np.mean(self.ends, 0) - PIT * up)
        # The torso is as broad as this capsule, which hangs from the pit of the neck.
        down, broad = (pit - low) / max(float(np.hypot(*(pit - low))), 1e-6), BROAD * body.unit * scale
        torso = segment_distance(x, pit + broad * down, pit + BELOW * broad * down)[0] - broad
        lines = [segment_distance(x, end, pit)[0] for end in ends]
        far = np.min([*lines, np.maximum(torso, 0)], 0) + 0.02 * body.height
        share = _smoothstep(far / (near + far), NECK_FROM, NECK_TO)[..., None]
        back = back + share * (apply(inverse(head), x) - back)
        return (back - 0.5).astype(np.float32)

    def shown(self, cells: Array) -> list[tuple[slice, slice]]:
        """Rows and columns of the moved picture that may show the trunk, in bands from the top."""
        near = cv2.remap(self.near, cells, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE) > 0
        width, height = self.size
        bands = []
        for top in range(0, height, BAND * CELL):
            first = top // CELL  # of the cells that touch it, as there is one more before the picture
            here = np.flatnonzero(near[first : first + BAND + 2].any(0))
            if len(here):
                columns = slice(max(0, CELL * (int(here[0]) - 2)), min(width, CELL * (int(here[-1]) + 1)))
                bands.append((slice(top, min(height, top + BAND * CELL)), columns))
        return bands

    def enlarged(self, cells: Array, box: tuple[slice, slice]) -> Array:
        """The map of cells at the pixels of a box, (rows, columns, 2)."""
        first = [part.start // CELL for part in box]
        last = [-(-part.stop // CELL) + 2 for part in box]
        part = cells[first[0] : last[0], first[1] : last[1]]
        rows, columns = part.shape[:2]
        large = cv2.resize(part, (columns * CELL, rows * CELL), interpolation=cv2.INTER_LINEAR)
        top, left = (CELL + side.start - CELL * begin for side, begin in zip(box, first, strict=True))
        return large[top : top + box[0].stop - box[0].start, left : left + box[1].stop - box[1].start]


def _smoothstep(values: Wide, start: float, end: float) -> Wide:
    share = np.clip((values - start) / (end - start), 0, 1)
    return share * share * (3 - 2 * share)


def segment_distance(points: Wide, start: Wide, end: Wide) -> tuple[Wide, Wide]:
    """Distance (...) of points (..., 2) from a line between two points, and how far along it, 0 to 1."""
    line = end - start
    along = np.clip((points - start) @ line / max(float(line @ line), 1e-6), 0, 1)
    away = points - start - along[..., None] * line
    return np.hypot(away[..., 0], away[..., 1]), along


@dataclass(frozen=True, kw_only=True)
class Bone:
    """One stiff layer of an arm.

    Attributes:
        start, end: its joints in the photo, px.
        names: of the joints; the end of a hand or of an arm without wrist has none.
        radius: half the width of the limb at both ends, px.
    """

    start: Wide
    end: Wide
    names: tuple[str, str | None]
    radius: tuple[float, float]


# In shoulder widths: half the width of an arm at its joints and of a hand; the length of a hand.
THICK = {"shoulder": 0.16, "elbow": 0.13, "wrist": 0.1, "hand": 0.15}
PALM = 0.22


def arm_bones(body: Body, side: str) -> list[Bone]:
    """Upper arm, forearm and hand, as far as the photo shows their joints; none without an elbow.

    A forearm that leaves the photo goes to where the wrist must be outside.
    """
    shoulder, elbow, wrist = (f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist"))
    if not body.has(shoulder, elbow):
        return []
    thick = {name: share * body.unit for name, share in THICK.items()}
    upper = Bone(
        start=body.at(shoulder),
        end=body.at(elbow),
        names=(shoulder, elbow),
        radius=(thick["shoulder"], thick["elbow"]),
    )
    leaves = bool(body.beyond[INDEX[wrist]])
    if not (body.has(wrist) or leaves):
        return [upper]
    fore = Bone(
        start=body.at(elbow),
        end=body.at(wrist),
        names=(elbow, wrist),
        radius=(thick["elbow"], thick["wrist"]),
    )
    if leaves:
        return [upper, fore]
    points = list(LEFT_HAND if side == "left" else RIGHT_HAND)
    if body.seen[points].all():
        tip = body.points[points[5:]].mean(0)
    else:
        way = fore.end - fore.start
        tip = fore.end + PALM * body.unit * way / max(float(np.hypot(*way)), 1e-6)
    hand = Bone(start=body.at(wrist), end=tip, names=(wrist, None), radius=(thick["hand"], thick["hand"]))
    return [upper, fore, hand]
