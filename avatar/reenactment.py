"""Self-reenactment: a video made from the first frame of a real clip, beside that clip frame by frame.

Two baselines stand beside it: the first frame that stays, and the true frames coded and decoded by the VAE of
`mini`. Frame 0 is the reference itself and counts in none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from importlib.resources import files
from importlib.util import find_spec
from itertools import repeat
from pathlib import Path

import numpy as np

from avatar import media, metrics
from avatar.metrics import Array, Region
from avatar.picture import face_mask, fit_reference
from avatar.report import Reenactment
from avatar.watch import FaceTracker, Picture8, window_around

SAME = 30  # dB, from here on the reference is the first frame of the truth, which may have been coded again
MESH = 468  # points of the face mesh without the irises
EYES = (33, 263)  # outer corners
CROP = 256  # px, side of the picture the nets work on
FLATTEST = 1.5  # px, standard deviation of the window of SSIM (Wang et al. 2004)


def begins_with(truth: Path, reference: Picture8) -> bool:
    """Whether a photo (H, W, 3) is the first frame of a video."""
    first = media.read_image(truth)
    if first.shape != reference.shape:
        return False
    return metrics.psnr(float(np.mean((first.astype(np.float32) - reference) ** 2))) >= SAME


class Truth:
    """The real clip, read at the times of a video's frames: by the frame that is on show.

    Args:
        path: the clip.
        fps, count, size: of the video that it is compared with; size is (width, height), px.
        region: generated rectangle in pixels of the clip.
    """

    def __init__(self, path: Path, fps: Fraction, count: int, size: tuple[int, int], region: Region) -> None:
        info = media.video_info(path)
        self.path, self.size, self.region = path, size, region
        rows = [int(i * info.fps / fps) for i in range(count)]
        self.rows = [row for row in rows if row < info.frames]

    def frames(self) -> Iterator[Picture8]:
        """The clip's frames at the video's times, at its size."""
        row = 0
        for number, frame in enumerate(media.read_video(self.path)):
            while row < len(self.rows) and self.rows[row] == number:
                row += 1
                yield fit_reference(frame, self.size[1], self.size[0])[0]

    @cached_property
    def place(self) -> Region:
        """The generated rectangle in pixels of the video."""
        first = media.read_image(self.path)
        return self.region.scaled(fit_reference(first, self.size[1], self.size[0])[1])

    @cached_property
    def points(self) -> Array:
        """Mesh points (T, 468, 2) at the video's times, px; NaN where there is no face."""
        tracker = FaceTracker(window_around(self.place))
        return np.stack([tracker(frame)[:MESH, :2] for frame in self.frames()])

    @cached_property
    def still(self) -> Reenactment:
        """The figures of a video that stays the first frame."""
        meter, first = ReenactmentMeter(self), next(self.frames())
        for _ in self.rows:
            meter.add(first, self.points[0])
        return meter.raw()

    @cached_property
    def recoded(self) -> Reenactment:
        """The figures of the clip itself, coded and decoded by the VAE inside the generated region."""
        meter, tracker = ReenactmentMeter(self), FaceTracker(window_around(self.place))
        for frame in recode(self.frames(), len(self.rows), self.place):
            meter.add(frame, tracker(frame))
        return meter.figures()


class ReenactmentMeter:
    """Running figures of a video beside its truth, fed frame by frame."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.pairs = enumerate(zip(truth.frames(), truth.points, strict=True))
        corners = truth.points[:, EYES]
        self.eye_distance = float(np.nanmean(np.linalg.norm(corners[:, 0] - corners[:, 1], axis=-1)))
        self.psnrs: list[float] = []
        self.face_psnrs: list[float] = []
        self.ssims: list[float] = []
        self.errors: list[float] = []

    def add(self, frame: Picture8, points: Array) -> None:
        """Take in the next frame (H, W, 3) and its mesh points; what comes after the truth's end is left."""
        pair = next(self.pairs, None)
        if pair is None or pair[0] == 0:
            return
        true, true_points = pair[1]
        square = (frame.astype(np.float32) - true) ** 2
        self.psnrs.append(metrics.psnr(float(square.mean())))
        if np.isfinite(true_points).all():
            face = face_mask(true_points, *frame.shape[:2])
            self.face_psnrs.append(metrics.psnr(float(square[face].mean())))
        if measures_ssim():
            self.ssims.append(ssim(frame, true))
        error = np.linalg.norm(points[:MESH, :2] - true_points, axis=-1).mean()
        self.errors.append(float(error) / self.eye_distance)

    def raw(self) -> Reenactment:
        """The figures without those that compare with the still first frame."""
        known = [error for error in self.errors if np.isfinite(error)]
        return Reenactment(
            psnr=float(np.mean(self.psnrs)) if self.psnrs else None,
            face_psnr=float(np.mean(self.face_psnrs)) if self.face_psnrs else None,
            ssim=float(np.mean(self.ssims)) if self.ssims else None,
            landmark_error=float(np.mean(known)) if known else None,
        )

    def figures(self) -> Reenactment:
        return relative(self.raw(), self.truth.still)


def relative(found: Reenactment, still: Reenactment) -> Reenactment:
    """The figures with the ratio and the gain over the still first frame."""
    ratio = gain = None
    if found.landmark_error is not None and still.landmark_error:
        ratio = found.landmark_error / still.landmark_error
    if found.psnr is not None and still.psnr is not None:
        gain = found.psnr - still.psnr
    return replace(found, landmark_ratio=ratio, psnr_gain=gain)


def measures_ssim() -> bool:
    return find_spec("skimage") is not None


def ssim(frame: Picture8, true: Picture8) -> float:
    """Structural similarity of two RGB pictures, mean of the channels (Wang et al. 2004)."""
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            frame,
            true,
            channel_axis=2,
            data_range=255,
            gaussian_weights=True,
            sigma=FLATTEST,
            use_sample_covariance=False,
        )
    )


def recode(frames: Iterable[Picture8], count: int, place: Region) -> Iterator[Picture8]:
    """`count` frames (H, W, 3) with a square of them coded and decoded as the nets see it, 256 px wide."""
    import cv2
    import torch

    from avatar.backbone.checkpoint import load
    from avatar.backbone.vae import CausalVAE
    from avatar.drivers.face import Crop, extract
    from avatar.render import pixels

    vae = load(CausalVAE, Path(str(files("avatar") / "weights" / "mini" / "vae.safetensors")))
    crop = Crop(place.x, place.y, place.width)
    kept: list[Picture8] = []  # frames that are not decoded yet

    def squares() -> Iterator[torch.Tensor]:
        square = None
        for frame in frames:
            kept.append(frame)
            square = pixels(extract(frame, crop, CROP)[None])
            yield square
        if square is not None:
            yield from repeat(square, -(count - 1) % vae.config.time_factor)  # 4n + 1 in all

    for decoded in vae.decode_stream(vae.encode_stream(squares())):
        for square in decoded[0].permute(1, 2, 3, 0):
            if not kept:
                return
            frame = kept.pop(0).copy()
            picture = ((square.clamp(-1, 1).numpy() + 1) * 127.5).round().astype(np.uint8)
            kind = cv2.INTER_AREA if crop.side < CROP else cv2.INTER_CUBIC
            drawn = cv2.resize(picture, (crop.side, crop.side), interpolation=kind)
            top, left = max(0, crop.y), max(0, crop.x)
            inside = frame[top : crop.y + crop.side, left : crop.x + crop.side]
            height, width = inside.shape[:2]
            inside[:] = drawn[top - crop.y :, left - crop.x :][:height, :width]
            yield frame
