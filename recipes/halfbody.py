"""Half-body films of people who do not exist, their joints known exactly: the truth for the pose detectors.

    python -m avatar.recipes.halfbody --people 6 --frames 50
    python -m avatar.recipes.halfbody --people 6 --frames 50 --first-seed 100 --drive

The second command also lets every film drive its own first frame, as `avatar drive --pose` does, and says how
near the result comes to the film.
Anny's whole body in plain colours moves its arms, its head and itself before a still camera. Left and right
are the person's. The films are for measuring, nothing is trained on them. Anny's code is Apache-2.0, its
shapes are CC0.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from avatar.drivers.blazepose import BlazePose
from avatar.drivers.people import follow
from avatar.drivers.skeleton import INDEX, SEEN
from avatar.recipes.acting import smooth_walk
from avatar.recipes.people import view_axes
from avatar.recipes.render import Camera, Screen, draw_triangles, merge_samples, vertex_normals

if TYPE_CHECKING:
    from avatar.animator import Animator

Array = NDArray[np.float32]

FPS = 25
SIDE, SAMPLES = 512, 2  # px of a frame, and per pixel and direction
JOINTS = ("right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist")
NEAR = 0.1  # shoulder widths within which a joint counts as found
# Of bones by the beginning of their names, linear RGB; the last that fits counts.
PAINT = (
    (("",), "skin"),
    (("spine", "clavicle", "shoulder", "upperarm"), "shirt"),
    (("root", "pelvis", "upperleg", "lowerleg"), "trousers"),
    (("eye",), "white"),
)
HAIR_TOP, HAIR_BACK, HAIR_LOW = 0.055, -0.045, 0.2  # m: under the crown, behind the ears, down to here
PUPIL = 0.003  # m from the front of the eyeball
PACE = 8.0  # frames, time constant of the motion
# Degrees: the arm hangs at 45 degrees at rest; how far it is raised sideways, swung forwards, and bent.
RAISE, SWING, BEND = (-70.0, 40.0), (-20.0, 50.0), (0.0, 110.0)


@dataclass(frozen=True)
class Film:
    """Frames (T, 512, 512, 3) and the places of the JOINTS, (T, 6, 2), px."""

    frames: NDArray[np.uint8]
    joints: Array


@lru_cache(maxsize=1)
def _model() -> tuple[Any, Array]:
    """Anny, and the weights of its vertices in the JOINTS as COCO defines them, (6, V)."""
    import anny
    from anny.keypoints import KeypointsRegressor

    model = anny.Anny()
    return model, KeypointsRegressor.coco(model, list(JOINTS)).regression_weights.numpy().astype(np.float32)


def render_film(seed: int, frames: int) -> Film:
    """A person of this seed who moves for `frames` frames at 25 fps."""
    rng = np.random.default_rng(seed)
    model, joint_weights = _model()
    shape = {name: float(rng.uniform(0.2, 0.8)) for name in ("gender", "muscle", "weight", "height")}
    shape["age"] = float(rng.uniform(0.6, 0.9))  # adults
    triangles = np.ascontiguousarray(model.faces.numpy().astype(np.int32))
    turns = _draw_motion(rng, frames)
    rest = _posed(model, {}, shape)
    colours = _paint(rng, rest, _owners(model))
    camera = _camera(joint_weights @ rest, rng)
    light = np.array([rng.uniform(-0.6, 0.6), -0.5, -0.8])
    floor, top = np.sort(rng.uniform(0.1, 0.6, 2))
    background = np.ones((camera.side, camera.side, 3), np.float32)
    background *= np.linspace(top, floor, camera.side, dtype=np.float32)[:, None, None]
    pictures, joints = [], []
    for t in range(frames):
        points = _posed(model, {bone: turn[t] for bone, turn in turns.items()}, shape)
        pictures.append(_shoot(camera, points, triangles, colours, light / np.linalg.norm(light), background))
        places = camera.project(joint_weights @ points)
        joints.append(places[:, :2] / SAMPLES)
    return Film(np.stack(pictures), np.stack(joints).astype(np.float32))


def _draw_motion(rng: np.random.Generator, frames: int) -> dict[str, Rotation]:
    """Turns of bones about the axes of the rest pose, each of `frames`."""

    def between(low: float, high: float) -> Array:
        return low + (high - low) * (1 + np.clip(smooth_walk(rng, frames, PACE), -1, 1)) / 2

    turns = {}
    for side, sign in (("L", 1), ("R", -1)):
        raised, swung, bent = between(*RAISE), between(*SWING), between(*BEND)
        turns[f"upperarm01.{side}"] = Rotation.from_euler(
            "xy", np.stack([-swung, sign * -raised], 1), degrees=True
        )
        turns[f"lowerarm01.{side}"] = Rotation.from_euler(
            "xy", np.stack([-bent / 2, sign * -bent / 2], 1), degrees=True
        )
    sway = np.stack([between(-8, 8), between(-6, 6), between(-20, 20)], 1)
    turns["head"] = Rotation.from_euler("xyz", sway, degrees=True)
    turns["spine03"] = Rotation.from_euler("yz", sway[:, 1:] / 2, degrees=True)
    return turns


def _posed(model: Any, turns: dict[str, Rotation], shape: dict[str, float]) -> Array:
    """Vertices, view axes, m, (V, 3)."""
    import torch

    pose = {}
    for bone, turn in turns.items():
        matrix = torch.eye(4, dtype=torch.float64)[None].clone()
        matrix[0, :3, :3] = torch.from_numpy(turn.as_matrix())
        pose[bone] = matrix
    out = model(pose_parameters=pose or None, phenotype_kwargs=shape)
    return view_axes(out["vertices"][0].numpy())


def _owners(model: Any) -> NDArray[np.str_]:
    """The bone that moves each vertex most, (V,)."""
    rows = np.arange(len(model.vertex_bone_weights))
    most = model.vertex_bone_weights.numpy().argmax(1)
    return np.array(model.bone_labels)[model.vertex_bone_indices.numpy()[rows, most]]


def _paint(rng: np.random.Generator, rest: Array, owners: NDArray[np.str_]) -> Array:
    """Linear RGB of every vertex, (V, 3): skin, shirt, trousers, hair and eyes."""
    palette = {
        "skin": np.array([0.55, 0.36, 0.27]) * rng.uniform(0.25, 1.3),
        "shirt": rng.uniform(0.03, 0.6, 3),
        "trousers": np.full(3, rng.uniform(0.03, 0.2)),
        "white": np.full(3, 0.75),
    }
    colours = np.zeros((len(rest), 3))
    for beginnings, name in PAINT:
        colours[np.array([owner.startswith(beginnings) for owner in owners])] = palette[name]
    head = owners == "head"
    crown = rest[head, 1].min()
    back = (rest[:, 2] > HAIR_BACK) & (rest[:, 1] < crown + HAIR_LOW)
    colours[head & ((rest[:, 1] < crown + HAIR_TOP) | back)] = rng.uniform(0.02, 0.15) * np.array(
        [1, 0.7, 0.4]
    )
    for side in "LR":
        eye = owners == f"eye.{side}"
        colours[eye & (rest[:, 2] < rest[eye, 2].min() + PUPIL)] = 0.03
    return colours.astype(np.float32)


def _camera(joints: Array, rng: np.random.Generator) -> Camera:
    """A camera that frames a person from the hips to over the head."""
    side, distance = SIDE * SAMPLES, float(rng.uniform(2.0, 3.5))
    shoulders = float(np.linalg.norm(joints[0] - joints[3]))
    focal = side * distance * float(rng.uniform(0.2, 0.26)) / shoulders
    middle = joints[[0, 3]].mean(0)
    return Camera(
        focal=focal,
        distance=distance,
        place=(float(middle[0]), float(middle[1])),
        centre=(side * float(rng.uniform(0.45, 0.55)), side * float(rng.uniform(0.42, 0.5))),
        roll=0.0,
        side=side,
    )


def _shoot(
    camera: Camera,
    points: Array,
    triangles: NDArray[np.int32],
    colours: Array,
    light: Array,
    background: Array,
) -> NDArray[np.uint8]:
    screen = Screen.empty(camera.side)
    draw_triangles(
        camera.project(points), triangles, np.zeros(len(triangles), bool), screen.ids, screen.z, screen.bary
    )
    lit = 0.35 + 0.75 * np.clip(vertex_normals(points, triangles) @ light, 0, 1)
    shaded = (lit[:, None] * colours).astype(np.float32)
    picture = np.zeros((camera.side, camera.side, 3), np.float32)
    hit = screen.ids >= 0
    bary = screen.bary[hit]
    corners = np.concatenate([1 - bary.sum(1, keepdims=True), bary], 1)
    picture[hit] = (shaded[triangles[screen.ids[hit]]] * corners[..., None]).sum(1)
    small = merge_samples(picture, background, screen.ids, SAMPLES)
    return (255 * np.clip(small, 0, 1) ** (1 / 2.2)).astype(np.uint8)


def share_found(film: Film, keypoints: Array, scores: Array) -> dict[str, float]:
    """PCK: the share of frames in which each joint lies within NEAR shoulder widths of the truth and is seen.

    Joints outside the picture are left out. Shoulder width is that of the film, the most over its frames.
    """
    width = np.linalg.norm(film.joints[:, 0] - film.joints[:, 3], axis=-1).max()
    places = [INDEX[name] for name in JOINTS]
    away = np.linalg.norm(keypoints[:, places, :2] - film.joints, axis=-1)
    right = (away <= NEAR * width) & (scores[:, places] >= SEEN)
    inside = ((film.joints >= 0) & (film.joints < SIDE)).all(-1)
    return {
        name: float(right[inside[:, at], at].mean()) for at, name in enumerate(JOINTS) if inside[:, at].any()
    }


def reenact(film: Film, animator: Animator) -> NDArray[np.uint8]:
    """The first frame of a film driven by the film, (T, 512, 512, 3)."""
    from PIL import Image

    from avatar.options import DriveOptions
    from avatar.writer import VideoWriter

    with TemporaryDirectory() as folder:
        photo, clip = Path(folder) / "photo.png", Path(folder) / "film.mp4"
        Image.fromarray(film.frames[0]).save(photo)
        with VideoWriter(clip, size=(SIDE, SIDE), fps=Fraction(FPS)) as writer:
            for frame in film.frames:
                writer.write(frame)
        return np.stack([*animator.session(photo, None, DriveOptions(), pose=clip)])


def psnr(frames: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """dB, the mean over all frames but the first, which is the reference."""
    errors = [((a.astype(np.float64) - b) ** 2).mean() for a, b in zip(frames[1:], truth[1:], strict=True)]
    return float(np.mean(-10 * np.log10(np.array(errors) / 255**2)))


def main(
    people: Annotated[int, typer.Option(help="how many people")] = 6,
    frames: Annotated[int, typer.Option(help="frames of each, 25 a second")] = 50,
    first_seed: Annotated[int, typer.Option(help="seed of the first person")] = 0,
    sheet: Annotated[
        str | None, typer.Option(help="picture of every film's middle frame, to be written")
    ] = None,
    drive: Annotated[bool, typer.Option("--drive", help="let every film drive its first frame")] = False,
) -> None:
    """Print how many joints MediaPipe finds, and how fast."""
    detector = BlazePose()
    shares, seconds, used, shown = [], 0.0, 0.0, []
    gains, followed = [], []
    animator = None
    if drive:
        from avatar.animator import Animator

        animator = Animator.from_pretrained("mini")
    for seed in range(first_seed, first_seed + people):
        film = render_film(seed, frames)
        shown.append(film.frames[frames // 2])
        began, worked = time.monotonic(), time.process_time()
        found = follow(film.frames, detector, FPS)
        seconds, used = seconds + time.monotonic() - began, used + time.process_time() - worked
        shares.append(share_found(film, found.keypoints, found.scores))
        print(f"person {seed}: " + _listed(shares[-1]))
        if animator is not None:
            made = reenact(film, animator)
            still, moved = (
                psnr(np.broadcast_to(film.frames[:1], film.frames.shape), film.frames),
                psnr(made, film.frames),
            )
            gains.append(moved - still)
            output, places = follow(made, detector, FPS), [INDEX[name] for name in JOINTS]
            driver = Film(film.frames, found.keypoints[:, places, :2])
            followed.append(share_found(driver, output.keypoints, output.scores))
            print(f"  driven: still {still:.2f} dB, moved {moved:.2f} dB; " + _listed(followed[-1]))
            shown[-1] = np.concatenate([shown[-1], made[frames // 2]])
    mean = np.mean([share for one in shares for share in one.values()])
    print(f"PCK@{NEAR} shoulder widths {mean:.3f}; {people * frames / seconds:.1f} frames a second,")
    print(f"{people * frames / used:.1f} frames a second of processor time")
    if gains:
        mean = np.mean([share for one in followed for share in one.values()])
        print(
            f"driven: {np.mean(gains):+.2f} dB over the still frame,"
            f" PCK@{NEAR} of output against driver {mean:.3f}"
        )
    if sheet is not None:
        from PIL import Image

        Image.fromarray(np.concatenate(shown, 1)).save(sheet)


def _listed(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.2f}" for name, share in shares.items())


if __name__ == "__main__":
    typer.run(main)
