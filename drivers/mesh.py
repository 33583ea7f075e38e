"""The face mesh of the reference, and where its landmarks go when a face of that shape acts and turns.

Coordinates: x to the right of the picture, y down, z away from the viewer; "face units" are face heights, the
distance between the landmarks FOREHEAD and CHIN. Shapes: T frames, 478 landmarks, 52 curves.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.curves import CORNERS, CURVES, curve_indices

Array = NDArray[np.float32]

LANDMARKS = 478  # MediaPipe face mesh with refined lips and irises
FOREHEAD, CHIN, NOSE_TIP = 10, 152, 1
FACE_OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
             152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)  # fmt: skip
# Inner lips and lids from the picture's left to its right; the first and last are the shared corners.
UPPER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_LIP = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
LEFT_UPPER_LID, LEFT_LOWER_LID = (
    (33, 246, 161, 160, 159, 158, 157, 173, 133),
    (33, 7, 163, 144, 145, 153, 154, 155, 133),
)
RIGHT_UPPER_LID, RIGHT_LOWER_LID = (
    (362, 398, 384, 385, 386, 387, 388, 466, 263),
    (362, 382, 381, 380, 374, 373, 390, 249, 263),
)
LEFT_IRIS, RIGHT_IRIS = (468, 469, 470, 471, 472), (473, 474, 475, 476, 477)
# Landmarks that neither speech nor expression moves much: forehead, temples, nose bridge, eye corners, ears.
STABLE = (10, 338, 297, 332, 284, 251, 389, 356, 454, 234, 127, 162, 21, 54, 103, 67, 109, 151, 9, 8,
          168, 6, 197, 195, 33, 133, 362, 263, 5)  # fmt: skip
# iBUG's 68 points: jaw, brows, nose, eyes, outer and inner lips.
IBUG = (
    127, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 197, 5, 4, 98, 97, 2, 326, 327,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip
HEAD_CENTRE = np.array([0.0, -0.05, 0.45], np.float32)  # face units, from the middle of the landmarks
CAMERA = 8.0  # face units, the viewer's distance that turns a shift along z into a change of size
LIPS = (61, 37, 0, 267, 291, 314, 17, 84)  # the outer rim
# Brow and lower lid of the picture's left eye, then of its right one.
EYE_PARTS = (70, 63, 105, 66, 107, 33, 145, 133, 159, 336, 296, 334, 293, 300, 263, 374, 362, 386)
PART_ROOM = 0.04  # face heights, how far the skin around mouth and eyes goes with them
JAW_ROOM = 0.12  # face units, how far an opening jaw leaves the face oval
LIDS_MEET = 0.8  # of a full blink, from there on the lids only press
OPEN_BY_LIPS = 0.05  # face units, a gap in the reference up to this is the lips', beyond it the jaw's


@dataclass(frozen=True, kw_only=True)
class Slit:
    """An opening of the face, mouth or eye: two rims, equally long lines of landmarks with shared ends.

    Attributes:
        upper_share: the part of a change of the opening that the upper rim makes.
        reach: how far a rim drags the skin around it, in face units.
    """

    upper: tuple[int, ...]
    lower: tuple[int, ...]
    upper_share: float
    reach: float

    def gaps(self, points: Array) -> Array:
        """Vertical opening (..., n) of the rims' n pairs of points in `points` (..., 478, 3)."""
        return points[..., list(self.lower), 1] - points[..., list(self.upper), 1]

    def pulls(self, neutral: Array) -> tuple[Array, Array]:
        """How much each landmark follows each point of the upper and of the lower rim, two (478, n)."""
        rims = neutral[list(self.upper)], neutral[list(self.lower)]
        middle = (rims[0] + rims[1]) / 2
        above = neutral[:, 1] < np.interp(neutral[:, 0], middle[:, 0], middle[:, 1])
        above[list(self.upper)], above[list(self.lower)] = True, False
        step = np.diff(middle[:, 0]).mean()
        share = np.exp(-(((neutral[:, :1] - middle[None, :, 0]) / step) ** 2))
        share /= share.sum(1, keepdims=True) + 1e-6
        out = []
        for rim, line, side in ((rims[0], self.upper, above), (rims[1], self.lower, ~above)):
            away = np.linalg.norm(neutral[:, None, :2] - rim[None, :, :2], axis=-1).min(1)
            pull = share * (np.exp(-((away / self.reach) ** 2)) * side)[:, None]
            pull[list(line)] = np.eye(len(line))
            out.append(pull.astype(np.float32))
        return out[0], out[1]


# Curves that part the lips move their outer rim 0.83 times as far as the inner one. With this reach it
# follows by 0.8 above and 0.63 below.
MOUTH = Slit(upper=UPPER_LIP, lower=LOWER_LIP, upper_share=0.35, reach=0.1)
LEFT_EYE = Slit(upper=LEFT_UPPER_LID, lower=LEFT_LOWER_LID, upper_share=0.85, reach=0.03)
RIGHT_EYE = Slit(upper=RIGHT_UPPER_LID, lower=RIGHT_LOWER_LID, upper_share=0.85, reach=0.03)


@dataclass(frozen=True, kw_only=True)
class FaceBasis:
    """Mean face and its actions in face units: `neutral` (478, 3), `displacement` (52, 478, 3), `triangles`
    (852, 3)."""

    neutral: Array
    displacement: Array
    triangles: NDArray[np.int16]

    def save(self, path: Path) -> None:
        from safetensors.numpy import save_file

        half = {
            "neutral": self.neutral.astype(np.float16),
            "displacement": self.displacement.astype(np.float16),
        }
        save_file(half | {"triangles": self.triangles}, path)

    @classmethod
    def load(cls, path: Path | None = None) -> FaceBasis:
        """Read a basis; without a path, the one in the package."""
        from safetensors.numpy import load_file

        data = load_file(path or str(files("avatar") / "weights" / "mini" / "mesh.safetensors"))
        return cls(
            neutral=data["neutral"].astype(np.float32),
            displacement=data["displacement"].astype(np.float32),
            triangles=data["triangles"],
        )


def eye_opening(eye: Slit, basis: FaceBasis) -> Array:
    """By how much each curve at 1 changes the opening of an eye, relative to its opening, (52,)."""
    by_curve = eye.gaps(basis.displacement)[:, 1:-1].mean(1)
    return by_curve / (LIDS_MEET * -by_curve.min())


def rotation(head: Array) -> Array:
    """Rotation matrices (T, 3, 3) from yaw, pitch, roll in radians, (T, 3+): the head turns to the picture's
    right with yaw, down with pitch, and clockwise with roll."""
    (cy, cp, cr), (sy, sp, sr) = np.cos(head[:, :3]).T, np.sin(head[:, :3]).T
    one, nil = np.ones_like(cy), np.zeros_like(cy)
    yaw = np.stack([cy, nil, -sy, nil, one, nil, sy, nil, cy], -1)
    pitch = np.stack([one, nil, nil, nil, cp, -sp, nil, sp, cp], -1)
    roll = np.stack([cr, -sr, nil, sr, cr, nil, nil, nil, one], -1)
    turn = [m.reshape(-1, 3, 3) for m in (roll, yaw, pitch)]
    return (turn[0] @ turn[1] @ turn[2]).astype(np.float32)


def head_angles(turn: NDArray) -> Array:
    """Yaw, pitch, roll of rotation matrices (..., 3, 3): the inverse of `rotation`."""
    # turn = roll @ yaw @ pitch; its first column is roll @ (cos yaw, 0, sin yaw).
    yaw = np.arcsin(np.clip(turn[..., 2, 0], -1, 1))
    roll = np.arctan2(turn[..., 1, 0], turn[..., 0, 0])
    pitch = np.arctan2(turn[..., 2, 1], turn[..., 2, 2])
    return np.stack([yaw, pitch, roll], -1).astype(np.float32)


def kabsch(source: Array, target: Array) -> tuple[Array, float]:
    """Rotation R and scale s with target = s R source, in least squares, both (n, 3) about their means."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, values, vt = np.linalg.svd(b.T @ a)
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    return (u @ flip @ vt).astype(np.float32), float((values * np.diag(flip)).sum() / (a**2).sum())


class ReferenceMesh:
    """The reference's own mesh, ready to act.

    Args:
        basis: the mean face and its actions.
        landmarks: of the reference picture, (478, 3) in pixels.
        rest: curves (52,) of the expression that the reference shows; estimated when not known.

    Attributes:
        parted: how far lips that the reference parts, as in a smile, stay parted by themselves, in [0, 1]:
            not where speech or a film says when lips meet.
    """

    def __init__(self, basis: FaceBasis, landmarks: Array, rest: Array | None = None) -> None:
        self.basis, self.landmarks = basis, landmarks.astype(np.float32)
        stable = list(STABLE)
        self.turn, _ = kabsch(basis.neutral[stable], self.landmarks[stable])
        self.height = float(np.linalg.norm(self.landmarks[FOREHEAD] - self.landmarks[CHIN]))  # px
        self.centre = self.landmarks[:468].mean(0) + self.height * self.turn @ HEAD_CENTRE
        self.own = (self.landmarks - self.centre) @ self.turn / self.height  # face units, facing the viewer
        corners = [UPPER_LIP[0], UPPER_LIP[-1]]
        self.mouth_size = float(np.ptp(self.own[corners, 0]) / np.ptp(basis.neutral[corners, 0]))
        self.mouth_change = MOUTH.gaps(basis.displacement) * self.mouth_size  # (52, 11)
        self.mouth_change[list(CORNERS)] = 0  # a smile parts no lips, and one less closes none
        self.slits = [(slit, slit.pulls(basis.neutral)) for slit in (MOUTH, LEFT_EYE, RIGHT_EYE)]
        self.rest = self._estimate_rest() if rest is None else rest.astype(np.float32)
        self.parted = 0.0

    def _estimate_rest(self) -> Array:
        """Curves that undo an open mouth; all else the picture shows counts as the person's own rest."""
        rest = np.zeros(len(CURVES), np.float32)
        jaw, middle = CURVES.index("jawOpen"), len(UPPER_LIP) // 2
        opened = MOUTH.gaps(self.own)[middle] - OPEN_BY_LIPS
        rest[jaw] = np.clip(opened / self.mouth_change[jaw, middle], 0, 1)
        return rest

    @property
    def _apart(self) -> Array:
        """How far the reference's lips are apart beyond what `rest` says, (n,)."""
        return MOUTH.gaps(self.own) - self.rest @ self.mouth_change

    def parting(self) -> Array:
        """Curves (52,) that say how far the reference parts its lips: jaw and lips as in `rest`, of which the
        lips' part is only in the picture."""
        curves, lips = self.rest.copy(), list(curve_indices("mouthUpperUp", "mouthLowerDown"))
        middle = len(UPPER_LIP) // 2
        curves[lips] = max(float(self._apart[middle]), 0) / self.mouth_change[lips, middle].sum()
        return curves

    def _opening(self, slit: Slit, curves: Array) -> Array:
        """What the opening of a slit (T, n) must be: the mouth's follows the curves, and beside them what
        stays parted; an eye's is the reference's own, scaled as the curves say."""
        if slit is MOUTH:
            return np.maximum(curves @ self.mouth_change + self.parted * self._apart, 0)
        change = (curves - self.rest) @ eye_opening(slit, self.basis)
        return slit.gaps(self.own) * np.maximum(1 + change, 0)[:, None]

    def act(self, curves: Array) -> Array:
        """Landmarks (T, 478, 3) in face units for ARKit `curves` (T, 52), the head as in the reference."""
        moved = self.own + np.einsum("tk,kld->tld", curves - self.rest, self.basis.displacement)
        for slit, (upper, lower) in self.slits:
            missing = self._opening(slit, curves) - slit.gaps(moved)
            moved[:, :, 1] += (
                1 - slit.upper_share
            ) * missing @ lower.T - slit.upper_share * missing @ upper.T
        return moved.astype(np.float32)

    def place(self, points: Array, head: Array) -> Array:
        """Points (T, n, 3) of the unturned head in face units -> pixels (T, n, 3) under `head` (T, 6).

        `head` holds yaw, pitch, roll in radians and the shift x, y, z of the head's centre in face heights,
        all relative to the reference; a shift towards the viewer (z < 0) enlarges.
        """
        turned = points @ (rotation(head) @ self.turn).transpose(0, 2, 1)
        zoom = CAMERA / (CAMERA + head[:, None, 5:6])
        return (turned * zoom + head[:, None, 3:6]) * self.height + self.centre


def face_mask(landmarks: Array, side: int, cells: int) -> Array:
    """Share of each of `cells` x `cells` squares of a picture that the face covers, (cells, cells) in [0, 1].

    The face oval is grown downwards, where an opening jaw goes.

    Args:
        landmarks: (478, 3) in pixels of the picture.
        side: of the picture, in pixels.
    """
    import cv2

    oval = landmarks[list(FACE_OVAL), :2].copy()
    height = np.linalg.norm(landmarks[FOREHEAD] - landmarks[CHIN])
    oval[oval[:, 1] > landmarks[1, 1], 1] += JAW_ROOM * height
    mask = np.zeros((side, side), np.float32)
    cv2.fillPoly(mask, [oval.round().astype(np.int32)], 1.0)
    return cv2.resize(mask, (cells, cells), interpolation=cv2.INTER_AREA)


def part_masks(landmarks: Array, side: int, cells: int) -> Array:
    """Shares as those of `face_mask` of mouth, eyes and brows, and what is left, (3, cells, cells)."""
    import cv2

    points = landmarks[:, :2].astype(np.float32)
    reach = int(PART_ROOM * np.linalg.norm(landmarks[FOREHEAD] - landmarks[CHIN]))
    masks = []
    for part in ([LIPS], [EYE_PARTS[:9], EYE_PARTS[9:]]):
        mask = np.zeros((side, side), np.uint8)
        for place in part:
            hull = cv2.convexHull(points[list(place)])
            cv2.fillConvexPoly(mask, hull.round().astype(np.int32), 1)
        grown = cv2.dilate(mask, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)).astype(np.float32)
        masks.append(cv2.resize(grown, (cells, cells), interpolation=cv2.INTER_AREA))
    face = face_mask(landmarks, side, cells)
    mouth = np.minimum(masks[0], face)
    eyes = np.minimum(masks[1], face - mouth)
    return np.stack([mouth, eyes, face - mouth - eyes])


def measure_motion(mesh: ReferenceMesh, curves: Array, head: Array) -> Array:
    """Head motion and expressiveness of a clip, (2,): in percent of the face height, the standard
    deviation of the nose tip's track and that of the landmarks about the nose (spec 2.2).

    Args:
        curves: (T, 52).
        head: (T, 6).
    """
    points = mesh.place(mesh.act(curves), head)[..., :2] / mesh.height
    nose = points[:, NOSE_TIP]
    own = points[:, :468] - nose[:, None]
    return 100 * np.array([nose.std(0).mean(), own.std(0).mean()], np.float32)
