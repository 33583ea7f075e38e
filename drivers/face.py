"""Faces in pictures: found by MediaPipe, chosen by the user's word, cut out as a square around the head.

Coordinates are image pixels, the origin at the outer corner of the first pixel: pixel i covers i to i + 1,
so scaling needs no half-pixel shifts. x points right, y down, z away from the viewer on the scale of x.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.drivers.mesh import CHIN, FOREHEAD
from avatar.errors import UserError

logger = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
Points = NDArray[np.float32]

MIN_HEIGHT = 48  # px from forehead to chin; below, the eyes and lips are a few pixels each
MAX_YAW = 50.0  # degrees; beyond, the far eye and mouth corner are hidden
CROP_SIDE = 2.3  # face heights: hair, ears, neck and the beginning of the shoulders
CROP_SHIFT = 0.08  # of its side, how far a crop is moved to stay inside the picture
MESH_SIDE = 2.0  # side of the picture given to the face mesh, in sides of the box around the face
MESH_PASSES = 4  # each starts from the last one's points, which wander by a pixel: their mean is steadier
DETECTOR_SIDE = 640  # px, side of a tile: a face of MIN_HEIGHT fills 8 % of it
MESH_INPUT = 1024  # px, more than the mesh makes use of
RIGHT_CHEEK, LEFT_CHEEK = 234, 454  # of the person, so the left and the right in the picture
# Eye corners, nose tip and mouth corners: without one of them there is nothing to animate.
FEATURES = (33, 133, 362, 263, 1, 61, 291, 0, 17)


@dataclass(frozen=True)
class Face:
    """One face: `landmarks` of the refined MediaPipe mesh, (478, 3), px."""

    landmarks: Points

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, width, height of all landmarks, px."""
        low, high = self.landmarks[:, :2].min(0), self.landmarks[:, :2].max(0)
        return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])

    @property
    def height(self) -> float:
        """Distance of the middle of the forehead's edge and the chin in the picture, px."""
        return float(np.linalg.norm(self.landmarks[FOREHEAD, :2] - self.landmarks[CHIN, :2]))

    @property
    def place(self) -> tuple[float, float, float]:
        """Middle, x and y, and height, px."""
        x, y = self.landmarks[[FOREHEAD, CHIN], :2].mean(0)
        return float(x), float(y), self.height

    @property
    def yaw(self) -> float:
        """Turn to the side in degrees, 0 when facing the camera; positive shows the person's right cheek."""
        across = self.landmarks[LEFT_CHEEK] - self.landmarks[RIGHT_CHEEK]
        return math.degrees(math.atan2(across[2], math.hypot(across[0], across[1])))

    def where(self) -> str:
        """Position as the user may write it: x,y,w,h."""
        return ",".join(str(round(value)) for value in self.box)


@dataclass(frozen=True)
class Crop:
    """A square of whole pixels; it may reach over the borders of the picture."""

    x: int  # px, left
    y: int  # px, top
    side: int  # px

    @classmethod
    def around(cls, x: float, y: float, side: float) -> Crop:
        """The square of about this side with its middle at x, y."""
        return cls(round(x - side / 2), round(y - side / 2), max(1, round(side)))

    def scaled(self, factor: float) -> Crop:
        """The same square in a picture that is `factor` times larger."""
        return Crop(round(self.x * factor), round(self.y * factor), max(1, round(self.side * factor)))

    def to_crop(self, points: Points, size: int) -> Points:
        """Image points (..., 2 or 3) in pixels of the crop drawn `size` wide; z is scaled likewise."""
        shift = np.zeros(points.shape[-1], np.float32)
        shift[:2] = self.x, self.y
        return ((points - shift) * (size / self.side)).astype(np.float32)

    def to_image(self, points: Points, size: int) -> Points:
        """Inverse of `to_crop`."""
        shift = np.zeros(points.shape[-1], np.float32)
        shift[:2] = self.x, self.y
        return (points * (self.side / size) + shift).astype(np.float32)


def head_crop(face: Face, image_size: tuple[int, int]) -> Crop:
    """The square that the nets see: centred on the face, CROP_SIDE face heights wide.

    Args:
        face: the chosen face.
        image_size: (width, height) of the picture in px. A crop that reaches over a border is moved inside by
            up to CROP_SHIFT of its side; what still lies outside is filled from the border when cut out.
    """
    side = max(2, round(CROP_SIDE * face.height / 2) * 2)
    x, _, width, _ = face.box
    middle = face.landmarks[[FOREHEAD, CHIN], :2].mean(0)
    left = round((x + width / 2 + float(middle[0])) / 2 - side / 2)
    top = round(float(middle[1]) - side / 2)
    return Crop(_inside(left, side, image_size[0]), _inside(top, side, image_size[1]), side)


def _inside(start: int, side: int, length: int) -> int:
    """`start` moved so that start..start + side lies in 0..length, by CROP_SHIFT of the side at most."""
    wanted = min(max(start, 0), max(length - side, 0))
    most = round(CROP_SHIFT * side)
    return start + min(max(wanted - start, -most), most)


def extract(image: Pixels, crop: Crop, size: int) -> Pixels:
    """The crop as (size, size, 3); what lies beyond the picture repeats its border pixels."""
    square = cut(image, crop)
    kind = cv2.INTER_AREA if crop.side > size else cv2.INTER_CUBIC
    return cv2.resize(square, (size, size), interpolation=kind).astype(np.uint8, copy=False)


def cut(image: Pixels, crop: Crop) -> Pixels:
    """The crop in the picture's own pixels, (side, side, 3), border pixels repeated beyond the edge."""
    height, width = image.shape[:2]
    if crop.x >= 0 and crop.y >= 0 and crop.x + crop.side <= width and crop.y + crop.side <= height:
        return image[crop.y : crop.y + crop.side, crop.x : crop.x + crop.side]
    rows = np.clip(np.arange(crop.y, crop.y + crop.side), 0, height - 1)
    columns = np.clip(np.arange(crop.x, crop.x + crop.side), 0, width - 1)
    return image.take(rows, 0).take(columns, 1)


@contextmanager
def quiet() -> Iterator[None]:
    """MediaPipe's C++ parts write start-up notes to file descriptor 2, past Python's sys.stderr."""
    sys.stderr.flush()
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def open_mesh() -> Any:
    """A face mesh that follows one face from call to call."""
    from mediapipe.python.solutions.face_mesh import FaceMesh

    return FaceMesh(static_image_mode=False, max_num_faces=1, refine_landmarks=True)


def mesh_landmarks(mesh: Any, image: Pixels, crop: Crop) -> Points | None:
    """One pass of the mesh over a crop: (478, 3) in image pixels, or None without a face in it."""
    size = min(crop.side, MESH_INPUT)
    found = mesh.process(np.ascontiguousarray(extract(image, crop, size))).multi_face_landmarks
    if not found:
        return None
    points = np.array([(point.x, point.y, point.z) for point in found[0].landmark], np.float32)
    return crop.to_image(points * size, size)


def open_detector() -> Any:
    """A detector of faces for `look_for_faces`; to be closed."""
    from mediapipe.python.solutions.face_detection import FaceDetection

    return FaceDetection(model_selection=1, min_detection_confidence=0.5)


def look_for_faces(detector: Any, image: Pixels, levels: Sequence[int] = (1, 2, 4, 8, 16)) -> list[Crop]:
    """Squares around everything that looks like a face, the surest first.

    The detector sees 192 px: it misses faces under a tenth of its picture and faces that fill it. So it is
    shown the picture with a margin, then overlapping tiles of half its size, then less until a face turns up.

    Args:
        detector: from `open_detector`.
        levels: how many tiles lie side by side, one level after the other.
    """
    height, width = image.shape[:2]
    longest = max(height, width)
    found: list[tuple[float, Crop]] = []
    for parts in levels:
        scale = min(1.0, parts * DETECTOR_SIDE / longest)  # a tile of this level is DETECTOR_SIDE wide
        level = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8)
        for tile in _tiles(level.shape[1], level.shape[0], math.ceil(longest * scale / parts)):
            found += [(score, box.scaled(1 / scale)) for score, box in _detect_in(detector, level, tile)]
        if parts > 1 and (found or scale == 1.0):
            break
    crops: list[Crop] = []
    for _, crop in sorted(found, key=lambda item: -item[0]):
        if all(_overlap(crop, other) < 0.3 for other in crops):
            crops.append(crop)
    return crops


def _detect_in(detector: Any, image: Pixels, tile: Crop) -> list[tuple[float, Crop]]:
    result = []
    for detection in detector.process(np.ascontiguousarray(cut(image, tile))).detections or []:
        box = detection.location_data.relative_bounding_box
        x = tile.x + (box.xmin + box.width / 2) * tile.side
        y = tile.y + (box.ymin + box.height / 2) * tile.side
        result.append((detection.score[0], Crop.around(x, y, max(box.width, box.height) * tile.side)))
    return result


def _tiles(width: int, height: int, side: int) -> Iterator[Crop]:
    """Squares that cover the picture and overlap by at least half; one with a margin if one is enough."""
    if side >= max(width, height):
        yield Crop.around(width / 2, height / 2, side)
        yield Crop.around(width / 2, height / 2, 1.6 * side)
        return
    rows = max(1, math.ceil(2 * height / side) - 1)
    columns = max(1, math.ceil(2 * width / side) - 1)
    for y in np.linspace(0, max(0, height - side), rows):
        for x in np.linspace(0, max(0, width - side), columns):
            yield Crop(round(x), round(y), side)


def _overlap(one: Crop, other: Crop) -> float:
    """Common area / area of the smaller square."""
    width = min(one.x + one.side, other.x + other.side) - max(one.x, other.x)
    height = min(one.y + one.side, other.y + other.side) - max(one.y, other.y)
    return max(0, width) * max(0, height) / min(one.side, other.side) ** 2


def find_faces(image: Pixels) -> list[Face]:
    """All faces of a picture, the largest first. Landmarks are the mean of repeated passes of the mesh."""
    faces: list[Face] = []
    with quiet():
        mesh = open_mesh()
        with open_detector() as detector:
            crops = look_for_faces(detector, image)
        for crop in crops:
            mesh.reset()
            around = Crop.around(crop.x + crop.side / 2, crop.y + crop.side / 2, MESH_SIDE * crop.side)
            passes = [mesh_landmarks(mesh, image, around) for _ in range(1 + MESH_PASSES)]
            settled = [points for points in passes[1:] if points is not None]
            if settled:
                faces.append(Face(np.mean(settled, 0)))
        mesh.close()
    return sorted(faces, key=lambda face: -face.height)


def choose_face(faces: list[Face], spec: str, image_size: tuple[int, int], name: str = "picture") -> Face:
    """The face that the user means, checked to be one that can be animated.

    Args:
        faces: as found, the largest first.
        spec: "largest", the number of a face counted from 0 by size, or x,y,w,h in px around it.
        image_size: (width, height) of the picture in px.
        name: the picture's file name for messages.

    Raises:
        UserError: no face, no such number, too small, too far turned, or cut by the border.
    """
    face = _pick(faces, spec, name)
    if face.height < MIN_HEIGHT:
        raise UserError(
            f"{name}: the face is only {face.height:.0f} px high, at least {MIN_HEIGHT} are needed"
        )
    if abs(face.yaw) > MAX_YAW:
        raise UserError(
            f"{name}: the face is turned {abs(face.yaw):.0f} degrees to the side, at most {MAX_YAW:.0f} work;"
            " use a picture that shows both eyes"
        )
    slack = 0.02 * face.height
    low = face.landmarks[:, :2] < -slack
    high = face.landmarks[:, :2] > np.array(image_size) + slack
    outside = (low | high).any(1)
    if outside[list(FEATURES)].any():
        raise UserError(
            f"{name}: the face is cut by the border of the picture; use one with the whole face in it"
        )
    if outside.any():
        logger.warning(
            "%s: a part of the face lies outside the picture and is filled in from its border", name
        )
    return face


def parse_choice(spec: str) -> str | int | NDArray[np.float64]:
    """ "largest", a number, or the (4,) array of x, y, width, height; UserError for anything else."""
    if spec == "largest":
        return spec
    try:
        return int(spec)
    except ValueError:
        pass
    try:
        box = np.array([float(part) for part in spec.split(",")])
    except ValueError:
        box = np.zeros(0)
    if box.shape != (4,) or not np.isfinite(box).all() or (box[2:] <= 0).any():
        raise UserError(f"--face {spec}: must be largest, a number, or x,y,w,h in px")
    return box


def _pick(faces: list[Face], spec: str, name: str) -> Face:
    choice = parse_choice(spec)
    if not faces:
        raise UserError(
            f"{name}: no face found; use a picture of a person who faces the camera, upright and well lit"
        )
    if isinstance(choice, str):
        return faces[0]
    listed = "; ".join(f"{number}: {face.where()}" for number, face in enumerate(faces))
    if isinstance(choice, int):
        if not 0 <= choice < len(faces):
            raise UserError(f"{name}: there is no face {choice}; found (number: x,y,w,h) {listed}")
        return faces[choice]
    middle = choice[:2] + choice[2:] / 2
    near = min(faces, key=lambda face: float(np.linalg.norm(_middle(face) - middle)))
    if (np.abs(_middle(near) - middle) > choice[2:] / 2).any():
        raise UserError(f"{name}: there is no face in {spec}; found (number: x,y,w,h) {listed}")
    return near


def _middle(face: Face) -> NDArray[np.float64]:
    x, y, width, height = face.box
    return np.array([x + width / 2, y + height / 2])
