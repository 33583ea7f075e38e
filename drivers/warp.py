"""The driven reference: the reference picture bent to target landmarks, as backward flow, masks and pixels.

The face mesh is continued by rings around the face oval that follow the head less and less and end, fixed,
before the border of the picture, so that hair and neck go along and the border never moves. Each frame is
drawn by a small rasteriser, far triangles first: every target pixel learns where in the reference its surface
point lies. What a turned reference hides is the matter of `avatar.drivers.far_side`.
Eyeballs turn inside the lids by the gaze, teeth that the reference shows stay with the skull, and what it
cannot show inside the mouth is drawn by `avatar.drivers.mouth` for the backbone to redraw. Coordinates are
pixels of a square crop, pixel centres at .5.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from avatar.drivers.curves import CURVES
from avatar.drivers.mesh import (
    FACE_OVAL,
    LEFT_EYE,
    LEFT_IRIS,
    MOUTH,
    RIGHT_EYE,
    RIGHT_IRIS,
    UPPER_LIP,
    ReferenceMesh,
    Slit,
)
from avatar.drivers.mouth import ENAMEL, SEATS, MouthModel, develop, linear
from avatar.drivers.raster import draw_triangles, nearest_last
from avatar.drivers.relief import Relief
from avatar.drivers.seam import EDGES, clear_rims, closing, draw_seam, shade_seam

Array = NDArray[np.float32]

# Rings around the face oval: size relative to the oval, and how far they follow the head above and below.
RINGS = ((1.1, 1.0, 0.9), (1.25, 1.0, 0.6), (1.45, 0.9, 0.3), (1.7, 0.55, 0.1), (2.0, 0.2, 0.0))
RIM = 468  # number of the first point of the face's rim, after the landmarks
RING_DEPTH = 0.35  # face units, how far behind the face oval the rings lie
DRAWN_OUT = 1.5  # of a ring's distance from the rim: about so far it may leave its place there in turns
HOLD = 0.6  # how far what lies around a side that the photo hides keeps to its rim, and not to its depth
SOFT_REACH = 0.12  # in ring sizes, how far the jaw's own motion reaches into the neck
# Of the way to the next ring, the most that the jaw pushes one: a jaw that opens further goes in front of the
# neck, whose skin and collar would else be squeezed into a light rim under the chin.
PUSHED = 0.25
BORDER_STEPS = 8  # fixed points on each side of the picture
SURFACE, EYE, HOLE = 0, 1, 2  # parts of a drawn frame
SHUT = (0.8, 2.0)  # px: a smaller gap between two rims is closed, up to a larger one it is narrowed
MOVED = 4.0  # 1 / px: a slit that moves by a quarter of a pixel has left the reference's expression
LID = 2.0  # px beyond the lower lid's landmarks, and half of it beyond the upper's, skin begins for certain
CLOSING = 1e-4  # of an eye's opening, less is rounding
LID_REACH = 5  # px around an eye that its lids may change
# Share of the clips' light that falls on enamel, flesh and what lies behind in a photo: the lights of the
# clip factory shine into the mouth as few rooms' do.
INDOORS = np.array([1.1, 0.5, 0.5], np.float32)
COLOURFUL = 0.2  # of a face in colour the weakest of red, green and blue is at least so far below their mean
LEAST_SHOWN = 30  # px of an open mouth that may show teeth


class Driven(NamedTuple):
    """Frames of the driven reference.

    Attributes:
        picture: uint8 (T, S, S, 3).
        flow: float32 (T, 2, S, S), x and y in pixels from a target pixel to its place in the reference.
        hole: float32 (T, S, S), 1 where the mouth shows what the reference does not.
        lids: float32 (T, S, S), how far each eye is more closed than in the reference, in and around the eye.
        relief: float32 (T, 9, S / 4, S / 4), shape and motion of the face, see `avatar.drivers.relief`.
        gain: float32 (T, S / 4, S / 4), by what factor the light on the moved skin is another.
        seam: float32 (T, S, S), where lips that are apart in the reference meet.
    """

    picture: NDArray[np.uint8]
    flow: Array
    hole: Array
    lids: Array
    relief: Array
    gain: Array
    seam: Array


def _strip(slit: Slit) -> NDArray[np.int64]:
    """Triangles between the two rims of a slit."""
    quads = zip(slit.upper, slit.upper[1:], slit.lower, slit.lower[1:], strict=False)
    return np.array([t for a, b, c, d in quads for t in ((a, b, c), (b, d, c)) if len(set(t)) == 3])


MOUTH_STRIP = _strip(MOUTH)
EYES = ((LEFT_EYE, _strip(LEFT_EYE), list(LEFT_IRIS)), (RIGHT_EYE, _strip(RIGHT_EYE), list(RIGHT_IRIS)))


class DrivenReference:
    """Bends one reference picture to curves and head motion.

    Args:
        mesh: of the reference, its landmarks in pixels of `picture`.
        picture: the square crop around the head, uint8 (S, S, 3).
        mouth: drawn where the reference shows no mouth.
        seats: of its teeth and tongue, see `MouthModel.place`, (3,).
        paints: linear RGB of its enamel, flesh and dark, (3, 3); None takes the mean mouth's in the light
            of the reference's face, and the enamel of teeth that it shows.
        shows: whether what the reference shows of its mouth is used; otherwise all of it is painted.

    Attributes:
        between_lips: 1 inside the inner lips of the reference, (S, S), a little shrunk.
        mouth_shown: the same where it is used, otherwise 0.
    """

    def __init__(
        self,
        mesh: ReferenceMesh,
        picture: NDArray[np.uint8],
        mouth: MouthModel,
        seats: Array | None = None,
        paints: Array | None = None,
        shows: bool = True,
    ) -> None:
        self.mesh, self.picture, self.mouth, size = mesh, picture, mouth, len(picture)
        self.seats = np.array(SEATS, np.float32) if seats is None else seats
        self.lips = mesh.act(np.zeros((1, len(CURVES)), np.float32))[0, UPPER_LIP].mean(0)
        oval = list(FACE_OVAL)
        centre, around = mesh.own[oval].mean(0), mesh.own[oval]
        down = np.clip((around[:, 1] - centre[1]) / np.abs(around[:, 1] - centre[1]).max(), 0, 1)
        rings, follow, soft = [], [], []
        for scale, above, below in RINGS:
            ring = centre + (around - centre) * scale
            ring[:, 2] = around[:, 2] + RING_DEPTH
            rings.append(ring)
            follow.append(above + (below - above) * down)
            soft.append(np.full(len(oval), np.exp(-(((scale - 1) / SOFT_REACH) ** 2))))
        self.rings, self.soft = (
            np.concatenate(rings).astype(np.float32),
            np.concatenate(soft).astype(np.float32),
        )
        self.follow = np.concatenate(follow).astype(np.float32)
        still = np.zeros((1, 6), np.float32)
        self.rings_at = mesh.place(self.rings[None], still)[0, :, :2]
        self.relief = Relief(mesh, picture)
        self.far_side = self.relief.far_side
        own = mesh.landmarks[:468, :2]
        self.rim = self.far_side.rim(own[None], still)[0]
        self.behind = np.tile(self.far_side.behind, len(RINGS))[:, None]
        middle = self.rim.mean(0)
        grown = [middle + scale * (self.rim - middle) for scale, _, _ in RINGS]
        self.pushed = self.behind * (np.concatenate(grown) - self.rings_at)
        self.rings_at += self.pushed
        away = self.rings_at - np.tile(self.rim, (len(RINGS), 1))
        self.room = DRAWN_OUT * np.linalg.norm(away, axis=1)[:, None]
        apart = np.roll(self.rings_at, -len(oval), 0)[: -len(oval)] - self.rings_at[: -len(oval)]
        self.next_ring = np.pad(apart, ((0, len(oval)), (0, 0)), mode="edge")
        # A ring that leaves the picture must not move the border.
        room = np.minimum(self.rings_at, size - self.rings_at).min(1) / (0.12 * size)
        self.follow *= np.clip(room, 0, 1)
        edge = np.linspace(0, size, BORDER_STEPS + 1)[:-1]
        self.border = np.concatenate(
            [
                np.stack(p, 1)
                for p in (
                    (edge, 0 * edge),
                    (edge * 0 + size, edge),
                    (size - edge, 0 * edge + size),
                    (0 * edge, size - edge),
                )
            ]
        ).astype(np.float32)
        self.source = np.concatenate([own, self.rim, self.rings_at, self.border]).astype(np.float32)
        inside = (self.rings_at > 0).all(1) & (self.rings_at < size).all(1)
        drawn = np.concatenate([np.ones(len(oval), bool), inside, np.ones(len(self.border), bool)])
        outer = RIM + np.flatnonzero(drawn)
        self.around = outer[Delaunay(self.source[outer]).simplices].astype(np.int64)
        self.face = mesh.basis.triangles.astype(np.int64)
        upper, lower = EDGES.pulls(mesh.basis.neutral)
        self.edges = upper[:468], lower[:468]
        self.between_lips = self.mouth_shown = self._mouth_shown()
        self.paints = self._usual_paints() if paints is None else paints
        if not shows:
            self.mouth_shown = np.zeros_like(self.mouth_shown)
        self.grid = np.mgrid[:size, :size][::-1].astype(np.float32)

    def __call__(self, curves: Array, head: Array) -> Driven:
        """Draw the frames for `curves` (T, 52) and `head` (T, 6), both as in `ReferenceMesh`."""
        mesh, size, frames = self.mesh, len(self.picture), len(curves)
        acted = mesh.act(curves)
        placed = mesh.place(acted, head)
        points = placed[..., :2]
        rigid = mesh.place(np.broadcast_to(mesh.own, acted.shape), head)[
            ..., :2
        ]  # the head turned, the face at rest
        oval = list(FACE_OVAL)
        jaw = self._push((points - rigid)[:, oval])
        turned = mesh.place(np.broadcast_to(self.rings, (frames, *self.rings.shape)), head)[..., :2]
        way = np.tile(self.far_side.rim(rigid[:, :468], head) - self.rim, (1, len(RINGS), 1))
        beside = (turned + self.pushed - self.rings_at - way) * (1 - HOLD * self.behind)
        beside /= (1 + (np.linalg.norm(beside, axis=-1, keepdims=True) / self.room) ** 4) ** 0.25
        rings = self.rings_at + (way + beside) * self.follow[:, None] + jaw
        own, rim = points[:, :468], self.far_side.rim(points[:, :468], head)
        border = np.broadcast_to(self.border, (frames, *self.border.shape))
        target = np.concatenate([own, rim, rings, border], 1).astype(np.float32)

        shut(target, rigid, MOUTH, *SHUT)
        source = np.tile(self.source, (frames, 1, 1))
        source[:, :468] = self.far_side.replaced(self.source[:468], head)
        lids = np.zeros((frames, size, size), np.float32)
        for eye, _, _ in EYES:
            usual = eye.gaps(mesh.landmarks).mean()
            shut(target, rigid, eye, min(SHUT[0], 0.15 * usual), min(SHUT[1], 0.35 * usual))
            # Landmarks of the lids lie on the white of the eye's edge, which a shut eye must not show.
            closed = 1 - eye.gaps(target).mean(1).clip(0, usual) / usual
            for t in np.flatnonzero(closed > CLOSING):
                lids[t] += closed[t] * _ring(rigid[t], eye, size, LID_REACH)
            edge = (closed * min(LID, 0.3 * usual))[:, None]
            source[:, list(eye.lower[1:-1]), 1] += edge
            source[:, list(eye.upper[1:-1]), 1] -= edge / 2

        lips = closing(MOUTH.gaps(mesh.landmarks), MOUTH.gaps(target))
        clear_rims(source[:, :468], lips, mesh.height, self.edges)
        seam = draw_seam(target, lips, mesh.height, size)

        inside = mesh.place(self.lips + self.mouth.place(curves, self.seats), head)
        openness = MOUTH.gaps(acted).max(1)

        relief, gains = self.relief(placed, acted - mesh.own, target, head)
        flow = np.empty((frames, 2, size, size), np.float32)
        hole = np.zeros((frames, size, size), np.float32)
        picture = np.empty((frames, size, size, 3), np.uint8)
        for t in range(frames):
            parts = np.zeros((size, size), np.uint8)
            at = self.grid + np.float32(0.5)  # where each pixel comes from
            draw_triangles(target[t], self.source, self.around, SURFACE, at, parts)
            face = nearest_last(placed[t], self.face)
            draw_triangles(target[t], source[t], face, SURFACE, at, parts)
            for eye, strip, iris in EYES:
                corners = [eye.upper[0], eye.upper[-1]]
                look = (points[t, iris] - rigid[t, iris]).mean(0)
                shift = (rigid[t, corners] - mesh.landmarks[corners, :2]).mean(0) + look
                ball = self._eyeball(eye, (target[t] - shift).astype(np.float32))
                draw_triangles(target[t], ball, strip, EYE, at, parts)
            skull = (rigid[t, list(UPPER_LIP)] - mesh.landmarks[list(UPPER_LIP), :2]).mean(0)
            draw_triangles(target[t], (target[t] - skull).astype(np.float32), MOUTH_STRIP, HOLE, at, parts)
            flow[t] = at - self.grid - np.float32(0.5)
            picture[t] = self._paint(flow[t], parts, inside[t], float(openness[t]), gains[t], hole[t])
            shade_seam(picture[t], seam[t])
        return Driven(picture, flow, hole, lids.clip(0, 1), relief, gains, seam)

    def _push(self, jaw: Array) -> Array:
        """How far the rings go with the jaw's own motion (T, O, 2), (T, rings, 2)."""
        pushed = np.tile(jaw, (1, len(RINGS), 1)) * self.soft[:, None]
        length = np.linalg.norm(self.next_ring, axis=1).clip(1e-6)
        out = (pushed * self.next_ring).sum(-1) / length  # towards the next ring
        room = PUSHED * length
        return pushed * (room / np.maximum(out, room))[..., None]

    def _eyeball(self, eye: Slit, seen: Array) -> Array:
        """Where in the reference the rims of an eye take what lies between them, from where it turned to.

        Beyond the reference's own lids there is no eyeball, so what it shows is stretched to a wider eye.
        """
        upper, lower = list(eye.upper), list(eye.lower)
        seen[upper, 1] = np.maximum(seen[upper, 1], self.mesh.landmarks[upper, 1])
        seen[lower, 1] = np.minimum(seen[lower, 1], self.mesh.landmarks[lower, 1])
        return seen

    def _paint(
        self,
        flow: Array,
        parts: NDArray[np.uint8],
        inside: Array,
        openness: float,
        gains: Array,
        hole: Array,
    ) -> NDArray[np.uint8]:
        """Bend the picture by `flow` (2, S, S), light it, paint what of the mouth the reference does not show
        and mark that in `hole` (S, S)."""
        at = self.grid + flow
        bent = cv2.remap(self.picture, at[0], at[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        lit = cv2.resize(gains, (len(hole), len(hole)), interpolation=cv2.INTER_LINEAR)[..., None]
        bent = (bent * lit + 0.5).clip(0, 255).astype(np.uint8)
        mouth = parts == HOLE
        rows, columns = np.flatnonzero(mouth.any(1)), np.flatnonzero(mouth.any(0))
        if not len(rows):
            return bent
        box = _around(rows, len(hole)), _around(columns, len(hole))
        seen = cv2.remap(self.mouth_shown, at[0][box], at[1][box], cv2.INTER_LINEAR, borderValue=0.0)
        hole[box] = mouth[box] * (1 - seen)
        layers = self.mouth.layers(inside, self.mesh.height, box, openness)
        paint = develop(np.tensordot(layers, self.paints, (0, 0)))
        soft = cv2.GaussianBlur(hole[box], (0, 0), 0.6)[..., None]
        bent[box] = (bent[box] * (1 - soft) + paint * soft + 0.5).clip(0, 255)
        return bent

    def _usual_paints(self) -> Array:
        """Paints in the light of the face; the enamel of the reference's own teeth, if it shows them. Without
        teeth, what it shows of its mouth is no use in another pose and is forgotten."""
        light = face_light(self.picture, self.mesh.landmarks)
        paints = self.mouth.lit_paints(light) * INDOORS[:, None]
        colour = min(1.0, (1 - light.min() / light.mean()) / COLOURFUL)  # a grey photo has a grey mouth
        paints = colour * paints + (1 - colour) * paints.mean(1, keepdims=True)
        shown = linear(self.picture[self.mouth_shown > 0.9])
        if len(shown) >= LEAST_SHOWN:
            brightest = shown[np.argsort(shown.mean(1))[-len(shown) // 3 :]].mean(0)
            if brightest.mean() > paints[ENAMEL].mean():
                paints[ENAMEL] = brightest
                return paints
        self.mouth_shown = np.zeros_like(self.mouth_shown)
        return paints

    def _mouth_shown(self) -> Array:
        """1 inside the inner lips of the reference, (S, S), a little shrunk."""
        return _ring(self.mesh.landmarks, MOUTH, len(self.picture), -1)


def _ring(points: Array, slit: Slit, size: int, reach: int) -> Array:
    """1 inside the rims of a slit of `points` (n, 2+), grown by `reach` px or shrunk, (size, size)."""
    mask = np.zeros((size, size), np.uint8)
    ring = [*slit.upper, *slit.lower[-2:0:-1]]
    cv2.fillPoly(mask, [points[ring, :2].round().astype(np.int32)], 1)
    change = cv2.dilate if reach > 0 else cv2.erode
    return change(mask, np.ones((2 * abs(reach) + 1, 2 * abs(reach) + 1), np.uint8)).astype(np.float32)


def shut(points: Array, still: Array, slit: Slit, none: float, full: float) -> None:
    """Close what is almost closed, in place: a gap of less than a pixel shows as specks.

    Args:
        points: (T, n, 2) in pixels.
        still: the same without expression; what does not move is left as the reference shows it.
        none: gap that is closed, in pixels.
        full: gap that is left as it is; between the two it is narrowed.
    """
    rims = [*slit.upper, *slit.lower]
    moved = (MOVED * np.abs(points[:, rims] - still[:, rims]).max((1, 2))).clip(0, 1)
    for frame, share in zip(points, moved, strict=True):
        upper, lower = frame[list(slit.upper)], frame[list(slit.lower)]
        line = np.interp(lower[:, 0], upper[:, 0], upper[:, 1])
        gap = lower[:, 1] - line
        narrowed = gap * np.clip((gap - none) / (full - none), 0, 1)
        frame[list(slit.lower), 1] += share * (narrowed - gap)


def _around(own: NDArray[np.intp], size: int) -> slice:
    """The rows or columns `own`, in order, with a margin inside of 0 .. size."""
    return slice(max(0, int(own[0]) - 3), min(size, int(own[-1]) + 4))


def face_light(picture: NDArray[np.uint8], landmarks: Array) -> Array:
    """Mean linear RGB of the face in a picture, (3,)."""
    mask = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillPoly(mask, [landmarks[list(FACE_OVAL), :2].round().astype(np.int32)], 1)
    return linear(picture[mask > 0]).mean(0)
