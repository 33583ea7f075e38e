"""Clips of the factory. Building Anny takes minutes the first time on a machine, later a few seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, safe_open
from scipy.ndimage import map_coordinates, zoom

from avatar.drivers.curves import CURVES, INDEX, curve_indices
from avatar.drivers.mesh import head_angles, rotation
from avatar.recipes.acting import LONE, draw_act
from avatar.recipes.drawing import act_out
from avatar.recipes.factory import Clip, find_landmarks, render_clip
from avatar.recipes.figure import draw_figure, lip_contact, shared
from avatar.recipes.people import pose_head
from avatar.recipes.speech_corpus import Utterance

pytestmark = pytest.mark.slow

SIZE = 128
SEED = 5


@pytest.fixture(scope="module")
def clip() -> Clip:
    return render_clip(SEED, SIZE)


def test_shapes_and_types(clip: Clip, tmp_path: Path) -> None:
    clip.save(tmp_path / "clip-5.safetensors")
    stored = {
        name: (str(value.dtype), value.shape)
        for name, value in load_file(tmp_path / "clip-5.safetensors").items()
    }
    assert stored == {
        "frames": ("uint8", (17, SIZE, SIZE, 3)),
        "reference": ("uint8", (SIZE, SIZE, 3)),
        "reference_landmarks": ("float32", (478, 3)),
        "curves": ("float16", (17, 52)),
        "reference_curves": ("float16", (52,)),
        "head": ("float32", (17, 6)),
        "flow": ("float16", (17, 2, 64, 64)),
        "visible": ("uint8", (17, 64, 64)),
        "parts": ("uint8", (17, 128, 128)),
        "seats": ("float32", (3,)),
        "utterance": ("int64", (1,)),
        "start": ("int64", (1,)),
    }
    with safe_open(tmp_path / "clip-5.safetensors", "numpy") as file:
        assert {"age", "gender", "skin", "hair", "light"} <= json.loads(file.metadata()["facts"]).keys()


def test_same_seed_gives_same_bytes(clip: Clip, tmp_path: Path) -> None:
    clip.save(tmp_path / "a.safetensors")
    render_clip(SEED, SIZE).save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def psnr(a: NDArray, b: NDArray) -> float:
    return float(10 * np.log10(255**2 / ((a - b) ** 2).mean()))


def test_flow_brings_the_reference_to_the_frame(clip: Clip) -> None:
    reference = clip.reference.astype(np.float64)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float64)
    warped_better = []
    for frame, flow, visible, parts in zip(clip.frames, clip.flow, clip.visible, clip.parts, strict=True):
        dx, dy = (
            zoom(part.astype(np.float64), SIZE / 64, order=1, grid_mode=True, mode="nearest") for part in flow
        )
        warped = np.stack(
            [map_coordinates(reference[..., c], [y + dy, x + dx], order=1, mode="nearest") for c in range(3)],
            -1,
        )
        skin = np.kron(visible, np.ones((SIZE // 64,) * 2)).astype(bool) & (np.isin(parts, (1, 2)))
        good = psnr(warped[skin], frame[skin].astype(np.float64))
        assert good > 24
        warped_better.append(good > psnr(reference[skin], frame[skin].astype(np.float64)))
    assert np.mean(warped_better) > 0.8


def test_the_face_mesh_agrees_with_the_head_pose(clip: Clip) -> None:
    angles = clip.head[:, :3]
    assert np.allclose(head_angles(rotation(angles)), angles, atol=1e-5)
    nose = []
    for frame in clip.frames[::4]:
        landmarks = find_landmarks(frame)
        assert landmarks is not None
        nose.append(landmarks[:468, :2].mean(0) - clip.reference_landmarks[:468, :2].mean(0))
    height = np.linalg.norm(clip.reference_landmarks[10] - clip.reference_landmarks[152])
    # The face's middle lies before the head's centre, so that a turn moves it too.
    ahead = np.stack([np.sin(clip.head[::4, 0]), np.sin(clip.head[::4, 1])], 1) * 0.36
    assert np.abs(np.stack(nose) / height - clip.head[::4, 3:5] - ahead).max() < 0.06


def lip_gap(curves: dict[str, float]) -> NDArray:
    """Distance of the middles of the lips for 6 people, metres, less that at rest."""
    values = np.zeros((2, len(CURVES)), np.float32)
    for name, value in curves.items():
        values[1, list(curve_indices(name))] = value
    upper, lower = lip_contact(shared().mesh)
    gaps = []
    for seed in range(6):
        figure = draw_figure(np.random.default_rng(seed))
        pose = pose_head(figure.person, np.tile(np.eye(3), (2, 1, 1)), np.zeros((2, 3)), 0.5)
        points = act_out(figure, values, pose)
        gaps.append(np.linalg.norm(points[:, upper] - points[:, lower], axis=1))
    return np.array(gaps)[:, 1] - np.array(gaps)[:, 0]


def test_lips_close_and_open() -> None:
    assert np.abs(lip_gap({"mouthPress": 0.5})).max() < 0.002
    assert np.abs(lip_gap({"jawOpen": 0.3, "mouthClose": 0.3})).max() < 0.002
    assert lip_gap({"jawOpen": 0.5}).min() > 0.008


def test_eyes_turn_and_lids_close() -> None:
    mesh = shared().mesh
    values = np.zeros((3, len(CURVES)), np.float32)
    values[1, INDEX["eyeLookOutLeft"]] = 1
    values[2, list(curve_indices("eyeBlink"))] = 1
    figure = draw_figure(np.random.default_rng(0))
    points = act_out(
        figure, values, pose_head(figure.person, np.tile(np.eye(3), (3, 1, 1)), np.zeros((3, 3)), 0.5)
    )
    pupil = mesh.eyes[0][mesh.template[mesh.eyes[0], 2].argmin()]
    assert points[1, pupil, 0] - points[0, pupil, 0] > 0.004  # the person's left is the picture's right
    lids = np.flatnonzero(mesh.lids > 0.8)
    assert np.ptp(points[2, lids, 1]) < np.ptp(points[0, lids, 1])


def test_some_acts_move_one_thing_alone() -> None:
    acts = [draw_act(np.random.default_rng(seed), 17, None) for seed in range(60)]
    lone = [act for act in acts if act.kind == "lone"]
    assert 12 <= len(lone) <= 32
    for act in lone:
        moving = np.flatnonzero(np.ptp(act.curves[1:], 0) > 1e-3)
        assert 1 <= len(moving) <= 4
        names = {CURVES[index].removesuffix("Left").removesuffix("Right") for index in moving}
        assert any(names <= set(group) for group in LONE)
    still = [np.ptp(act.angles[1:], 0).max() == 0 for act in lone]
    assert 0.2 < np.mean(still) < 0.8


def test_speech_moves_the_mouth() -> None:
    curves = np.zeros((200, len(CURVES)), np.float32)
    curves[:, INDEX["jawOpen"]] = np.linspace(0, 0.8, 200)
    rows = curves[np.arange(17) * 4]
    act = draw_act(np.random.default_rng(1), 17, rows)
    assert act.kind == "speech"
    assert np.allclose(act.curves[1:, INDEX["jawOpen"]], rows[:, INDEX["jawOpen"]])
    utterance = Utterance(np.zeros(32000, np.float32), (), curves, "000042")
    clip = render_clip(1, 64, utterance, 0.5)
    assert (clip.utterance, clip.start) == (42, 8000)
