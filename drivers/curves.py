"""The 52 ARKit face curves and the index groups that the drivers and the clip factory share.

A curve is an activation in [0, 1]. Curve tensors have the shape (frames, 52), in the order of `CURVES`, which
is the order of `anny.Anny(facial_actions="all").facial_action_labels`.
"""

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

INDEX: dict[str, int] = {name: index for index, name in enumerate(CURVES)}


def curve_indices(*names: str) -> tuple[int, ...]:
    """Indices of the named curves; a name without its side ("eyeBlink") stands for left and right.

    Raises:
        KeyError: a name that is no curve.
    """
    found: list[int] = []
    for name in names:
        sides = (name,) if name in INDEX else (f"{name}Left", f"{name}Right")
        found.extend(INDEX[side] for side in sides)
    return tuple(found)


MOUTH: tuple[int, ...] = tuple(
    index for name, index in INDEX.items() if name.startswith(("jaw", "mouth", "tongue"))
)
CORNERS: tuple[int, ...] = curve_indices("mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch")
BROWS: tuple[int, ...] = curve_indices("browDown", "browInnerUp", "browOuterUp")
BLINK: tuple[int, ...] = curve_indices("eyeBlink")
GAZE: tuple[int, ...] = curve_indices("eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp")
CLOSING: tuple[int, ...] = curve_indices("mouthClose", "mouthPress", "mouthRollLower", "mouthRollUpper")
OPENING: tuple[int, ...] = curve_indices("jawOpen", "mouthLowerDown", "mouthUpperUp", "mouthFunnel")
