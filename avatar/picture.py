"""The picture table: does a video still look like its photo? Running figures, fed frame by frame."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatar import metrics
from avatar.errors import UserError
from avatar.metrics import Array, Region
from avatar.report import Picture
from avatar.watch import FaceTracker, Picture8, window_around

FACE_GROWTH = (
    1.15  # the face oval ends under the hair line and above the neck: grown before it masks the face
)


class FaceDescriptor:
    """dlib's 128 numbers of a face; two faces closer than 0.6 count as the same person's."""

    def __init__(self) -> None:
        import dlib

        spec = find_spec(
            "face_recognition_models"
        )  # its __init__ needs pkg_resources: only its files are used
        folder = Path(next(iter(spec.submodule_search_locations))) / "models"  # type: ignore[union-attr, arg-type]
        self.rectangle = dlib.rectangle
        self.landmarks = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))
        self.net = dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat"))

    @staticmethod
    def available() -> bool:
        return bool(find_spec("dlib") and find_spec("face_recognition_models"))

    def describe(self, frame: Picture8, points: Array) -> Array:
        """Descriptor (128,) of the face whose mesh points are given."""
        low, high = points[:, :2].min(0), points[:, :2].max(0)
        face_height = np.linalg.norm(points[10, :2] - points[152, :2])
        # Where dlib's own detector puts its square, measured on its results against the mesh.
        centre, half = (low + high) / 2 + [0, 0.05 * face_height], 0.45 * face_height
        box = self.rectangle(*(int(v) for v in (*(centre - half), *(centre + half))))
        image = np.ascontiguousarray(frame)
        return np.array(self.net.compute_face_descriptor(image, self.landmarks(image, box)))


class Identity(FaceDescriptor):
    """Distance of faces to that of a reference."""

    def __init__(self, reference: Picture8, points: Array) -> None:
        """`reference` with its mesh points."""
        super().__init__()
        self.person = self.describe(reference, points)

    def __call__(self, frame: Picture8, points: Array) -> float:
        return float(np.linalg.norm(self.describe(frame, points) - self.person))


def face_box(points: Array, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of the face oval's bounding box, cut to the picture."""
    oval = points[list(metrics.FACE_OVAL), :2]
    (x0, y0), (x1, y1) = np.floor(oval.min(0)).astype(int), np.ceil(oval.max(0)).astype(int)
    return slice(max(0, y0), min(height, y1)), slice(max(0, x0), min(width, x1))


def face_mask(points: Array, height: int, width: int) -> NDArray[np.bool_]:
    """True on the face oval grown by 15 %, (height, width)."""
    from PIL import Image, ImageDraw

    oval = points[list(metrics.FACE_OVAL), :2]
    grown = oval.mean(0) + FACE_GROWTH * (oval - oval.mean(0))
    mask = Image.new("1", (width, height))
    ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in grown], fill=1)
    return np.asarray(mask)


def fit_reference(reference: Picture8, height: int, width: int) -> tuple[Picture8, float]:
    """The photo at the video's size, and its scale; an odd last row or column is cut, as the writer does."""
    import cv2

    h, w = reference.shape[:2]
    same = 0 <= h - height <= 1 and 0 <= w - width <= 1
    scale = 1.0 if same else max(height, width) / max(h, w)
    target = max(width, round(w * scale)), max(height, round(h * scale))
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = reference if same else cv2.resize(reference, target, interpolation=kind)
    return np.asarray(resized[:height, :width], np.uint8), scale


class PictureMeter:
    """Running figures of the picture table, fed frame by frame."""

    def __init__(self, reference: Picture8, region: Region, identity_every: int) -> None:
        """`reference` and `region` at the video's size; the face is recognised every n-th frame."""
        height, width = reference.shape[:2]
        points = FaceTracker(window_around(region))(reference)
        if np.isnan(points).any():
            raise UserError("the reference picture shows no face")
        self.reference = reference.astype(np.float32)
        self.region = region
        self.inside = region.mask(height, width)
        self.outside = ~self.inside
        self.face_detail = metrics.laplacian_variance(
            metrics.grey(reference[face_box(points, height, width)])
        )
        judged = identity_every and Identity.available()
        self.identity = Identity(reference, points) if judged else None
        self.identity_every = identity_every
        self.distances: list[float] = []
        self.errors: list[float] = []
        self.details: list[float] = []
        self.changes: list[float] = []
        self.steps: list[tuple[float, float]] = []
        self.last: tuple[Array, NDArray[np.bool_]] | None = None
        self.count = 0

    def add(self, frame: Picture8, points: Array) -> None:
        """Take in the next frame and its mesh points (NaN without a face)."""
        height, width = frame.shape[:2]
        light = metrics.grey(frame)
        if self.outside.mean() > 0.01:
            error = frame[self.outside].astype(np.float32) - self.reference[self.outside]
            self.errors.append(float(np.mean(error**2)))
        if step := metrics.seam_gradients(light, self.region):
            self.steps.append(step)
        if np.isnan(points).any():
            self.last = None
        else:
            face = face_mask(points, height, width)
            if self.last is not None:
                previous, previous_face = self.last
                around = self.inside & ~face & ~previous_face
                self.changes.append(float(np.abs(light - previous)[around].mean()))
            self.last = light, face
            self.details.append(metrics.laplacian_variance(light[face_box(points, height, width)]))
            if self.identity and self.count % self.identity_every == 0:
                self.distances.append(self.identity(frame, points))
        self.count += 1

    def figures(self, tracks: metrics.Tracks, fps: float) -> Picture:
        across, beside = np.array(self.steps).T if self.steps else (np.array([]), np.array([]))
        seen = np.isfinite(tracks.yaw).any()
        return Picture(
            identity_mean=float(np.mean(self.distances)) if self.distances else None,
            identity_worst=max(self.distances, default=None),
            background=metrics.psnr(float(np.mean(self.errors))) if self.errors else None,
            sharpness=float(np.median(self.details)) / self.face_detail if self.details else None,
            flicker=float(np.mean(self.changes)) if self.changes else None,
            seam=float(across.mean() / max(beside.mean(), 1e-6)) if self.steps else None,
            blinks=60 * fps * len(metrics.blinks(tracks.eyes, fps)) / self.count,
            yaw_sd=float(np.nanstd(tracks.yaw)) if seen else None,
            pitch_sd=float(np.nanstd(tracks.pitch)) if seen else None,
        )
