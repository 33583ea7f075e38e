"""Structured captions of clips, by rules from what was measured: nothing is said that was not.

The parts are those of the prompts that `avatar generate` is given (`avatar.rewrite.Description`), so that a
net trained on the captions is asked in the same words.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.drivers.face import Face
from avatar.drivers.mesh import FaceBasis
from avatar.metrics import grey, laplacian_variance
from avatar.recipes.tracks import body_mask, face_part
from avatar.rewrite import Description

Pixels = NDArray[np.uint8]
Points = NDArray[np.float32]

# Shares of the clip's height that a face fills, and what such a shot is called.
SHOTS = ((0.5, "extreme close-up"), (0.3, "close-up"), (0.18, "medium close-up"), (0.0, "medium shot"))
DIM, BRIGHT = 70.0, 175.0  # mean levels of a face
ONE_SIDE = 1.3  # ratio of the levels of the face's halves from which light comes from a side
HARD = 0.36  # spread of the levels of a face, relative to their mean
WARM, COOL = 1.25, 0.95  # red / blue of the whole picture
GREY_FILM = 4.0  # mean distance of the colours from grey in levels, under it a film is black and white
PLAIN, BLURRED = 6.0, 40.0  # levels of spread, and of Laplacian variance, in a background
HUES = (
    "red",
    "orange",
    "yellow",
    "green",
    "green",
    "turquoise",
    "blue",
    "blue",
    "violet",
    "purple",
    "pink",
    "red",
)
SMILE, TALKS, LIVELY = 0.018, 0.25, 0.5  # face heights; share of frames; face heights a second
TURNED = 15.0  # degrees


@dataclass(frozen=True)
class Caption:
    """What a clip shows, in words."""

    short: str
    dense: str
    background: str
    style: str
    shot_type: str
    light: str
    mood: str
    camera_movement: str


def describe(
    picture: Pixels, points: Points, *, movement: str, speaking: float, stirring: float, openings: float
) -> Caption:
    """The caption of a clip.

    Args:
        picture: a frame of it, (S, S, 3).
        points: landmarks (478, 3) in it, px.
        movement: one of `avatar.recipes.camera.MOVEMENTS`.
        speaking: share of the frames in which somebody speaks.
        stirring: motion of the person, face heights a second.
        openings: standard deviation of the mouth's opening in face heights.
    """
    face = Face(points)
    share = face.height / picture.shape[0]
    shot = next(name for least, name in SHOTS if share >= least)
    action = _action(face, speaking > TALKS and openings > 0)
    mood = "cheerful" if _smile(points) > SMILE else "lively" if stirring > LIVELY else "calm"
    said = Description(
        subject="A person",
        action=action,
        background=_background(picture, face),
        style="black and white film" if _colour(picture) < GREY_FILM else "realistic film",
        shot=f"{shot}, {movement}",
        light=_light(picture, face),
        mood=mood,
    )
    return Caption(
        short=f"A {mood} person {action}.",
        dense=said.text(),
        background=said.background,
        style=said.style,
        shot_type=shot,
        light=said.light,
        mood=mood,
        camera_movement=movement,
    )


def _action(face: Face, speaks: bool) -> str:
    where = "to the camera" if abs(face.yaw) < TURNED else "to the left" if face.yaw > 0 else "to the right"
    return f"{'speaks' if speaks else 'looks'} {where}"


def _smile(points: Points) -> float:
    """By how many face heights the mouth's corners lie higher than the mean face's, from the lips' middle."""
    mean = FaceBasis.load().neutral

    def lift(face: NDArray) -> float:
        height = np.linalg.norm(face[10, :2] - face[152, :2])
        return float((face[[13, 14], 1].mean() - face[[61, 291], 1].mean()) / height)

    return lift(points) - lift(mean)


def _colour(picture: Pixels) -> float:
    return float((picture.max(-1).astype(np.float32) - picture.min(-1)).mean())


def _light(picture: Pixels, face: Face) -> str:
    levels = grey(face_part(picture, face.landmarks))
    middle = levels.shape[1] // 2
    halves = levels[:, :middle].mean() + 1, levels[:, middle:].mean() + 1
    mean, spread = float(levels.mean()), float(levels.std())
    red, blue = float(picture[..., 0].mean()) + 1, float(picture[..., 2].mean()) + 1
    words = ["dim"] if mean < DIM else ["bright"] if mean > BRIGHT else []
    words += ["hard" if spread > HARD * mean else "soft"]
    if _colour(picture) >= GREY_FILM:
        words += ["warm"] if red / blue > WARM else ["cool"] if red / blue < COOL else []
    side = halves[0] / halves[1]
    where = " from the left" if side > ONE_SIDE else " from the right" if side < 1 / ONE_SIDE else ""
    return f"{' '.join(words)} light{where}"


def _background(picture: Pixels, face: Face) -> str:
    side = picture.shape[0]
    seen = ~body_mask(face, side, side)
    if seen.sum() < side:
        return "hidden by the person"
    behind = picture[seen]
    mean = behind.mean(0)
    hue, saturation, value = cv2.cvtColor(mean.astype(np.uint8)[None, None], cv2.COLOR_RGB2HSV)[0, 0].tolist()
    tone = "dark" if value < 80 else "light" if value > 175 else ""
    colour = HUES[hue // 15] if saturation > 50 else "grey"
    left = picture[:, : max(8, int(seen.any(0).argmin()) if not seen.any(0).all() else side // 8)]
    if grey(behind).std() < PLAIN:
        kind = "plain"
    else:
        kind = "blurred" if laplacian_variance(grey(left)) < BLURRED else "detailed"
    return " ".join(word for word in ("a", kind, tone, colour, "background") if word)
