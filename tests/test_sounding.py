"""Scenes that sound: what is seen and what is heard belong together."""

from __future__ import annotations

import numpy as np
import pytest

from avatar.recipes.blows import BLOWS
from avatar.recipes.flows import FLOWS
from avatar.recipes.modal import HELD_OUT, MATERIALS, RATE, Body, choose, place
from avatar.recipes.rooms import ROOMS, hear, response
from avatar.recipes.sounding import CLASSES, FRAMES, MAKERS, SAMPLES, SECONDS, make
from avatar.recipes.stage import SIDE, Brush, Spot


def onset(sound: np.ndarray, time: float, before: float = 0.03) -> float:
    """Energy in 30 ms from a time on, relative to that of the 30 ms before."""
    start, span = round(time * RATE), round(before * RATE)
    early, late = sound[max(0, start - span) : start], sound[start : start + span]
    return float(np.mean(late**2) / (np.mean(early**2) + 1e-9))


@pytest.mark.parametrize("kind", sorted(BLOWS))
def test_a_blow_is_heard_when_it_is_seen(kind: str) -> None:
    rng = np.random.default_rng(3)
    act = BLOWS[kind](SECONDS, rng, False)
    assert act.hits and all(0 <= hit < SECONDS for hit in act.hits)
    rises = [onset(act.sound, hit + (0.006 if kind == "drip" else 0)) for hit in act.hits]
    assert np.median(rises) > 2
    assert len(act.sound) == SAMPLES


@pytest.mark.parametrize("kind", ["bounce", "knock", "clap"])
def test_a_blow_is_where_the_motion_turns(kind: str) -> None:
    """The ball's lowest place, the stick's and the hands' meeting are at the times of the sound."""
    act = BLOWS[kind](SECONDS, np.random.default_rng(4), False)
    assert act.draw is not None

    def picture(time: float) -> np.ndarray:
        frame = np.zeros((SIDE, SIDE, 3), np.uint8)
        act.draw(Brush(frame, Spot(0.5, 0.9, 0.7)), time)  # type: ignore[misc]
        return frame.astype(float)

    hit = act.hits[1]
    near = np.abs(picture(hit + 1e-4) - picture(hit - 0.004)).mean()
    away = np.abs(picture(hit - 0.06) - picture(hit)).mean()
    assert near < 0.5 * away


@pytest.mark.parametrize("kind", sorted(FLOWS))
def test_what_goes_on_goes_on(kind: str) -> None:
    act = FLOWS[kind](SECONDS, np.random.default_rng(1), False)
    assert len(act.sound) == SAMPLES and np.isfinite(act.sound).all() and not act.hits
    assert np.sqrt(np.mean(act.sound**2)) > 0.05


def test_materials_sound_apart_and_a_harder_blow_is_brighter() -> None:
    rng = np.random.default_rng(0)

    def centroid(sound: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(sound)) ** 2
        return float((power * np.fft.rfftfreq(len(sound), 1 / RATE)).sum() / power.sum())

    glass, rubber = (Body(name, 1.0, rng).strike(0.8, rng) for name in ("glass", "rubber"))
    assert centroid(glass) > 3 * centroid(rubber)
    wood = Body("oak", 1.0, rng)
    assert centroid(wood.strike(1.0, rng)) > centroid(wood.strike(0.1, rng))
    assert np.abs(wood.strike(1.0, rng)).max() > 5 * np.abs(wood.strike(0.1, rng)).max()


def test_materials_kept_for_evaluation_are_met_only_there() -> None:
    rng = np.random.default_rng(0)
    families = tuple({m.family for m in MATERIALS.values()})
    assert not {choose(families, rng) for _ in range(200)} & set(HELD_OUT)
    both = tuple({MATERIALS[name].family for name in HELD_OUT})
    assert {choose(both, rng, held_out=True) for _ in range(200)} == set(HELD_OUT)


def test_a_sound_placed_over_an_edge_is_cut() -> None:
    track = np.zeros(10, np.float32)
    place(track, np.arange(1.0, 5.0, dtype=np.float32), -2 / RATE)
    place(track, np.ones(4, np.float32), 8 / RATE)
    assert track.tolist() == [3, 4, 0, 0, 0, 0, 0, 0, 1, 1]


def test_rooms_add_a_tail_and_keep_the_moment() -> None:
    click = np.zeros(RATE, np.float32)
    click[100] = 1
    tails = []
    for room in ROOMS:
        heard = hear(click, response(room, np.random.default_rng(0)))
        assert np.argmax(np.abs(heard)) == 100 and np.abs(heard[:100]).max() < 1e-6
        tails.append(float(np.sum(heard[100 + RATE // 5 :] ** 2)))
    assert tails[0] < 1e-12  # the open air
    assert tails[3] == max(tails) and tails[3] > 10 * tails[2]  # the hall against the room


def test_a_scene_is_its_seed() -> None:
    one, again, other = make(5), make(5), make(6)
    np.testing.assert_array_equal(one.sound, again.sound)
    np.testing.assert_array_equal(one.frames, again.frames)
    assert one.captions == again.captions
    assert np.abs(one.sound - other.sound).max() > 0.01
    assert one.sound.shape == (SAMPLES,) and one.frames.shape == (FRAMES, 64, 64, 3)
    assert np.abs(one.sound).max() <= 1 and set(one.classes) <= set(CLASSES)
    assert np.abs(make(5, held_out=True).sound - one.sound).max() > 0.01


def test_classes_and_makers_are_the_same_list() -> None:
    assert set(CLASSES) == set(MAKERS) | {"drum"}
