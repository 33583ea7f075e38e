"""Everything around a person in the clip factory: light, camera, background, and what a camera does to a
picture.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from avatar.recipes.render import Camera
from avatar.recipes.shading import Light
from avatar.recipes.skin import noise_bank, smooth_step

Array = NDArray[np.float32]

PHOTOS = (
    "brick", "chelsea", "clock", "coffee", "coins", "grass", "gravel", "hubble_deep_field",
    "immunohistochemistry", "moon", "page", "retina", "rocket", "text",
)  # fmt: skip
"""Pictures without people in scikit-image's wheel."""


def draw_light(rng: np.random.Generator) -> tuple[Light, str]:
    """One to three lights and their description."""

    def tint(warmth: float) -> Array:
        return np.array([1 + 0.35 * warmth, 1.0, 1 - 0.4 * warmth], np.float32)

    kind = str(rng.choice(["soft", "side", "top", "flat", "window", "rim", "hard"]))
    frontal = kind in ("soft", "flat", "top")
    yaw = rng.normal(0, 0.5) if frontal else rng.choice([-1, 1]) * rng.uniform(0.5, 1.35)
    pitch = rng.uniform(0.7, 1.2) if kind == "top" else rng.normal(0.4, 0.25)
    directions, colours = [], []
    key = rng.uniform(0.9, 1.5) if kind != "flat" else rng.uniform(0.4, 0.8)
    ambient = {
        "soft": 0.5,
        "side": 0.25,
        "top": 0.35,
        "flat": 0.85,
        "window": 0.35,
        "rim": 0.35,
        "hard": 0.15,
    }[kind]
    ambient *= rng.uniform(0.7, 1.4)
    warmth = rng.normal(0.1, 0.3)

    def add(angle: float, height: float, power: float, warm: float) -> None:
        directions.append([np.sin(angle) * np.cos(height), -np.sin(height), -np.cos(angle) * np.cos(height)])
        colours.append(power * tint(float(np.clip(warm, -0.8, 0.8))))

    add(yaw, pitch, key, warmth)
    if rng.random() < 0.6:
        add(
            -yaw + rng.normal(0, 0.4),
            rng.normal(0.2, 0.3),
            key * rng.uniform(0.1, 0.5),
            warmth + rng.normal(0, 0.3),
        )
    if kind == "rim" or rng.random() < 0.25:
        add(
            rng.choice([-1, 1]) * rng.uniform(2.0, 2.8),
            rng.normal(0.5, 0.2),
            rng.uniform(0.4, 1.2),
            rng.normal(0, 0.4),
        )
    sky = ambient * tint(float(np.clip(warmth * 0.5 + rng.normal(0, 0.15), -0.6, 0.6)))
    ground = sky * rng.uniform(0.3, 0.9) * np.array([1.05, 1.0, 0.92], np.float32)
    return Light(
        direction=np.array(directions, np.float32),
        colour=np.array(colours, np.float32),
        ambient=np.stack([sky, ground]).astype(np.float32),
    ), kind


def draw_camera(
    rng: np.random.Generator, face_height: float, middle: Array, side: int
) -> tuple[Camera, float]:
    """A camera that frames a face `face_height` metres tall around the point `middle` (3,) of the head; and
    the crop's side / face height.
    """
    frame = float(rng.uniform(2.0, 2.6))
    distance = float(np.exp(rng.uniform(np.log(0.7), np.log(3.0))))
    scale = side / (frame * face_height)  # px per metre at the face
    focal = scale * (distance + float(middle[2]))
    jitter = rng.normal(0, 0.035, 2) * side
    roll = float(rng.normal(0, 0.03))
    high = float(rng.normal(0, 0.06) * distance)
    # A camera above or below the face looks past it: the picture's middle moves back to the face.
    return Camera(
        focal=focal,
        distance=distance,
        place=(float(middle[0]), float(middle[1]) + high),
        centre=(side / 2 + float(jitter[0]), side / 2 + float(jitter[1]) + high * scale),
        roll=roll,
        side=side,
    ), frame


@lru_cache(maxsize=1)
def photos() -> list[Array]:
    """The PHOTOS, linear RGB (rows, columns, 3)."""
    from skimage import data

    pictures = [np.asarray(getattr(data, name)()) for name in PHOTOS]
    pictures = [np.repeat(p[..., None], 3, 2) if p.ndim == 2 else p for p in pictures]
    return [(p[..., :3].astype(np.float32) / 255) ** np.float32(2.2) for p in pictures]


def draw_background(rng: np.random.Generator, side: int) -> tuple[Array, str]:
    """Linear RGB (side, side, 3) and its description."""
    kind = str(rng.choice(["gradient", "photo", "photo", "texture", "room", "room", "plain"]))
    y, x = np.mgrid[:side, :side].astype(np.float32) / side
    first, second = np.exp(rng.uniform(np.log(0.015), np.log(0.8), (2, 1))) * np.exp(
        rng.normal(0, 0.3, (2, 3))
    )
    if kind == "plain":
        picture = first + 0.1 * first * ((y - 0.5)[..., None])
    elif kind == "gradient":
        angle = rng.uniform(0, 2 * np.pi)
        if rng.random() < 0.5:
            t = smooth_step(0, 0.8, np.hypot(x - rng.uniform(0.2, 0.8), y - rng.uniform(0.1, 0.7)))
        else:
            t = smooth_step(-0.6, 0.6, (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle))
        picture = first + t[..., None] * (second - first)
    elif kind == "photo":
        photo = photos()[int(rng.integers(len(photos())))]
        h, w = photo.shape[:2]
        crop = int(rng.uniform(0.3, 1.0) * min(h, w))
        top, left = int(rng.integers(0, h - crop + 1)), int(rng.integers(0, w - crop + 1))
        index = (np.arange(side) * crop / side).astype(int)
        picture = photo[top + index][:, left + index]
        if rng.random() < 0.5:
            picture = picture[:, ::-1]
        blur = float(rng.choice([0.002, rng.uniform(0.004, 0.03)])) * side
        picture = gaussian_filter(picture, (blur, blur, 0)) * rng.uniform(0.4, 1.2)
    elif kind == "texture":
        size = int(rng.choice([4, 16, 32, 64]))
        noise = noise_bank()[size]
        noise = noise[: side // 2, : side // 2] if min(noise.shape) * 2 >= side else noise
        noise = zoom(noise, (side / noise.shape[0], side / noise.shape[1]), order=1)
        picture = first + smooth_step(-1.5, 1.5, noise)[..., None] * (second - first)
    else:
        picture = np.broadcast_to(first, (side, side, 3)).copy()
        for _ in range(int(rng.integers(3, 12))):
            a, b = np.sort(rng.uniform(-0.1, 1.1, 2)), np.sort(rng.uniform(-0.1, 1.1, 2))
            colour = np.exp(rng.uniform(np.log(0.01), np.log(1.2))) * np.exp(rng.normal(0, 0.35, 3))
            box = (x > a[0]) & (x < a[1]) & (y > b[0]) & (y < b[1])
            picture[box] = colour * (0.8 + 0.4 * (y[box] - b[0])[:, None])
        blur = float(np.exp(rng.uniform(np.log(0.002), np.log(0.05)))) * side
        picture = gaussian_filter(picture, (blur, blur, 0))
    return np.clip(picture, 0, 1.5).astype(np.float32), kind


@dataclass(frozen=True, kw_only=True)
class Finish:
    """What lens, film and codec do to all pictures of a clip alike."""

    exposure: np.float32
    balance: Array
    gamma: float
    contrast: float
    saturation: float
    tint: Array
    vignette: float
    blur: float
    coarse: int
    sharpen: float
    grain: np.float32
    noise: float
    jpeg: int
    lift: float


def draw_finish(rng: np.random.Generator, level: float) -> Finish:
    """Random treatment; `level` is the linear brightness of the unfinished face, which exposure brings to a
    middle value.
    """
    gray = rng.random() < 0.13
    rough = rng.random() < 0.35
    return Finish(
        exposure=np.float32(np.clip(rng.uniform(0.16, 0.42) / max(level, 1e-3), 0.3, 6.0) ** 0.75),
        balance=np.exp(rng.normal(0, 0.06, 3)).astype(np.float32),
        gamma=float(np.exp(rng.normal(0, 0.08))),
        contrast=float(rng.uniform(0.85, 1.25)),
        saturation=0.0 if gray else float(rng.uniform(0.7, 1.25)),
        tint=np.array([1.04, 1.0, 0.9], np.float32)
        if gray and rng.random() < 0.3
        else np.ones(3, np.float32),
        vignette=float(max(0, rng.normal(0, 0.25))),
        blur=float(abs(rng.normal(0, 0.45))),
        coarse=int(rng.uniform(90, 200)) if rough and rng.random() < 0.5 else 0,
        sharpen=float(rng.uniform(0, 0.8)) if rng.random() < 0.35 else 0.0,
        grain=np.float32(rng.uniform(0, 0.02) if rough else 0.0),
        noise=float(rng.uniform(0, 0.012)) if rough else float(rng.uniform(0, 0.003)),
        jpeg=int(rng.uniform(35, 92)) if rng.random() < 0.3 else 0,
        lift=float(max(0, rng.normal(0, 0.03))),
    )


@njit(cache=True, fastmath=True, error_model="numpy")
def _tone(
    x: Array,
    gain: Array,
    curve: Array,
    contrast: float,
    saturation: float,
    tint: Array,
    lift: float,
    vignette: float,
) -> None:
    """Exposure, highlights, gamma (by `curve` over [0, 2)), contrast, colour and vignette, in place on
    (side, side, 3).
    """
    side, last = x.shape[0], curve.shape[0] - 1
    scale = np.float32(last / 2)
    for v in range(side):
        for u in range(side):
            for c in range(3):
                value = x[v, u, c] * gain[c]
                place = min(value * scale, np.float32(last - 1))
                low = int(place)
                value = curve[low] + (place - low) * (curve[low + 1] - curve[low])
                x[v, u, c] = (value - np.float32(0.5)) * contrast + np.float32(0.5)
            gray = (
                np.float32(0.299) * x[v, u, 0]
                + np.float32(0.587) * x[v, u, 1]
                + np.float32(0.114) * x[v, u, 2]
            )
            dy, dx = v / side - np.float32(0.5), u / side - np.float32(0.5)
            dark = 1 - vignette * (dx * dx + dy * dy)
            for c in range(3):
                value = (gray + saturation * (x[v, u, c] - gray)) * tint[c]
                x[v, u, c] = (value * (1 - lift) + lift) * dark


@njit(cache=True, fastmath=True, error_model="numpy")
def _quantise(x: Array, grain: Array, noise: Array, strength: float) -> NDArray[np.uint8]:
    """Add film grain (side, side) and colour noise (side, side, 3), round to 8 bit."""
    out = np.empty(x.shape, np.uint8)
    for v in range(x.shape[0]):
        for u in range(x.shape[1]):
            for c in range(3):
                value = x[v, u, c] + grain[v, u] + strength * noise[v, u, c]
                out[v, u, c] = np.uint8(min(max(value, np.float32(0)), np.float32(1)) * 255 + np.float32(0.5))
    return out


@lru_cache(maxsize=1)
def noise_field(side: int = 640) -> Array:
    """White noise (side, side, 3) that frames take random pieces of."""
    return np.random.default_rng(11).standard_normal((side, side, 3)).astype(np.float32)


def finish(picture: Array, how: Finish, grain: Array, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Linear RGB (side, side, 3) -> 8-bit RGB of the same size; `grain` (side, side) stays the same through
    a clip.

    The picture is changed in place.
    """
    side, x = len(picture), picture
    level = np.linspace(0, 2, 2049)
    level = level / (1 + np.maximum(level - 0.6, 0) * 0.8)  # a soft shoulder for highlights
    curve = (level ** (how.gamma / 2.2)).astype(np.float32)
    _tone(
        x, how.exposure * how.balance, curve, how.contrast, how.saturation, how.tint, how.lift, how.vignette
    )
    if how.coarse:
        from PIL import Image

        small = Image.fromarray((np.clip(x, 0, 1) * 255).astype(np.uint8)).resize(
            (how.coarse, how.coarse), Image.Resampling.BOX
        )
        x = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255
    elif how.blur > 0.25:
        x = gaussian_filter(x, (how.blur, how.blur, 0))
    if how.sharpen:
        x = x + how.sharpen * (x - gaussian_filter(x, (1.0, 1.0, 0)))
    top, left = rng.integers(0, len(noise_field()) - side, 2)
    out = _quantise(x, how.grain * grain, noise_field()[top : top + side, left : left + side], how.noise)
    if how.jpeg:
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(out).save(file, "JPEG", quality=how.jpeg)
        out = np.asarray(Image.open(file))
    return out
