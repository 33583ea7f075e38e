"""The clip factory: talking-head clips of people who do not exist, with everything about them known exactly.
Settings in factory.yaml; `python -m avatar.recipes.factory out=... clips=...`.

Each `clip-SEED.safetensors` holds a reference picture R and 17 frames at 25 fps of the same person, light,
camera and background:

    frames               uint8 (17, 256, 256, 3)
    reference            uint8 (256, 256, 3)
    reference_landmarks  float32 (478, 3)   MediaPipe's refined face mesh on R, all three in pixels
    curves               float16 (17, 52)   absolute ARKit curves, order of avatar.drivers.curves
    reference_curves     float16 (52,)
    head                 float32 (17, 6)    head pose relative to R, see below
    flow                 float16 (17, 2, 64, 64)  see below
    visible              uint8 (17, 64, 64)       1 where R shows that point too
    parts                uint8 (17, 128, 128)     see below
    seats                float32 (3,)             see figure.mouth_seats, in face heights
    utterance, start     int64 (1,)         utterance that drives the mouth, its first sample at 16 kHz; or -1

Head pose follows avatar.drivers.mesh: yaw, pitch, roll in radians such that, in camera axes (right, down,
away), rotation(head) @ turn_of_R = turn_of_frame; then the shift of the head's centre in face heights
(landmarks 10 to 152 in R): x right, y down as the picture shows it, z away from the camera. Flow is x and y
in pixels from a place in the frame to the same surface point in R, 0 for background. Parts: 0 background,
1 skin, 2 lips, 3 inside of the mouth, 4 eye, 5 brow and lash, 6 hair and beard, 7 clothes, 8 glasses.

The metadata entry `facts` is JSON with what is known in words. The same seed gives the same bytes. Existing
files are kept.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt

from avatar.drivers.mesh import head_angles, rotation
from avatar.errors import UserError
from avatar.recipes import scene
from avatar.recipes.acting import FPS, Act, draw_act
from avatar.recipes.drawing import Drawing, act_out, draw_frame
from avatar.recipes.figure import Figure, draw_figure, lip_contact, mouth_seats, shared
from avatar.recipes.flow import true_flow
from avatar.recipes.people import Pose, pose_head
from avatar.recipes.render import merge_samples
from avatar.recipes.settings import RecipeSettings, read_settings, run
from avatar.recipes.shards import write
from avatar.recipes.speech_corpus import Utterance, corpus_files, load_utterance

log = logging.getLogger(__name__)

Array = NDArray[np.float32]

FRAMES = 17
FLOW_CELLS, PART_CELLS = 64, 128  # per side of the stored maps
SAMPLES = 2  # per pixel and direction
RANDOM_SHARE = 0.3  # of clips whose mouth follows no speech
# Face heights from the middle of landmarks 10 and 152; fitted so that avatar.drivers.mesh, which turns
# landmarks about its own centre, puts them where the face mesh finds them in the frames.
HEAD_CENTRE = np.array([0, 0.069, 0.357], np.float32)
CURVE_RATE, SAMPLE_RATE = 100, 16000  # Hz
FOREHEAD, CHIN = (0.0, -0.777), (0.0, -0.6177)  # template x, y of landmarks 10 and 152


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One clip; see the module's description for shapes and units."""

    frames: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    reference_landmarks: Array
    curves: NDArray[np.float16]
    reference_curves: NDArray[np.float16]
    head: Array
    flow: NDArray[np.float16]
    visible: NDArray[np.uint8]
    parts: NDArray[np.uint8]
    seats: Array
    utterance: int
    start: int
    facts: dict[str, object]

    def save(self, path: Path) -> None:
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        tensors |= {
            "utterance": np.array([self.utterance], np.int64),
            "start": np.array([self.start], np.int64),
        }
        write(tensors, path, {"facts": json.dumps(self.facts)})


@lru_cache(maxsize=1)
def _face_mesh() -> object:
    import mediapipe as mp

    return mp.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True, max_num_faces=1)


def find_landmarks(picture: NDArray[np.uint8]) -> Array | None:
    """MediaPipe's face mesh on a picture: (478, 3) in pixels, None when it sees no face."""
    found = _face_mesh().process(picture).multi_face_landmarks  # type: ignore[attr-defined]
    if not found:
        return None
    side = picture.shape[1]
    return np.array([(p.x * side, p.y * picture.shape[0], p.z * side) for p in found[0].landmark], np.float32)


@dataclass(frozen=True, kw_only=True)
class Take:
    """A person with light, camera and place, before anything moves."""

    figure: Figure
    light: scene.Light
    camera: scene.Camera
    background: Array
    finish: scene.Finish
    grain: Array
    face_height: float
    facts: dict[str, object]


def face_points(figure: Figure) -> tuple[int, int]:
    """Vertices at the top of the forehead and under the chin."""
    template = shared().mesh.template
    front = np.where(template[:, 2] < -0.1, 0, 1)
    ids = [np.argmin(np.hypot(template[:, 0] - x, template[:, 1] - y) + front) for x, y in (FOREHEAD, CHIN)]
    return int(ids[0]), int(ids[1])


def openness(figure: Figure, points: Array) -> Array:
    """How far the lips are apart in each frame, 0 closed to 1 wide: points (T, V, 3) -> (T,)."""
    upper, lower = lip_contact(shared().mesh)
    gap = np.linalg.norm(points[:, lower] - points[:, upper], axis=1)
    rest = np.linalg.norm(figure.person.rest[lower] - figure.person.rest[upper])
    return np.clip((gap - rest) / 0.02, 0, 1).astype(np.float32)


def draw_take(rng: np.random.Generator, side: int) -> Take:
    """A random person in a random place, for pictures of `side` px before they are scaled down."""
    figure = draw_figure(rng)
    top, chin = face_points(figure)
    rest = figure.person.rest
    height = float(np.linalg.norm(rest[top] - rest[chin]))
    light, light_name = scene.draw_light(rng)
    camera, frame = scene.draw_camera(rng, height, rest[top] + 0.42 * (rest[chin] - rest[top]), side)
    background, place = scene.draw_background(rng, side)
    level = float(
        figure.skin[200:300, 300:430, :3].mean() * (light.ambient.mean() + 0.45 * light.colour.sum(0).mean())
    )
    return Take(
        figure=figure,
        light=light,
        camera=camera,
        background=background,
        finish=scene.draw_finish(rng, level),
        grain=rng.standard_normal((side // SAMPLES, side // SAMPLES)).astype(np.float32),
        face_height=height,
        facts={**figure.facts, "light": light_name, "background": place, "frame": round(frame, 2)},
    )


def develop(drawing: Drawing, take: Take, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Put a drawing on the background, scale it down and finish it as a camera would."""
    small = merge_samples(drawing.picture, take.background, drawing.screen.ids, SAMPLES)
    return scene.finish(small, take.finish, take.grain, rng)


def head_track(take: Take, act: Act, pose: Pose) -> Array:
    """Head pose of the frames relative to the reference, (T, 6); see the module's description."""
    turns = rotation(act.angles)
    angles = head_angles(turns[1:] @ turns[0].T)
    top, chin = face_points(take.figure)
    rest = take.figure.person.rest
    centre = (rest[top] + rest[chin]) / 2 + HEAD_CENTRE * take.face_height
    world = pose.of_head(centre[None])[:, 0]
    screen = take.camera.project(world)
    scale = take.camera.focal / screen[0, 2] * take.face_height  # px per face height
    flat = (screen[1:, :2] - screen[0, :2]) / scale
    depth = (world[1:, 2:] - world[0, 2:]) / take.face_height
    return np.concatenate([angles, flat, depth], 1).astype(np.float32)


def render_clip(
    seed: int, size: int = 256, utterance: Utterance | None = None, start: float = 0.0, lone: bool = False
) -> Clip:
    """Render one clip.

    Args:
        seed: of everything random; the same seed gives the same clip.
        size: side of the pictures in pixels, a multiple of 64.
        utterance: whose curves move the mouth; None for random motion.
        start: where in the utterance the clip begins, seconds.
        lone: without an utterance, move one thing alone.
    """
    rng = np.random.default_rng(seed)
    speech = None
    if utterance is not None:
        rows = np.round((start + np.arange(FRAMES) / FPS) * CURVE_RATE).astype(int)
        speech = utterance.curves[np.clip(rows, 0, len(utterance.curves) - 1)]
    side = size * SAMPLES
    while True:
        take, act = draw_take(rng, side), draw_act(rng, FRAMES, speech, lone)
        pose = pose_head(
            take.figure.person,
            rotation(act.angles),
            act.shift * take.face_height,
            float(rng.uniform(0.2, 1.0)),
        )
        points = act_out(take.figure, act.curves, pose)
        gaps = openness(take.figure, points)
        first = draw_frame(take.figure, points[0], pose, 0, float(gaps[0]), take.camera, take.light)
        reference = develop(first, take, rng)
        landmarks = find_landmarks(reference)
        if landmarks is not None:
            break
    frames, flows, visibles, parts = [], [], [], []
    for t in range(1, FRAMES + 1):
        drawing = draw_frame(take.figure, points[t], pose, t, float(gaps[t]), take.camera, take.light)
        frames.append(develop(drawing, take, rng))
        flow, visible = true_flow(drawing, first, take.figure.triangles, FLOW_CELLS)
        flows.append(flow / SAMPLES)
        visibles.append(visible)
        step = side // PART_CELLS
        parts.append(drawing.parts[step // 2 :: step, step // 2 :: step])
    number = -1 if utterance is None else int(utterance.id)
    return Clip(
        frames=np.stack(frames),
        reference=reference,
        reference_landmarks=landmarks,
        curves=act.curves[1:].astype(np.float16),
        reference_curves=act.curves[0].astype(np.float16),
        head=head_track(take, act, pose),
        flow=np.stack(flows).astype(np.float16),
        visible=np.stack(visibles),
        parts=np.stack(parts),
        seats=mouth_seats(take.figure.person, shared().mesh) / take.face_height,
        utterance=number,
        start=-1 if utterance is None else round(start * SAMPLE_RATE),
        facts={
            **take.facts,
            "expression": act.expression,
            "motion": act.kind,
            "speech": "random" if utterance is None else f"{utterance.id} at {start:.2f} s",
        },
    )


def pick_speech(seed: int, corpus: list[Path]) -> tuple[Utterance | None, float]:
    """The utterance and the start in seconds that a clip's mouth follows; None for random motion."""
    rng = np.random.default_rng((seed, 1))
    if not corpus or rng.random() < RANDOM_SHARE:
        return None, 0.0
    utterance = load_utterance(corpus[int(rng.integers(len(corpus)))])
    length = len(utterance.curves) / CURVE_RATE
    latest = max(0.0, length - FRAMES / FPS)
    return utterance, round(float(rng.uniform(0, latest)) * CURVE_RATE) / CURVE_RATE


def draw_sheet(clips: list[Clip], path: Path, columns: int = 7) -> None:
    """Write a picture with one row per clip: the reference, then frames spread over the clip."""
    from PIL import Image

    picks = np.linspace(0, FRAMES - 1, columns - 1).astype(int)
    rows = [np.concatenate([clip.reference, *clip.frames[picks]], 1) for clip in clips]
    Image.fromarray(np.concatenate(rows)).save(path)


class FactorySettings(RecipeSettings):
    """See factory.yaml."""

    out: Path
    clips: PositiveInt
    first: NonNegativeInt
    size: PositiveInt
    speech: Path | None
    lone: bool
    sheet: Path | None


def main(words: list[str]) -> None:
    """Render clips into OUT, or into one SHEET."""
    settings = read_settings(FactorySettings, __file__, words)
    if settings.lone and settings.speech:
        raise UserError("lone and speech exclude each other: a clip that speaks moves more than one thing")
    corpus = corpus_files(settings.speech) if settings.speech else []
    shown: list[Clip] = []
    began, made = time.monotonic(), 0
    for seed in range(settings.first, settings.first + settings.clips):
        target = settings.out / f"clip-{seed}.safetensors"
        if target.exists() and not settings.sheet:
            continue
        clip = render_clip(seed, settings.size, *pick_speech(seed, corpus), settings.lone)
        if settings.sheet:
            shown.append(clip)
        else:
            clip.save(target)
        made += 1
        if made == 1:
            began = time.monotonic()  # the first clip also builds the model
        elif made % 50 == 0:
            log.info("clip %d, %.2f clips/s", seed, (made - 1) / (time.monotonic() - began))
    if settings.sheet:
        draw_sheet(shown, settings.sheet)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run(main)
