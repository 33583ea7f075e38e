"""One dressed, haired, painted person of the clip factory, ready to be posed and drawn frame by frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from avatar.drivers.curves import CURVES
from avatar.recipes import surfaces
from avatar.recipes.hair import HeadField
from avatar.recipes.headwear import Lenses, draw_glasses, draw_hat
from avatar.recipes.looks import Look, draw_look
from avatar.recipes.outfit import SHIRT, Piece, cloth_tile, dress
from avatar.recipes.people import BODY, EYE, LOWER_TEETH, TONGUE, UPPER_TEETH, HeadMesh, Person, people
from avatar.recipes.render import vertex_normals
from avatar.recipes.shadows import draw_depth, light_basis, light_screen, lit_share
from avatar.recipes.skin import LIP_LINE, SkinAtlas, draw_brow_shape, make_atlas, paint_skin, skin_place
from avatar.recipes.strands import FaceMap, Strands, grow_hair, lash_lines
from avatar.recipes.styles import STYLES, draw_style, scalp_density

Array = NDArray[np.float32]

LIP_FRONT = -0.157  # m, template depth of the closed lips
MOUTH_FADE = 0.022  # m, how far into the mouth light falls
FRONT = {UPPER_TEETH: -0.135, LOWER_TEETH: -0.135, TONGUE: -0.12}  # m, template depth of the seen parts
GLASSES_SHARE = 0.22
FLAT = 0.014  # m, how high hair stands at most beside a hat
KINDS = np.array(
    [surfaces.SKIN, surfaces.EYE, surfaces.TEETH, surfaces.TEETH, surfaces.TONGUE], np.uint8
)  # by part
SKY = 90  # directions that ambient light comes from


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What every figure needs of the head mesh, made once per process.

    Attributes:
        mesh, atlas, face, lashes: see their classes.
        ambient: share of the sky that each vertex sees, (V,).
        teeth: place along the arch and from edge to gum, in [0, 1], (V, 2).
        turns: rotation vector of the left and right eyeball at each curve's 1, (52, 2, 3).
        actions: like `HeadMesh.actions` without what `turns` does.
    """

    mesh: HeadMesh
    atlas: SkinAtlas
    face: FaceMap
    lashes: NDArray[np.int32]
    ambient: Array
    teeth: Array
    turns: Array
    actions: Array


def template_ambient(mesh: HeadMesh) -> Array:
    """Share of the sky that each vertex of the template sees, (V,), from depth maps of many directions."""
    normals = vertex_normals(mesh.template, mesh.triangles)
    middle = mesh.template[mesh.joint_weights[:, 4] > 0.99].mean(0)
    i = np.arange(SKY) + 0.5
    height, angle = 1 - 2 * i / SKY, i * np.pi * (3 - np.sqrt(5))  # a spiral on the sphere
    ring = np.sqrt(1 - height**2)
    body = mesh.triangles[(mesh.part == BODY) | (mesh.part == EYE)]
    total, seen = np.full(len(normals), 1e-6, np.float32), np.zeros(len(normals), np.float32)
    for aim in np.stack([ring * np.cos(angle), height, ring * np.sin(angle)], 1).astype(np.float32):
        screen, basis = light_screen(256), light_basis(aim)
        draw_depth(mesh.template, middle, basis, body, np.ones(len(body), bool), screen)
        weight = np.clip(normals @ aim, 0, 1) ** 0.7
        reached = np.ones(len(normals), np.float32)
        lit_share(mesh.template, middle, basis, screen, 0.004, 1, weight > 0, reached)
        seen += weight * reached
        total += weight
    return seen / total


@lru_cache(maxsize=1)
def shared() -> Shared:
    """The one `Shared` of this process."""
    mesh = people().mesh
    teeth = np.zeros((len(mesh.template), 2), np.float32)
    for part in (UPPER_TEETH, LOWER_TEETH):
        own = np.unique(mesh.triangles[mesh.part == part])
        at = mesh.template[own]
        low, high = at[:, 1].min(), at[:, 1].max()
        edge, gum = (high, low) if part == UPPER_TEETH else (low, high)
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
        atlas=make_atlas(mesh),
        face=FaceMap(mesh),
        lashes=lash_lines(mesh),
        ambient=template_ambient(mesh),
        teeth=teeth,
        turns=turns,
        actions=actions,
    )


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Geometry and paint that stay the same through a clip; V and F count all meshes together.

    Attributes:
        person, pieces, lenses, strands: see their classes.
        triangles, material: (F, 3), (F,).
        two_sided: whether a triangle is seen from behind too, (F,).
        attributes: of the vertices, see `surfaces`, (V, 8).
        skin: see `skin.paint_skin`.
        cloth, cloth_gloss: tiles (n, TILE, TILE, 5) and their gloss (n,).
        paint: see `surfaces`, (PAINTS, 3).
        facts: what is known in words.
    """

    person: Person
    pieces: list[Piece]
    lenses: Lenses | None
    strands: Strands
    triangles: NDArray[np.int32]
    material: NDArray[np.uint8]
    two_sided: NDArray[np.bool_]
    attributes: Array
    skin: Array
    cloth: Array
    cloth_gloss: Array
    paint: Array
    facts: dict[str, object]


def lip_contact(mesh: HeadMesh) -> tuple[int, int]:
    """The vertices where the middles of upper and lower lip meet."""
    middle = (np.abs(mesh.template[:, 0]) < 0.003) & (mesh.template[:, 2] < -0.15)
    own = np.flatnonzero((mesh.lips > 0.5) & middle)
    height = mesh.template[own, 1] - LIP_LINE - 0.0004
    upper, lower = np.where(height < 0, height, -9).argmax(), np.where(height > 0, height, 9).argmin()
    return int(own[upper]), int(own[lower])


def mouth_seats(person: Person, mesh: HeadMesh) -> Array:
    """How far below the line where the lips meet the edges of the upper and lower teeth and the top of the
    tongue lie at rest, metres, (3,)."""
    line = person.rest[list(lip_contact(mesh)), 1].mean()
    edges = []
    for part, edge in ((UPPER_TEETH, np.max), (LOWER_TEETH, np.min), (TONGUE, np.min)):
        own = np.unique(mesh.triangles[mesh.part == part])
        edges.append(edge(person.rest[own[mesh.template[own, 2] < FRONT[part]], 1]))
    return np.array(edges, np.float32) - line


def seat_teeth(rng: np.random.Generator, person: Person, mesh: HeadMesh) -> None:
    """Move teeth and tongue to where they show in most mouths: the upper teeth below the upper lip's edge."""
    upper, lower, _ = mouth_seats(person, mesh)
    upper = rng.uniform(0.001, 0.0055) - upper
    lower = rng.uniform(0.0015, 0.006) - lower
    tongue = lower * 0.5 + rng.uniform(-0.001, 0.003)
    for part, shift in ((UPPER_TEETH, upper), (LOWER_TEETH, lower), (TONGUE, tongue)):
        person.rest[np.unique(mesh.triangles[mesh.part == part]), 1] += shift


def paint_of(rng: np.random.Generator, look: Look) -> Array:
    """Colours of everything that has no texture, see `surfaces`, (PAINTS, 3)."""
    paint = np.zeros((surfaces.PAINTS, 3), np.float32)
    frame = np.exp(rng.uniform(np.log(0.01), np.log(0.5))) * np.exp(rng.normal(0, 0.3, 3))
    for row, colour in {
        surfaces.LIP_PAINT: look.lips,
        surfaces.LIP_GLOSS: look.lip_gloss,
        surfaces.MOUTH_PAINT: look.tongue * 0.5,
        surfaces.TONGUE_PAINT: look.tongue,
        surfaces.TEETH_PAINT: look.teeth,
        surfaces.SCLERA: look.sclera,
        surfaces.IRIS: look.iris,
        surfaces.IRIS_RIM: look.iris_rim,
        surfaces.PUPIL: look.pupil,
        surfaces.GLASSES: frame,
        surfaces.METAL: rng.uniform(0.15, 0.7) * np.exp(rng.normal(0, 0.1, 3)),
        surfaces.PEAK: rng.uniform(0.01, 0.08),
    }.items():
        paint[row] = colour
    return paint


def body_attributes(base: Shared, person: Person) -> Array:
    """Attributes of the head mesh's vertices, (V, 8)."""
    mesh = base.mesh
    out = np.zeros((len(person.rest), 8), np.float32)
    out[:, :2] = skin_place(mesh.template)
    teeth = np.unique(mesh.triangles[(mesh.part == UPPER_TEETH) | (mesh.part == LOWER_TEETH)])
    out[teeth, :2] = base.teeth[teeth]
    out[:, surfaces.LIPS], out[:, surfaces.MOUTH] = mesh.lips, mesh.mouth
    deep = np.maximum(mesh.template[:, 2] - LIP_FRONT, 0)
    inner = mesh.mouth > 0.5
    inner[np.unique(mesh.triangles[mesh.part >= UPPER_TEETH])] = True
    out[:, surfaces.OCCLUSION] = np.where(
        inner, 1.15 * np.exp(-deep / MOUTH_FADE), 0.15 + 0.85 * base.ambient
    )
    for eye in mesh.eyes:
        away = person.rest[eye] - person.rest[eye].mean(0)
        out[eye, surfaces.LOCAL_X :] = away / np.linalg.norm(away, axis=1, keepdims=True)
    return out


def draw_figure(rng: np.random.Generator) -> Figure:
    """A random person with everything on."""
    base = shared()
    mesh = base.mesh
    person = people().draw_person(rng)
    seat_teeth(rng, person, mesh)
    look, style, brows = draw_look(rng, person), draw_style(rng, person), draw_brow_shape(rng)
    normals = vertex_normals(person.rest, mesh.triangles)
    field = HeadField(person, mesh)

    pieces, clothes = dress(rng, person, mesh, field, normals)
    hat, covered, hat_name = draw_hat(rng, person, mesh, field)
    pieces += hat
    if hat_name == "headscarf":
        style = STYLES["bald"]
    elif covered is not None:
        style = replace(style, lift=min(style.lift, FLAT))
    lenses, glasses_name = None, "none"
    if rng.random() < GLASSES_SHARE:
        frames, lenses, glasses_name = draw_glasses(rng, person, mesh)
        pieces.append(frames)
    formal = clothes.startswith("suit")
    dark = float(rng.choice([0.015, 0.03, 0.12])) if formal and rng.random() < 0.7 else None
    main, pattern = cloth_tile(rng, light=dark)
    cloth = np.repeat(main[None], 1 + max(piece.which for piece in pieces if piece.kind == surfaces.CLOTH), 0)
    for which in range(1, len(cloth)):
        shirt = formal and which == SHIRT
        cloth[which], _ = (
            cloth_tile(rng, "plain", float(rng.uniform(0.5, 0.85))) if shirt else cloth_tile(rng)
        )

    attributes, triangles, material, start = (
        [body_attributes(base, person)],
        [mesh.triangles],
        [KINDS[mesh.part]],
        len(person.rest),
    )
    for piece in pieces:
        own = np.zeros((len(piece.points), 8), np.float32)
        own[:, :2], own[:, surfaces.OCCLUSION], own[:, surfaces.WHICH] = piece.texel, piece.air, piece.which
        attributes.append(own)
        triangles.append(piece.triangles + start)
        material.append(np.full(len(piece.triangles), piece.kind, np.uint8))
        start += len(piece.points)
    kinds = np.concatenate(material)

    strands, beard = grow_hair(
        rng, person, mesh, field, normals, look, brows, style, covered, base.face, base.lashes
    )
    density = scalp_density(base.atlas.place, style)
    if style.top == 0 and rng.random() < 0.6:  # shaved, not bald
        density = 0.5 * scalp_density(base.atlas.place, STYLES["buzz"])
    return Figure(
        person=person,
        pieces=pieces,
        lenses=lenses,
        strands=strands,
        triangles=np.concatenate(triangles),
        material=kinds,
        two_sided=kinds >= surfaces.CLOTH,
        attributes=np.concatenate(attributes),
        skin=paint_skin(rng, base.atlas, look, brows, density, 0.6 * look.hair + 0.08 * look.skin),
        cloth=cloth,
        cloth_gloss=(rng.uniform(0, 0.3, len(cloth)) * (rng.random(len(cloth)) < 0.5)).astype(np.float32),
        paint=paint_of(rng, look),
        facts={
            "gender": "woman" if person.gender > 0.5 else "man",
            "age": round(person.age, 2),
            "skin": look.tone_name,
            "hair": style.name,
            "beard": beard,
            "hat": hat_name,
            "glasses": glasses_name,
            "clothes": f"{pattern} {clothes}",
        },
    )
