"""What a face says: from the face mesh of a video to a code without identity and head pose, and to curves.

The mesh of every frame is first turned to face the viewer and brought to one size, which takes the head's
pose away; a small net then makes a code of it, from which face curves are read (section 2.4 of the design;
the code's aim is that of VASA-1, Xu et al. 2024). It learns from rendered people, whose curves are known.

Shapes: T frames, 478 landmarks, 52 curves; B samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from avatar.drivers.curves import CURVES
from avatar.drivers.mesh import HEAD_CENTRE, LANDMARKS, STABLE, FaceBasis

Array = NDArray[np.float32]


class HeadPose(NamedTuple):
    """Where a head is, frame by frame.

    Attributes:
        turn: (T, 3, 3), rotation of the mean face, see `avatar.drivers.mesh.rotation`.
        centre: (T, 3), of the head, px.
        height: (T,), of a face of the mean shape, px.
    """

    turn: Array
    centre: Array
    height: Array


def head_pose(points: Array, basis: FaceBasis) -> HeadPose:
    """Pose of heads with landmarks `points` (T, 478, 3) in px: the mean face's stable landmarks are turned,
    scaled and moved onto theirs with the least square error (Kabsch 1976, Umeyama 1991)."""
    stable = list(STABLE)
    mean, seen = basis.neutral[stable], points[:, stable]
    a, b = mean - mean.mean(0), seen - seen.mean(1, keepdims=True)
    u, size, vt = np.linalg.svd(b.transpose(0, 2, 1) @ a)
    flip = np.ones((len(points), 3), np.float32)
    flip[:, 2] = np.sign(np.linalg.det(u @ vt))
    turn = (u * flip[:, None]) @ vt
    height = (size * flip).sum(1) / (a**2).sum()
    middle = seen.mean(1) - height[:, None] * (turn @ mean.mean(0))
    centre = middle + height[:, None] * (turn @ (basis.neutral[:468].mean(0) + HEAD_CENTRE))
    return HeadPose(*(v.astype(np.float32) for v in (turn, centre, height)))


def facing(points: Array, basis: FaceBasis) -> Array:
    """Landmarks (T, 478, 3) in px as those of a head that faces the viewer, in face units."""
    pose = head_pose(points, basis)
    away = points - pose.centre[:, None]
    return ((away @ pose.turn) / pose.height[:, None, None]).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class ExpressionConfig:
    """Sizes of an `ExpressionNet`.

    Attributes:
        width: of the hidden layers.
        layers: residual layers before the code.
        code: numbers of the code.
    """

    width: int = 256
    layers: int = 3
    code: int = 48


class ExpressionNet(nn.Module):
    """Landmarks of a head that faces the viewer to a code and to curves; frames stand alone."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: ExpressionConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(LANDMARKS, 3))
        self.register_buffer("deviation", torch.ones(LANDMARKS, 3))
        self.enter = nn.Linear(3 * LANDMARKS, config.width)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(config.width),
                nn.Linear(config.width, 2 * config.width),
                nn.GELU(),
                nn.Linear(2 * config.width, config.width),
            )
            for _ in range(config.layers)
        )
        self.to_code = nn.Sequential(nn.LayerNorm(config.width), nn.Linear(config.width, config.code))
        self.to_curves = nn.Linear(config.code, len(CURVES))

    def encode(self, points: Tensor) -> Tensor:
        """Codes (B, code) of landmarks (B, 478, 3) as `facing` gives them."""
        x = self.enter(((points - self.mean) / self.deviation).flatten(1))
        for layer in self.layers:
            x = x + layer(x)
        return F.layer_norm(self.to_code(x), (self.config.code,))

    def decode(self, code: Tensor) -> Tensor:
        """Curves (B, 52), about in [0, 1], of codes (B, code)."""
        return self.to_curves(code)

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Codes and curves of landmarks (B, 478, 3)."""
        code = self.encode(points)
        return code, self.decode(code)
