"""Measure how every landmark of the face mesh moves with every facial action: the basis of `drivers/mesh.py`.

Random Anny heads (Apache-2.0 code, CC0 shapes) are drawn with the jaw a little open, MediaPipe finds its 478
landmarks on the drawings, each landmark is tied to the surface point it most often falls on, and the
displacement of that point is read from Anny for each of the 52 ARKit actions. Settings in face_basis.yaml;
`python -m avatar.recipes.face_basis out=...`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt

from avatar.drivers.curves import CURVES
from avatar.drivers.mesh import CHIN, FOREHEAD, LANDMARKS, FaceBasis
from avatar.recipes.settings import RecipeSettings, read_settings, run

SIZE = 512  # px, side of the drawings
VIEW = 0.32  # m, side of the square that a drawing shows
SKIN, LIPS, MOUTH, LIGHT = (0.8, 0.6, 0.5), (0.7, 0.35, 0.35), (0.15, 0.05, 0.05), (0.2, -0.8, 0.5)
MAX_MISS = 6.0  # px, a landmark further than this from the drawn head is not counted


@njit(cache=True)
def draw_ids(points: NDArray, triangles: NDArray, size: int) -> tuple[NDArray, NDArray]:
    """Z-buffer of triangle numbers (size, size), -1 where empty, and barycentric weights (size, size, 3)."""
    depth = np.full((size, size), 1e9, np.float32)
    ids = np.full((size, size), -1, np.int32)
    weights = np.zeros((size, size, 3), np.float32)
    for f in range(len(triangles)):
        (x0, y0, z0), (x1, y1, z1), (x2, y2, z2) = (
            points[triangles[f, 0]],
            points[triangles[f, 1]],
            points[triangles[f, 2]],
        )
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if abs(area) < 1e-9:
            continue
        for y in range(max(0, int(min(y0, y1, y2))), min(size - 1, int(max(y0, y1, y2)) + 1) + 1):
            for x in range(max(0, int(min(x0, x1, x2))), min(size - 1, int(max(x0, x1, x2)) + 1) + 1):
                w1 = ((x + 0.5 - x0) * (y2 - y0) - (x2 - x0) * (y + 0.5 - y0)) / area
                w2 = ((x1 - x0) * (y + 0.5 - y0) - (x + 0.5 - x0) * (y1 - y0)) / area
                w0 = 1 - w1 - w2
                if w0 < 0 or w1 < 0 or w2 < 0:
                    continue
                z = w0 * z0 + w1 * z1 + w2 * z2
                if z < depth[y, x]:
                    depth[y, x] = z
                    ids[y, x] = f
                    weights[y, x, 0], weights[y, x, 1], weights[y, x, 2] = w0, w1, w2
    return ids, weights


def mesh_triangles() -> NDArray[np.int16]:
    """Triangles (852, 3) of MediaPipe's face mesh, rebuilt from its edge list; mouth and eyes are holes."""
    from mediapipe.python.solutions.face_mesh_connections import FACEMESH_TESSELATION

    edges = {(min(e), max(e)) for e in FACEMESH_TESSELATION}
    near: dict[int, set[int]] = {}
    for a, b in edges:
        near.setdefault(a, set()).add(b)
        near.setdefault(b, set()).add(a)
    cliques = {tuple(sorted((a, b, c))) for a, b in edges for c in near[a] & near[b]}
    uses: dict[tuple[int, int], int] = {}
    for a, b, c in cliques:
        for edge in ((a, b), (b, c), (a, c)):
            uses[edge] = uses.get(edge, 0) + 1
    # A real edge borders two triangles at most; a clique whose edges all border three is a ring of triangles.
    kept = [t for t in cliques if min(uses[t[0], t[1]], uses[t[1], t[2]], uses[t[0], t[2]]) < 3]
    return np.array(sorted(kept), np.int16)


def measure(heads: int, seed: int = 0) -> FaceBasis:
    """Tie landmarks to the Anny surface and read their displacements; see the module's description."""
    import anny
    import mediapipe as mp
    import torch
    from PIL import Image

    rng = np.random.default_rng(seed)
    model = anny.Anny(facial_actions="all").to(dtype=torch.float32)
    assert tuple(model.facial_action_labels) == CURVES
    triangles = model.get_triangular_faces().numpy().astype(np.int64)
    template = model.template_vertices.numpy()

    uv = np.zeros((len(template), 2))
    uv[model.faces.numpy().ravel()] = model.texture_coordinates.numpy()[
        model.face_texture_coordinate_indices.numpy().ravel()
    ]

    def mask(name: str) -> NDArray:
        texture = (
            np.asarray(Image.open(Path(anny.__file__).parent / "data/mpfb2/textures" / name).convert("L"))
            / 255
        )
        rows, columns = (
            ((1 - uv[:, 1]) * texture.shape[0]).astype(int),
            (uv[:, 0] * texture.shape[1]).astype(int),
        )
        return texture[rows.clip(0, texture.shape[0] - 1), columns.clip(0, texture.shape[1] - 1)][:, None]

    colour = np.tile(SKIN, (len(template), 1))
    for name, paint in (("mpfb_lips.jpg", LIPS), ("mpfb_inside-mouth.jpg", MOUTH)):
        colour = colour * (1 - mask(name)) + np.array(paint) * mask(name)
    bone, weight = model.vertex_bone_indices.numpy(), model.vertex_bone_weights.numpy()
    for eye in ("eye.L", "eye.R"):
        own = np.flatnonzero(((bone == model.bone_labels.index(eye)) * weight).sum(1) > 0.5)
        outward = template[own] - template[own].mean(0)
        front = -outward[:, 1:2] / np.linalg.norm(outward, axis=1, keepdims=True)
        colour[own] = np.where(
            front > 0.9, (0.05,) * 3, np.where(front > 0.75, (0.2, 0.3, 0.5), (0.92, 0.9, 0.88))
        )

    def shape(actions: NDArray, person: dict[str, float]) -> NDArray:
        n = len(actions)
        with torch.no_grad():
            out = model(
                pose_parameters=torch.eye(4).repeat(n, model.bone_count, 1, 1),
                facial_actions=torch.from_numpy(actions.astype(np.float32)),
                phenotype_kwargs={k: torch.full((n,), v) for k, v in person.items()},
            )
        return out["vertices"].numpy()

    finder = mp.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True)
    people: list[dict[str, float]] = []
    hits: list[list[tuple[float, ...]]] = [[] for _ in range(LANDMARKS)]
    for _ in range(heads):
        person = {k: float(rng.uniform()) for k in ("gender", "weight", "muscle")}
        person |= {
            "age": float(rng.uniform(0.45, 1)),
            "height": 0.5,
            "proportions": float(rng.uniform(0.3, 0.9)),
        }
        people.append(person)
        action = np.zeros((1, len(CURVES)))
        action[0, CURVES.index("jawOpen")] = 0.3  # so that the two inner lips are seen apart
        vertices = shape(action, person)[0]
        scale, top = SIZE / VIEW, vertices[:, 2].max()
        flat = np.stack(
            [
                vertices[:, 0] * scale + SIZE / 2,
                (top - 0.13 - vertices[:, 2]) * scale + SIZE / 2,
                vertices[:, 1],
            ],
            1,
        )
        normal = np.zeros_like(vertices)
        faces = np.cross(
            vertices[triangles[:, 1]] - vertices[triangles[:, 0]],
            vertices[triangles[:, 2]] - vertices[triangles[:, 0]],
        )
        for corner in range(3):
            np.add.at(normal, triangles[:, corner], faces)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
        lit = colour * ((normal @ np.array(LIGHT)).clip(0, 1)[:, None] * 0.6 + 0.4)
        ids, weights = draw_ids(flat.astype(np.float32), triangles, SIZE)
        picture = (lit[triangles[ids.clip(0)]] * weights[..., None]).sum(2)
        picture = np.where(ids[..., None] >= 0, picture, 0.35)
        found = finder.process((picture.clip(0, 1) * 255).astype(np.uint8)).multi_face_landmarks
        if not found:
            continue
        rows, columns = np.nonzero(ids >= 0)
        for k, point in enumerate(found[0].landmark):
            miss = (columns + 0.5 - point.x * SIZE) ** 2 + (rows + 0.5 - point.y * SIZE) ** 2
            best = miss.argmin()
            if miss[best] < MAX_MISS**2:
                hits[k].append((ids[rows[best], columns[best]], *weights[rows[best], columns[best]]))

    triangle, barycentric = np.zeros(LANDMARKS, int), np.zeros((LANDMARKS, 3))
    for k in range(LANDMARKS):
        hit = np.array(hits[k])
        where = (template[triangles[hit[:, 0].astype(int)]] * hit[:, 1:, None]).sum(1)
        best = np.linalg.norm(where - np.median(where, 0), axis=1).argmin()
        triangle[k], barycentric[k] = int(hit[best, 0]), hit[best, 1:]

    actions = np.concatenate([np.zeros((1, len(CURVES))), np.eye(len(CURVES))])
    neutral, moved = [], []
    for person in people:
        points = (shape(actions, person)[:, triangles[triangle]] * barycentric[:, :, None]).sum(2)
        points = np.stack(
            [points[..., 0], -points[..., 2], points[..., 1]], -1
        )  # right, down, away from the viewer
        points /= np.linalg.norm(points[0, FOREHEAD] - points[0, CHIN])
        neutral.append(points[0] - points[0].mean(0))
        moved.append(points[1:] - points[0])
    return FaceBasis(
        neutral=np.mean(neutral, 0).astype(np.float32),
        displacement=np.mean(moved, 0).astype(np.float32),
        triangles=mesh_triangles(),
    )


class FaceBasisSettings(RecipeSettings):
    """See face_basis.yaml."""

    out: Path
    heads: PositiveInt
    seed: NonNegativeInt


def main(words: list[str]) -> None:
    """Measure the basis and write it."""
    settings = read_settings(FaceBasisSettings, __file__, words)
    measure(settings.heads, settings.seed).save(settings.out)


if __name__ == "__main__":
    run(main)
