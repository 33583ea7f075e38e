"""A video re-voiced: its own frames, whose mouth says what another recording says.

Each frame is its own reference: it is bent from the mouth that it shows to the one that is wanted, and
nothing is taken from it but the lower face, so all other motion stays as it was, to the bit. The speech's
lips are laid over the video's by the strength of the sound; smiles and the like stay the video's. Shapes: T
frames of the new video, S side of the crop in pixels.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatar.actor import CROP
from avatar.backbone.precision import autocast
from avatar.composite import Compositor
from avatar.drivers.audio_signal import Sound
from avatar.drivers.curves import CURVES
from avatar.drivers.expression import PART_CURVES, ExpressionReader, held
from avatar.drivers.face import Crop, Face, choose_face, extract, head_crop
from avatar.drivers.mesh import FACE_OVAL, MOUTH, ReferenceMesh
from avatar.drivers.mix import SHAPE
from avatar.drivers.signal import repeated
from avatar.drivers.smooth import one_euro
from avatar.drivers.speech import SpeechDriver
from avatar.drivers.track import FaceTracker
from avatar.drivers.warp import Driven, DrivenReference
from avatar.errors import UserError
from avatar.media import frame_count, read_video, video_info
from avatar.model import GROUP
from avatar.options import DriveOptions, WhenShort
from avatar.render import Frame, Nets, Renderer, Sampling, pixels
from avatar.session import Session, video_length
from avatar.voice import Voice, speak
from avatar.windows import Motion

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

STEADY = {"min_cutoff": 4.0, "beta": 20.0}  # smoothing of landmarks in face heights
CROP_STEADY = {"min_cutoff": 0.5, "beta": 5.0}  # of the square around them
GONE = 0.2  # s, over which the new mouth comes and goes where the face is lost
STILL = np.zeros((1, 6), np.float32)
MOUTH_CURVES = np.zeros(len(CURVES), np.float32)
MOUTH_CURVES[list(PART_CURVES["mouth"])] = 1
BELOW = (2, 98, 327, 205, 425)  # landmarks under the nose and on the cheeks: the upper rim of what is changed
GROWN = 1.12  # size of what is changed, relative to the lower face
SOFT = 0.05  # of a face height, over which it goes over into the frame


@dataclass(frozen=True, kw_only=True)
class Footage:
    """What a first look at a video found.

    Attributes:
        path, fps: of the video.
        landmarks: (n, 478, 3) of the face in each frame, px; held where it is lost.
        seen: (n,), share of the new mouth in each frame, 0 where the face is lost.
        rest: (n, 52), curves of the mouth that each frame shows.
        paints: of the inside of the mouth, see `DrivenReference`.
    """

    path: Path
    fps: Fraction
    landmarks: Array
    seen: Array
    rest: Array
    paints: Array


def look(path: Path, fps: Fraction, nets: Nets, face: str) -> Footage:
    """Follow the face through a video.

    Args:
        face: which one, as in `avatar.drivers.face.choose_face`.

    Raises:
        UserError: no face is ever seen, or not one that can be animated.
    """
    found: list[Array | None] = []
    widest, shown = -1.0, None
    with FaceTracker(face, str(path)) as tracker:
        for frame in read_video(path):
            points = tracker(frame)
            found.append(points)
            if points is None:
                continue
            if shown is None:
                choose_face([Face(points)], "largest", (frame.shape[1], frame.shape[0]), str(path))
            gap = float(MOUTH.gaps(points).max()) / Face(points).height
            if gap > widest:
                crop = head_crop(Face(points), (frame.shape[1], frame.shape[0]))
                widest, shown = gap, (extract(frame, crop, CROP), crop.to_crop(points, CROP))
    landmarks = held(found, fps, str(path))
    assert shown is not None  # or `held` had said so
    mesh = ReferenceMesh(nets.basis, shown[1])
    return Footage(
        path=path,
        fps=fps,
        landmarks=_steady(landmarks, fps, **STEADY),
        seen=_presence(np.array([points is not None for points in found]), fps),
        rest=_rest(landmarks, fps),
        paints=DrivenReference(mesh, shown[0], nets.mouth).paints,
    )


def _steady(landmarks: Array, fps: Fraction, min_cutoff: float, beta: float) -> Array:
    """Landmarks smoothed without lag, by their speed in face heights."""
    height = float(np.median([Face(points).height for points in landmarks]))
    return height * one_euro(landmarks / height, fps, min_cutoff=min_cutoff, beta=beta)


def _presence(seen: NDArray[np.bool_], fps: Fraction) -> Array:
    """Share of the new mouth, (n,): 0 where the face is lost, rising and falling over GONE."""
    frames = np.arange(len(seen))
    lost = np.flatnonzero(~seen)
    if not len(lost):
        return np.ones(len(seen), np.float32)
    away = np.abs(frames[:, None] - lost[None]).min(1)
    return np.minimum(away / max(1.0, GONE * float(fps)), 1).astype(np.float32)


def _rest(landmarks: Array, fps: Fraction) -> Array:
    """What of the mouth's shape (n, 52) is not the person's own, but that of what the video says. The
    opening is not in it, as each frame's mesh knows that of itself."""
    curves = ExpressionReader()(landmarks)
    own = (curves - np.median(curves, 0)) * SHAPE
    own[:, CURVES.index("jawOpen")] = 0
    return one_euro(own[..., None], fps, min_cutoff=STEADY["min_cutoff"], beta=STEADY["beta"])[..., 0]


class Source(NamedTuple):
    """One frame of the video, and the square of it that the nets see.

    Attributes:
        frame: (H, W, 3).
        crop: of the frame.
        picture: (S, S, 3) of the crop.
        landmarks: (478, 3), px of `picture`.
        rest: curves (52,) of its mouth.
        share: of the new mouth.
    """

    frame: Pixels
    crop: Crop
    picture: Pixels
    landmarks: Array
    rest: Array
    share: float


def sources(footage: Footage, rows: NDArray[np.integer]) -> Iterator[Source]:
    """Frames of the video in the order of `rows`."""
    squares = _steady(footage.landmarks, footage.fps, **CROP_STEADY)
    for row, frame in zip(rows, frames_at(footage.path, rows), strict=True):
        crop = head_crop(Face(squares[row]), (frame.shape[1], frame.shape[0]))
        points = crop.to_crop(footage.landmarks[row], CROP)
        picture = extract(frame, crop, CROP)
        yield Source(frame, crop, picture, points, footage.rest[row], float(footage.seen[row]))


def rows_of(
    count: int, fps: Fraction, frames: int, rate: Fraction, when_short: WhenShort
) -> NDArray[np.integer]:
    """Which of a video's `count` frames each of `frames` frames at another rate shows.

    Raises:
        UserError: the video is too short and `when_short` is "error".
    """
    rows = np.array([k * fps // rate for k in range(frames)])
    if rows[-1] < count:
        return rows
    if when_short == "error":
        raise UserError(
            f"the video has {float(count / fps):g} s, the sound {float(frames / rate):g} s;"
            " use --when-short hold, loop or mirror"
        )
    if when_short == "hold":
        return np.minimum(rows, count - 1)
    return repeated(rows, count, mirror=when_short == "mirror")


def frames_at(path: Path, rows: NDArray[np.integer]) -> Iterator[Pixels]:
    """Frames of a video in any order; those that are shown again wait on the disk."""
    if (np.diff(rows) >= 0).all():
        reading = enumerate(read_video(path))
        at, frame = next(reading)
        for row in rows:
            while at < row:
                at, frame = next(reading)
            yield frame
        return
    with tempfile.TemporaryFile() as file:
        for frame in islice(read_video(path), int(rows.max()) + 1):
            file.write(frame.tobytes())
        file.flush()
        stored = np.memmap(file, np.uint8, "r", shape=(int(rows.max()) + 1, *frame.shape))
        for row in rows:
            yield np.array(stored[row])


class Dubber(Renderer):
    """Renders frames each of which is its own reference.

    Args:
        nets: of a preset.
        footage: the video.
        queue: its frames as they are to be shown; a frame that is taken goes to `shown`.

    Attributes:
        shown: frames that were bent and wait for their results, and which part of each is changed, (S, S).
    """

    def __init__(self, nets: Nets, footage: Footage, queue: Iterator[Source]) -> None:
        first = next(queue)
        super().__init__(nets, first.picture, first.landmarks)
        self.between_lips = None  # every frame has its own, and no head is turned
        self.paints, self.queue = footage.paints, chain([first], queue)
        self.shown: deque[tuple[Source, Array]] = deque()
        self._own: deque[tuple[Tensor, Tensor]] = deque()
        self._bent: Tensor = self.latents

    @torch.no_grad()
    def _bend(self, motion: Motion, count: int) -> Driven:
        share = (
            np.ones(len(motion.curves)) if motion.audio_strength is None else motion.audio_strength.numpy()
        )
        drawn: list[Driven] = []
        taken = list(islice(self.queue, count))
        for k, source in enumerate(taken):
            mesh = ReferenceMesh(self.nets.basis, source.landmarks)
            mesh.rest = mesh.rest + source.rest
            spoken = motion.curves[k] * MOUTH_CURVES + (1 - min(1.0, share[k])) * mesh.rest
            bend = DrivenReference(mesh, source.picture, self.nets.mouth, paints=self.paints, shows=False)
            drawn.append(bend(spoken[None], STILL))
            self.shown.append((source, lower_face(mesh, spoken) * (share[k] > 0)))
        drawn += drawn[-1:] * (len(motion.curves) - count)
        pictures = pixels(np.stack([source.picture for source in taken]), self.nets.device)
        windows = self._inside(pictures)[0].transpose(0, 1)
        with autocast(self.nets.device):
            latents = self.nets.vae.encode(windows[:, :, None]).float()[:, :, 0]
        self._own.extend(zip(windows, latents, strict=True))
        whole = torch.cat([latents, latents[-1:].expand(len(drawn) - count, -1, -1, -1)])
        self._bent = whole.flip(0)[::GROUP].flip(0).transpose(0, 1)[None]
        return Driven(*(np.concatenate(values) for values in zip(*drawn, strict=True)))

    def _reference_latents(self, count: int) -> Tensor:
        return self._bent

    def _references(self, count: int) -> tuple[Tensor, Tensor]:
        windows, latents = zip(*(self._own.popleft() for _ in range(count)), strict=True)
        return torch.stack(windows), torch.stack(latents)


def lower_face(mesh: ReferenceMesh, curves: Array) -> Array:
    """1 on the lower face as a mesh shows it and as `curves` (52,) move it, fading out around it, (S, S)."""
    low = [point for point in FACE_OVAL if mesh.own[point, 1] > mesh.own[list(BELOW), 1].max()]
    moved = mesh.place(mesh.act(curves[None]), STILL)[0]
    points = np.concatenate([mesh.landmarks[[*BELOW, *low], :2], moved[[*BELOW, *low], :2]])
    middle = points.mean(0)
    hull = cv2.convexHull((middle + GROWN * (points - middle)).astype(np.float32))
    mask = np.zeros((CROP, CROP), np.float32)
    cv2.fillConvexPoly(mask, hull.round().astype(np.int32), 1.0)
    return cv2.GaussianBlur(mask, (0, 0), SOFT * mesh.height)


class DubSession(Session):
    """A video whose person says something else.

    Args:
        nets, speech: of the animator.
        ref: the video.
        sounds: what is said, all of one face.
        options: of the new video.

    Raises:
        UserError: everything that can be wrong with the inputs.
    """

    def __init__(
        self, nets: Nets, speech: SpeechDriver, ref: Path, sounds: Sequence[Sound], options: DriveOptions
    ) -> None:
        info = video_info(ref)
        self.fps = options.fps if "fps" in options.model_fields_set else info.fps
        self.options = options.model_copy(update={"fps": self.fps})
        self.nets, self.speech, self.sounds = nets, speech, list(sounds)
        self.frames = frame_count(video_length(sounds, options), self.fps)
        if len(faces := {sound.face for sound in sounds}) > 1:
            raise UserError(f"{ref}: in a video one face is dubbed at a time, give --audio for one of them")
        self.rows = rows_of(info.frames, info.fps, self.frames, self.fps, options.when_short)
        number = faces.pop()
        self.footage = look(ref, info.fps, nets, options.face if number is None else str(number))
        scaled = [sound.scaled(options.audio_scale) for sound in sounds]
        self.voice = Voice(scaled, self.fps, self.frames)
        first = next(frames_at(ref, self.rows[:1]))
        self.size = Compositor(first, Crop(0, 0, 1), options.size).size

    def __iter__(self) -> Iterator[Pixels]:
        dubber = Dubber(self.nets, self.footage, sources(self.footage, self.rows))
        options = self.options.model_copy(update={"head_motion": 0.0})
        motion = speak(self.speech, self.voice, np.zeros(len(CURVES), np.float32), options, self.frames)
        sampling = Sampling(
            seed=options.seed,
            steps=options.steps,
            guidance=options.guidance,
            schedules={"audio": self.voice.schedule},
        )
        for part in dubber(motion, sampling):
            yield self._composed(part, *dubber.shown.popleft())

    def _composed(self, part: Frame, source: Source, changed: Array) -> Pixels:
        """The frame (H, W, 3) with its lower face replaced."""
        compositor = Compositor(source.frame, source.crop, self.options.size)
        new = compositor(*part)
        share = np.zeros((*new.shape[:2], 1), np.float32)
        share[compositor.region] = compositor.enlarge(changed * source.share, cv2.INTER_LINEAR)[..., None]
        still = compositor.photo
        return np.where(share > 0, still + share * (new.astype(np.float32) - still) + 0.5, still).astype(
            np.uint8
        )
