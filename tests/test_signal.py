"""Signals: cut, joined, looped, resampled and mixed by time; files that say what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from conftest import edit_metadata
from numpy.typing import NDArray

from avatar.drivers.cache import cache_path, cached
from avatar.drivers.signal import Signal
from avatar.drivers.signal_file import VERSION
from avatar.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Levels(Signal):
    """Three levels: of the mouth, the eyes and the body."""

    KIND: ClassVar[str] = "levels"
    SHAPES: ClassVar[Mapping[str, tuple[int, ...]]] = {"values": (3,)}
    ELEMENTS: ClassVar[Mapping[str, Mapping[str, Sequence[int]]]] = {
        "values": {"mouth": (0,), "eyes": (1,), "body": (2,)}
    }
    FACTS: ClassVar[tuple[str, ...]] = ("unit",)

    values: NDArray[np.float32]
    unit: str = "m"


@dataclass(frozen=True, kw_only=True)
class Others(Levels):
    KIND: ClassVar[str] = "others"


def levels(numbers: Sequence[float], fps: int = 10) -> Levels:
    """All three levels are the same number."""
    return Levels(fps=Fraction(fps), values=np.repeat(np.float32(numbers)[:, None], 3, 1))


def numbers(signal: Levels) -> list[float]:
    return signal.values[:, 2].round(4).tolist()


TEN = levels(range(10))


def test_a_signal_knows_its_length_and_is_whole_by_default() -> None:
    assert len(TEN) == 10 and TEN.seconds == 1
    assert TEN.strength.tolist() == [1.0] * 10 and TEN.mask == {"mouth", "eyes", "cheeks", "head", "body"}


def test_cuts_are_by_time() -> None:
    assert numbers(TEN.cut(0.2, 0.5)) == [2, 3, 4]
    assert numbers(TEN.cut(0.7)) == [7, 8, 9]
    assert numbers(TEN.scaled([(0, 0), (0.9, 9)]).cut(0.3, 0.5)) == [3, 4]
    assert TEN.scaled([(0, 0), (0.9, 9)]).cut(0.3, 0.5).strength.round(4).tolist() == [3, 4]
    for start, stop in ((-0.1, 0.5), (0.5, 0.5), (2.0, None)):
        with pytest.raises(UserError, match=r"no frames from .*levels signal has 1 s"):
            TEN.cut(start, stop)


def test_loops_repeat_and_mirrored_loops_turn_round() -> None:
    three = TEN.cut(0, 0.3)
    assert numbers(three.looped(0.7)) == [0, 1, 2, 0, 1, 2, 0]
    assert numbers(three.looped(0.7, mirror=True)) == [0, 1, 2, 1, 0, 1, 2]
    assert numbers(TEN.cut(0.4, 0.5).looped(0.3, mirror=True)) == [4, 4, 4]
    with pytest.raises(UserError, match="no frames"):
        three.looped(0)


def test_resampling_is_by_time() -> None:
    assert numbers(levels([0, 1, 2]).resampled(Fraction(20))) == [0, 0.5, 1, 1.5, 2, 2]
    assert numbers(TEN.resampled(Fraction(5))) == [0, 2, 4, 6, 8]
    assert numbers(TEN.resampled(Fraction(5), frames=7)) == [0, 2, 4, 6, 8, 9, 9]
    for fps in (Fraction(30000, 1001), Fraction(24), Fraction(7, 2)):
        there = TEN.resampled(fps)
        assert len(there) == -(-10 * fps // 10)
        rows = np.minimum(np.arange(len(there)) * float(10 / fps), 9)
        assert np.allclose(there.values[:, 0], rows, atol=1e-5)
    assert np.array_equal(TEN.resampled(TEN.fps).values, TEN.values)


def test_signals_of_other_rates_are_joined_by_time() -> None:
    joined = levels([0, 1]).joined(levels([2, 2.5, 3, 3.5], fps=20), levels([4]))
    assert numbers(joined) == [0, 1, 2, 3, 4] and joined.fps == 10 and len(joined.strength) == 5


def test_signals_that_do_not_fit_are_not_joined() -> None:
    other = Others(fps=Fraction(10), values=TEN.values)
    with pytest.raises(UserError, match="a levels signal and a others signal"):
        TEN.joined(other)
    with pytest.raises(UserError, match="differ in their unit"):
        TEN.joined(replace(TEN, unit="px"))
    with pytest.raises(UserError, match="differ in their mask"):
        TEN.joined(TEN.masked("mouth"))


def test_a_mix_is_the_weighted_mean_by_time() -> None:
    fast, slow = levels([10] * 4, fps=20), levels([0] * 3)
    mix = slow.mixed([fast], [1, 3])
    assert numbers(mix) == [7.5, 7.5, 0]  # the fast one ends after 0.2 s
    assert numbers(fast.mixed([slow], [3, 1])) == [7.5] * 4 + [0] * 2


def test_in_a_mix_every_signal_counts_by_its_strength_and_where_its_mask_is() -> None:
    a, b = levels([1, 1]).masked("mouth"), levels([5, 5])
    mix = b.mixed([a], [1, 1])
    assert mix.values[0].tolist() == [3, 5, 5] and mix.mask == b.mask
    weak = b.mixed([levels([1, 1]).scaled([(0, 1), (0.1, 0)])], [1, 1])
    assert numbers(weak) == [3, 5] and weak.strength.tolist() == [1, 0.5]
    mouth = a.mixed([levels([3, 3]).masked("eyes")], [1, 1])
    assert mouth.values[0].tolist() == [1, 3, 1] and mouth.mask == {"mouth", "eyes"}


@pytest.mark.parametrize("weights", [[1], [1, -1], [0, 0], [float("nan"), 1]])
def test_weights_that_make_no_mean_are_refused(weights: list[float]) -> None:
    with pytest.raises(UserError, match="give one of 0 or more for each of 2 signals"):
        TEN.mixed([TEN], weights)


def test_strength_is_a_number_or_a_curve() -> None:
    assert TEN.scaled(0.5).scaled(0.5).strength.tolist() == [0.25] * 10
    curve = TEN.scaled([(0.2, 0), (0.4, 1)]).strength
    assert np.allclose(curve, [0, 0, 0, 0.5, 1, 1, 1, 1, 1, 1])
    for wrong in (-1, float("nan"), [], [(0, 1), (0, 2)], [(0, -1)]):
        with pytest.raises(UserError, match="strength"):
            TEN.scaled(wrong)


def test_masks_only_narrow() -> None:
    assert TEN.masked("mouth", "eyes").masked("eyes", "body").mask == {"eyes"}
    assert TEN.masked("face").mask == {"mouth", "eyes", "cheeks"}
    assert TEN.masked("mouth", "head").masked("face").mask == {"mouth"}
    assert (
        TEN.masked("face").masked("mouth").mask == {"mouth"}
        and TEN.masked("face", "head").masked("body").mask == frozenset()
    )
    for wrong in (["lips"], []):
        with pytest.raises(UserError, match="must be of body, cheeks, eyes, face, head, mouth"):
            TEN.masked(*wrong)


def test_steps_have_a_strength_of_their_own() -> None:
    assert TEN.steps == () and TEN.over_steps((0, 1), (0.5, 0)).steps == ((0, 1), (0.5, 0))
    assert TEN.over_steps((0, 1)).over_steps((0.2, 2)).steps == ((0.2, 2),)  # the later one counts
    for wrong in ([(0.5, 1), (0.2, 1)], [(-0.1, 1)], [(0, 1), (1.1, 1)]):
        with pytest.raises(UserError, match="shares must rise from 0 to 1"):
            TEN.over_steps(*wrong)
    for none in ([], [(0, -1)], [(0, float("nan"))]):
        with pytest.raises(UserError, match="must be 0 or more"):
            TEN.over_steps(*none)


def test_a_signal_is_for_a_face() -> None:
    assert TEN.face is None and TEN.on_face(2).scaled(0.5).face == 2
    with pytest.raises(UserError, match="differ in their face"):
        TEN.mixed([TEN.on_face(1)], [1, 1])
    with pytest.raises(UserError, match="face -1: faces are counted from 0"):
        TEN.on_face(-1)


def test_smoothing_damps_jitter() -> None:
    jitter = levels([0, 1] * 30)
    assert np.ptp(jitter.smoothed(beta=0).values[10:50]) < 0.5


# ---- files -------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    signal = TEN.masked("mouth", "body").scaled([(0, 0), (1, 1)]).resampled(Fraction(30000, 1001))
    signal.on_face(1).over_steps((0, 1), (0.5, 0)).save(tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def test_a_file_gives_back_what_was_saved(saved: Path) -> None:
    signal = Levels.load(saved)
    assert signal.fps == Fraction(30000, 1001) and signal.mask == {"mouth", "body"} and signal.unit == "m"
    assert signal.face == 1 and signal.steps == ((0, 1), (0.5, 0))
    expected = TEN.scaled([(0, 0), (1, 1)]).resampled(Fraction(30000, 1001))
    assert np.array_equal(signal.values, expected.values)
    assert np.array_equal(signal.strength, expected.strength)
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_changed_file_is_refused(saved: Path) -> None:
    data = bytearray(saved.read_bytes())
    data[-3] ^= 1
    saved.write_bytes(data)
    with pytest.raises(UserError, match="was changed or damaged"):
        Levels.load(saved)


@pytest.mark.parametrize(
    "change", [{"fps": "25"}, {"mask": "eyes"}, {"facts": "{}"}, {"face": "0"}, {"sha256": "0" * 64}]
)
def test_a_file_whose_description_was_changed_is_refused(saved: Path, change: dict[str, str]) -> None:
    edit_metadata(saved, **change)
    with pytest.raises(UserError, match="was changed or damaged"):
        Levels.load(saved)


def test_files_of_another_version_or_kind_are_refused(saved: Path) -> None:
    with pytest.raises(UserError, match="holds a signal of kind levels, others is needed"):
        Others.load(saved)
    edit_metadata(saved, version="1")
    with pytest.raises(UserError, match=f"is of format 1, {VERSION} is read here"):
        Levels.load(saved)


def test_what_is_no_signals_file_is_refused(saved: Path, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    with pytest.raises(UserError, match="no such signals file"):
        Levels.load(tmp_path / "none.safetensors")
    save_file({"x": np.zeros(3)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="is not a signals file, make one"):
        Levels.load(tmp_path / "x.safetensors")
    for content in (b"", b"hello", saved.read_bytes()[:-10]):
        saved.write_bytes(content)
        with pytest.raises(UserError, match="is not a signals file, or is damaged"):
            Levels.load(saved)


@pytest.mark.parametrize(
    "values",
    [np.zeros((10, 2), np.float32), np.zeros((9, 3), np.float32), np.full((10, 3), np.nan, np.float32)],
)
def test_a_file_with_the_wrong_tensors_is_refused(tmp_path: Path, values: NDArray[np.float32]) -> None:
    wrong = replace(TEN)
    object.__setattr__(wrong, "values", values)
    wrong.save(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="is not a complete levels signal"):
        Levels.load(tmp_path / "a.safetensors")


def test_saving_where_nothing_can_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can not be written"):
        TEN.save(tmp_path / "none" / "a.safetensors")


# ---- cache -------------------------------------------------------------------------------------


def test_the_cache_is_by_content_and_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source, made = tmp_path / "a.mp4", []

    def make() -> Levels:
        made.append(1)
        return levels([len(made)])

    def ask(content: bytes, **settings: str) -> float:
        source.write_bytes(content)
        return numbers(cached(Levels, source, settings, make))[0]

    assert [ask(b"one", detector="x"), ask(b"one", detector="x")] == [1, 1]
    assert [ask(b"two", detector="x"), ask(b"two", detector="y")] == [2, 3]
    renamed = source.rename(tmp_path / "b.mp4")
    assert numbers(cached(Levels, renamed, {"detector": "y"}, make)) == [3]


def test_a_damaged_cache_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = tmp_path / "a.mp4"
    source.write_bytes(b"film")
    assert numbers(cached(Levels, source, {}, lambda: TEN)) == list(range(10))
    path = cache_path(Levels, source, {})
    path.write_bytes(b"torn")
    assert numbers(cached(Levels, source, {}, lambda: levels([7]))) == [7]
    assert "made anew" in caplog.text and numbers(Levels.load(path)) == [7]
