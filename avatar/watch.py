"""The judge's eyes: the face mesh on every frame of a video, and where in the frame it looks.

Kept apart from the tracker of `avatar.drivers.track`: what judges a video shares nothing with what makes it.
Shapes: T frames, 478 points.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatar import media, metrics
from avatar.drivers import face
from avatar.drivers.face import quiet
from avatar.metrics import Array, Region

POINTS = 478  # of the face mesh, irises included
WINDOW = 1.25  # the mesh looks at the generated region times this, so that a small face is found too
SETTLING = 5  # passes over the first frame: the mesh wanders until it has its own points to start from
Picture8 = NDArray[np.uint8]


class FaceTracker:
    """Face mesh with refined lips and irises, frame after frame, without smoothing over time."""

    def __init__(self, window: Region | None = None) -> None:
        """`window`: where to look, the whole frame by default."""
        from mediapipe.python.solutions.face_mesh import FaceMesh

        self.window = window
        with quiet():
            self.mesh = FaceMesh(static_image_mode=False, refine_landmarks=True, max_num_faces=1)
            self.mesh.process(np.zeros((8, 8, 3), np.uint8))  # its threads say that they run: not to the user
        self.passes = SETTLING

    def __call__(self, frame: Picture8) -> Array:
        """Points (478, 3) in pixels of the frame, z in the same scale; NaN where there is no face."""
        height, width = frame.shape[:2]
        x, y, w, h = self.window or Region(0, 0, width, height)
        left, top = max(0, x), max(0, y)
        view = np.ascontiguousarray(frame[top : max(top, y + h), left : max(left, x + w)])
        with quiet() if self.passes > 1 else nullcontext():
            for _ in range(self.passes):
                found = self.mesh.process(view).multi_face_landmarks
        self.passes = 1
        if not found:
            return np.full((POINTS, 3), np.nan)
        points = np.array([(p.x, p.y, p.z) for p in found[0].landmark])
        size = np.array([view.shape[1], view.shape[0], view.shape[1]], float)
        return points * size + [left, top, 0]


def window_around(region: Region) -> Region:
    """Where the mesh looks for the face of a generated region."""
    dx, dy = round(region.width * (WINDOW - 1) / 2), round(region.height * (WINDOW - 1) / 2)
    return Region(region.x - dx, region.y - dy, region.width + 2 * dx, region.height + 2 * dy)


def generated_region(reference: Picture8, choice: str = "largest") -> Region:
    """The square that `avatar drive` generates in this photo; `choice` is its `--face`."""
    size = reference.shape[1], reference.shape[0]
    crop = face.head_crop(face.choose_face(face.find_faces(reference), choice, size), size)
    return Region(crop.x, crop.y, crop.side, crop.side)


def watch(video: Path, region: Region | None = None) -> tuple[metrics.Tracks, Array]:
    """Tracks of a video, and its mesh points (T, 478, 3) in pixels."""
    tracker = FaceTracker(window_around(region) if region else None)
    points = np.stack([tracker(frame) for frame in media.read_video(video)])
    return metrics.tracks(points), points
