"""Speech to mouth curves: a small temporal net on Whisper features."""

from torch import Tensor

from avatar.drivers.curves import CURVES, INDEX, curve_indices

# What the mouth does; every name but the last is an ARKit curve, left and right alike.
CONTROLS: tuple[str, ...] = (
    "jawOpen",
    "mouthFunnel",
    "mouthPucker",
    "mouthStretch",
    "mouthSmile",
    "mouthLowerDown",
    "mouthUpperUp",
    "mouthRollLower",
    "mouthShrugUpper",
    "jawForward",
    "tongueOut",
    "closure",
)
CLOSURE = CONTROLS.index("closure")
PRESS, ROLL = 0.2, 0.08  # of closed lips: they touch and overlap by 0.6 mm on an Anny head
_KEPT_WHEN_CLOSED = {"jawOpen": 1.0, "mouthPucker": 0.6, "mouthStretch": 0.7, "mouthSmile": 0.7}  # others: 0


def mouth_curves(controls: Tensor) -> Tensor:
    """ARKit curves of mouth controls, (..., 12) -> (..., 52), differentiable.

    The closure c closes the lips whatever the jaw does: `mouthClose` = c * `jawOpen` (in ARKit the one
    undoes the lips' part of the other), what parts the lips is multiplied by 1 - c, and the lips press a
    little.
    """
    closed = controls[..., CLOSURE]
    curves = controls.new_zeros(*controls.shape[:-1], len(CURVES))
    for column, name in enumerate(CONTROLS[:CLOSURE]):
        kept = 1 - (1 - _KEPT_WHEN_CLOSED.get(name, 0.0)) * closed
        for index in curve_indices(name):
            curves[..., index] = controls[..., column] * kept
    curves[..., INDEX["mouthClose"]] = closed * controls[..., 0]
    for index in curve_indices("mouthPress"):
        curves[..., index] = PRESS * closed
    for index in curve_indices("mouthRollLower", "mouthRollUpper"):
        curves[..., index] = curves[..., index] + ROLL * closed
    return curves
