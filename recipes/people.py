"""People for the clip factory: Anny's head, neck and shoulders with teeth, tongue and eyeballs, as posable
meshes.

Everything is in view axes, metres: X to the picture's right, Y down, Z away from the camera; the face
    looks to -Z.
Shapes: V vertices, F triangles, T frames. Anny's code is Apache-2.0, its shapes and masks are CC0
    (MakeHuman).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from avatar.drivers.curves import CURVES

Array = NDArray[np.float32]

BODY, EYE, UPPER_TEETH, LOWER_TEETH, TONGUE = range(5)
"""What a triangle of the head mesh belongs to."""

GROUPS = {
    "body": BODY,
    "helper-l-eye": EYE,
    "helper-r-eye": EYE,
    "helper-upper-teeth": UPPER_TEETH,
    "helper-lower-teeth": LOWER_TEETH,
    "helper-tongue": TONGUE,
}
LASHES = ("helper-l-eyelashes-1", "helper-l-eyelashes-2", "helper-r-eyelashes-1", "helper-r-eyelashes-2")
JOINTS = ("neck01", "neck02", "neck03", "head")
NECK_SHARE = (0.2, 0.42, 0.68, 1.0)  # of the head's rotation that each joint of the chain has done
LOWEST, WIDEST = (
    0.36,
    0.34,
)  # m above the body's middle, m from its axis: nothing beyond is ever in the picture
OWN_REST = (
    ("eyeWide", 0.0, 0.75),
    ("browDown", 0.0, 0.25),
    ("browOuterUp", 0.0, 0.25),
    ("mouthFrown", -0.15, 0.2),
)
FACE_CHANGES = ("cheek", "chin", "ear", "eye", "forehead", "head", "mouth", "neck", "nose", "measure-neck")
SIDEWAYS = (
    "head-trans-out",
    "mouth-trans-out",
    "nose-trans-out",
    "neck-trans-out",
    "head-trans-up",
    "head-trans-forward",
)


@dataclass(frozen=True, kw_only=True)
class HeadMesh:
    """What all people share.

    Attributes:
        template: average adult at rest, (V, 3).
        triangles: (F, 3), counter-clockwise seen from outside.
        part: BODY, EYE, ... of each triangle, (F,).
        actions: displacement by each curve at 1, (52, V, 3).
        joint_weights: share of torso and the four JOINTS in each vertex, (V, 5).
        lips, mouth, lids: how much a vertex is lip, inside of the mouth, eyelid, (V,) in [0, 1].
        uv: position in MakeHuman's texture, (V, 2); for teeth it runs along the arch.
        eyes: vertex numbers of the person's left and right eyeball.
        lashes: quads of the eyelash strips, (n, 4).
    """

    template: Array
    triangles: NDArray[np.int32]
    part: NDArray[np.uint8]
    actions: Array
    joint_weights: Array
    lips: Array
    mouth: Array
    lids: Array
    uv: Array
    eyes: tuple[NDArray[np.int64], NDArray[np.int64]]
    lashes: NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Person:
    """One body shape.

    Attributes:
        age: 0.5 (teenager) to 1 (old).
        gender: 0 male to 1 female.
        race: weights of african, asian, caucasian shape.
        weight: 0 thin to 1 heavy.
        rest: vertices at rest, (V, 3).
        joints: rest positions of the JOINTS, (4, 3).
    """

    age: float
    gender: float
    race: tuple[float, float, float]
    weight: float
    rest: Array
    joints: Array


def view_axes(points: NDArray) -> Array:
    """Anny's axes (Z up, facing -Y) to view axes, (..., 3)."""
    return np.stack([points[..., 0], -points[..., 2], points[..., 1]], -1).astype(np.float32)


class People:
    """Anny, cut down to what a portrait shows. The first build of Anny takes minutes, later ones seconds."""

    def __init__(self) -> None:
        import anny
        import torch
        from anny.models.model_data import TopologyConfig
        from anny.utils.obj_utils import load_obj_file

        topology = TopologyConfig(base_mesh="makehuman", nudity_edits=False, remove_unattached_vertices=False)
        self.model = anny.Anny(
            facial_actions="all",
            local_changes="all",
            phenotypes="all",
            topology=topology,
            phenotype_blendshapes="original",
        ).to(dtype=torch.float32)
        self.model.requires_grad_(False)
        data = Path(anny.__file__).parent / "data" / "mpfb2"
        _, uv, groups = load_obj_file(data / "3dobjs" / "base.obj", dtype=torch.float64)

        template = view_axes(self.model.template_vertices.numpy())
        seen = (template[:, 1] < -LOWEST) & (np.abs(template[:, 0]) < WIDEST)
        triangles, part, vertex_uv = [], [], np.zeros((len(template), 2), np.float32)
        for name, number in GROUPS.items():
            quads = groups[name]["face_vertex_indices"].numpy()
            vertex_uv[quads.ravel()] = uv.numpy()[
                groups[name]["face_texture_coordinate_indices"].numpy().ravel()
            ]
            quads = quads[seen[quads].all(1)]
            triangles.append(np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]))
            part.append(np.full(2 * len(quads), number, np.uint8))
        lashes = np.concatenate([groups[name]["face_vertex_indices"].numpy() for name in LASHES])
        faces = np.concatenate(triangles)
        self._keep = np.unique(np.concatenate([faces.ravel(), lashes.ravel()]))
        place = np.full(len(template), -1)
        place[self._keep] = np.arange(len(self._keep))

        bone = self.model.vertex_bone_indices.numpy()[self._keep]
        weight = self.model.vertex_bone_weights.numpy()[self._keep]
        labels = list(self.model.bone_labels)
        joints = [labels.index(name) for name in JOINTS]
        head = [joints[-1], labels.index("eye.L"), labels.index("eye.R")]
        shares = [((bone == j) * weight).sum(1) for j in joints[:-1]]
        shares.append((np.isin(bone, head) * weight).sum(1))
        moved = np.stack(shares, 1)
        self._joints = joints
        self._shapes = self.model.blendshapes[:, torch.from_numpy(self._keep)].flatten(1)
        first_action = self.model.blendshapes.shape[0] - 2 * len(self.model.local_change_labels) - len(CURVES)
        actions = self._shapes[first_action : first_action + len(CURVES)].numpy()
        self._own = actions.reshape(len(CURVES), -1, 3)

        def mask(name: str) -> Array:
            from PIL import Image

            texture = np.asarray(
                Image.open(data / "textures" / f"mpfb_{name}.jpg").convert("L").resize((1024, 1024))
            )
            at = np.clip(np.stack([1 - vertex_uv[:, 1], vertex_uv[:, 0]], 1) * 1024, 0, 1023).astype(int)[
                self._keep
            ]
            return texture[at[:, 0], at[:, 1]].astype(np.float32) / 255

        body = np.zeros(len(template), bool)
        body[groups["body"]["face_vertex_indices"].numpy().ravel()] = True
        body = body[self._keep]
        eyes = [
            place[np.unique(groups[f"helper-{side}-eye"]["face_vertex_indices"].numpy())] for side in "lr"
        ]
        self.mesh = HeadMesh(
            template=template[self._keep],
            triangles=np.ascontiguousarray(place[faces].astype(np.int32)),
            part=np.concatenate(part),
            actions=view_axes(actions.reshape(len(CURVES), -1, 3)),
            joint_weights=np.concatenate([1 - moved.sum(1, keepdims=True), moved], 1).astype(np.float32),
            lips=mask("lips") * body,
            mouth=mask("inside-mouth") * body,
            lids=mask("eyelids") * body,
            uv=vertex_uv[self._keep],
            eyes=(eyes[0], eyes[1]),
            lashes=np.ascontiguousarray(place[lashes].astype(np.int32)),
        )

    def draw_person(self, rng: np.random.Generator) -> Person:
        """A random teenager or adult."""
        import torch

        age = float(rng.choice([rng.uniform(0.5, 0.7), rng.uniform(0.62, 0.85), rng.uniform(0.8, 1.0)]))
        gender = float(np.clip(rng.choice([0.08, 0.92]) + rng.normal(0, 0.15), 0, 1))
        race = rng.dirichlet((0.45, 0.45, 0.45))
        weight = float(np.clip(rng.normal(0.5, 0.22), 0, 1))
        phenotype = {"age": age, "gender": gender, "weight": weight, "muscle": float(rng.uniform(0.2, 0.8))}
        phenotype |= {"height": float(rng.uniform(0.3, 0.7)), "proportions": float(rng.uniform(0.2, 1.0))}
        phenotype |= {name: float(race[i]) for i, name in enumerate(("african", "asian", "caucasian"))}
        changes: dict[str, float] = {}
        spread = rng.uniform(0.15, 0.42)
        for label in self.model.local_change_labels:
            name = label.removeprefix("l-").removeprefix("r-")
            if not name.startswith(FACE_CHANGES):
                continue
            if label.startswith("r-"):  # the left one comes first
                changes[label] = changes["l-" + name] + float(rng.normal(0, 0.06))
            else:
                changes[label] = float(
                    np.clip(rng.normal(0, 0.06 if name in SIDEWAYS else spread), -0.9, 0.9)
                )
        coefficients = self.model.get_phenotype_blendshape_coefficients(**phenotype, local_changes=changes)
        rest = (
            self.model.template_vertices[torch.from_numpy(self._keep)].flatten()
            + (coefficients @ self._shapes)[0]
        )
        rest = rest.numpy().reshape(-1, 3)
        # Anny's eyes are narrow at rest; people's differ, and so do their brows and the corners of their
        # mouths.
        for name, low, high in OWN_REST:
            level = float(rng.uniform(low, high))
            for side in ("Left", "Right"):
                rest = rest + level * self._own[CURVES.index(name + side)]
        heads = self.model.bone_heads_blendshapes[:, self._joints]
        joints = self.model.template_bone_heads[self._joints] + torch.einsum(
            "k,kjc->jc", coefficients[0], heads
        )
        return Person(
            age=age,
            gender=gender,
            race=(float(race[0]), float(race[1]), float(race[2])),
            weight=weight,
            rest=view_axes(rest),
            joints=view_axes(joints.numpy()),
        )


@lru_cache(maxsize=1)
def people() -> People:
    """The one `People` of this process."""
    return People()


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Rigid motions of torso and the four JOINTS: point -> rotation @ point + offset.

    Attributes:
        rotation: (T, 5, 3, 3).
        offset: (T, 5, 3).
    """

    rotation: Array
    offset: Array

    def apply(self, points: Array, weights: Array) -> Array:
        """Linear blend skinning: points (V, 3) or (T, V, 3) with weights (V, 5) -> (T, V, 3)."""
        moved = np.zeros((len(self.rotation), points.shape[-2], 3), np.float32)
        for j in range(weights.shape[1]):
            own = np.flatnonzero(weights[:, j] > 1e-4)
            turned = points[..., own, :] @ self.rotation[:, j].transpose(0, 2, 1) + self.offset[:, j, None]
            moved[:, own] += turned * weights[own, j, None]
        return moved

    def of_head(self, points: Array) -> Array:
        """Points (n, 3) fixed to the head -> (T, n, 3)."""
        return points @ self.rotation[:, -1].transpose(0, 2, 1) + self.offset[:, -1, None]


def pose_head(person: Person, rotation: NDArray, shift: NDArray, torso_share: float) -> Pose:
    """Turn the head through the neck's joints and move it.

    Args:
        person: whose joints.
        rotation: of the head in view axes, (T, 3, 3).
        shift: of the whole head, metres, (T, 3).
        torso_share: how much of the shift the shoulders join in, 0 to 1.
    """
    vector = Rotation.from_matrix(rotation).as_rotvec()
    frames = len(rotation)
    rotations, offsets = [np.tile(np.eye(3), (frames, 1, 1))], [shift * torso_share]
    carrier_rotation, carrier_offset = rotations[0], offsets[0]
    for joint, share in zip(person.joints, NECK_SHARE, strict=True):
        pivot = carrier_rotation @ joint + carrier_offset + shift * (1 - torso_share) / len(JOINTS)
        carrier_rotation = Rotation.from_rotvec(vector * share).as_matrix()
        carrier_offset = pivot - carrier_rotation @ joint
        rotations.append(carrier_rotation)
        offsets.append(carrier_offset)
    return Pose(
        rotation=np.stack(rotations, 1).astype(np.float32),
        offset=np.stack(offsets, 1).astype(np.float32),
    )
