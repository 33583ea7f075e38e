"""Train the net that reads expression codes and face curves from the face mesh (spec 2.4). Settings in
expression.yaml; the net alone is written to OUT/expression.safetensors.

The curves of rendered people are known, so they are the target. What else a face mesh shows, whose face it is
and how the head is held, must not be in the code: a second small net says the code from the curves alone, and
the code is pulled to what it says, so nothing stays that the curves do not know.

The log has the correlation of each group of curves on people kept apart (`r_GROUP`), and how much of identity
and head pose a linear map can read from codes and from the landmarks themselves, as a share of the variance
(`identity_code`, `identity_mesh`, `pose_code`, `pose_mesh`; below 0 is nothing). `lids_seen` is the share of
the lids' motion that the face mesh shows.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from safetensors.numpy import load_file
from torch import Tensor, nn

from avatar.backbone.checkpoint import load, save
from avatar.drivers.curves import CURVES, curve_indices
from avatar.drivers.expression_net import ExpressionConfig, ExpressionNet, facing
from avatar.drivers.mesh import LEFT_EYE, RIGHT_EYE, FaceBasis, eye_opening
from avatar.errors import UserError
from avatar.recipes.settings import Settings, read_settings, run
from avatar.recipes.shards import seeds
from avatar.recipes.training import Batch, Losses, train

Array = NDArray[np.float32]

GROUPS = {
    "jaw": ("jawOpen",),
    "pucker": ("mouthPucker",),
    "smile": ("mouthSmile",),
    "blink": ("eyeBlink",),
    "gaze": ("eyeLookIn", "eyeLookOut"),
    "brows": ("browInnerUp", "browOuterUp"),
}
OPEN = 0.8  # an eye whose median opening is more is open most of a clip
TRUST = 1e-2  # of the ridge of the linear maps, in shares of the mean variance


class ExpressionSettings(Settings):
    """See expression.yaml."""

    held_out: PositiveInt
    tremble: float
    code_weight: float


class Faces(NamedTuple):
    """Frames of clips: landmarks (N, 478, 3) of faces that face the viewer, curves (N, 52), yaw, pitch and
    roll (N, 3), and the number of the clip (N,)."""

    points: Tensor
    curves: Tensor
    angles: Tensor
    clip: Tensor

    @classmethod
    def read(cls, folder: Path, chosen: list[int], basis: FaceBasis) -> Faces:
        """The frames of some clips in which a face was found."""
        rows: list[tuple[Array, ...]] = []
        for number, seed in enumerate(chosen):
            mesh = load_file(folder / f"mesh-{seed}.safetensors")
            found = np.isfinite(mesh["points"]).all((1, 2))
            if found.any():
                points = facing(mesh["points"][found], basis)
                clip = np.full(found.sum(), number)
                rows.append((points, mesh["curves"][found], mesh["head"][found, :3], clip))
        return cls(*(torch.from_numpy(np.concatenate(column)).float() for column in zip(*rows, strict=True)))


class Student(nn.Module):
    """The net with the small one that says codes from curves, which only training needs."""

    def __init__(self, config: ExpressionConfig) -> None:
        super().__init__()
        self.config = config
        self.net = ExpressionNet(config)
        self.said = nn.Sequential(nn.Linear(len(CURVES), 128), nn.GELU(), nn.Linear(128, config.code))


def linear_share(source: Array, target: Array, train_rows: NDArray[np.bool_]) -> float:
    """Share of the variance of `target` (N, k) that a ridge regression on `source` (N, d), fitted on some
    rows, explains on the others."""
    mean, scale = source[train_rows].mean(0), source[train_rows].std(0) + 1e-6
    x, y = (source - mean) / scale, target - target[train_rows].mean(0)
    a = x[train_rows]
    fit = np.linalg.solve(a.T @ a + TRUST * len(a) * np.eye(a.shape[1]), a.T @ y[train_rows])
    rest = ~train_rows
    return float(1 - ((y[rest] - x[rest] @ fit) ** 2).sum() / (y[rest] ** 2).sum())


def identity_of(faces: Faces) -> Array:
    """What stays of a face while it acts, (N, 8): principal components of each clip's mean landmarks after
    what curves explain is taken away."""
    curves = torch.cat([faces.curves, torch.ones(len(faces.curves), 1)], 1)
    flat = faces.points.flatten(1)
    rest = flat - curves @ torch.linalg.lstsq(curves, flat, driver="gelsd").solution
    names = faces.clip.unique()
    means = torch.stack([rest[faces.clip == name].mean(0) for name in names])
    parts = torch.pca_lowrank(means, 8, niter=4)[2]
    own = (means - means.mean(0)) @ parts
    return own[torch.searchsorted(names, faces.clip)].numpy()


def lids_seen(faces: Faces, basis: FaceBasis) -> float:
    """How much of the way of the lids that the curves mean the meshes show: the slope of the seen opening,
    relative to the clip's own median, over the meant one."""
    seen, meant = [], []
    for name in faces.clip.unique():
        clip = faces.clip == name
        for eye in (LEFT_EYE, RIGHT_EYE):
            opened = (1 + faces.curves[clip].numpy() @ eye_opening(eye, basis)).clip(0)
            gap = eye.gaps(faces.points[clip].numpy()).mean(1)
            if np.median(opened) > OPEN:
                seen.append(gap / np.median(gap) - 1)
                meant.append(opened / np.median(opened) - 1)
    x, y = np.concatenate(meant), np.concatenate(seen)
    return float((x * y).sum() / (x * x).sum())


@torch.autocast("cpu", enabled=False)
def figures(net: ExpressionNet, faces: Faces, basis: FaceBasis) -> dict[str, float]:
    """The numbers of the log, see the head of this file."""
    code, curves = net(faces.points)
    found: dict[str, float] = {}
    for name, group in GROUPS.items():
        columns = list(curve_indices(*group))
        pair = np.corrcoef(curves[:, columns].flatten().numpy(), faces.curves[:, columns].flatten().numpy())
        found[f"r_{name}"] = round(float(pair[0, 1]), 3)
    half = (faces.clip % 2 == 0).numpy()
    identity, angles = identity_of(faces), faces.angles.numpy()
    mesh = torch.pca_lowrank(faces.points.flatten(1), code.shape[1], niter=4)
    sources = {"code": code.numpy(), "mesh": (mesh[0] * mesh[1]).numpy()}
    for name, source in sources.items():
        found[f"identity_{name}"] = round(linear_share(source, identity, half), 3)
        found[f"pose_{name}"] = round(linear_share(source, angles, half), 3)
    return found | {"lids_seen": round(lids_seen(faces, basis), 3)}


def main(words: list[str]) -> list[float]:
    """Train with the settings of expression.yaml changed by `words`; returns the losses."""
    settings = read_settings(ExpressionSettings, __file__, words)
    torch.manual_seed(settings.seed)
    known, basis = seeds(settings.data, "mesh"), FaceBasis.load()
    if len(known) <= settings.held_out:
        raise UserError(f"{settings.data}: {len(known)} clips, more than {settings.held_out} are needed")
    test = Faces.read(settings.data, known[: settings.held_out], basis)
    faces = Faces.read(settings.data, known[settings.held_out :], basis)
    student = Student(ExpressionConfig())
    student.net.mean.copy_(faces.points.mean(0))
    student.net.deviation.copy_(faces.points.std(0) + 1e-4)
    weight = 1 / (faces.curves.std(0) + 0.05)

    def batch(step: int) -> Batch:
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        rows = torch.randint(len(faces.points), (settings.batch,), generator=generator)
        return {"points": faces.points[rows], "curves": faces.curves[rows]}

    def loss(model: nn.Module, given: Batch, generator: torch.Generator) -> Losses:
        noise = settings.tremble * torch.randn(given["points"].shape, generator=generator)
        code, curves = model.net(given["points"] + noise)  # type: ignore[operator, union-attr]
        error = (weight * (curves - given["curves"])).abs().mean()
        said = (code - model.said(given["curves"])).square().mean()  # type: ignore[operator]
        return {"loss": error + settings.code_weight * said, "curves": error, "code": said}

    def probe(model: nn.Module) -> dict[str, float]:
        return figures(model.net, test, basis)  # type: ignore[arg-type]

    losses = train(student, batch, loss, settings, probe)
    save(load(Student, settings.out / "model.safetensors").net, settings.out / "expression.safetensors")
    return losses


if __name__ == "__main__":
    run(main)
