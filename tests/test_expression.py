"""The expression signal: words, films made from a real portrait, files, and what the shipped net reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest
from conftest import edit_metadata
from numpy.typing import NDArray
from tiny import landmarks

from avatar.backbone.checkpoint import save
from avatar.drivers.curves import CURVES, INDEX, MOUTH, curve_indices
from avatar.drivers.expression import (
    LIDS_SEEN,
    LIFT,
    MOODS,
    ExpressionReader,
    ExpressionSignal,
    follow,
    held,
    read_expression,
)
from avatar.drivers.expression_net import ExpressionConfig, ExpressionNet
from avatar.drivers.mesh import LANDMARKS, FaceBasis, ReferenceMesh
from avatar.errors import UserError
from avatar.writer import VideoWriter

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]
FPS = Fraction(25)
JAW = INDEX["jawOpen"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def save_film(path: Path, frames: Iterable[Pixels], fps: Fraction = FPS) -> Path:
    frames = list(frames)
    with VideoWriter(path, size=(frames[0].shape[1], frames[0].shape[0]), fps=fps) as writer:
        for frame in frames:
            writer.write(frame)
    return path


@pytest.fixture(scope="module")
def frames(astronaut: Pixels) -> list[Pixels]:
    """The head of the portrait, which moves right by 4 px a frame: (320, 320, 3)."""
    return [np.ascontiguousarray(astronaut[:320, 80 - shift : 400 - shift]) for shift in range(0, 20, 4)]


def ramp(frames: int = 10) -> ExpressionSignal:
    """Curve k of frame t is t + k / 100."""
    curves = np.arange(frames)[:, None] + np.arange(len(CURVES)) / 100
    return ExpressionSignal(fps=Fraction(10), curves=curves.astype(np.float32))


# ---- words -------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["happy", "sad", "angry", "surprised", "disgusted", "afraid", "calm"])
def test_a_word_is_a_mood_that_holds(word: str) -> None:
    signal = ExpressionSignal.of_mood(word)
    assert len(signal) == 1 and not signal.absolute and signal.curves.dtype == np.float32
    expected = {side: value for name, value in MOODS[word].items() for side in curve_indices(name)}
    assert set(np.flatnonzero(signal.curves[0]).tolist()) == set(expected)
    for index, value in expected.items():
        assert signal.curves[0, index] == pytest.approx(value) and 0 < abs(value) <= 1
    same = read_expression(word)
    assert np.array_equal(same.curves, signal.curves) and not same.absolute


def test_the_tests_know_all_words() -> None:
    assert set(MOODS) == {"happy", "sad", "angry", "surprised", "disgusted", "afraid", "calm"}


def test_moods_are_the_same_on_both_sides_and_hardly_open_the_mouth() -> None:
    for word in MOODS:
        curves = ExpressionSignal.of_mood(word).curves[0]
        for name, index in INDEX.items():
            if name.endswith("Left") and name not in ("jawLeft", "mouthLeft"):
                assert curves[index] == curves[INDEX[f"{name[:-4]}Right"]], (word, name)
        assert curves[JAW] < 0.25


def test_words_that_contradict_a_smile_take_it_off() -> None:
    """The corners of a full smile end lower than a quarter of it; a happy face keeps all."""
    smile = list(curve_indices("mouthSmile"))
    for word in MOODS:
        left = 1 + ExpressionSignal.of_mood(word).curves[0, smile].min()
        assert (left < 0.25) == (word not in ("happy", "calm")), word


@pytest.mark.parametrize(("one", "other"), [*combinations(MOODS, 2)])
def test_no_two_words_are_alike(one: str, other: str) -> None:
    """The cosine between what they show; that of surprised and afraid was 0.88."""
    shown = [ExpressionSignal.of_mood(word).curves[0].clip(0) for word in (one, other)]
    first, second = (curves / np.linalg.norm(curves) for curves in shown)
    assert first @ second < 0.8


@pytest.mark.parametrize("word", ["joyful", "Happy", "jawOpen", ""])
def test_other_words_are_refused_with_those_that_there_are(word: str) -> None:
    with pytest.raises(
        UserError, match=f"expression {word}: must be a video, a signals file or one of happy,"
    ):
        ExpressionSignal.of_mood(word)


def test_a_word_that_is_no_file_is_refused_as_a_word() -> None:
    with pytest.raises(
        UserError, match=r"expression joyful: must be .* happy, sad, angry, surprised"
    ) as told:
        read_expression("joyful")
    assert "\n" not in str(told.value)


# ---- the signal --------------------------------------------------------------------------------


def test_it_is_cut_looped_and_resampled() -> None:
    assert np.array_equal(ramp().cut(0.2, 0.5).curves, ramp().curves[2:5])
    assert np.array_equal(ramp(3).looped(0.5, mirror=True).curves, ramp(3).curves[[0, 1, 2, 1, 0]])
    fine = ramp(3).resampled(Fraction(20))
    assert np.allclose(fine.curves[:, 0], [0, 0.5, 1, 1.5, 2, 2])
    assert np.allclose(fine.curves[1] - fine.curves[0], 0.5, atol=1e-6)
    mood = ExpressionSignal.of_mood("sad")
    assert not any(signal.absolute for signal in (mood.cut(), mood.looped(1), mood.resampled(FPS, 5)))


def test_in_a_mix_a_mask_is_of_its_own_curves() -> None:
    one, other = ramp(2), replace(ramp(2), curves=ramp(2).curves + 8)
    mouth = one.mixed([other.masked("mouth")], [1, 1])
    expected = np.where(np.isin(np.arange(len(CURVES)), MOUTH), 4, 0)
    assert np.allclose(mouth.curves - one.curves, expected, atol=1e-5)


def test_a_mood_and_a_film_are_not_mixed() -> None:
    with pytest.raises(UserError, match="differ in their absolute"):
        ramp().mixed([ExpressionSignal.of_mood("happy")], [1, 1])


# ---- files -------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    ramp().masked("mouth", "cheeks").scaled([(0, 0), (0.9, 1)]).save(tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def test_a_file_gives_back_what_was_saved(saved: Path) -> None:
    signal, expected = read_expression(saved), ramp().scaled([(0, 0), (0.9, 1)])
    assert np.array_equal(signal.curves, expected.curves) and signal.fps == 10
    assert np.array_equal(signal.strength, expected.strength)
    assert signal.mask == {"mouth", "cheeks"} and signal.absolute is True


def test_a_file_knows_a_mood_from_a_film(tmp_path: Path) -> None:
    ExpressionSignal.of_mood("calm").save(tmp_path / "calm.safetensors")
    assert ExpressionSignal.load(tmp_path / "calm.safetensors").absolute is False


@dataclass(frozen=True, kw_only=True)
class Other(ExpressionSignal):
    KIND: ClassVar[str] = "other"


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as told:
        read_expression(path)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_files_that_do_not_fit_are_refused_in_one_line(saved: Path, tmp_path: Path) -> None:
    Other(fps=FPS, curves=ramp().curves).save(tmp_path / "other.safetensors")
    expected = f"{tmp_path / 'other.safetensors'}: holds a signal of kind other, expression is needed"
    assert refusal(tmp_path / "other.safetensors") == expected
    whole = saved.read_bytes()
    edit_metadata(saved, facts='{"absolute": false}')
    assert "was changed or damaged after it was written" in refusal(saved)
    edit_metadata(saved, version="1")
    assert "is of format 1, 3 is read here" in refusal(saved)
    saved.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    assert "was changed or damaged after it was written" in refusal(saved)
    saved.write_bytes(whole[:-10])
    assert "is not a signals file, or is damaged" in refusal(saved)
    assert "no such signals file" in refusal(tmp_path / "none.safetensors")


@pytest.mark.parametrize("absolute", [1, "yes", None])
def test_a_file_that_says_neither_is_refused(tmp_path: Path, absolute: object) -> None:
    wrong = ramp()
    object.__setattr__(wrong, "absolute", absolute)
    wrong.save(tmp_path / "a.safetensors")
    assert "is not a complete expression signal" in refusal(tmp_path / "a.safetensors")


# ---- films -------------------------------------------------------------------------------------


def test_a_film_has_a_row_of_curves_for_each_frame(
    tmp_path: Path, frames: list[Pixels], caplog: pytest.LogCaptureFixture
) -> None:
    film = save_film(tmp_path / "a.mp4", frames, Fraction(30000, 1001))
    signal = read_expression(film)
    assert signal.absolute and signal.fps == Fraction(30000, 1001)
    assert signal.curves.shape == (5, len(CURVES)) and signal.curves.dtype == np.float32
    # The face slides and holds still: what is read is the reader's on the landmarks, and hardly changes.
    points = held(follow(frames, "largest", "a.mp4"), FPS, "a.mp4")
    assert np.abs(signal.curves - ExpressionReader()(points)).max() < 0.15
    assert signal.curves.std(0).max() < 0.1
    assert caplog.text == ""


def test_the_portrait_smiles_with_open_eyes(tmp_path: Path, frames: list[Pixels]) -> None:
    curves = read_expression(save_film(tmp_path / "a.mp4", frames)).curves.mean(0)
    smile, blink = (curves[list(curve_indices(name))].mean() for name in ("mouthSmile", "eyeBlink"))
    assert smile > 0.3 and blink < 0.3


def test_the_second_reading_comes_from_the_cache(tmp_path: Path, frames: list[Pixels], cache: Path) -> None:
    film = save_film(tmp_path / "a.mp4", frames[:2])
    looked: list[int] = []

    def count(given: Iterable[Pixels], total: int) -> Iterable[Pixels]:
        looked.append(total)
        return given

    first, second = (read_expression(film, track=count) for _ in range(2))
    assert looked == [2] and np.array_equal(first.curves, second.curves) and second.absolute
    assert len(list(cache.rglob("*.safetensors"))) == 1
    read_expression(film, face="0", track=count)  # another question
    assert looked == [2, 2]


def test_of_two_faces_one_is_read(tmp_path: Path, frames: list[Pixels]) -> None:
    both = [np.full((320, 640, 3), 90, np.uint8) for _ in range(2)]
    for frame in both:
        frame[:, :320] = frames[0]
        frame[60:260, 400:600] = cv2.resize(frames[0], (200, 200), interpolation=cv2.INTER_AREA)
    film = save_film(tmp_path / "both.mp4", both)
    assert len(read_expression(film, face="1")) == 2
    with pytest.raises(UserError, match=r"both\.mp4: there is no face 2; found"):
        read_expression(film, face="2")


def test_a_film_without_a_face_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (3, 256, 256, 3), np.uint8)
    with pytest.raises(UserError, match=r"noise\.mp4: shows no face; use a film in which a face is at least"):
        read_expression(save_film(tmp_path / "noise.mp4", noise))


def test_a_film_of_one_frame_stands_still(
    tmp_path: Path, frames: list[Pixels], caplog: pytest.LogCaptureFixture
) -> None:
    signal = read_expression(save_film(tmp_path / "one.mp4", frames[:1]))
    assert len(signal) == 1 and "one.mp4: has a single frame, the expression stands still" in caplog.text


def test_what_is_no_film_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.mp4: no such video"):
        read_expression(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(UserError, match="not a video that can be read"):
        read_expression(tmp_path / "text.mp4")


# ---- where the face is not seen ----------------------------------------------------------------


def face(number: float) -> Array:
    return np.full((LANDMARKS, 3), number, np.float32)


def test_a_face_out_of_sight_holds_and_waits_before_it_is_seen(caplog: pytest.LogCaptureFixture) -> None:
    found = [None, None, face(2), None, None, face(5), None]
    out = held(iter(found), FPS, "a.mp4")
    assert out.shape == (7, LANDMARKS, 3)
    assert out[:, 0, 0].tolist() == [2, 2, 2, 2, 2, 5, 5] and caplog.text == ""


@pytest.mark.parametrize(("gap", "told"), [(10, False), (11, True)])
@pytest.mark.parametrize("first", [True, False])
def test_a_second_out_of_sight_is_bridged_in_silence_and_more_is_told(
    gap: int, told: bool, first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """At 10 frames a second, 10 frames without a face are a second."""
    lost: list[Array | None] = [None] * gap
    held([*lost, face(1)] if first else [face(1), *lost], Fraction(10), "a.mp4")
    assert ("a.mp4: the face is out of sight for over 1 s, there it holds still" in caplog.text) == told


@pytest.mark.parametrize("frames", [0, 3])
def test_a_face_that_is_never_seen_is_refused(frames: int) -> None:
    with pytest.raises(UserError, match=r"a\.mp4: shows no face"):
        held([None] * frames, FPS, "a.mp4")


def test_a_film_in_which_the_face_is_away_for_a_while(
    tmp_path: Path, frames: list[Pixels], caplog: pytest.LogCaptureFixture
) -> None:
    empty = np.full_like(frames[0], 90)
    signal = read_expression(save_film(tmp_path / "a.mp4", [empty, frames[0], empty, frames[1], empty]))
    same = signal.curves[[0, 2]] - signal.curves[[1, 1]]
    assert np.abs(same).max() < 1e-6 and np.abs(signal.curves[4] - signal.curves[3]).max() < 1e-6
    assert caplog.text == ""


# ---- what the net reads ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader() -> ExpressionReader:
    return ExpressionReader()


@pytest.fixture(scope="module")
def mesh() -> ReferenceMesh:
    return ReferenceMesh(FaceBasis.load(), landmarks(256))


def read(reader: ExpressionReader, mesh: ReferenceMesh, curves: Array, head: Array | None = None) -> Array:
    """Curves read from the mean face that shows `curves` (T, 52)."""
    return reader(mesh.place(mesh.act(curves), np.zeros((len(curves), 6)) if head is None else head))


def shown(values: list[float], *names: str) -> Array:
    """These curves at these values, one a frame, and no others."""
    curves = np.zeros((len(values), len(CURVES)), np.float32)
    curves[:, list(curve_indices(*names))] = np.float32(values)[:, None]
    return curves


@pytest.mark.parametrize(
    "names",
    [
        ("jawOpen",),
        ("mouthSmile",),
        ("mouthPucker",),
        ("eyeLookOutLeft", "eyeLookInRight"),
        ("eyeLookOutRight", "eyeLookInLeft"),
    ],
)
def test_more_is_read_where_more_is_shown(
    reader: ExpressionReader, mesh: ReferenceMesh, names: tuple[str, ...]
) -> None:
    columns = list(curve_indices(*names))
    found = read(reader, mesh, shown([0, 0.5, 1], *names))[:, columns].mean(1)
    assert found[0] < found[1] < found[2] and found[2] > found[0] + 0.1


def test_an_open_mouth_is_read_as_far_as_it_is_open(reader: ExpressionReader, mesh: ReferenceMesh) -> None:
    values = [0, 0.1, 0.2, 0.3, 0.5]
    found = read(reader, mesh, shown(values, "jawOpen"))[:, JAW]
    assert np.abs(found - values).max() < 0.2 and (np.diff(found) > 0.03).all()


def test_lifted_brows_are_read_as_lifted(reader: ExpressionReader, mesh: ReferenceMesh) -> None:
    """About the median of the film: 1 in a frame where all brow curves are 1, 0.5 where they are half."""
    curves = np.zeros((7, len(CURVES)), np.float32)
    curves[0, list(LIFT)], curves[5, list(LIFT)] = 1, 0.5
    found = read(reader, mesh, curves)
    assert np.allclose(found[:, list(LIFT)], curves[:, list(LIFT)], atol=0.02)
    assert np.abs(found[:, list(curve_indices("browDown"))]).max() == 0


def test_brows_that_are_up_all_the_time_are_that_face(reader: ExpressionReader, mesh: ReferenceMesh) -> None:
    curves = np.zeros((3, len(CURVES)), np.float32)
    curves[:, list(LIFT)] = 0.8
    assert np.abs(read(reader, mesh, curves)[:, list(LIFT)]).max() < 1e-5


def test_lids_are_read_about_their_median_as_more_than_the_mesh_shows(
    reader: ExpressionReader, mesh: ReferenceMesh
) -> None:
    """A rendered film's meshes show LIDS_SEEN of what lids do: a tenth less opening is a blink of a tenth by
    LIDS_MEET / LIDS_SEEN. What looking down does to the lids is not taken for a blink."""
    blink, wide = ([INDEX[f"{name}{side}"] for side in ("Left", "Right")] for name in ("eyeBlink", "eyeWide"))
    curves = shown([0, 0, 0, 0, 0.24, 0, 0.4], "eyeBlink")
    curves[5, wide] = 0.3
    found = read(reader, mesh, curves)
    assert np.allclose(found[4, blink], 0.24 / LIDS_SEEN, atol=0.08)
    assert (found[6, blink] > found[4, blink]).all()
    assert (found[5, wide] > 0.3).all() and (found[[4, 6]][:, wide] == 0).all()
    assert np.abs(found[:4, blink] - found[:1, blink]).max() < 1e-5
    # The same film with half-shut eyes all along is a face with narrow eyes.
    assert np.allclose(read(reader, mesh, np.repeat(curves[6:], 3, 0))[:, blink], found[:3, blink], atol=0.1)


def test_the_pose_of_the_head_is_not_read(reader: ExpressionReader, mesh: ReferenceMesh) -> None:
    curves = np.repeat(shown([0.3], "jawOpen"), 4, 0)
    head = np.zeros((4, 6), np.float32)
    head[1, :3], head[2, 3:], head[3] = (0.4, -0.2, 0.3), (0.2, -0.1, -1), (-0.4, 0.2, 0, 0.1, 0, 1)
    found = read(reader, mesh, curves, head)
    assert np.abs(found - found[0]).max() < 1e-3


def test_frames_are_read_alone_but_for_brows_and_lids(reader: ExpressionReader, mesh: ReferenceMesh) -> None:
    curves = shown([0, 0.2, 0.4], "jawOpen")
    about_the_median = (*LIFT, *curve_indices("eyeBlink", "eyeWide"))
    rest = [index for index in range(len(CURVES)) if index not in about_the_median]
    alone = np.concatenate([read(reader, mesh, curves[index : index + 1]) for index in range(3)])
    assert np.allclose(alone[:, rest], read(reader, mesh, curves)[:, rest], atol=1e-5)


def test_a_reader_takes_other_weights(tmp_path: Path, mesh: ReferenceMesh) -> None:
    net = ExpressionNet(ExpressionConfig(width=8, layers=1, code=4))
    net.to_curves.weight.data.zero_()
    net.to_curves.bias.data.fill_(0.25)
    save(net, tmp_path / "net.safetensors")
    found = read(ExpressionReader(tmp_path / "net.safetensors"), mesh, shown([0.0], "jawOpen"))
    assert found[0, JAW] == 0.25
