"""The person of a photo moved whole: where the face is animated in place, head and body follow a pose.

    plate <- trunk and head (one smooth map) <- arms (stiff pieces)

The background is the photo's own, filled where the person stood, and never moves. Shapes: 134 keypoints of
avatar.drivers.skeleton.
"""

from __future__ import annotations

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from avatar.drivers.cutout import Cutout, Piece, cut
from avatar.drivers.matte import person_matte
from avatar.drivers.mesh import CHIN, FOREHEAD
from avatar.drivers.puppet import SIDES, Body, Trunk, affine, apply
from avatar.drivers.skeleton import INDEX, LEFT_HAND, RIGHT_HAND, SEEN

Array = NDArray[np.float32]
Wide = NDArray[np.float64]
Pixels = NDArray[np.uint8]

JOINTS = (
    *(INDEX[f"{side}_{joint}"] for side in SIDES for joint in ("shoulder", "elbow", "wrist", "hip")),
    *LEFT_HAND,
    *RIGHT_HAND,
)  # what the puppet is moved by
REST = 1e-3  # px, points that moved by less have not moved
PALM_TURN = (0.6, 1.25)  # a hand is drawn at most so much shorter and longer
SURE_LIMB = 0.06  # shoulder widths from the bone of an arm that are the person for certain


class BodyStage:
    """Moves the person of one photo.

    Args:
        photo: (H, W, 3) at the size of the frames.
        keypoints, scores: of its person, (134, 2) in px and (134,).
        face: landmarks of the face, (478, 2 or more), px.
        matte: share of every pixel that the person covers, (H, W); looked for when not known.
    """

    def __init__(
        self, photo: Pixels, keypoints: Array, scores: Array, face: Array, matte: Array | None = None
    ) -> None:
        height, width = photo.shape[:2]
        inside = ((keypoints >= 0) & (keypoints < [width, height])).all(1)
        self.body = Body(
            points=keypoints.astype(np.float64),
            seen=(scores >= SEEN) & inside,
            beyond=~inside,
            chin=face[CHIN, :2].astype(np.float64),
            crown=face[FOREHEAD, :2].astype(np.float64),
        )
        limbs = [
            (self.body.at(f"{side}_{first}"), self.body.at(f"{side}_{second}"))
            for side in SIDES
            for first, second in (("shoulder", "elbow"), ("elbow", "wrist"))
            if self.body.has(f"{side}_{first}", f"{side}_{second}")
        ]
        if matte is None:
            matte = person_matte(photo, face[:468, :2].mean(0), limbs, SURE_LIMB * self.body.unit)
        self.matte = matte
        self.cutout: Cutout = cut(photo, self.matte, self.body)
        self.trunk = Trunk(self.body, (width, height), self.cutout.sheet[..., 3])

    @property
    def sheet(self) -> Pixels:
        """Head and trunk, RGB and matte, (H, W, 4): what the face is animated in."""
        return self.cutout.sheet

    def moved(self, posed: Array, head: Wide | None) -> float:
        """By how many px the furthest of the puppet's joints has moved; rounding is no motion."""
        body = self.body
        used = [point for point in JOINTS if body.seen[point]]
        away = np.abs(posed[used] - body.points[used])
        if head is not None:
            ends = np.stack([body.chin, body.crown])
            away = np.concatenate([away, np.abs(apply(head, ends) - ends)])
        furthest = float(away.max(initial=0.0))
        return furthest if furthest > REST else 0.0

    def __call__(
        self, sheet: Pixels, posed: Array, head: Wide | None, picture: Pixels | None = None
    ) -> Pixels:
        """The frame (H, W, 3).

        Args:
            sheet: with its face animated, (H, W, 4).
            posed: the keypoints of this moment, (134, 2), px.
            head: where the head goes, affine (2, 3), px; None leaves it on its neck.
            picture: what is around the person, (H, W, 3); the photo if not given.
        """
        points = posed.astype(np.float64)
        move = self.trunk.carried(points) if head is None else head
        zoom = float(np.sqrt(abs(np.linalg.det(move[:, :2])))) ** 0.5
        out = self.cutout.plate.copy()
        if picture is not None:
            np.copyto(out, picture, where=self.cutout.around)
        cells = self.trunk(points, move, zoom)
        for box in self.trunk.shown(cells):
            source = self.trunk.enlarged(cells, box)
            drawn = cv2.remap(sheet, source, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
            lay(out, drawn, box[0].start, box[1].start)
        chains = [self._moves(pieces, points, zoom) for pieces in self.cutout.arms]
        for depth in range(3):
            for chain in chains:
                if depth < len(chain):
                    self._draw(out, *chain[depth])
        return out

    def _moves(self, pieces: tuple[Piece, ...], posed: Wide, zoom: float) -> list[tuple[Piece, Wide]]:
        """Where the pieces of an arm go."""
        moves: list[tuple[Piece, Wide]] = []
        for piece in pieces:
            bone = piece.bone
            start = posed[INDEX[bone.names[0]]]
            if bone.names[1] is not None:
                move = affine((bone.start, bone.end), (start, posed[INDEX[bone.names[1]]]), zoom)
            else:
                move = self._hand(bone.start, bone.end, bone.names[0], posed, moves[-1][1], zoom)
            moves.append((piece, move))
        return moves

    def _hand(self, start: Wide, end: Wide, wrist: str, posed: Wide, fore: Wide, zoom: float) -> Wide:
        """A hand turns with its own points if the photo shows them, otherwise with the forearm."""
        points = list(LEFT_HAND if wrist.startswith("left") else RIGHT_HAND)
        length = float(np.hypot(*(end - start)))
        if self.body.seen[points].all():
            way = posed[points[5:]].mean(0) - posed[INDEX[wrist]]
            reach = np.clip(np.hypot(*way) / max(length, 1e-6), *PALM_TURN)
        else:
            way, reach = fore[:, :2] @ (end - start), zoom
        way = way / max(float(np.hypot(*way)), 1e-6)
        there = posed[INDEX[wrist]]
        return affine((start, end), (there, there + reach * length * way), zoom)

    def _draw(self, out: Pixels, piece: Piece, move: Wide) -> None:
        height, width = piece.picture.shape[:2]
        corner = np.array(piece.corner, np.float64)
        rim = apply(move, corner + np.array([[0, 0], [width, 0], [0, height], [width, height]]))
        low = np.maximum(np.floor(rim.min(0)).astype(int), 0)
        high = np.minimum(np.ceil(rim.max(0)).astype(int), [out.shape[1], out.shape[0]])
        if (high <= low).any():
            return
        # Pixel centres at whole numbers on both sides.
        shift = apply(move, corner + 0.5) - 0.5 - low
        local = np.column_stack([move[:, :2], shift])
        size = (int(high[0] - low[0]), int(high[1] - low[1]))
        drawn = cv2.warpAffine(
            piece.picture, local, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT
        )
        lay(out, drawn, int(low[1]), int(low[0]))


@njit(cache=True, nogil=True)
def lay(out: NDArray, layer: NDArray, top: int, left: int) -> None:
    """Lay RGB with a matte (h, w, 4) over a picture (H, W, 3), in place."""
    for y in range(layer.shape[0]):
        for x in range(layer.shape[1]):
            share = int(layer[y, x, 3])
            if share == 255:
                for k in range(3):
                    out[top + y, left + x, k] = layer[y, x, k]
            elif share > 0:
                for k in range(3):
                    below = int(out[top + y, left + x, k])
                    mixed = below * 255 + share * (int(layer[y, x, k]) - below)
                    out[top + y, left + x, k] = (mixed + 127) // 255
