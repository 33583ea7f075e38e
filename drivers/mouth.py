"""The inside of the mouth, drawn plainly: teeth of the skull, teeth of the jaw, tongue, dark behind them.

A reference with closed lips says nothing about its teeth, so the driven reference shows those of the mean
head, seated in the reference's own mouth and lit like its face; the backbone makes a picture of them.
Coordinates as in `avatar.drivers.mesh`: face units from the middle of the line where the lips meet.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float32]

UPPER_TEETH, LOWER_TEETH, TONGUE = range(3)  # parts
ENAMEL, FLESH, DARK = range(3)  # paints
FADE = 0.18  # face units, how far into the mouth light falls
TEETH = 14  # along an arch
GUM, GAP = 0.62, 0.78  # where along a tooth's height the gum begins; where across it the gap to the next
SAMPLES = 3  # per pixel and direction
SEATS = (0.028, 0.032, -0.02)  # see `MouthModel.place`; of most people
GAMMA = 2.2


@dataclass(frozen=True, kw_only=True)
class MouthModel:
    """The mean mouth.

    Attributes:
        points: (N, 3), front edges of both rows of teeth and top of the tongue at height 0.
        displacement: by each curve at 1, (52, N, 3).
        triangles: (F, 3).
        part: of each point, (N,).
        teeth: place along the arch and from edge to gum, in [0, 1], (N, 2).
        paints: linear RGB of enamel, flesh and dark in a face whose mean is 1, (3, 3); see `lit_paints`.
    """

    points: Array
    displacement: Array
    triangles: NDArray[np.int32]
    part: NDArray[np.uint8]
    teeth: Array
    paints: Array

    def save(self, path: Path) -> None:
        from safetensors.numpy import save_file

        small = {k: v.astype(np.float16) if v.dtype == np.float32 else v for k, v in vars(self).items()}
        save_file({k: np.ascontiguousarray(v) for k, v in small.items()}, path)

    @classmethod
    def load(cls, path: Path | None = None) -> MouthModel:
        """Read a model; without a path, the one in the package."""
        from safetensors.numpy import load_file

        data = load_file(path or str(files("avatar") / "weights" / "mini" / "mouth.safetensors"))
        return cls(
            points=data["points"].astype(np.float32),
            displacement=data["displacement"].astype(np.float32),
            triangles=data["triangles"],
            part=data["part"],
            teeth=data["teeth"].astype(np.float32),
            paints=data["paints"].astype(np.float32),
        )

    def place(self, curves: Array, seats: Array) -> Array:
        """Points (T, N, 3) for ARKit `curves` (T, 52).

        Args:
            seats: how far below the line of the closed lips the edges of the upper and lower teeth and the
                top of the tongue lie, (3,).
        """
        used = np.flatnonzero(self.displacement.any((1, 2)))
        points = self.points + np.tensordot(curves[:, used], self.displacement[used], 1)
        points[..., 1] += seats[self.part]
        return points.astype(np.float32)

    def lit_paints(self, light: Array) -> Array:
        """Linear RGB of the paints, (3, 3), beside a face of mean linear RGB `light` (3,).

        Half of what makes a face dark or red is its skin, not its light, so the paints follow the root of
        its brightness, and of that the root of its hue.
        """
        return (self.paints * (light * light.mean()) ** 0.25).astype(np.float32)

    def layers(self, points: Array, height: float, box: tuple[slice, slice], openness: float) -> Array:
        """How bright enamel, flesh and dark show in each pixel of a box, (3, rows, columns).

        Args:
            points: (N, 3) in pixels of the picture.
            height: of the face, px.
            openness: of the lips, face units.
        """
        rows, columns = (side.stop - side.start for side in box)
        corner = np.array([box[1].start, box[0].start, points[:, 2].min()], np.float32)
        local = ((points - corner) * SAMPLES).astype(np.float32)
        out = np.zeros((rows * SAMPLES, columns * SAMPLES, 3), np.float32)
        out[..., DARK] = min(1.0, 0.15 + 8 * openness)
        depth = np.full(out.shape[:2], np.inf, np.float32)
        _draw(local, self.triangles, self.part, self.teeth, FADE * height * SAMPLES, out, depth)
        out = out.reshape(rows, SAMPLES, columns, SAMPLES, 3).mean((1, 3))
        return out.transpose(2, 0, 1)


def linear(picture: NDArray) -> Array:
    """Linear light of 8-bit values."""
    return (picture.astype(np.float32) / 255) ** np.float32(GAMMA)


def develop(light: Array) -> Array:
    """The reverse of `linear`, not rounded."""
    return 255 * light.clip(0, 1) ** np.float32(1 / GAMMA)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _draw(
    points: NDArray,
    triangles: NDArray,
    part: NDArray,
    teeth: NDArray,
    fade: float,
    out: NDArray,
    depth: NDArray,
) -> None:
    """Draw the nearest surface of each sample into out (rows, columns, 3): its brightness in the column of
    its paint."""
    rows, columns = depth.shape
    for f in range(len(triangles)):
        a, b, c = triangles[f]
        x0, y0, z0 = points[a]
        x1, y1, z1 = points[b]
        x2, y2, z2 = points[c]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if abs(area) < 1e-6:
            continue
        slope = np.sqrt(
            ((y1 - y0) * (z2 - z0) - (y2 - y0) * (z1 - z0)) ** 2
            + ((z1 - z0) * (x2 - x0) - (z2 - z0) * (x1 - x0)) ** 2
        )
        facing = abs(area) / np.sqrt(area * area + slope * slope)
        lit = np.float32(0.45) + np.float32(0.55) * facing
        for y in range(max(0, int(min(y0, y1, y2))), min(rows - 1, int(max(y0, y1, y2))) + 1):
            for x in range(max(0, int(min(x0, x1, x2))), min(columns - 1, int(max(x0, x1, x2))) + 1):
                w1 = ((x + 0.5 - x0) * (y2 - y0) - (x2 - x0) * (y + 0.5 - y0)) / area
                w2 = ((x1 - x0) * (y + 0.5 - y0) - (x + 0.5 - x0) * (y1 - y0)) / area
                w0 = 1 - w1 - w2
                if w0 < 0 or w1 < 0 or w2 < 0:
                    continue
                z = w0 * z0 + w1 * z1 + w2 * z2
                if z >= depth[y, x]:
                    continue
                depth[y, x] = z
                bright = lit * np.exp(-max(z, np.float32(0)) / fade)
                enamel = np.float32(0)
                if part[a] != TONGUE:
                    place = TEETH * (w0 * teeth[a, 0] + w1 * teeth[b, 0] + w2 * teeth[c, 0])
                    up = w0 * teeth[a, 1] + w1 * teeth[b, 1] + w2 * teeth[c, 1]
                    across = abs(place - np.floor(place) - 0.5) * 2
                    gap = 0.55 * min(1.0, max(0.0, (across - GAP) * 4))
                    gum = min(1.0, max(0.0, (up - GUM - 0.1 * across) * 12))
                    enamel = (1 - gum) * (1 - gap)
                    bright *= 1 - gap * (1 - gum)
                    enamel = 1 - gum
                out[y, x, ENAMEL] = bright * enamel
                out[y, x, FLESH] = bright * (1 - enamel)
                out[y, x, DARK] = 0
