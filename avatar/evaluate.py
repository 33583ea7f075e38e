"""Judge a talking video from its file and its inputs: `avatar eval`.

Every figure is computed from the file as a player would show it, by public tools: MediaPipe's face mesh,
dlib's face recognition, ffmpeg. `docs/evaluation.md` says what each means. Frames are read one at a time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatar import media, metrics
from avatar.errors import UserError
from avatar.metrics import Array, Region
from avatar.phones import Phone, align, load
from avatar.report import File, Picture, Report, Speech, table

POINTS = 478  # of the face mesh, irises included
WINDOW = 1.25  # the mesh looks at the generated region times this, so that a small face is found too
SETTLING = 5  # passes over the first frame: the mesh wanders until it has its own points to start from
FACE_GROWTH = (
    1.15  # the face oval ends under the hair line and above the neck: grown before it masks the face
)
Picture8 = NDArray[np.uint8]


class FaceTracker:
    """Face mesh with refined lips and irises, frame after frame, without smoothing over time.

    Kept apart from the tracker of `drivers/face.py`: what judges a video shares nothing with what makes it.
    """

    def __init__(self, window: Region | None = None) -> None:
        """`window`: where to look, the whole frame by default."""
        from mediapipe.python.solutions.face_mesh import FaceMesh

        self.window = window
        self.mesh = FaceMesh(static_image_mode=False, refine_landmarks=True, max_num_faces=1)
        self.passes = SETTLING

    def __call__(self, frame: Picture8) -> Array:
        """Points (478, 3) in pixels of the frame, z in the same scale; NaN where there is no face."""
        height, width = frame.shape[:2]
        x, y, w, h = self.window or Region(0, 0, width, height)
        left, top = max(0, x), max(0, y)
        view = np.ascontiguousarray(frame[top : max(top, y + h), left : max(left, x + w)])
        for _ in range(self.passes):
            found = self.mesh.process(view).multi_face_landmarks
        self.passes = 1
        if not found:
            return np.full((POINTS, 3), np.nan)
        points = np.array([(p.x, p.y, p.z) for p in found[0].landmark])
        size = np.array([view.shape[1], view.shape[0], view.shape[1]], float)
        return points * size + [left, top, 0]


class Identity:
    """Distance of faces to a reference by dlib's 128 numbers: under 0.6 it counts as the same person."""

    def __init__(self, reference: Picture8, points: Array) -> None:
        """`reference` with its mesh points."""
        import dlib

        spec = find_spec(
            "face_recognition_models"
        )  # its __init__ needs pkg_resources: only its files are used
        folder = Path(next(iter(spec.submodule_search_locations))) / "models"  # type: ignore[union-attr, arg-type]
        self.rectangle = dlib.rectangle
        self.landmarks = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))
        self.net = dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat"))
        self.person = self.describe(reference, points)

    @staticmethod
    def available() -> bool:
        return bool(find_spec("dlib") and find_spec("face_recognition_models"))

    def __call__(self, frame: Picture8, points: Array) -> float:
        return float(np.linalg.norm(self.describe(frame, points) - self.person))

    def describe(self, frame: Picture8, points: Array) -> Array:
        """Descriptor (128,) of the face whose mesh points are given."""
        low, high = points[:, :2].min(0), points[:, :2].max(0)
        face_height = np.linalg.norm(points[10, :2] - points[152, :2])
        # Where dlib's own detector puts its square, measured on its results against the mesh.
        centre, half = (low + high) / 2 + [0, 0.05 * face_height], 0.45 * face_height
        box = self.rectangle(*(int(v) for v in (*(centre - half), *(centre + half))))
        image = np.ascontiguousarray(frame)
        return np.array(self.net.compute_face_descriptor(image, self.landmarks(image, box)))


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


def window_around(region: Region) -> Region:
    """Where the mesh looks for the face of a generated region."""
    dx, dy = round(region.width * (WINDOW - 1) / 2), round(region.height * (WINDOW - 1) / 2)
    return Region(region.x - dx, region.y - dy, region.width + 2 * dx, region.height + 2 * dy)


def generated_region(reference: Picture8, choice: str = "largest") -> Region:
    """The square that `avatar drive` generates in this photo; `choice` is its `--face`."""
    from avatar.drivers import face

    size = reference.shape[1], reference.shape[0]
    crop = face.head_crop(face.choose_face(face.find_faces(reference), choice, size), size)
    return Region(crop.x, crop.y, crop.side, crop.side)


def speech_figures(tracks: metrics.Tracks, phones: Sequence[Phone] | None, fps: float) -> Speech:
    """The audio-driven table; without phones only the range."""
    spoken = bool(np.isfinite(tracks.aperture).any())
    p90 = metrics.peak(tracks.aperture)
    if not phones or not spoken:
        return Speech(range_p90=p90)
    r, lag = metrics.lagged_correlation(
        tracks.aperture, metrics.opening_curve(phones, len(tracks.aperture), fps)
    )
    return Speech(
        closure=metrics.closure(tracks.aperture, phones, fps),
        opening=metrics.opening(tracks.aperture, phones, fps),
        silence=metrics.silence(tracks.aperture, phones, fps),
        rounding=metrics.rounding(tracks.width, phones, fps),
        sync_r=r,
        sync_lag=lag,
        range_p90=p90,
    )


def file_figures(video: Path, info: media.VideoInfo, audio: Path | None, failed: int) -> File:
    """Length and sound of the file against the audio that drove it."""
    offset, expected = None, None
    if audio:
        expected = media.frame_count(media.audio_seconds(audio), info.fps)
        if info.has_audio:
            sound, original = media.read_audio(video), media.read_audio(audio)
            offset = metrics.sound_offset(sound, original, media.RATE) * float(info.fps)
    return File(
        frames=info.frames,
        expected_frames=expected,
        failed_frames=failed,
        sound_offset=offset,
        fps=float(info.fps),
    )


def watch(video: Path, region: Region | None = None) -> tuple[metrics.Tracks, Array]:
    """Tracks of a video, and its mesh points (T, 478, 3) in pixels."""
    tracker = FaceTracker(window_around(region) if region else None)
    points = np.stack([tracker(frame) for frame in media.read_video(video)])
    return metrics.tracks(points), points


def evaluate(
    video: str | Path,
    reference: str | Path,
    audio: str | Path | None = None,
    phones: Sequence[Phone] | None = None,
    region: Region | None = None,
    identity_every: int = 1,
) -> Report:
    """All figures of one video.

    Args:
        video: the file to judge.
        reference: the picture it was made from.
        audio: the sound it was made from, for its length and alignment.
        phones: what is said when, for the speech table.
        region: generated rectangle in pixels of the reference; by default what `avatar drive` would take.
        identity_every: recognise the face in every n-th frame (the costly figure); 0 for never.

    Raises:
        UserError: a file cannot be read, or the reference shows no face.
    """
    video, audio = Path(video), Path(audio) if audio else None
    photo = media.read_image(reference)
    info = media.video_info(video)
    fitted, scale = fit_reference(photo, info.height, info.width)
    place = (region or generated_region(photo)).scaled(scale)
    tracker, meter = FaceTracker(window_around(place)), PictureMeter(fitted, place, identity_every)
    points = []
    for frame in media.read_video(video):
        points.append(tracker(frame))
        meter.add(frame, points[-1])
    track = metrics.tracks(np.stack(points))
    fps = float(info.fps)
    notes = []
    if not phones:
        notes.append(
            "no phones: give --phones or --transcript for closure, opening, silence, rounding and sync"
        )
    if identity_every and not Identity.available():
        notes.append("no identity: `pip install avatar-toolkit[eval]`")
    if not meter.errors:
        notes.append("no background: the generated region is the whole picture")
    return Report(
        video=str(video),
        speech=speech_figures(track, phones, fps),
        picture=meter.figures(track, fps),
        file=file_figures(video, info, audio, int(np.isnan(track.aperture).sum())),
        notes=notes,
    )


def find_phones(audio: Path | None, phones: Path | None, transcript: str | None) -> list[Phone] | None:
    """Phones from a file, or by aligning a transcript to the audio; None where neither is given."""
    if phones:
        return load(phones)
    if not transcript:
        return None
    if not audio:
        raise UserError("--transcript needs --audio to be aligned to")
    return align(media.read_audio(audio), transcript)


def show(reports: dict[str, Report], json_out: Path | None = None) -> None:
    """Print reports side by side as a table, and write them as JSON: {name: report}."""
    from rich.console import Console

    console = Console()
    console.print(table({name: report.figures() for name, report in reports.items()}))
    for name, report in reports.items():
        for note in report.notes:
            console.print(f"{name}: {note}", style="dim", markup=False)
    if json_out:
        content = {name: report.to_json() for name, report in reports.items()}
        json_out.write_text(json.dumps(content, indent=2, ensure_ascii=False), "utf8")


def run(
    video: Path,
    reference: Path,
    audio: Path | None,
    *,
    phones: Path | None = None,
    transcript: str | None = None,
    truth: Path | None = None,
    face: str = "largest",
    identity_every: int = 1,
    json_out: Path | None = None,
) -> dict[str, Report]:
    """The command `avatar eval`: judge a video, maybe a true one beside it, print and write it."""
    said = find_phones(audio, phones, transcript)
    region = generated_region(media.read_image(reference), face)
    videos = {"video": video} | ({"truth": truth} if truth else {})
    reports = {
        name: evaluate(path, reference, audio, said, region, identity_every) for name, path in videos.items()
    }
    show(reports, json_out)
    return reports
