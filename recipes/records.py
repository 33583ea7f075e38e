"""One part of a video read once: its shots, the faces in them, and of every face that is followed what a
filter, a caption and a comparison with other clips need.

What is found is a JSON file of records and a picture of each. Coordinates are px of the footage.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avatar.drivers.face import Face, extract
from avatar.errors import UserError
from avatar.recipes.camera import movement
from avatar.recipes.caption import describe
from avatar.recipes.clip_figures import (
    describe_face,
    face_motion,
    landmark_speed,
    outside,
    sharp_start,
    sharpness,
    steady_crop,
    text_share,
)
from avatar.recipes.clip_file import Footage, OutputError, probe, read_sound
from avatar.recipes.duplicates import picture_vector
from avatar.recipes.film import Film
from avatar.recipes.filters import Measures
from avatar.recipes.heard import Heard, consistency, hear, lip_sync
from avatar.recipes.shots import FPS, ContentDetector, Detector, load_transnet, split_shots
from avatar.recipes.sound_tags import shares
from avatar.recipes.tracks import NOBODY, Followers, Piece, reduced

Pixels = NDArray[np.uint8]
Points = NDArray[np.float32]

PART = 120 * FPS  # frames that are read at once: what processes share, and what a killed run repeats at most
VERSION = 4  # of the records; another one is measured anew


@dataclass(frozen=True, kw_only=True)
class Reading:
    """All that the records depend on beside the footage itself."""

    shortest: float = 2.0  # s
    longest: float = 10.0  # s
    crop: float = 2.6  # side of a clip in face heights
    size: int = 512  # px, of a clip
    text: bool = True  # whether text is looked for
    transnet: str | None = None  # weights of TransNetV2


class Part(NamedTuple):
    """A part of a video: its content's hash, its first frame, and how many it has (None: to the end)."""

    path: Path
    key: str
    first: int
    frames: int | None

    @property
    def name(self) -> str:
        return f"{self.key}-{self.first:07d}"


@dataclass(frozen=True, kw_only=True)
class Record:
    """A piece of footage: a clip that may be, or a shot of nobody (`reason` says so; it has no figures then).

    Attributes:
        first, count: frames in the footage.
        crop: x, y and side.
        picture: embedding of how it looks, see `avatar.recipes.duplicates.picture_vector`.
        face: dlib's descriptor.
        motion: mouth's opening and the face's place of every frame, 3 numbers each, face heights.
    """

    id: str
    key: str
    first: int
    count: int
    person: int
    reason: str | None = None
    crop: tuple[int, int, int] = (0, 0, 0)
    sound: bool = False
    measures: Measures | None = None
    caption: dict[str, str] | None = None
    picture: array[float] | None = None  # arrays, because all records of a run are held at the end
    face: array[float] | None = None
    motion: array[float] | None = None

    @property
    def track(self) -> tuple[str, int, int]:
        """What all clips of one followed face share: the video, the part of it, the face's number there."""
        return self.key, self.first // PART, self.person

    @classmethod
    def load(cls, data: dict[str, Any]) -> Record:
        measures = data.pop("measures")
        for name in ("picture", "face", "motion"):
            data[name] = None if data[name] is None else array("d", data[name])
        return cls(**data, measures=None if measures is None else Measures(**measures))


def parts(path: Path, key: str) -> list[Part]:
    """A video in parts of equal length, by its declared duration; the last goes on to the end of the file.

    Raises:
        UserError: not a video that can be read.
    """
    number = max(1, int(probe(path).seconds * FPS) // PART)
    return [Part(path, key, i * PART, PART if i + 1 < number else None) for i in range(number)]


def read_part(part: Part, reading: Reading, folder: Path) -> list[Record]:
    """Read a part of a video, or what was read of it before.

    Args:
        part: of the video.
        reading: how.
        folder: for `records/` and `pictures/`.

    Raises:
        UserError: the video can not be read.
    """
    path = folder / "records" / f"{part.name}.json"
    if not path.exists():
        found = [asdict(record) for record in _read(part, reading, folder / "pictures")]
        write_text(path, json.dumps(found, default=list))
    return [Record.load(data) for data in json.loads(path.read_text())]


def write_text(path: Path, text: str) -> None:
    """Write a file beside its place, then rename it.

    Raises:
        OutputError: it can not be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise OutputError(f"{path}: can not be written ({error.strerror})") from error


def _read(part: Part, reading: Reading, pictures: Path) -> Iterator[Record]:
    cv2.setNumThreads(1)  # several parts are read side by side
    footage = probe(part.path)
    sound = hear(read_sound(part.path, part.first, part.frames)) if footage.has_sound else None
    detectors: list[Detector] = [ContentDetector()]
    if reading.transnet is not None:
        detectors.append(load_transnet(Path(reading.transnet)))
    longest, seen = round(reading.longest * FPS), 0
    with (
        Film(part.path, footage, part.first, part.frames, _still_every(reading)) as film,
        Followers(longest) as followers,
    ):
        reader = PieceReader(part, footage, sound, film, reading, pictures)
        for shown in split_shots(film, detectors):
            seen += 1
            for piece in followers(shown):
                yield reader(piece)
            film.forget(shown.number - longest)
        for piece in followers.finish():
            yield reader(piece)
    if seen == 0 and part.first == 0:
        raise UserError(f"{part.path}: holds no frame that can be read")


def _still_every(reading: Reading) -> int:
    """Frames from one in full size to the next: the shortest clip has two, and there is one a second."""
    return min(FPS, max(1, round(reading.shortest * FPS) // 2))


class PieceReader:
    """Makes the records of a part: measures what `Followers` followed."""

    def __init__(
        self,
        part: Part,
        footage: Footage,
        sound: Heard | None,
        film: Film,
        reading: Reading,
        pictures: Path,
    ) -> None:
        self.part, self.footage, self.sound, self.film = part, footage, sound, film
        self.reading, self.pictures = reading, pictures
        self.scale = footage.width / footage.small[0]

    def __call__(self, piece: Piece) -> Record:
        skipped = sharp_start(piece.sharpness)
        usable = piece.count - skipped
        # 4 n + 1 frames are what the nets' latents hold.
        count = (usable - 1) // 4 * 4 + 1 if piece.person != NOBODY else usable
        first = self.part.first + piece.first + skipped
        name = f"{self.part.key[:12]}-{first:07d}-{max(piece.person, 0)}"
        common: dict[str, Any] = {"id": name, "key": self.part.key, "first": first, "count": count}
        common["person"] = piece.person
        if piece.person == NOBODY or count < self.reading.shortest * FPS:
            self._save_picture(piece.thumb, name)
            return Record(**common, reason="no person" if piece.person == NOBODY else "short")
        points = np.stack(piece.points[skipped : skipped + count]) * self.scale
        return self._measured(piece, points, common)

    def _measured(self, piece: Piece, points: Points, common: dict[str, Any]) -> Record:
        first, count = common["first"] - self.part.first, common["count"]
        height = float(np.median([Face(p).height for p in points]))
        crop, wander = steady_crop(points, self.reading.crop, self._window(piece))
        side = min(self.reading.size, crop.side)
        there = self.film.stills(first, count)
        middle = min(there, key=lambda number: abs(number - first - count // 2))
        frames = {number - first: self.film.still(number) for number in (there[0], middle)}
        stills = {at: extract(frame, crop, side) for at, frame in frames.items()}
        at, shown = next(iter(stills.items()))
        self._save_picture(shown, common["id"])
        sharp = [sharpness(frame, points[at]) for at, frame in frames.items()]
        motions = np.array(piece.motions, float).reshape(-1, 6)
        moved = face_motion(points)
        heard = None if self.sound is None else self.sound.part(first, count)
        sync = None if heard is None else lip_sync(moved[:, 0], heard)
        stirring = float(motions[:, 5].mean()) if len(motions) else 0.0
        measures = Measures(
            seconds=count / FPS,
            face=height,
            sharpness=float(np.median(sharp)),
            stirring=stirring,
            wander=wander,
            outside=outside(points, crop),
            turn=float(np.median([abs(Face(p).yaw) for p in points])),
            text=max(map(text_share, stills.values())) if self.reading.text else None,
            people=int(np.percentile(piece.people, 75, method="higher")),
            silence=1.0 if heard is None else heard.silence,
            sync=None if sync is None else sync[0],
            lag=None if sync is None else sync[1],
            consistency=None if heard is None else consistency(landmark_speed(points), heard),
            sounds=shares(np.zeros(count, np.int8) if heard is None else heard.tags),
        )
        caption = describe(
            shown,
            crop.to_crop(points[at], side),
            movement=movement(motions[:, :5]),
            speaking=0.0 if heard is None else heard.speaking,
            stirring=stirring,
            openings=float(moved[:, 0].std()),
        )
        return Record(
            **common,
            crop=(crop.x, crop.y, crop.side),
            sound=heard is not None,
            measures=measures,
            caption=asdict(caption),
            picture=_numbers(np.mean([picture_vector(still) for still in stills.values()], 0), 5),
            face=_numbers(describe_face(frames[at], points[at]), 5),
            motion=_numbers(moved, 4),
        )

    def _window(self, piece: Piece) -> tuple[float, float, float, float]:
        left, top, right, bottom = piece.window
        width, height = self.footage.width, self.footage.height
        return left * width, top * height, right * width, bottom * height

    def _save_picture(self, picture: Pixels, name: str) -> None:
        small = reduced(picture)
        self.pictures.mkdir(parents=True, exist_ok=True)
        beside = self.pictures / f".{name}.{os.getpid()}.part"
        try:
            Image.fromarray(small).save(beside, "JPEG", quality=85)
            os.replace(beside, self.pictures / f"{name}.jpg")
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise OutputError(f"{self.pictures}: can not be written ({error.strerror})") from error


def _numbers(values: NDArray[Any], decimals: int) -> array[float]:
    return array("d", values.astype(float).round(decimals).ravel().tolist())
