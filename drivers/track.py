"""One face followed through a video, frame by frame, by MediaPipe's face mesh."""

from __future__ import annotations

from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.face import (
    MESH_SIDE,
    Crop,
    Face,
    Points,
    choose_face,
    find_faces,
    mesh_landmarks,
    open_mesh,
    quiet,
)

Pixels = NDArray[np.uint8]

PASSES = 3  # over the first frame: the mesh wanders until it has its own points to start from
STRAY = 0.2  # of its side, how far the face may leave the middle of the square that is looked at
BLANK = np.zeros((8, 8, 3), np.uint8)  # shown to the mesh until its threads have said that they run
GROWN = 1.35  # by this factor the face may grow or shrink in it


class FaceTracker:
    """Landmarks of one face in frames that are given in order.

    Args:
        choice: of the face in the first frame that shows one, as in `avatar.drivers.face.choose_face`.
        name: of the video, for messages.
    """

    def __init__(self, choice: str = "largest", name: str = "video") -> None:
        self.choice, self.name = choice, name
        with quiet():
            self.mesh = open_mesh()
            self.mesh.process(BLANK)
        self.crop: Crop | None = None
        self.last: Face | None = None

    def __enter__(self) -> FaceTracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.mesh.close()

    def __call__(self, frame: Pixels) -> Points | None:
        """Landmarks (478, 3) in px of a frame (H, W, 3), None where no face is found.

        Raises:
            UserError: there are faces, but not the chosen one.
        """
        return self._moved_to(self._look(frame))

    def start(self, frame: Pixels, box: Crop) -> None:
        """Follow the face in a square of this frame from now on."""
        self._settle(frame, Crop.around(box.x + box.side / 2, box.y + box.side / 2, MESH_SIDE * box.side))

    def follow(self, frame: Pixels) -> Points | None:
        """Landmarks in the next frame where the face was last; it is not looked for anywhere else."""
        assert self.crop is not None
        return self._moved_to(mesh_landmarks(self.mesh, frame, self.crop))

    def _moved_to(self, points: Points | None) -> Points | None:
        if points is None:
            return None
        self.last = Face(points)
        if self._strayed(self.last):
            self._look_at(_around(self.last))
        return points

    def forget(self) -> None:
        """Look for a face anew in the next frame."""
        self.crop = self.last = None

    def near(self, frame: Pixels, hint: Points) -> Points | None:
        """Landmarks of a face that was found at `hint` (n, 2 or 3), px, by something else; None for no face.

        Nothing is searched for: who is followed is whom the hints are of.
        """
        face = Face(hint)
        if self.crop is None or self._strayed(face):
            self._settle(frame, _around(face))
        assert self.crop is not None
        return mesh_landmarks(self.mesh, frame, self.crop)

    def _look(self, frame: Pixels) -> Points | None:
        """Where the face was last; if it is lost there, wherever it is now."""
        for _ in range(2):
            if self.crop is None and not self._find(frame):
                return None
            assert self.crop is not None
            points = mesh_landmarks(self.mesh, frame, self.crop)
            if points is not None:
                return points
            self.crop = None
        return None

    def _find(self, frame: Pixels) -> bool:
        """Look for the face anew; one that was followed before is the nearest to its last place."""
        faces = find_faces(frame)
        if not faces:
            return False
        if self.last is None:
            face = choose_face(faces, self.choice, (frame.shape[1], frame.shape[0]), self.name)
        else:
            at = self.last.landmarks[:, :2].mean(0)
            face = min(faces, key=lambda other: float(np.linalg.norm(other.landmarks[:, :2].mean(0) - at)))
        self._settle(frame, _around(face))
        return True

    def _settle(self, frame: Pixels, crop: Crop) -> None:
        """Look at a square, until the mesh has its own points to start from."""
        self._look_at(crop)
        for _ in range(PASSES):
            mesh_landmarks(self.mesh, frame, crop)

    def _look_at(self, crop: Crop) -> None:
        self.crop = crop
        with quiet():
            self.mesh.reset()
            self.mesh.process(BLANK)

    def _strayed(self, face: Face) -> bool:
        assert self.crop is not None
        left, top, width, height = face.box
        middle = self.crop.x + self.crop.side / 2, self.crop.y + self.crop.side / 2
        away = max(abs(left + width / 2 - middle[0]), abs(top + height / 2 - middle[1])) / self.crop.side
        grown = MESH_SIDE * max(width, height) / self.crop.side
        return away > STRAY or not 1 / GROWN < grown < GROWN


def _around(face: Face) -> Crop:
    left, top, width, height = face.box
    return Crop.around(left + width / 2, top + height / 2, MESH_SIDE * max(width, height))
