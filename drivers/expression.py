"""The expression of a face over time, taken from a video or named by a word.

A video's expression is absolute: what the net of `avatar.drivers.expression_net` reads from the face mesh.
What the reference itself shows is read by the same net and taken off before it is applied, so a smiling
reference does not smile twice. A word says what a neutral face would show, and which of the reference's
curves contradict it. Shapes: T frames, 52 curves.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from avatar.backbone.checkpoint import load
from avatar.drivers.cache import cached
from avatar.drivers.curves import CURVES, INDEX, MOUTH, curve_indices
from avatar.drivers.expression_net import ExpressionConfig, ExpressionNet, facing
from avatar.drivers.mesh import LEFT_EYE, RIGHT_EYE, FaceBasis, eye_opening
from avatar.drivers.signal import Signal
from avatar.drivers.track import FaceTracker
from avatar.errors import UserError
from avatar.media import check_file, is_picture, read_image, read_video, video_info

logger = logging.getLogger(__name__)

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Track = Callable[[Iterable[Pixels], int], Iterable[Pixels]]  # shows progress: frames and how many there are

EYES = tuple(index for name, index in INDEX.items() if name.startswith(("eye", "brow")))
CHEEKS = tuple(index for index in range(len(CURVES)) if index not in {*MOUTH, *EYES})
PART_CURVES = {"mouth": MOUTH, "eyes": EYES, "cheeks": CHEEKS, "head": (), "body": ()}
SHIPPED = Path(str(files("avatar").joinpath("weights/mini/expression.safetensors")))
LIFT = curve_indices("browInnerUp", "browOuterUp")
BROWS, EYE_CORNERS = [105, 66, 334, 296], [33, 133, 362, 263]  # landmarks
LIDS = ((LEFT_EYE, "Right"), (RIGHT_EYE, "Left"))  # the picture's left eye is the person's right
LIDS_SEEN = 0.6  # of the lids' motion the face mesh shows, `lids_seen` in the log of recipes/expression.py
CODE = ExpressionConfig().code
READER = "3"  # what is read beside the net, for the cache: another number, another reading
PHOTO_RATE = Fraction(25)  # frames a second of a signal of one frame, which mean nothing
LONGEST_LOSS = 1.0  # s, beyond it a face that is out of sight is told of
# What a smile shows, taken off the photo by the words that contradict it; see `avatar.drivers.mix.towards`.
NO_SMILE = {"mouthSmile": -0.85} | dict.fromkeys(
    ("mouthDimple", "cheekSquint", "mouthUpperUp", "mouthLowerDown", "mouthStretch", "jawOpen"), -1.0
)
# Curves of a neutral face that says each word, at strength 1; left and right alike. After the action units
# that EMFACS has for them (Friesen and Ekman 1983): happy 6 + 12, sad 1 + 4 + 15, angry 4 + 5 + 7 + 23,
# surprised 1 + 2 + 5 + 26, disgusted 9 + 15 + 16, afraid 1 + 2 + 4 + 5 + 7 + 20 + 26; as far as they tell
# words apart on photos.
MOODS: dict[str, dict[str, float]] = {
    "happy": {"mouthSmile": 0.7, "cheekSquint": 0.5, "mouthDimple": 0.25, "eyeSquint": 0.15,
              "browOuterUp": 0.1},
    "sad": NO_SMILE | {"mouthFrown": 0.85, "browInnerUp": 0.95, "mouthShrugLower": 0.35, "eyeLookDown": 0.15,
                       "eyeBlink": 0.15},
    "angry": NO_SMILE | {"browDown": 1.0, "noseSneer": 0.35, "mouthPress": 0.4, "eyeSquint": 0.4,
                         "mouthFrown": 0.35},
    "surprised": NO_SMILE | {"browInnerUp": 1.0, "browOuterUp": 1.0, "eyeWide": 0.85, "jawOpen": 0.2},
    "disgusted": NO_SMILE | {"noseSneer": 1.0, "mouthUpperUp": 0.6, "browDown": 0.4, "cheekSquint": 0.5,
                             "eyeSquint": 0.3, "mouthFrown": 0.45},
    "afraid": NO_SMILE | {"browInnerUp": 1.0, "browOuterUp": 0.3, "eyeWide": 0.85, "mouthStretch": 0.7,
                          "mouthLowerDown": 0.2, "jawOpen": 0.08},
    "calm": {"eyeBlink": 0.12, "mouthSmile": 0.12},
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ExpressionSignal(Signal):
    """Face curves over time.

    Attributes:
        curves: (T, 52), ARKit curves in the order of `avatar.drivers.curves.CURVES`.
        codes: (T, 48), as `avatar.drivers.expression_net` reads them off the face; 0 where there is none.
        absolute: the curves say how the face is; otherwise how far they go from a neutral face, and under 0
            what share of the reference's own is taken off, see `avatar.drivers.mix.towards`.
    """

    KIND: ClassVar[str] = "expression"
    SHAPES: ClassVar[Mapping[str, tuple[int, ...]]] = {"curves": (len(CURVES),), "codes": (CODE,)}
    ELEMENTS: ClassVar[Mapping[str, Mapping[str, Sequence[int]]]] = {
        "curves": PART_CURVES,
        "codes": dict.fromkeys(("mouth", "eyes", "cheeks"), range(CODE)),  # of the face as a whole
    }
    FACTS: ClassVar[tuple[str, ...]] = ("absolute",)

    curves: Array
    codes: Array = field(default_factory=lambda: np.zeros((), np.float32))
    absolute: bool = True

    @classmethod
    def of_mood(cls, word: str) -> ExpressionSignal:
        """A mood that holds, one frame long.

        Raises:
            UserError: not one of `MOODS`.
        """
        if word not in MOODS:
            raise UserError(
                f"expression {word}: must be a video, a signals file or one of {', '.join(MOODS)}"
            )
        curves = np.zeros((1, len(CURVES)), np.float32)
        for name, value in MOODS[word].items():
            curves[:, curve_indices(name)] = value
        return cls(fps=Fraction(25), curves=curves, absolute=False)

    @classmethod
    def from_video(cls, path: str | Path, **options: Any) -> ExpressionSignal:
        """`read_expression`."""
        return read_expression(path, **options)

    @classmethod
    def _read_facts(cls, facts: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(facts["absolute"], bool):
            raise ValueError(f"absolute {facts['absolute']}")
        return {"absolute": facts["absolute"]}


class ExpressionReader:
    """Curves of face meshes, by the net of the preset `mini` or another."""

    def __init__(self, weights: Path | None = None) -> None:
        self.net = load(ExpressionNet, weights or SHIPPED)
        self.basis = FaceBasis.load()

    def __call__(self, points: Array) -> Array:
        """Curves (T, 52) of landmarks (T, 478, 3) in px."""
        return self.read(points)[1]

    @torch.no_grad()
    def read(self, points: Array) -> tuple[Array, Array]:
        """Codes (T, 48) and curves (T, 52) of landmarks (T, 478, 3) in px; the curves of brows and lids are
        about their median."""
        ahead = facing(points, self.basis)
        codes, curves = (found.numpy() for found in self.net(torch.from_numpy(ahead)))
        curves[:, list(curve_indices("browDown"))] = 0
        curves[:, list(LIFT)] = self._brow_lift(ahead)[:, None]
        self._set_lids(curves, ahead)
        return codes, curves

    def _set_lids(self, curves: Array, ahead: Array) -> None:
        """Blink and widening of each eye, in place, such that all curves together open it as far as the mesh
        says, relative to its median: the net takes small closings for the shape of the eye."""
        for eye, side in LIDS:
            gap = eye.gaps(ahead).mean(1)
            opened = gap / max(float(np.median(gap)), 1e-6)
            by_curve = eye_opening(eye, self.basis)
            blink, wide = INDEX[f"eyeBlink{side}"], INDEX[f"eyeWide{side}"]
            curves[:, [blink, wide]] = 0
            missing = (opened - 1) / LIDS_SEEN - curves @ by_curve
            curves[:, blink] = (missing / by_curve[blink]).clip(0, 1)
            curves[:, wide] = (missing / by_curve[wide]).clip(0, 1)

    def _brow_lift(self, ahead: Array) -> Array:
        """How far the brows are lifted (T,), in curves; rendered brows do not teach the net to see it."""
        height = (ahead[:, EYE_CORNERS, 1].mean(1) - ahead[:, BROWS, 1].mean(1)).astype(np.float32)
        full = -self.basis.displacement[list(LIFT)].sum(0)[BROWS, 1].mean()
        return (height - np.median(height)) / full


def read_expression(
    path: str | Path, face: str = "largest", track: Track = lambda frames, count: frames
) -> ExpressionSignal:
    """The expression of a face in a video or a photo, kept in the cache; of a signals file, as it is; or of a
    word.

    Args:
        path: a video, a picture, a .safetensors file of `ExpressionSignal.save`, or one of `MOODS`.
        face: which one, as in `avatar.drivers.face.choose_face`.
        track: is given the frames and their count, to show how far it is.

    Raises:
        UserError: a file that can not be read, no face in it.
    """
    if str(path) in MOODS:
        return ExpressionSignal.of_mood(str(path))
    path = Path(path)
    if path.suffix == ".safetensors":
        return ExpressionSignal.load(path)
    if not path.exists() and not path.suffix:
        return ExpressionSignal.of_mood(str(path))  # which says what the words are
    check_file(path, "video")

    def look() -> ExpressionSignal:
        if is_picture(path):
            fps, count, frames = PHOTO_RATE, 1, iter([read_image(path)])
        else:
            info = video_info(path)
            fps, count, frames = info.fps, info.frames, read_video(path)
        points = held(follow(track(frames, count), face, str(path)), fps, str(path))
        codes, curves = ExpressionReader().read(points)
        return ExpressionSignal(fps=fps, curves=curves, codes=codes)

    net = hashlib.sha256(SHIPPED.read_bytes()).hexdigest()
    expression = cached(ExpressionSignal, path, {"net": net, "reader": READER, "face": face}, look)
    if len(expression) == 1:
        logger.warning("%s: has a single frame, the expression stands still", path)
    return expression


def follow(frames: Iterable[Pixels], face: str, name: str) -> Iterator[Array | None]:
    """Landmarks (478, 3) of a face in each frame, None where it is not seen."""
    with FaceTracker(face, name) as tracker:
        yield from map(tracker, frames)


def held(found: Iterable[Array | None], fps: Fraction, name: str) -> Array:
    """Landmarks (T, 478, 3); a face that is out of sight holds, and before it is first seen it waits.

    Raises:
        UserError: it is never seen.
    """
    rows = list(found)
    seen = np.array([row is not None for row in rows])
    if not seen.any():
        raise UserError(f"{name}: shows no face; use a film in which a face is at least 48 px high")
    known = np.flatnonzero(seen)
    at = known[np.maximum(np.searchsorted(known, np.arange(len(rows)), "right") - 1, 0)]
    lost = np.arange(len(rows)) - at
    if np.abs(lost).max() > LONGEST_LOSS * fps:
        logger.warning("%s: the face is out of sight for over %g s, there it holds still", name, LONGEST_LOSS)
    return np.stack([rows[index] for index in at])  # type: ignore[misc]
