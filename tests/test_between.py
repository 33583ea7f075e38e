"""From one picture to another: the ends are the pictures, the way between them is that of the face."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import EXAMPLE
from numpy.typing import NDArray
from PIL import Image

from avatar import Animator, AudioSignal, UserError
from avatar.actor import EASE, freedom
from avatar.between import BetweenSession, difference
from avatar.drivers.curves import INDEX
from avatar.drivers.face import find_faces
from avatar.drivers.head import NOD_SEEN
from avatar.drivers.mesh import FaceBasis, ReferenceMesh
from avatar.drivers.mix import SHAPE
from avatar.media import read_image
from avatar.options import DriveOptions
from avatar.render import Known
from avatar.writer import VideoWriter

Frames = NDArray[np.uint8]
COUNT = 13


@pytest.fixture(scope="module")
def ends(animator: Animator, face: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The example's face, and the same with another expression further right."""
    photo = read_image(face)
    folder = tmp_path_factory.mktemp("between")
    moods = animator.drive(face, expression="surprised", seconds=0.04, head_motion=0)
    frame = np.roll(next(iter(moods)), 6, 1)
    first, last = folder / "first.png", folder / "last.png"
    Image.fromarray(photo[: frame.shape[0], : frame.shape[1]]).save(first)
    Image.fromarray(frame).save(last)
    return first, last


@pytest.fixture(scope="module")
def made(animator: Animator, ends: tuple[Path, Path]) -> Frames:
    first, last = ends
    return np.stack(list(animator.stream(first, last=last, seconds=COUNT / 25)))


def test_the_ends_are_the_pictures(made: Frames, ends: tuple[Path, Path]) -> None:
    """To the bit; and their neighbours are near them, so that nothing jumps."""
    first, last = map(read_image, ends)
    assert len(made) == COUNT
    assert np.array_equal(made[0], first) and np.array_equal(made[-1], last)
    steps = np.abs(np.diff(made.astype(np.int16), axis=0)).mean((1, 2, 3))
    assert steps[[0, 1, -2, -1]].max() < 0.5 * steps.max()


def test_the_face_goes_all_the_way(made: Frames) -> None:
    """Its middle moves by 6 px, half of it half way, and never back by more than the mesh trembles."""
    place = np.array([find_faces(frame)[0].place[0] for frame in made])
    assert place[-1] - place[0] == pytest.approx(6, abs=1.0)
    assert place[COUNT // 2] - place[0] == pytest.approx(3, abs=1.0)
    assert (np.diff(place) > -0.7).all()


def test_speech_acts_between_the_ends(animator: Animator, ends: tuple[Path, Path]) -> None:
    first, last = ends
    word = AudioSignal.from_file(EXAMPLE / "talk.wav").cut(1, 1 + COUNT / 25)
    session = animator.session(first, word, last=last)
    assert isinstance(session, BetweenSession) and session.frames == COUNT and session.sounds == [word]
    for at, actor in enumerate(session.sessions):
        curves = np.concatenate([motion.curves for motion in actor.actors[0].motion()])
        rest = actor.actors[0].renderer.driven.mesh.rest
        own = 0 if at == 0 else -1  # where it is its picture
        np.testing.assert_allclose(curves[own], rest, atol=1e-5)
        assert np.abs((curves[COUNT // 2] - rest) * SHAPE).max() > 0.1


def test_the_difference_is_that_of_the_meshes() -> None:
    """A mesh that acts and turns differs by what it does; the other way, by the opposite."""
    basis = FaceBasis.load()
    mesh = ReferenceMesh(basis, 200 * basis.neutral + [150, 150, 0])
    curves, head = np.zeros((1, 52), np.float32), np.array([[0.2, 0.1, 0.05, 0.1, 0, 0]], np.float32)
    curves[0, INDEX["jawOpen"]] = 0.5
    other = mesh.place(mesh.act(curves), head)[0]
    change, turn = difference(basis, mesh.landmarks, other, (300, 300))
    head[0, 1] /= NOD_SEEN  # meshes show less of a nod
    np.testing.assert_allclose(turn, head[0], atol=0.02)
    back, turned = difference(basis, other, mesh.landmarks, (300, 300))
    assert change[INDEX["jawOpen"]] > 0.2
    np.testing.assert_allclose(back, -change, atol=1e-5)
    assert turned[0] == pytest.approx(-0.2, abs=0.03)


def test_motion_grows_out_of_what_is_known() -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    assert (freedom(50, Fraction(25), Known()) == 1).all()
    begins = freedom(50, Fraction(25), Known(first=picture))
    assert begins[0] == 0 and (begins[round(EASE * 25) :] == 1).all() and (np.diff(begins) >= 0).all()
    both = freedom(50, Fraction(25), Known(picture, picture))
    np.testing.assert_allclose(both, both[::-1], atol=1e-6)
    assert freedom(1, Fraction(25), Known(picture, picture)).tolist() == [0]


def test_the_first_picture_may_be_a_moment_of_a_video(
    animator: Animator, ends: tuple[Path, Path], tmp_path: Path
) -> None:
    first, last = ends
    clip = tmp_path / "clip.mp4"
    photo = read_image(first)
    with VideoWriter(clip, size=(photo.shape[1], photo.shape[0]), fps=Fraction(25)) as writer:
        for frame in (np.zeros_like(photo), photo):
            writer.write(frame)
    session = animator.session(clip, options=DriveOptions(ref_time=0.04, seconds=0.2), last=last)
    assert np.abs(session.sessions[0].photo.astype(np.int16) - photo).mean() < 5  # type: ignore[attr-defined]


def test_wrong_ends_are_refused(animator: Animator, ends: tuple[Path, Path], tmp_path: Path) -> None:
    first, last = ends
    with pytest.raises(UserError, match="--last: say with --seconds"):
        animator.session(first, last=last)
    small = tmp_path / "small.png"
    with Image.open(last) as picture:
        picture.resize((128, 128)).save(small)
    with pytest.raises(UserError, match=r"small\.png: is 128 x 128 px, must be \d+ x \d+ px"):
        animator.session(first, options=DriveOptions(seconds=1), last=small)
    blank = tmp_path / "blank.png"
    Image.new("RGB", Image.open(first).size).save(blank)
    with pytest.raises(UserError, match=r"blank\.png: no face found"):
        animator.session(first, options=DriveOptions(seconds=1), last=blank)
