"""Exact optical flow between two drawings of the same meshes and strands."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from avatar.recipes.drawing import Drawing

Array = NDArray[np.float32]

# m, how far behind the nearest surface a point still counts as visible
SKIN_MARGIN, HAIR_MARGIN = 0.004, 0.02


@njit(cache=True, fastmath=True, error_model="numpy")
def _flow_to_reference(
    ids: NDArray[np.int32],
    bary: Array,
    triangles: NDArray[np.int32],
    skin_points: Array,
    hair_points: Array,
    reference_ids: NDArray[np.int32],
    reference_z: Array,
    cell: int,
) -> tuple[Array, NDArray[np.uint8]]:
    """See `true_flow`; flow is in pixels of the screen."""
    side = ids.shape[0]
    cells = side // cell
    flow = np.zeros((2, cells, cells), np.float32)
    visible = np.zeros((cells, cells), np.uint8)
    faces, segments = triangles.shape[0], hair_points.shape[1] - 1
    step = max(1, cell // 4)
    here = np.zeros((64, 4), np.float32)
    for cy in range(cells):
        for cx in range(cells):
            count = 0
            mean_x, mean_y = np.float32(0), np.float32(0)
            for y in range(cy * cell + step // 2, (cy + 1) * cell, step):
                for x in range(cx * cell + step // 2, (cx + 1) * cell, step):
                    name = ids[y, x]
                    u, v, seen = np.float32(0), np.float32(0), np.float32(0)
                    if name < 0:
                        seen = np.float32(reference_ids[y, x] < 0)
                    else:
                        if name < faces:
                            a, b, c = triangles[name, 0], triangles[name, 1], triangles[name, 2]
                            w1, w2 = bary[y, x, 0], bary[y, x, 1]
                            w0 = 1 - w1 - w2
                            px = w0 * skin_points[a, 0] + w1 * skin_points[b, 0] + w2 * skin_points[c, 0]
                            py = w0 * skin_points[a, 1] + w1 * skin_points[b, 1] + w2 * skin_points[c, 1]
                            pz = w0 * skin_points[a, 2] + w1 * skin_points[b, 2] + w2 * skin_points[c, 2]
                            margin = SKIN_MARGIN
                        else:
                            n, k, t = (name - faces) // segments, (name - faces) % segments, bary[y, x, 0]
                            px = hair_points[n, k, 0] + t * (hair_points[n, k + 1, 0] - hair_points[n, k, 0])
                            py = hair_points[n, k, 1] + t * (hair_points[n, k + 1, 1] - hair_points[n, k, 1])
                            pz = hair_points[n, k, 2] + t * (hair_points[n, k + 1, 2] - hair_points[n, k, 2])
                            margin = HAIR_MARGIN
                        u, v = px - (x + np.float32(0.5)), py - (y + np.float32(0.5))
                        if 0 <= px < side and 0 <= py < side and pz < reference_z[int(py), int(px)] + margin:
                            seen = np.float32(1)
                    here[count, 0], here[count, 1], here[count, 2] = u, v, seen
                    mean_x += u
                    mean_y += v
                    count += 1
            mean_x /= count
            mean_y /= count
            best, least = 0, np.float32(1e9)
            for i in range(count):
                miss = (here[i, 0] - mean_x) ** 2 + (here[i, 1] - mean_y) ** 2
                if miss < least:
                    best, least = i, miss
            flow[0, cy, cx], flow[1, cy, cx] = here[best, 0], here[best, 1]
            visible[cy, cx] = np.uint8(here[best, 2])
    return flow, visible


def true_flow(
    frame: Drawing, reference: Drawing, triangles: NDArray[np.int32], cells: int
) -> tuple[Array, NDArray[np.uint8]]:
    """Where the surface point in each cell of a frame lies in the reference.

    Args:
        frame, reference: drawings of the same meshes and strands.
        triangles: of the meshes, (F, 3).
        cells: per side.

    Returns:
        Backward flow (2, cells, cells) in pixels of the drawings: that of the sample in the cell which is
        nearest to the cell's mean; and whether the reference shows that point, (cells, cells).
    """
    return _flow_to_reference(
        frame.screen.ids,
        frame.screen.bary,
        triangles,
        reference.points,
        reference.strands,
        reference.screen.ids,
        reference.screen.z,
        len(frame.parts) // cells,
    )
