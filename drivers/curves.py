"""Names and axes of the signals that drive a face: 52 ARKit curves and six head numbers.

Head pose is measured in camera axes: X to the image's right, Y down, Z away from the camera; the face looks
towards -Z. A rotation is `yaw @ pitch @ roll`, so roll acts on the head first.
"""

import numpy as np
from numpy.typing import NDArray

CURVES: tuple[str, ...] = (
    "browDownLeft",
    "browDownRight",
    "browInnerUp",
    "browOuterUpLeft",
    "browOuterUpRight",
    "cheekPuff",
    "cheekSquintLeft",
    "cheekSquintRight",
    "eyeBlinkLeft",
    "eyeBlinkRight",
    "eyeLookDownLeft",
    "eyeLookDownRight",
    "eyeLookInLeft",
    "eyeLookInRight",
    "eyeLookOutLeft",
    "eyeLookOutRight",
    "eyeLookUpLeft",
    "eyeLookUpRight",
    "eyeSquintLeft",
    "eyeSquintRight",
    "eyeWideLeft",
    "eyeWideRight",
    "jawForward",
    "jawLeft",
    "jawOpen",
    "jawRight",
    "mouthClose",
    "mouthDimpleLeft",
    "mouthDimpleRight",
    "mouthFrownLeft",
    "mouthFrownRight",
    "mouthFunnel",
    "mouthLeft",
    "mouthLowerDownLeft",
    "mouthLowerDownRight",
    "mouthPressLeft",
    "mouthPressRight",
    "mouthPucker",
    "mouthRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "mouthSmileLeft",
    "mouthSmileRight",
    "mouthStretchLeft",
    "mouthStretchRight",
    "mouthUpperUpLeft",
    "mouthUpperUpRight",
    "noseSneerLeft",
    "noseSneerRight",
    "tongueOut",
)
"""ARKit's blend shapes in Anny's order; Left is the person's left, which is the image's right."""

CURVE_INDEX: dict[str, int] = {name: index for index, name in enumerate(CURVES)}

HEAD: tuple[str, ...] = ("yaw", "pitch", "roll", "x", "y", "z")
"""Yaw, pitch, roll in radians: + turns to the image's right, looks down, tilts clockwise in the image.
x, y: shift of the head centre in the image, + right and down; z: + away from the camera; in face heights."""


def head_rotation(angles: NDArray) -> NDArray:
    """Rotation matrices in camera axes.

    Args:
        angles: yaw, pitch, roll in radians, (..., 3).

    Returns:
        Matrices that act on column vectors, (..., 3, 3).
    """
    yaw, pitch, roll = np.moveaxis(np.asarray(angles), -1, 0)
    cy, sy, cp, sp, cr, sr = (
        np.cos(yaw),
        np.sin(yaw),
        np.cos(pitch),
        np.sin(pitch),
        np.cos(roll),
        np.sin(roll),
    )
    rows = (
        (cy * cr - sy * sp * sr, -cy * sr - sy * sp * cr, -sy * cp),
        (cp * sr, cp * cr, -sp),
        (sy * cr + cy * sp * sr, -sy * sr + cy * sp * cr, cy * cp),
    )
    return np.stack([np.stack(row, -1) for row in rows], -2)


def head_angles(rotation: NDArray) -> NDArray:
    """Inverse of `head_rotation` for pitches below 90 degrees.

    Args:
        rotation: matrices in camera axes, (..., 3, 3).

    Returns:
        Yaw, pitch, roll in radians, (..., 3).
    """
    yaw = np.arctan2(-rotation[..., 0, 2], rotation[..., 2, 2])
    pitch = np.arcsin(np.clip(-rotation[..., 1, 2], -1, 1))
    roll = np.arctan2(rotation[..., 1, 0], rotation[..., 1, 1])
    return np.stack([yaw, pitch, roll], -1)
