"""The pose of one person over time, taken from a video, a picture or a signals file.

Coordinates are px of the frame as in avatar.drivers.face. Shapes: T frames, 134 keypoints of
avatar.drivers.skeleton.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.drivers.blazepose import BlazePose
from avatar.drivers.cache import cached
from avatar.drivers.dwpose import DWPose
from avatar.drivers.people import Detector, fill_gaps, follow, parse_person
from avatar.drivers.signal import Signal, Tracks, weighted_mean
from avatar.drivers.skeleton import INDEX, PART_POINTS, POINTS, SEEN, draw_skeleton
from avatar.drivers.smooth import one_euro
from avatar.errors import UserError
from avatar.media import check_file, read_video, video_info

logger = logging.getLogger(__name__)

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Track = Callable[[Iterator[Pixels], int], Iterable[Pixels]]  # shows progress: frames and how many there are

DETECTORS = ("mediapipe", "dwpose")
SHOULDERS = [INDEX["left_shoulder"], INDEX["right_shoulder"]]
BACKDROP = 0.4  # brightness of the film behind the skeleton of a preview


@dataclass(frozen=True, kw_only=True)
class PoseSignal(Signal):
    """Keypoints of one person.

    Attributes:
        keypoints: (T, 134, 2), x and y in px of the frame.
        scores: (T, 134), 0 to 1; a point under SEEN is missing and its place means nothing.
        depth: (T, 134), px away from the viewer, from any level on; of the face, where the detector knows it.
        size: (width, height) of the frame, px.
    """

    KIND: ClassVar[str] = "pose"
    SHAPES: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "keypoints": (POINTS, 2),
        "scores": (POINTS,),
        "depth": (POINTS,),
    }
    ELEMENTS: ClassVar[Mapping[str, Mapping[str, Sequence[int]]]] = dict.fromkeys(SHAPES, PART_POINTS)
    FACTS: ClassVar[tuple[str, ...]] = ("size",)

    keypoints: Array
    scores: Array
    size: tuple[int, int]
    depth: Array = field(default_factory=lambda: np.zeros((), np.float32))

    @classmethod
    def from_video(cls, path: str | Path, **options: Any) -> PoseSignal:
        """`read_pose`."""
        return read_pose(path, **options)

    @property
    def unit(self) -> float:
        """A length of the person's body in px: the width of their shoulders when they face the camera."""
        seen = (self.scores[:, SHOULDERS] >= SEEN).all(1)
        if seen.any():
            across = self.keypoints[seen, SHOULDERS[0]] - self.keypoints[seen, SHOULDERS[1]]
            return max(1.0, float(np.percentile(np.linalg.norm(across, axis=-1), 90)))
        return max(self.size) / 4

    def smoothed(self, min_cutoff: float = 1.5, beta: float = 1.0) -> PoseSignal:
        """Keypoints one-euro smoothed without lag, missing ones left out.

        Args:
            min_cutoff: Hz, of a point at rest.
            beta: Hz that each shoulder width a second adds.
        """
        moved = one_euro(
            np.concatenate([self.keypoints, self.depth[..., None]], -1),
            self.fps,
            min_cutoff=min_cutoff,
            beta=beta / self.unit,
            present=self.scores >= SEEN,
        )
        return replace(self, keypoints=moved[..., :2], depth=moved[..., 2])

    def skeletons(self, size: tuple[int, int] | None = None) -> Iterator[Pixels]:
        """The skeleton picture of every frame, (H, W, 3); what the mask leaves out is not drawn.

        Args:
            size: (width, height), px; without it, that of the frames.
        """
        size = size or self.size
        scale = np.array(size, np.float32) / np.array(self.size, np.float32)
        shown = self.moved("scores")
        for keypoints, scores in zip(self.keypoints, self.scores, strict=True):
            yield draw_skeleton(keypoints * scale, scores * shown, size)

    @classmethod
    def _average(cls, parts: Sequence[Tracks], weights: Mapping[str, Array]) -> Tracks:
        """A point that is missing in some of the parts is where the others have it."""
        scores = np.stack([part["scores"] for part in parts])
        seen = weights["keypoints"] * (scores >= SEEN)
        counts = np.where(seen.sum(0) > 0, seen, weights["keypoints"])
        points, depth = (np.stack([part[name] for part in parts]) for name in ("keypoints", "depth"))
        return {
            "keypoints": weighted_mean(points, counts),
            "depth": weighted_mean(depth, counts),
            "scores": weighted_mean(scores, weights["scores"]),
        }

    @classmethod
    def _read_facts(cls, facts: Mapping[str, Any]) -> dict[str, Any]:
        width, height = facts["size"]
        if not (isinstance(width, int) and isinstance(height, int) and min(width, height) > 0):
            raise ValueError(f"size {width} x {height}")
        return {"size": (width, height)}


def make_detector(name: str, dwpose: Path | None = None) -> Detector:
    """A detector by its name; `dwpose` is the folder with the files of DWPose.

    Raises:
        UserError: an unknown name, or what DWPose needs is missing.
    """
    if name not in DETECTORS:
        raise UserError(f"--pose-detector {name}: must be {' or '.join(DETECTORS)}")
    if name == "mediapipe" and dwpose is not None:
        raise UserError("--dwpose-files has no effect without --pose-detector dwpose")
    return DWPose(dwpose) if name == "dwpose" else BlazePose()


def read_pose(
    path: str | Path,
    detector: Detector | None = None,
    person: str = "largest",
    track: Track = lambda frames, count: frames,
) -> PoseSignal:
    """The pose of a person in a video, kept in the cache; or of a signals file, as it is.

    Args:
        path: a video, or a .safetensors file of `PoseSignal.save`.
        detector: what looks; without it, MediaPipe.
        person: "largest", or a number counted from 0 by size in the first frame that shows anybody.
        track: is given the frames and their count, to show how far it is.

    Raises:
        UserError: a file that can not be read, no person in it.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return PoseSignal.load(path)
    parse_person(person)
    check_file(path, "video")
    found = detector or BlazePose()

    def look() -> PoseSignal:
        info = video_info(path)
        fps = float(info.fps)
        followed = follow(track(read_video(path), info.frames), found, fps, person, str(path))
        points, scores = fill_gaps(followed, fps, str(path))
        size = (info.width, info.height)
        return PoseSignal(
            fps=info.fps, keypoints=points[..., :2], scores=scores, depth=points[..., 2], size=size
        )

    pose = cached(PoseSignal, path, found.settings() | {"person": str(parse_person(person))}, look)
    if len(pose) == 1:
        logger.warning("%s: has a single frame, the pose stands still", path)
    return pose


def picture_pose(
    image: Pixels, detector: Detector | None = None, person: str = "largest", name: str = "picture"
) -> PoseSignal:
    """The pose of a person in a picture (H, W, 3), as a signal of one frame.

    Raises:
        UserError: no person in it.
    """
    followed = follow([image], detector or BlazePose(), 1.0, person, name)
    size = (image.shape[1], image.shape[0])
    points = followed.keypoints
    return PoseSignal(
        fps=Fraction(1), keypoints=points[..., :2], scores=followed.scores, depth=points[..., 2], size=size
    )


def overlays(frames: Iterable[Pixels], signal: PoseSignal) -> Iterator[Pixels]:
    """The frames that a signal was taken from, darkened, with its skeleton on them."""
    for frame, skeleton in zip(frames, signal.skeletons(), strict=True):
        dark = cv2.convertScaleAbs(np.ascontiguousarray(frame), alpha=BACKDROP)
        yield np.where(skeleton.any(-1, keepdims=True), skeleton, dark).astype(np.uint8)
