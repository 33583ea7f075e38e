"""One dressed, haired, painted person of the clip factory, ready to be posed and drawn frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from avatar.drivers.curves import CURVES
from avatar.recipes import materials, outfit, shading
from avatar.recipes.hair import (
    FaceMap,
    Strands,
    draw_style,
    grow_hair,
    lash_lines,
    place_scalp,
    place_short,
    scalp_density,
)
from avatar.recipes.people import BODY, EYE, LOWER_TEETH, TONGUE, UPPER_TEETH, HeadMesh, Person, Pose, people
from avatar.recipes.render import (
    Camera,
    Screen,
    draw_depth,
    draw_depth_strands,
    draw_strands,
    draw_triangles,
    light_basis,
    lit_share,
    seen_nodes,
    vertex_normals,
)

Array = NDArray[np.float32]

SHADOW_SIDE = 176  # px of a shadow map
SHADOW_REACH = 0.30  # m, half the width it covers
LIP_FRONT = -0.157  # m, template depth of the closed lips
KINDS = {
    BODY: shading.SKIN,
    EYE: shading.EYE,
    UPPER_TEETH: shading.TEETH,
    LOWER_TEETH: shading.TEETH,
    TONGUE: shading.TONGUE,
}


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What every figure needs of the head mesh, made once per process."""

    mesh: HeadMesh
    atlas: materials.SkinAtlas
    face: FaceMap
    lashes: NDArray[np.int32]
    ambient: Array
    teeth: Array
    turns: Array
    actions: Array


def template_occlusion(mesh: HeadMesh, views: int = 90) -> Array:
    """Share of the sky that each vertex of the template sees, (V,), from depth maps of many directions."""
    normals = vertex_normals(mesh.template, mesh.triangles)
    middle = mesh.template[mesh.joint_weights[:, 4] > 0.99].mean(0)
    i = np.arange(views) + 0.5
    height, angle = 1 - 2 * i / views, i * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - height**2)
    body = mesh.triangles[(mesh.part == BODY) | (mesh.part == EYE)]
    total, seen = np.full(len(normals), 1e-6, np.float32), np.zeros(len(normals), np.float32)
    for direction in np.stack([ring * np.cos(angle), height, ring * np.sin(angle)], 1).astype(np.float32):
        basis, scale = light_basis(direction), 256 / (2 * SHADOW_REACH)
        z = np.full((256, 256), 1e9, np.float32)
        draw_depth(shadow_points(mesh.template, middle, basis, 256), body, np.ones(len(body), bool), z)
        weight = np.clip(normals @ direction, 0, 1) ** 0.7
        reached = np.ones(len(normals), np.float32)
        lit_share(mesh.template, middle, basis, scale, z, 0.004, 1, weight > 0, reached)
        seen += weight * reached
        total += weight
    return seen / total


def shadow_points(points: Array, middle: Array, basis: Array, side: int) -> Array:
    """Points (..., 3) on the screen of a light: pixels, pixels, metres."""
    turned = (points - middle) @ basis.T
    turned[..., :2] = turned[..., :2] * np.float32(side / (2 * SHADOW_REACH)) + np.float32(side / 2)
    return turned


@lru_cache(maxsize=1)
def shared() -> Shared:
    """The one `Shared` of this process."""
    mesh = people().mesh
    teeth = np.zeros((len(mesh.template), 2), np.float32)
    for part, gum, edge in ((UPPER_TEETH, -0.6834, -0.660), (LOWER_TEETH, -0.6419, -0.6713)):
        own = np.unique(mesh.triangles[mesh.part == part])
        at = mesh.template[own]
        teeth[own, 0] = np.arctan2(at[:, 0] / 0.031, (-0.098 - at[:, 2]) / 0.05) / np.pi + 0.5
        teeth[own, 1] = (at[:, 1] - edge) / (gum - edge)
    turns = np.zeros((len(CURVES), 2, 3), np.float32)
    actions = mesh.actions.copy()
    for i, name in enumerate(CURVES):
        for side, eye in enumerate(mesh.eyes):
            if name.startswith("eyeLook") and np.abs(actions[i, eye]).max() > 1e-4:
                rest = mesh.template[eye] - mesh.template[eye].mean(0)
                moved = rest + actions[i, eye]
                turns[i, side] = Rotation.align_vectors(moved - moved.mean(0), rest)[0].as_rotvec()
            actions[i, eye] = 0
    return Shared(
        mesh=mesh,
        atlas=materials.make_atlas(mesh),
        face=FaceMap(mesh),
        lashes=lash_lines(mesh),
        ambient=template_occlusion(mesh),
        teeth=teeth,
        turns=turns,
        actions=actions,
    )


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Geometry and paint that stay the same through a clip; V counts all meshes together."""

    person: Person
    pieces: list[outfit.Piece]
    triangles: NDArray[np.int32]
    material: NDArray[np.uint8]
    two_sided: NDArray[np.bool_]
    weights: Array
    attributes: Array
    strands: Strands
    skin: Array
    cloth: Array
    paint: Array
    facts: dict[str, object]


def lip_contact(mesh: HeadMesh) -> tuple[int, int]:
    """The vertices where the middles of upper and lower lip meet."""
    own = np.flatnonzero(
        (mesh.lips > 0.5) & (np.abs(mesh.template[:, 0]) < 0.003) & (mesh.template[:, 2] < -0.15)
    )
    height = mesh.template[own, 1] - materials.LIP_LINE
    return int(own[np.argmax(np.where(height < 0.0004, height, -9))]), int(
        own[np.argmin(np.where(height > 0.0004, height, 9))]
    )


def seat_teeth(rng: np.random.Generator, person: Person, mesh: HeadMesh) -> None:
    """Move a person's teeth and tongue to where they show as in most mouths: the upper teeth below the upper lip's edge."""
    line = person.rest[list(lip_contact(mesh)), 1].mean()
    rows = {part: np.unique(mesh.triangles[mesh.part == part]) for part in (UPPER_TEETH, LOWER_TEETH, TONGUE)}
    front = {part: own[mesh.template[own, 2] < -0.14] for part, own in rows.items()}
    upper = line + rng.uniform(0.001, 0.0055) - person.rest[front[UPPER_TEETH], 1].max()
    lower = line + rng.uniform(0.0015, 0.006) - person.rest[front[LOWER_TEETH], 1].min()
    for part, shift in (
        (UPPER_TEETH, upper),
        (LOWER_TEETH, lower),
        (TONGUE, lower * 0.5 + rng.uniform(-0.001, 0.003)),
    ):
        person.rest[rows[part], 1] += shift


def draw_figure(rng: np.random.Generator) -> Figure:
    """A random person with everything on."""
    base = shared()
    mesh = base.mesh
    person = people().draw_person(rng)
    seat_teeth(rng, person, mesh)
    look = materials.draw_look(rng, person)
    style = draw_style(rng, person)
    normals = vertex_normals(person.rest, mesh.triangles)

    cut = str(rng.choice(outfit.COLLARS, p=[0.24, 0.14, 0.2, 0.08, 0.14, 0.05, 0.05, 0.1]))
    pieces = [outfit.garment(rng, person, mesh, normals, cut), *outfit.collar(rng, person, mesh, cut)]
    worn = "no glasses"
    if rng.random() < 0.22:
        frames, worn = outfit.glasses(rng, person, mesh)
        pieces.append(frames)
    cloth, pattern = outfit.cloth_tile(rng)

    attributes = np.zeros((len(person.rest), 8), np.float32)
    attributes[:, :2] = materials.skin_place(mesh.template)
    teeth = np.unique(mesh.triangles[(mesh.part == UPPER_TEETH) | (mesh.part == LOWER_TEETH)])
    attributes[teeth, :2] = base.teeth[teeth]
    attributes[:, shading.LIPS], attributes[:, shading.MOUTH] = mesh.lips, mesh.mouth
    deep = np.maximum(mesh.template[:, 2] - LIP_FRONT, 0)
    inner = mesh.mouth > 0.5
    inner[np.unique(mesh.triangles[(mesh.part >= UPPER_TEETH)])] = True
    air = 0.15 + 0.85 * base.ambient
    attributes[:, shading.OCCLUSION] = np.where(inner, np.exp(-deep / 0.018) * 1.15, air)
    for eye in mesh.eyes:
        away = person.rest[eye] - person.rest[eye].mean(0)
        attributes[eye, shading.LOCAL_X :] = away / np.linalg.norm(away, axis=1, keepdims=True)

    material = [np.array([KINDS[part] for part in range(5)], np.uint8)[mesh.part]]
    triangles, weights, extra, start = [mesh.triangles], [mesh.joint_weights], [attributes], len(person.rest)
    for piece in pieces:
        own = np.zeros((len(piece.points), 8), np.float32)
        own[:, :2], own[:, shading.OCCLUSION] = piece.texel, piece.air
        triangles.append(piece.triangles + start), weights.append(piece.weights), extra.append(own)
        material.append(np.full(len(piece.triangles), piece.kind, np.uint8))
        start += len(piece.points)
    kinds = np.concatenate(material)

    density = scalp_density(base.atlas.place, style) * (1.0 if style.top else 0.0)
    if style.top == 0 and rng.random() < 0.6:
        density = 0.5 * scalp_density(base.atlas.place, style)
    ground = (0.6 * look.hair + 0.08 * look.skin).astype(np.float32)
    paint = np.zeros((len(shading.PAINT), 3), np.float32)
    for name, value in {
        "lips": look.lips,
        "lip_gloss": look.lip_gloss,
        "mouth": look.tongue * 0.5,
        "tongue": look.tongue,
        "teeth": look.teeth,
        "sclera": look.sclera,
        "iris": look.iris,
        "iris_rim": look.iris_rim,
        "pupil": look.pupil,
        "cloth_gloss": rng.uniform(0, 0.3),
        "frame": np.exp(rng.uniform(np.log(0.01), np.log(0.5))) * np.exp(rng.normal(0, 0.3, 3)),
        "frame_gloss": rng.uniform(0.5, 4.0),
    }.items():
        paint[shading.PAINT_INDEX[name]] = value
    tones = ("very pale", "pale", "light", "olive", "brown", "dark brown", "very dark")
    return Figure(
        person=person,
        pieces=pieces,
        triangles=np.concatenate(triangles),
        material=kinds,
        two_sided=kinds >= shading.CLOTH,
        weights=np.concatenate(weights),
        attributes=np.concatenate(extra),
        strands=grow_hair(rng, person, mesh, normals, look, style, base.face, base.lashes),
        skin=materials.paint_skin(rng, base.atlas, look, density, ground),
        cloth=cloth,
        paint=paint,
        facts={
            "gender": "woman" if person.gender > 0.5 else "man",
            "age": round(person.age, 2),
            "skin": tones[min(int(look.tone * len(tones)), len(tones) - 1)],
            "hair": style.name,
            "beard": round(look.beard, 2),
            "glasses": worn,
            "clothes": f"{pattern}, {cut}",
        },
    )


def act_out(figure: Figure, curves: Array, pose: Pose) -> Array:
    """Vertices of all meshes in every frame: curves (T, 52) -> (T, V, 3)."""
    base = shared()
    used = np.flatnonzero(curves.any(0))
    rest = figure.person.rest + np.tensordot(curves[:, used], base.actions[used], 1)
    for side, eye in enumerate(base.mesh.eyes):
        centre = figure.person.rest[eye].mean(0)
        turn = Rotation.from_rotvec(curves @ base.turns[:, side]).as_matrix().astype(np.float32)
        rest[:, eye] = (figure.person.rest[eye] - centre) @ turn.transpose(0, 2, 1) + centre
    moved = [pose.apply(rest, base.mesh.joint_weights)]
    moved += [pose.apply(piece.points, piece.weights) for piece in figure.pieces]
    return np.concatenate(moved, 1)


def place_strands(figure: Figure, points: Array, normals: Array, pose: Pose, frame: int) -> Array:
    """Nodes of all strands in one frame, (N, P, 3)."""
    hair, mesh = figure.strands, shared().mesh
    nodes = hair.local.shape[1]
    count, short = len(hair.scalp), len(hair.local)
    out = np.empty((len(hair.part), nodes, 3), np.float32)
    place_scalp(
        hair.scalp,
        hair.scalp_head,
        pose.rotation[frame, -1],
        pose.offset[frame, -1],
        pose.offset[frame, 0],
        out,
    )
    place_short(
        points, normals, mesh.triangles[hair.triangle], hair.bary, hair.local, out[count : count + short]
    )
    root = points[hair.lash[:, 0]] + hair.lash_weight[:, None] * (
        points[hair.lash[:, 2]] - points[hair.lash[:, 0]]
    )
    tip = points[hair.lash[:, 1]] + hair.lash_weight[:, None] * (
        points[hair.lash[:, 3]] - points[hair.lash[:, 1]]
    )
    share = np.linspace(0, 1, nodes, dtype=np.float32)[None, :, None]
    out[count + short :] = root[:, None] + share * (tip - root)[:, None]
    return out


@dataclass
class Drawing:
    """One rendered frame at the supersampled size: linear `picture`, `parts`, its `screen`, and projected vertices and strands."""

    picture: Array
    parts: NDArray[np.uint8]
    screen: Screen
    points: Array
    strands: Array


def draw_frame(
    figure: Figure,
    points: Array,
    pose: Pose,
    frame: int,
    openness: float,
    camera: Camera,
    light: shading.Light,
) -> Drawing:
    """Render one frame; the background stays black. `points` (V, 3) are its vertices."""
    hair = figure.strands
    normals = vertex_normals(points, figure.triangles)
    strands = place_strands(figure, points, normals, pose, frame)
    screen = Screen.empty(camera.side)
    flat, lines = camera.project(points), camera.project(strands)
    draw_triangles(flat, figure.triangles, figure.two_sided, screen.ids, screen.z, screen.bary)
    scale = camera.focal / np.median(flat[:, 2])
    draw_strands(
        lines, hair.width * np.float32(scale), len(figure.triangles), screen.ids, screen.z, screen.bary
    )

    lights = len(light.direction)
    lit = np.ones((len(points), lights), np.float32)
    hair_lit = np.ones((*hair.air.shape, 1 + lights), np.float32)
    hair_lit[..., 0] = hair.air
    middle = pose.of_head(figure.person.joints[3:] - np.float32([0, 0.08, 0]))[frame, 0]
    seen = np.zeros(hair.air.shape, bool)
    seen_nodes(screen.ids, len(figure.triangles), seen)
    count, all_points = len(hair.scalp), np.ones(len(points), bool)
    for i, direction in enumerate(light.direction):
        basis, scale = light_basis(direction), SHADOW_SIDE / (2 * SHADOW_REACH)
        z = np.full((SHADOW_SIDE, SHADOW_SIDE), 1e9, np.float32)
        draw_depth(shadow_points(points, middle, basis, SHADOW_SIDE), figure.triangles, figure.two_sided, z)
        draw_depth_strands(strands[:count:2], middle, basis, scale, z)
        lit_share(points, middle, basis, scale, z, 0.006, 3, all_points, lit[:, i])
        reached = hair.air.copy()
        nodes = strands[:count].reshape(-1, 3)
        lit_share(nodes, middle, basis, scale, z, 0.012, 1, seen[:count].ravel(), reached[:count].reshape(-1))
        hair_lit[..., 1 + i] = reached
    picture = np.zeros((camera.side, camera.side, 3), np.float32)
    parts = np.zeros((camera.side, camera.side), np.uint8)
    shading.shade(
        screen.ids, screen.z, screen.bary, figure.triangles, figure.material, points, normals, lit, figure.attributes, figure.skin, figure.cloth,
        figure.paint, openness, camera.eye, pose.rotation[frame, -1] @ np.float32([0, -1, 0]), light.direction, light.colour, light.ambient,
        strands, hair.colour, hair_lit, hair.part, picture, parts,
    )  # fmt: skip
    return Drawing(picture=picture, parts=parts, screen=screen, points=flat, strands=lines)
