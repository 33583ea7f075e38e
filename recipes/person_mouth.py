"""Where a person's mouth is: as the face mesh sees it in a film, and as a video would show it under curves.

Shape legend: T frames, n rows, P landmarks, 52 curves.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from avatar.drivers.expression import follow
from avatar.drivers.expression_net import facing
from avatar.drivers.mesh import CHIN, IBUG, LEFT_EYE, MOUTH, RIGHT_EYE, FaceBasis, ReferenceMesh

Array = NDArray[np.float32]

LIPS = IBUG[48:]  # outer and inner rim
POINTS = (*LIPS, CHIN)
EYE_CORNERS = (33, 263)  # the outer ones
OPEN = 0.7  # of an eye's median opening; in a blink the lips of the mesh slide too, by 2 % of EYE_CORNERS
RIDGE = 1e-3  # of the map from curves to what the mesh misses


def seen_in(frames: Iterable[NDArray[np.uint8]], name: str) -> Array:
    """Landmarks (T, 478, 3) in px of the largest face of a film, NaN where it is not seen."""
    found = follow(frames, "largest", name)
    return np.stack([np.full((478, 3), np.nan, np.float32) if p is None else p for p in found])


def turned(landmarks: Array, basis: FaceBasis) -> Array:
    """`facing` of landmarks (T, 478, 3) in px; frames with NaN stay so."""
    seen = np.isfinite(landmarks).all((1, 2))
    ahead = np.full_like(landmarks, np.nan)
    ahead[seen] = facing(landmarks[seen], basis)
    return ahead


def awake(ahead: Array) -> NDArray[np.bool_]:
    """Frames (T,) of a `turned` face (T, 478, 3) in which it is seen with both eyes open."""
    gaps = np.stack([eye.gaps(ahead).mean(1) for eye in (LEFT_EYE, RIGHT_EYE)])
    usual = np.nanmedian(gaps, 1, keepdims=True)
    return (gaps > OPEN * usual).all(0)


def own_points(landmarks: Array, mesh: ReferenceMesh) -> Tensor:
    """Mouth points (T, P, 2) as a mesh that faces the viewer has them, of landmarks (T, 478, 3) in px; NaN
    where no face with open eyes is seen."""
    ahead = turned(landmarks, mesh.basis)
    own = (ahead - mesh.centre) @ mesh.turn / mesh.height
    own[~awake(ahead)] = np.nan
    return torch.from_numpy(own[:, list(POINTS), :2].astype(np.float32))


class PersonMouth(nn.Module):
    """Where mouth and chin of a person are under any curves, with gradients: see `ReferenceMesh.act`."""

    rest: Tensor
    own: Tensor
    moves: Tensor
    gap: Tensor
    own_rims: Tensor
    rims: Tensor
    pull: Tensor
    missed: Tensor
    squares: Tensor
    products: Tensor

    def __init__(self, mesh: ReferenceMesh) -> None:
        super().__init__()
        upper, lower = next(pulls for slit, pulls in mesh.slits if slit is MOUTH)
        points, rims = list(POINTS), [*MOUTH.upper, *MOUTH.lower]
        self.register_buffer("rest", torch.from_numpy(mesh.rest))
        self.register_buffer("own", torch.from_numpy(mesh.own[points, :2]))
        self.register_buffer("moves", torch.from_numpy(mesh.basis.displacement[:, points, :2].copy()))
        self.register_buffer("gap", torch.from_numpy(mesh.mouth_change))
        self.register_buffer("own_rims", torch.from_numpy(mesh.own[rims, 1].copy()))
        self.register_buffer("rims", torch.from_numpy(mesh.basis.displacement[:, rims, 1].copy()))
        share = MOUTH.upper_share
        self.register_buffer("pull", torch.from_numpy((1 - share) * lower[points] - share * upper[points]))
        known = len(mesh.rest) + 1  # curves and a constant
        self.register_buffer("missed", torch.zeros(known, 2 * len(points)))
        self.register_buffer("squares", torch.zeros(known, known))
        self.register_buffer("products", torch.zeros(known, 2 * len(points)))

    def correct(self, curves: Tensor, points: Tensor) -> None:
        """Learn what the nets make of curves (n, 52) beyond what the mesh says: the points (n, P, 2) that are
        seen in their frames, beside those of earlier calls; the rows with NaN do not count."""
        self.missed.zero_()
        left = (points - self(curves)).flatten(1)
        seen = left.isfinite().all(1)
        known = F.pad(curves[seen], (0, 1), value=1.0)
        self.squares += known.T @ known
        self.products += known.T @ left[seen]
        ridge = RIDGE * self.squares[-1, -1] * torch.eye(len(self.squares))
        self.missed += torch.linalg.solve(self.squares + ridge, self.products)

    def forward(self, curves: Tensor) -> Tensor:
        """Points (..., P, 2) in face units of curves (..., 52)."""
        change = curves - self.rest
        moved = self.own + torch.einsum("...k,kpd->...pd", change, self.moves)
        top, bottom = (self.own_rims + change @ self.rims).chunk(2, -1)
        missing = (curves @ self.gap).clamp(min=0) - (bottom - top)
        shift = missing @ self.pull.T
        placed = torch.stack([moved[..., 0], moved[..., 1] + shift], -1)
        return placed + (F.pad(curves, (0, 1), value=1.0) @ self.missed).view_as(placed)  # type: ignore[operator]
